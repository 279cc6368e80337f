"""Parts of messages in Sieve: body (RFC 5173) and the capabilities of RFC 5703, on any message."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sieve_ext import Envelope, Message, Result, Settings, compile, execute, standard_dialect
from sieve_ext.extensions.body import type_filter
from sieve_ext.message import html_text

LOOP = """
require ["foreverypart", "mime", "extracttext", "variables", "body", "replace", "enclose", "editheader"];
foreverypart {
    extracttext :first 20 "text";
    if header :mime :anychild :type "content-type" "text" { set "seen" "${seen}t"; }
    if header :mime :contenttype "content-type" ["text/html", "application/x"] { replace "removed"; }
    foreverypart {
        if header :mime :subtype "content-type" "plain" { replace :mime "X: 1\r\n\r\ninner ${text}"; break; }
    }
}
if body :content "" :contains "zzz" { addheader "X-Z" "${seen}"; }
if body :text :matches "*a*" { enclose "text"; }
"""
SCRIPT = compile(LOOP, standard_dialect())


def run(message: bytes) -> Result:
    return execute(SCRIPT, message, Envelope(recipient="me@example.org"))


pieces = st.sampled_from(
    [
        b"\r\n", b"\n", b"--a", b"--a--", b"--b", b"--b--", b"text", b"zzz", b"=E4=", b"Content-Type: ",
        b"multipart/mixed; boundary=a", b"multipart/digest; boundary=b", b"message/rfc822", b"text/html",
        b"text/plain; charset=utf-7", b"application/x", b"Content-Transfer-Encoding: base64", b"+2AA-",
        b"<b>x</b>", b"<script>", b"\xff\x00", b"Subject: =?utf-8?q?=C3=A4?=", b": ", b";",
    ]
)  # fmt: skip
messages = st.lists(pieces, max_size=40).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(messages)
def test_any_message_ends_without_an_internal_error(message: bytes) -> None:
    result = run(b"Content-Type: multipart/mixed; boundary=a\r\n" + message)
    assert not result.errors
    assert result.implicit_keep is not None
    assert result.message is not None
    edited = b"".join(result.message.chunks())
    assert result.message.size == len(edited)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_html(markup: str) -> None:
    html_text(markup)
    plain = markup.replace("<", "").replace("&", "")
    assert html_text(plain) == plain


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a<b>c</b>d", "a c d"),
        ("<p>one</p><p>two</p>", "one two "),
        ("x &lt; &amp; &#65;&#x42; &euro;", "x < & AB €"),
        ("a<!-- b -->c", "ac"),
        ("a<!-- b --!>c", "ac"),
        ("a<!-->b<!--->c<!---->d<!-- e", "abcd"),
        ("a<!x='>b", "ab"),
        ('a<?x=">b">c', 'ab">c'),
        ("a</ x='>b'>c</>d</", "ab'>cd"),
        ("a<script>if (1 < 2) {}</script>b<style>p{}</style>c", "a b c"),
        ("<svg><![CDATA[a]]>b<style/>c", "a]] b c "),
        ("<style/><!--</style>a<![CDATA[<!-- b>c", "<!-- a <!-- b c"),
        ("a<script>never closed", "a "),
        ("<script>x</script y>a<STYLE>x</scripts></Style/>b", "a b"),
        ("<script-x>a</script-x><styled>b<\u017fcript>c", "a b<\u017fcript>c"),
        ("<title><!--</title>a<textarea><!--</textarea>b<xmp><script></xmp>c", "<!-- a <!-- b <script> c"),
        ("<iframe><!--</iframe>a<plaintext><!--</plaintext>b", "<!-- a <!--</plaintext>b "),
        # What is no quoted value does not hide what stands behind the tag.
        ('<a x=y=">b">c', 'b">c'),
        ('<a =">b">c', 'b">c'),
        ('<a x==">b">c', 'b">c'),
        ("<a x='1'='>b'>c", "b'>c"),
        ("<a\u00a0x='>b'>c", "b'>c"),
        ("<a 'x>b'>c", "b'>c"),
        ("<a x = '>b'/y='>'>c", "c"),
        ('<a href="x>y" title=it\'s>link</a>', "link "),
        ("<blockquote>q</blockquote>r", "\r\n> q\r\nr"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("", ""),
    ],
)
def test_text_of_html(markup: str, text: str) -> None:
    assert html_text(markup) == text


@pytest.mark.parametrize(
    "markup",
    ["<" * 400_000, "<a " * 150_000, '<a b="' * 80_000, "<script>" * 60_000, "<!--" * 100_000,
     "&amp" * 100_000, "<a b=' " * 80_000, "<script>" + "</script " * 60_000],
)  # fmt: skip
def test_html_takes_linear_time(markup: str) -> None:
    before = time.process_time()
    html_text(markup)
    assert time.process_time() - before < 3.0


@pytest.mark.parametrize(
    ("wanted", "yes", "no"),
    [
        ("", ["text/plain", "image/png"], []),
        ("text", ["text/plain", "text/html"], ["image/png"]),
        ("Text/PLAIN", ["text/plain"], ["text/html"]),
        ("text/", [], ["text/plain"]),
        ("/plain", [], ["text/plain"]),
        ("text/plain/x", [], ["text/plain"]),
        ("/", [], ["text/plain"]),
    ],
)
def test_types_of_content(wanted: str, yes: list[str], no: list[str]) -> None:
    fits = type_filter(wanted)
    assert [one for one in yes + no if fits(one)] == yes


def multipart(*parts: bytes) -> bytes:
    body = b"".join(b"--a\r\n" + part + b"\r\n" for part in parts)
    return b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n" + body + b"--a--\r\n"


def test_many_parts_are_replaced_in_bounded_work() -> None:
    message = multipart(*[b"Content-Type: text/html\r\n\r\n<b>x</b>"] * 200)
    before = time.process_time()
    result = execute(
        compile(
            'require ["foreverypart", "replace", "mime"]; foreverypart {'
            ' if header :mime :subtype "content-type" "html" { replace "gone"; } }',
            standard_dialect(),
        ),
        message,
    )
    assert time.process_time() - before < 3.0
    assert not result.errors
    assert result.message is not None
    texts = [part.text() for part in result.message.structure.leaves()]
    assert texts == ["gone"] * 200


def test_a_large_part_is_decoded_once() -> None:
    message = multipart(b"Content-Type: text/plain\r\n\r\n" + b"0123456789 abcdef\r\n" * 300_000)
    script = compile('require "body"; ' + 'if body "none" { discard; }\n' * 50, standard_dialect())
    before = time.process_time()
    result = execute(script, message)
    assert not result.errors
    assert time.process_time() - before < 5.0


def test_a_message_replaced_in_a_loop_stays_replaced() -> None:
    text = 'require ["foreverypart", "replace"]; foreverypart { replace "only this"; }'
    result = execute(compile(text, standard_dialect()), multipart(b"\r\none", b"\r\ntwo"))
    assert result.message is not None
    assert b"".join(result.message.body_chunks()) == b"only this"


def test_an_edit_before_a_loop_does_not_move_its_parts() -> None:
    text = (
        'require ["foreverypart", "replace", "mime", "editheader", "extracttext", "variables"];'
        'addheader "X-First" "1";'
        'foreverypart { extracttext "t"; set "all" "${all}[${t}]";'
        ' if header :mime :subtype "content-type" "x" { replace "a much longer text than there was"; } }'
        'addheader "X-All" "${all}";'
    )
    message = multipart(
        b"Content-Type: text/x\r\n\r\none", b"Content-Type: text/plain\r\n\r\ntwo", b"\r\nthree"
    )
    result = execute(compile(text, standard_dialect()), message)
    assert result.message is not None
    assert result.message.text("x-all") == "[][one][two][three]"


def test_the_message_given_is_not_changed() -> None:
    message = Message(multipart(b"\r\none"))
    before = b"".join(message.chunks())
    execute(compile('require "replace"; replace "new";', standard_dialect()), message)
    assert b"".join(message.chunks()) == before


@pytest.mark.parametrize(
    "parameters",
    [
        "filename=a.txt; filename=b.exe",
        "filename=a.txt; filename*=us-ascii''b%2eexe",
        "filename*=us-ascii''b%2eexe; filename=a.txt",
        "filename=a.txt; filename*0=b.; filename*1=exe",
        "filename (; filename=a.txt) = (c) b.exe",
    ],
)
def test_no_value_of_a_parameter_hides_behind_another(parameters: str) -> None:
    script = compile(
        """require ["mime", "reject"];
        if header :mime :anychild :param "filename" :matches "content-disposition" "*.exe" { reject "no"; }
        """,
        standard_dialect(),
    )
    text = f"Content-Type: a/b\r\nContent-Disposition: (c) attachment; {parameters}\r\n\r\n"
    result = execute(script, Message(text.encode()), Envelope(recipient="me@example.org"))
    assert result.cancels_keep


def test_extracting_text_is_timed() -> None:
    """HTML of a megabyte takes half a second to read; a script may ask for it again and again."""
    message = b"Content-Type: text/html\r\n\r\n" + b"<b>" * 350_000
    commands = 'extracttext "a";' * 30
    text = f'require ["foreverypart", "extracttext", "variables"]; foreverypart {{ {commands} }}'
    limits = Settings({"sieve_max_cpu_time": "100ms"})
    begun = time.process_time()
    result = execute(compile(text, standard_dialect()), message, settings=limits)
    assert "CPU time" in result.errors[0].text
    assert time.process_time() - begun < 2.5
