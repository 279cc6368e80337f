"""The MIME structure: which parts, where, and what they say."""

import binascii
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sieve_ext.message import Message, Part, limits
from sieve_ext.message.parameters import all_parameters, parse_parameters
from sieve_ext.message.transfer import decode_base64, decode_transfer


def crlf(text: str) -> bytes:
    return text.encode().replace(b"\n", b"\r\n")


def show(part: Part) -> str:
    """A structure in one line: type=body or type(parts)."""
    if part.parts:
        return f"{part.content_type}({' '.join(show(child) for child in part.parts)})"
    return f"{part.content_type}={b''.join(part.raw_chunks()).decode('latin-1')!r}"


MIXED = """Content-Type: multipart/mixed; boundary="x"

preamble
--x

one
--x
Content-Type: text/html

two

--x--
epilogue
"""

STRUCTURES = [
    ("Subject: a\n\nbody\n", "text/plain='body\\r\\n'"),
    ("Content-Type: image/png\n\nbody", "image/png='body'"),
    ("Content-Type: text\n\nbody", "text/plain='body'"),
    ("Content-Type: ;;;\n\nbody", "text/plain='body'"),
    ("", "text/plain=''"),
    (MIXED, "multipart/mixed(text/plain='one' text/html='two\\r\\n')"),
    # The boundary at once, no preamble; blanks behind it; no epilogue; no last line end.
    (
        "Content-Type: multipart/mixed; boundary=x\n\n--x \t\n\none\n--x--",
        "multipart/mixed(text/plain='one')",
    ),
    # No closing line: the last part goes to the end.
    (
        "Content-Type: multipart/mixed; boundary=x\n\n--x\n\none\n--x\n\ntwo\n",
        "multipart/mixed(text/plain='one' text/plain='two\\r\\n')",
    ),
    # Empty parts, parts without an empty line, two boundaries in a row.
    (
        "Content-Type: multipart/mixed; boundary=x\n\n--x\n\n--x\n--x\nContent-Type: text/html\n--x--\n",
        "multipart/mixed(text/plain='' text/plain='' text/html='')",
    ),
    # Nested, the inner one closed, with epilogue.
    (
        "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/alternative;boundary=i\n\n"
        "--i\n\na\n--i\nContent-Type: text/html\n\nb\n--i--\nepilogue\n--o\n\nc\n--o--\n",
        "multipart/mixed(multipart/alternative(text/plain='a' text/html='b') text/plain='c')",
    ),
    # Nested, the inner one not closed: the outer boundary ends it.
    (
        "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/alternative;boundary=i\n\n"
        "--i\n\na\n--o\n\n--i\nc\n--o--\n",
        "multipart/mixed(multipart/alternative(text/plain='a') text/plain='--i\\r\\nc')",
    ),
    # One boundary begins like the other: the longer one counts.
    (
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=bb\n\n"
        "--bb\n\na\n--bb\n\nb\n--bb--\n--b\n\nc\n--b--\n",
        "multipart/mixed(multipart/mixed(text/plain='a' text/plain='b') text/plain='c')",
    ),
    (
        "Content-Type: multipart/mixed; boundary=bb\n\n--bb\nContent-Type: multipart/mixed; boundary=b\n\n"
        "--b\n\na\n--bb\n\nc\n--bb--\n",
        "multipart/mixed(multipart/mixed(text/plain='a') text/plain='c')",
    ),
    # The same boundary within: the inner one has it until it is closed (as Dovecot and GMime see it).
    (
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=b\n\n"
        "--b\n\na\n--b--\n--b\n\nc\n--b--\n",
        "multipart/mixed(multipart/mixed(text/plain='a') text/plain='c')",
    ),
    # What goes on behind the boundary begins a part for some, and is text for others: it closes nothing.
    (
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\na\n--b--x\n--b\n\nc\n--b--\n--b\n\nd",
        "multipart/mixed(text/plain='a' text/plain='' text/plain='c')",
    ),
    (
        "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed;boundary=i\n\n"
        "--i\n\na\n--ox\nContent-Type: text/html\n\nb\n--i\n\nc\n--i--\n--o\n\nd\n--o--\n",
        "multipart/mixed(multipart/mixed(text/plain='a' text/html='b' text/plain='c') text/plain='d')",
    ),
    # Boundaries that are none: in the middle of a line, too short, after the close.
    (
        "Content-Type: multipart/mixed; boundary=xyz\n\n"
        "--xyz\n\na --xyz\n --xyz\n--xy\n-xyz\n--xyz--\n--xyz\n\nb",
        "multipart/mixed(text/plain='a --xyz\\r\\n --xyz\\r\\n--xy\\r\\n-xyz')",
    ),
    # No boundary, an empty one, one that never comes.
    ("Content-Type: multipart/mixed\n\n--\n\na", "multipart/mixed='--\\r\\n\\r\\na'"),
    # Mail programs take an empty boundary at its word.
    (
        'Content-Type: multipart/mixed; boundary=""\n\n--\n\na\n--x\nb\n--\n\nc\n----\n--\nd',
        "multipart/mixed(text/plain='a\\r\\n--x\\r\\nb' text/plain='c')",
    ),
    ("Content-Type: multipart/mixed; boundary=x\n\na", "multipart/mixed='a'"),
    # Messages within.
    (
        "Content-Type: message/rfc822\n\nSubject: in\nContent-Type: text/html\n\nbody\n",
        "message/rfc822(text/html='body\\r\\n')",
    ),
    (
        "Content-Type: multipart/digest; boundary=x\n\n"
        "--x\n\nSubject: 1\n\na\n--x\n\nSubject: 2\n\nb\n--x--\n",
        "multipart/digest(message/rfc822(text/plain='a') message/rfc822(text/plain='b'))",
    ),
    (
        "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: message/rfc822\n\n"
        "Content-Type: multipart/mixed; boundary=y\n\n--y\n\na\n--y--\n--x\n\nb\n--x--\n",
        "multipart/mixed(message/rfc822(multipart/mixed(text/plain='a')) text/plain='b')",
    ),
    (
        "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdA==\n",
        "message/rfc822='U3ViamVjdA==\\r\\n'",
    ),
    ("Content-Type: message/rfc822\n\n", "message/rfc822(text/plain='')"),
    # A boundary with characters that need quotation marks, with a blank at its end, in RFC 2231 form.
    (
        'Content-Type: multipart/mixed;\n boundary="a b:=?\'()+_,-./"\n\n'
        "--a b:=?'()+_,-./\n\none\n--a b:=?'()+_,-./--\n",
        "multipart/mixed(text/plain='one')",
    ),
    (
        'Content-Type: multipart/mixed; boundary="x "\n\n--x\n\none\n--x--\n',
        "multipart/mixed(text/plain='one')",
    ),
    (
        "Content-Type: multipart/mixed; boundary*0=x; boundary*1=y\n\n--xy\n\none\n--xy--\n",
        "multipart/mixed(text/plain='one')",
    ),
]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 64])
@pytest.mark.parametrize(("text", "expected"), STRUCTURES)
def test_structure(text: str, expected: str, size: int) -> None:
    octets = crlf(text)
    if size:
        pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
        head = octets[: octets.find(b"\r\n\r\n") + 4]
        message = Message(head, len(octets), lambda: iter(pieces))
    else:
        message = Message(octets)
    assert show(message.structure.root) == expected
    assert not message.structure.is_truncated
    assert message.structure.part_count == len(list(message.structure.root.walk()))
    assert message.structure is message.structure


@pytest.mark.parametrize(("text", "expected"), STRUCTURES)
def test_structure_with_bare_line_feeds(text: str, expected: str) -> None:
    assert show(Message(text.encode()).structure.root) == expected.replace("\\r", "")


def test_what_a_part_says() -> None:
    message = Message(
        crlf(
            "Content-Type: multipart/mixed; boundary=x\n\n--x\n"
            'Content-Type: TEXT/Plain; Charset="ISO-8859-1" (Latin)\n'
            "Content-Transfer-Encoding: Quoted-Printable (yes)\n"
            "Content-Description: =?utf-8?b?w6Q=?=\n"
            "Content-Disposition: Attachment; filename*=utf-8''a%20%C3%A4.txt\n\n"
            "Gr=FC=DFe =\nan alle  \n--x\n"
            'Content-Type: application/octet-stream; name="=?utf-8?q?=C3=A4?=.bin"\n'
            "Content-Transfer-Encoding: base64\n\naGVsbG8g\nd29ybGQ\n--x--\n"
        )
    )
    root = message.structure.root
    assert root.is_multipart
    assert root.depth == 0
    first, second = root.parts
    assert (first.content_type, first.charset, first.transfer_encoding, first.depth) == (
        "text/plain",
        "ISO-8859-1",
        "quoted-printable",
        1,
    )
    assert first.description == "ä"
    assert first.disposition.value == "attachment"
    assert first.filename == "a ä.txt"
    assert first.text() == "Grüße an alle"
    assert first.text(3) == "Grü"
    assert first.content(0) == b""
    assert second.filename == "ä.bin"
    assert second.disposition.value == ""
    assert second.description == ""
    assert second.content() == b"hello world"
    assert second.text() == "hello world"
    assert second.size == len(b"aGVsbG8g\r\nd29ybGQ")
    assert second.header.text("content-transfer-encoding") == "base64"
    assert [part.content_type for part in message.structure.leaves()] == [
        "text/plain",
        "application/octet-stream",
    ]


@pytest.mark.parametrize(
    ("fields", "body", "text"),
    [
        (b"", "ä".encode(), "ä"),
        (b"", b"\xe4", "ä"),
        (b"Content-Type: text/plain; charset=x-unknown\r\n", b"\xc3\xa4", "ä"),
        (b"Content-Type: text/plain; charset=koi8-r\r\n", b"\xf0", "П"),
        (b"Content-Type: text/plain; charset=us-ascii\r\n", b"\xe4", "ä"),
        (b"Content-Type: text/plain; charset=utf-8\r\n", b"\xe4", "\ufffd"),
        (b"Content-Type: text/plain; charset=utf-16\r\n", "hä".encode("utf-16"), "hä"),
        (b"Content-Transfer-Encoding: x-uuencode\r\n", b"begin", "begin"),
        (b"Content-Transfer-Encoding: 8bit\r\n", b"=41", "=41"),
        (b"Content-Transfer-Encoding: (c) quoted-printable\r\n", b"=41", "A"),
        (b"Content-Transfer-Encoding:\r\n", b"=41", "=41"),
        (b'Content-Transfer-Encoding: "base64"\r\n', b"YQ==", "YQ=="),
    ],
)
def test_text(fields: bytes, body: bytes, text: str) -> None:
    assert Message(fields + b"\r\n" + body).structure.root.text() == text


def test_structure_follows_edits() -> None:
    message = Message(crlf(MIXED))
    assert len(message.structure.root.parts) == 2
    kept = message.structure
    message.add_raw("Subject", b"x", 0)
    assert message.structure is kept
    assert show(kept.root) == "multipart/mixed(text/plain='one' text/html='two\\r\\n')"
    copy = message.snapshot()
    message.replace("content-type", 1, b"text/plain")
    assert message.structure.root.parts == []
    assert len(copy.structure.root.parts) == 2
    message.replace("content-type", 1, b"multipart/mixed; boundary=y")
    message.replace_body(b"--y\r\n\r\nnew\r\n--y--\r\n")
    assert show(message.structure.root) == "multipart/mixed(text/plain='new')"
    message.delete("content-type", 1)
    assert show(message.structure.root) == "text/plain='--y\\r\\n\\r\\nnew\\r\\n--y--\\r\\n'"


PARAMETERS = [
    (b"", "", {}),
    (b"text/plain", "text/plain", {}),
    (b"Text/Plain; A=b", "text/plain", {"a": "b"}),
    (b"text/plain;a=b;c=d;", "text/plain", {"a": "b", "c": "d"}),
    (b'text/plain ; a = b ; c="d; e"', "text/plain", {"a": "b", "c": "d; e"}),
    (b'a; b="c\\"d\\\\"', "a", {"b": 'c"d\\'}),
    (b"a; b=c d.txt; e=f", "a", {"b": "c d.txt", "e": "f"}),
    (b"a; b=us-ascii (comment); c=d", "a", {"b": "us-ascii", "c": "d"}),
    (b"a; b=us-ascii (e;f=g (h)); c=d", "a", {"b": "us-ascii", "c": "d"}),
    (b"(x) a (y) ; (z) b (z) = (z) c", "a", {"b": "c"}),
    (b"a / b; c=d", "a/b", {"c": "d"}),
    (b"a/ b; c=d", "a/b", {"c": "d"}),
    (b"a/ b=c", "a/", {"b": "c"}),
    (b'a; b="(c)"; d="e (f"; g="h)"', "a", {"b": "(c)", "d": "e (f", "g": "h)"}),
    (b"a; b=report (1).pdf; c=report(1).pdf", "a", {"b": "report (1).pdf", "c": "report(1).pdf"}),
    (b"a (comment); b=c", "a", {"b": "c"}),
    (b'a; b="unclosed', "a", {"b": "unclosed"}),
    (b'a; b="x" c="y"', "a", {"b": "x", "c": "y"}),
    (b"a; ;; b=c", "a", {"b": "c"}),
    (b"a; b; c=d", "a", {"c": "d"}),
    (b"a; =b; c=d", "a", {"c": "d"}),
    (b"a; b=1; b=2", "a", {"b": "1"}),
    (b"a; b=", "a", {"b": ""}),
    (b"a b=c", "a", {"b": "c"}),
    # RFC 2231.
    (b"a; t=b; t*0=c; t*1=d; t*=us-ascii''e", "a", {"t": "b"}),
    (b'a; t*0="ftp://"; t*1="x/y"', "a", {"t": "ftp://x/y"}),
    (b"a; t*1=b; t*0=a", "a", {"t": "ab"}),
    (b"a; t*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A", "a", {"t": "This is ***fun***"}),
    (
        b"a; t*0*=us-ascii'en'This%20is%20even%20more%20; t*1*=%2A%2A%2Afun%2A%2A%2A%20; t*2=\"isn't it!\"",
        "a",
        {"t": "This is even more ***fun*** isn't it!"},
    ),
    (b"a; t*0*=utf-8''%C3; t*1*=%A4", "a", {"t": "ä"}),
    (b"a; t*=utf-8''%ZZ%", "a", {"t": "%ZZ%"}),
    (b"a; t*=%C3%A4", "a", {"t": "ä"}),
    (b"a; t*=x-unknown''%E4", "a", {"t": "ä"}),
    (b"a; t*99999=b; u=c", "a", {"u": "c"}),
    (b"a; *=b; u=c", "a", {"u": "c"}),
    (b"a; n==?utf-8?q?=C3=A4?=", "a", {"n": "ä"}),
    (b"a; n=\xc3\xa4", "a", {"n": "ä"}),
]


@pytest.mark.parametrize(("value", "main", "parameters"), PARAMETERS)
def test_parameters(value: bytes, main: str, parameters: dict[str, str]) -> None:
    assert parse_parameters(value) == (main, parameters)


def test_all_parameters() -> None:
    value = b"a; t=b; u=c; t*0=d; t*=us-ascii''%66; t*1=e; t=g"
    assert all_parameters(value) == [("t", "b"), ("u", "c"), ("t", "de"), ("t", "f"), ("t", "g")]


PIECES = [b";", b"a=b;", b'"', b"(", b"a ", b"=", b"a=", b'a="\\', b"*0", b"a*0=b;", b"%", b"/ "]
COMMENTS = [b"()", b"=(", b"a=x(;", b"(a)="]


@pytest.mark.parametrize("piece", PIECES + COMMENTS)
def test_parameters_take_linear_time(piece: bytes) -> None:
    start = time.process_time()
    parse_parameters(b"a; " + piece * (500_000 // len(piece)))
    parse_parameters(piece * (500_000 // len(piece)))
    assert time.process_time() - start < 2


TRANSFER = [
    ("base64", b"", b""),
    ("base64", b"aGVsbG8=", b"hello"),
    ("base64", b"aGVs\r\nbG8=\r\n", b"hello"),
    ("base64", b"aGVsbG8", b"hello"),
    ("base64", b"a", b""),
    ("base64", b"!a!G!V!s!", b"hel"),
    ("base64", b"aGVsbG8=aGVsbG8=", b"hellohello"),
    ("base64", b"====", b""),
    ("base64", b"YQ=\r\n=", b"a"),
    ("quoted-printable", b"", b""),
    ("quoted-printable", b"a=3Db=\r\nc", b"a=bc"),
    ("quoted-printable", b"a=\nb", b"ab"),
    ("quoted-printable", b"a  \r\nb\t \r\n", b"a\r\nb\r\n"),
    ("quoted-printable", b"a=  \r\nb", b"ab"),
    ("quoted-printable", b"100% = x =ZZ =4", b"100% = x =ZZ =4"),
    ("quoted-printable", b"=c3=a4_", b"\xc3\xa4_"),
    ("quoted-printable", b"=E4\r\n=", b"\xe4\r\n"),
    ("x-uuencode", b"", b""),
    ("x-uuencode", b"begin 644 a\r\n%:&5L;&\\\r\n`\r\nend\r\n", b"hello"),
    ("uuencode", b"see\r\nbegin 644 a\n%:&5L;&\\  x\nend\nmore\r\n", b"see\r\nhellomore\r\n"),
    ("x-uue", b"begin 644 a\n%:&5L;&\\\n%:&5L;&\\", b"hellohello"),
    ("uue", b"begin 644 a\n%:&5L;\n\n \nz\xffabc\n#\nend", b"hell\0\0\0\0"),
    ("uue", b"beginning\r\nx", b"beginning\r\nx"),
    ("binary", b"\0\xff", b"\0\xff"),
    ("x-other", b"abc", b"abc"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(("encoding", "octets", "expected"), TRANSFER)
def test_transfer(encoding: str, octets: bytes, expected: bytes, size: int) -> None:
    pieces = (octets[at : at + size] for at in range(0, len(octets), size))
    assert b"".join(decode_transfer(pieces, encoding)) == expected


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=8), st.sampled_from(["base64", "quoted-printable", "uue"]))
def test_transfer_does_not_depend_on_the_chunks(chunks: list[bytes], encoding: str) -> None:
    whole = b"".join(chunks)
    assert b"".join(decode_transfer(iter(chunks), encoding)) == b"".join(
        decode_transfer(iter([whole]), encoding)
    )
    if encoding == "base64":
        assert decode_base64(whole) == b"".join(decode_transfer(iter(chunks), encoding))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50)), st.integers(1, 60))
def test_uuencode_is_decoded_whatever_it_holds(lines: list[bytes], size: int) -> None:
    octets = b"begin 644 x\n" + b"\n".join(lines)
    pieces = (octets[at : at + size] for at in range(0, len(octets), size))
    assert b"".join(decode_transfer(pieces, "uue")) == b"".join(decode_transfer(iter([octets]), "uue"))


@given(st.binary(max_size=300))
def test_uuencode_comes_back(data: bytes) -> None:
    lines = [binascii.b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45)]
    octets = b"begin 644 x\n" + b"".join(lines) + b"`\nend\n"
    assert b"".join(decode_transfer(iter([octets]), "x-uuencode")) == data


def test_a_quoted_printable_line_without_end_is_not_collected() -> None:
    longest = 0
    out = 0
    for chunk in decode_transfer(iter([b"=41" * 1000] * 1000), "quoted-printable"):
        longest = max(longest, len(chunk))
        out += len(chunk)
        assert set(chunk) == {0x41}
    assert out == 1_000_000
    assert longest < 10_000


# Limits and time


def nested(depth: int) -> bytes:
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%03d\r\n\r\n--b%03d\r\n" % (level, level)
        for level in range(depth)
    )


def test_depth_is_bounded() -> None:
    structure = Message(nested(limits.MIME_DEPTH + 5)).structure
    assert structure.is_truncated
    assert max(part.depth for part in structure.root.walk()) == limits.MIME_DEPTH
    assert not Message(nested(limits.MIME_DEPTH)).structure.is_truncated


def test_depth_of_messages_is_bounded() -> None:
    structure = Message(b"Content-Type: message/rfc822\r\n\r\n" * 50).structure
    assert structure.is_truncated
    assert structure.part_count == limits.MIME_DEPTH + 1


def test_parts_are_bounded() -> None:
    message = Message(b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\na\r\n" * 100_000)
    start = time.process_time()
    structure = message.structure
    assert structure.is_truncated
    assert structure.part_count == limits.MIME_PARTS
    last = structure.root.parts[-1]
    assert message.body_size == structure.root.end > last.end
    assert len(structure.leaves(5)) == 5
    assert time.process_time() - start < 2


def test_header_of_a_part_is_bounded() -> None:
    fields = b"X: y\r\n" * 20_000
    message = Message(
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"
        + fields
        + b"\r\na\r\n--x\r\n\r\nb\r\n--x--"
    )
    structure = message.structure
    assert structure.is_truncated
    first, second = structure.root.parts
    assert (
        limits.PART_HEADER_OCTETS - 6
        <= len(b"".join(f.raw for f in first.header.fields))
        <= limits.PART_HEADER_OCTETS
    )
    assert second.content() == b"b"


@pytest.mark.parametrize("name", ["Content-Type: a/b", "Content-Disposition: attachment"])
def test_parameters_that_are_not_seen_are_told(name: str) -> None:
    field = (name + "; a=b" * limits.PARAMETERS).encode()
    part = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n%b\r\n\r\n"
    for whole in (b"%b\r\n\r\n", part):
        assert not Message(whole % field).structure.is_truncated
        assert Message(whole % (field + b"; filename=x")).structure.is_truncated


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=y",
        "Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64",
        "Content-Disposition: inline\r\ncontent-disposition : attachment",
        "Content-Type: multipart/mixed; boundary=y; Boundary=z",
        "Content-Type: multipart/mixed; boundary*0=y; boundary*1=z",
        "Content-Type: multipart/mixed; boundary=y;\r\n boundary (a comment) =z",
        'Content-Type: multipart/mixed; name="; boundary=z"; boundary=y',
    ],
)
def test_what_a_part_says_twice_is_told(fields: str) -> None:
    """Dovecot takes the first of two fields, GMime the last; of two boundaries MIME-tools takes the last."""
    whole = f"{fields}\r\n\r\n"
    for message in (whole, f"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n{whole}"):
        assert Message(message.encode()).structure.is_doubtful
    assert not Message(crlf(MIXED)).structure.is_doubtful


@pytest.mark.parametrize("boundary", ["--boundary_0_c2b3a8d7-8f1e", '"boundary"', '"=_boundary_=1"'])
def test_a_boundary_that_is_called_so_is_no_second_one(boundary: str) -> None:
    """System.Net.Mail of .NET writes the first one in all its messages."""
    field = f"Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n"
    assert not Message(field.encode()).structure.is_doubtful


@pytest.mark.parametrize("outer", ["", "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"])
@pytest.mark.parametrize(
    ("kind", "body", "doubtful"),
    [
        ("message/rfc822", "U3ViamVjdDogYQ0KDQo=", True),
        ("message/global", "U3ViamVjdDogYQ0KDQo=", True),
        ("multipart/mixed; boundary=y", "LS15DQoNCmENCg==", True),
        # Said of what is not encoded, as some programs do.
        ("multipart/mixed; boundary=y", "--y\r\n\r\na\r\n--y--", False),
        ("text/plain", "YQ==", False),
    ],
)
def test_encoded_parts_with_parts_are_told(outer: str, kind: str, body: str, doubtful: bool) -> None:
    """Some mail programs look into them."""
    part = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n\r\n{body}\r\n"
    assert Message((outer + part).encode()).structure.is_doubtful is doubtful


def test_of_a_boundary_too_long_the_beginning_is_searched() -> None:
    boundary = b"x" * (limits.BOUNDARY_OCTETS + 100)
    body = b"--%b\r\n\r\na\r\n--%b\r\n\r\nb" % (boundary, boundary)
    message = Message(b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n" + body)
    assert message.structure.is_truncated
    assert show(message.structure.root) == "multipart/mixed(text/plain='a' text/plain='b')"


CONTENT_TYPES = [
    # Comments and blanks wherever RFC 2045 section 5.1 lets them stand.
    ("(c) multipart/mixed; boundary=A", "A"),
    ("multipart / mixed; boundary=A", "A"),
    ("multipart(x)/(y) mixed (z); boundary=A", "A"),
    ("multipart/mixed; boundary=A(c)", "A"),
    ("multipart/mixed; boundary=(c)A (d)", "A"),
    ("multipart/mixed; (a (b) boundary=fake) boundary=A", "A"),
    ("multipart/mixed (a\\) ; boundary=fake); boundary=A", "A"),
    ("multipart/mixed; x=y (; boundary=fake); boundary=A", "A"),
    ('multipart/mixed (a"); boundary="A"', "A"),
    ("multipart/mixed (never closed; boundary=A", "A"),
    # A boundary is octets, whatever they could mean elsewhere; blanks at its end are none of it.
    ('multipart/mixed; boundary="=?us-ascii?q?A?="', "=?us-ascii?q?A?="),
    ('multipart/mixed; boundary="\xe9A"', "\xe9A"),
    ('multipart/mixed; boundary="A(c)"', "A(c)"),
    ("multipart/mixed; boundary=A B", "A"),
    ("multipart/mixed; boundary=A B", "A B"),
    ('multipart/mixed; boundary="A\t"', "A"),
    ("multipart/mixed; boundary*=us-ascii''fake; boundary=A", "A"),
    # No media type, but everybody shows the parts.
    ("multipart/mi@xed; boundary=A", "A"),
    ("multipart/; boundary=A", "A"),
]


@pytest.mark.parametrize(("value", "boundary"), CONTENT_TYPES)
def test_parts_are_found_where_mail_programs_find_them(value: str, boundary: str) -> None:
    text = f"Content-Type: {value}\r\n\r\n--{boundary}\r\n\r\na\r\n--{boundary}\r\n\r\nb\r\n"
    root = Message(text.encode("latin-1")).structure.root
    assert [part.content() for part in root.parts] == [b"a", b"b\r\n"]


@pytest.mark.parametrize("first", ["\t\r\n", " continues nothing\r\n", " a\r\n b: c\r\n"])
def test_a_part_that_begins_with_a_folded_line_has_a_header(first: str) -> None:
    text = f"Content-Type: multipart/mixed; boundary=A\r\n\r\n--A\r\n{first}Content-Type: a/b\r\n\r\nbody"
    (part,) = Message(text.encode()).structure.root.parts
    assert part.content_type == "a/b"
    assert part.header.keys() == ["content-type"]
    assert part.content() == b"body"


class _Body:
    """A body of many equal chunks."""

    def __init__(self, head: bytes, chunk: bytes, times: int) -> None:
        self.head = head
        self.chunk = chunk
        self.times = times
        self.size = len(head) + len(chunk) * times

    def chunks(self) -> Iterator[bytes]:
        yield self.head
        for _ in range(self.times):
            yield self.chunk

    def read(self, offset: int, count: int) -> bytes:
        whole = bytearray()
        while len(whole) < count and offset + len(whole) < self.size:
            at = offset + len(whole)
            if at < len(self.head):
                whole += self.head[at : at + count]
            else:
                inside = (at - len(self.head)) % len(self.chunk)
                whole += self.chunk[inside : inside + count - len(whole)]
        return bytes(whole)


LARGE = 50 * 1024 * 1024
PLAIN = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
DEEP = nested(limits.MIME_DEPTH) + b"\r\n"


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (PLAIN, b"x" * 76 + b"\r\n"),
        (PLAIN, b"\r\n--"),
        (PLAIN, b"--\r\n"),
        (PLAIN, b" --b\r\n"),
        (DEEP, b"x" * 76 + b"\r\n"),
        (DEEP, b"--b0\r\n"),
    ],
    ids=["text", "dashes", "lines", "indented", "deep", "deep-near"],
)
def test_a_large_body_takes_linear_time(head: bytes, line: bytes) -> None:
    chunk = line * (65536 // len(line))
    body = _Body(head, chunk, LARGE // len(chunk))
    message = Message(head, body.size, body.chunks)
    start = time.process_time()
    structure = message.structure
    # 0.1 to 3 s here; the bound leaves room for a slow machine.
    assert time.process_time() - start < 15
    assert not structure.is_truncated
    assert list(structure.root.walk())[-1].end == message.body_size


def test_parts_of_a_large_message_are_reached_directly() -> None:
    body = _Body(PLAIN, b"x" * 65534 + b"\r\n", 100)
    tail = b"\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--b--\r\n"
    reads: list[int] = []

    def chunks() -> Iterator[bytes]:
        reads.append(-1)
        yield from body.chunks()
        yield tail

    def read(offset: int, count: int) -> bytes:
        reads.append(offset)
        before = body.read(offset, min(count, max(body.size - offset, 0)))
        start = max(offset - body.size, 0)
        return before + tail[start : start + count - len(before)]

    message = Message(PLAIN, body.size + len(tail), chunks, read=read)
    first, second = message.structure.root.parts
    assert reads == [-1] or -1 not in reads
    reads.clear()
    assert second.content() == b"hello"
    assert len(reads) == 1
    assert reads[0] > body.size
    assert sum(map(len, first.raw_chunks())) == body.size - len(PLAIN)
    # Without `read` the same, by way of all octets before.
    slow = Message(PLAIN, body.size + len(tail), chunks)
    assert slow.structure.root.parts[1].content() == b"hello"


def test_a_reader_that_ends_early_ends_the_part() -> None:
    message = Message(PLAIN, len(PLAIN) + 1000, lambda: iter((PLAIN,)), read=lambda offset, count: b"")
    assert message.structure.root.parts == []
    assert message.structure.root.content() == b""


mime_lines = st.sampled_from(
    [
        *(
            b"--a",
            b"--a--",
            b"--ab",
            b"--ab--",
            b"",
            b"text",
            b" x",
            b"Content-Type: multipart/mixed; boundary=a",
        ),
        *(
            b"Content-Type: multipart/digest; boundary=ab",
            b"Content-Type: message/rfc822",
            b"Subject: x",
            b"--",
        ),
        *(b"Content-Transfer-Encoding: base64", b"YWJj"),
    ]
)
mime_messages = st.lists(
    st.tuples(mime_lines, st.sampled_from([b"\r\n", b"\n", b"\r\n\r\n"])), max_size=25
).map(lambda pairs: b"Content-Type: multipart/mixed; boundary=a\r\n" + b"".join(a + b for a, b in pairs))


@settings(deadline=None)
@given(mime_messages, st.integers(1, 9))
def test_any_structure_is_sound(octets: bytes, size: int) -> None:
    message = Message(octets)
    structure = message.structure
    body = b"".join(message.body_chunks())
    for part in structure.root.walk():
        assert 0 <= part.start <= part.end <= len(body)
        assert b"".join(part.raw_chunks()) == body[part.start : part.end]
        part.text()
        for before, after in zip(part.parts, part.parts[1:], strict=False):
            assert before.end <= after.start
        for child in part.parts:
            assert part.start <= child.start
            assert child.end <= part.end
    # The chunks in which a body comes make no difference.
    head = octets[: message.body_offset]
    pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
    other = Message(head, len(octets), lambda: iter(pieces))
    if not other.is_header_cut:
        assert show(other.structure.root) == show(structure.root)
