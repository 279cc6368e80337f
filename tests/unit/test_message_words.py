"""Text of header fields: unfolding, encoded words, charsets, and writing them."""

import time
from email.header import decode_header, make_header

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sieve_ext.message import Message, make_field
from sieve_ext.message.charset import codec_name, decode_charset
from sieve_ext.message.field import FOLD_COLUMNS
from sieve_ext.message.words import WORD_OCTETS, decode_words, encode_names, encode_words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"", ""),
        # Examples of RFC 2047 section 8.
        (b"=?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=   \t  =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
        (b"=?ISO-8859-1?Q?Keld_J=F8rn_Simonsen?= <k@x>", "Keld Jørn Simonsen <k@x>"),
        (b"=?iso-8859-1?q?this=20is=20some=20text?=", "this is some text"),
        (b"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=", "If you can read this yo"),
        (b"=?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=", "u understand the example."),
        # Case of label and encoding; language (RFC 2231 section 5).
        (b"=?uTf-8?b?w6Q=?=", "ä"),
        (b"=?utf-8*de?q?=c3=a4?=", "ä"),
        (b"=?UTF8?Q?=C3=A4?=", "ä"),
        # A character split between two words, in each encoding.
        (b"=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),
        (b"=?utf-8?b?ww==?= =?UTF-8?b?pA==?=", "ä"),
        (b"=?utf-8?b?w?= =?UTF-8?q?=A4?=", "\ufffd"),
        # Words that touch each other or other text, words in quotation marks.
        (b"=?utf-8?q?a?==?utf-8?q?b?=", "ab"),
        (b"x=?utf-8?q?=C3=A4?=y", "xäy"),
        (b'"=?utf-8?q?=C3=A4?=" <a@b>', '"ä" <a@b>'),
        (b"(=?utf-8?q?a?=)", "(a)"),
        # Blanks inside a Q word, base64 without padding or with rubbish in it.
        (b"=?utf-8?q?a b?=", "a b"),
        (b"=?utf-8?b?w6Q?=", "ä"),
        (b"=?utf-8?b?w6Q?= tail", "ä tail"),
        (b"=?utf-8?b?w 6 Q =?=", "ä"),
        (b"=?utf-8?b?w6Q=w6Q=?=", "ää"),
        (b"=?utf-8?b?a?=", ""),
        (b"=?utf-8?b??=", ""),
        (b"=?utf-8?q??=", ""),
        (b"=?utf-8?q?=ZZ=4?=", "=ZZ=4"),
        (b"=?utf-8?q?100%=?=", "100%"),
        # Broken UTF-8 inside a word.
        (b"=?utf-8?q?=FF?=", "\ufffd"),
        # No encoded words.
        (b"=?utf-8?q?open", "=?utf-8?q?open"),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"=??q?a?=", "=??q?a?="),
        (b"=?a b?q?c?=", "=?a b?q?c?="),
        (b"a =? b ?= c", "a =? b ?= c"),
        (b"=?=?utf-8?q?a?=", "=?a"),
        (b"=?us-ascii?q?=?utf-8?q?a?=", "=?us-ascii?q?a"),
        # Unknown charset: UTF-8 if it is that, else as it stands.
        (b"=?x-unknown?q?hello_=C3=A4?=", "hello ä"),
        (b"=?IBM037?b?iIWTk5Y=?=", "hello"),
        (b"=?ebcdic-cp-us?b?iIWTk5Y=?=", "hello"),
        (b"=?x-unknown?q?=FF?= x", "=?x-unknown?q?=FF?= x"),
        (b"=?x-unknown?q?=FF?=  =?x-unknown?b?/w==?=", "=?x-unknown?q?=FF?= =?x-unknown?b?/w==?="),
        (b"=?x?q?=FF?==?x?q??= =?x?q??=", "=?x?q?=FF?==?x?q??= =?x?q??="),
        (b"=?base64?q?a?=", "a"),
        (b"=?punycode?q?=FF?=", "=?punycode?q?=FF?="),
        (b"=?unicode_escape?q?=5Cu00e4?=", "\\u00e4"),
        # 8-bit under US-ASCII; labels that mean their superset.
        (b"=?us-ascii?q?=C3=A4?=", "ä"),
        (b"=?us-ascii?q?=E4?=", "ä"),
        (b"=?iso-8859-1?q?=80?=", "€"),
        (b"=?gb2312?b?hDGkNw==?=", b"\x84\x31\xa4\x37".decode("gb18030", "replace")),
        # Stateful and wide charsets.
        (b"=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "日本"),
        (b"=?ISO-2022-JP?B?GyRCRnwbKEI=?= =?ISO-2022-JP?B?GyRCS1wbKEI=?=", "日本"),
        (b"=?koi8-r?B?8NLJ18XU?=", "Привет"),
        (b"=?windows-1251?Q?=CF=F0=E8?=", "При"),
        (b"=?Shift_JIS?B?k/qWew==?=", "日本"),
        (b"=?big5?b?pKSk5Q==?=", "中文"),
        # Raw UTF-8 (RFC 6532), alone, beside words, broken.
        ("Grüße".encode(), "Grüße"),
        ("ü =?utf-8?q?=C3=A4?= ö".encode(), "ü ä ö"),
        (b"\xe4 x", "\ufffd x"),
    ],
)
def test_decode(value: bytes, text: str) -> None:
    assert decode_words(value) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"Subject: a\r\n b\r\n\tc\r\n", "a b c"),
        (b"Subject:\r\n a\r\n", "a"),
        (b"Subject: a\n b\n", "a b"),
        (b"Subject:   a   \r\n", "a"),
        (b"Subject:\ta\t \r\n", "a"),
        (b"Subject: =?utf-8?q?a?=\r\n =?utf-8?q?b?=\r\n", "ab"),
        (b"Subject: =?utf-8?q?a?=\r\n b\r\n", "a b"),
        (b"Subject: =?utf-8?q?a\r\n b?=\r\n", "a b"),
        (b"Subject: a\r\r\n", "a"),
        (b"Subject: \xa0a\x85\r\n", "\ufffda\ufffd"),
        (b"Subject: a\0b\r\n", "a\0b"),
        (b"Subject: \xc3\xa4\r\n \xc3\xb6\r\n", "ä ö"),
        (b"Subject:\r\n", ""),
        (b"Subject: \r\n \r\n", ""),
    ],
)
def test_field_text(raw: bytes, text: str) -> None:
    field = Message(raw + b"\r\n").get("subject")
    assert field is not None
    assert field.text == text
    assert field.text is field.text


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("utf-8", "utf_8"),
        (" UTF-8 ", "utf_8"),
        ("utf_8", "utf_8"),
        ("iso-8859-15", "iso8859_15"),
        ("ISO_8859-1:1987", "cp1252"),
        ("latin1", "cp1252"),
        ("cp-850", "cp850"),
        ("windows-1252", "cp1252"),
        ("GB2312", "gb18030"),
        ("KS_C_5601-1987", "cp949"),
        ("x-sjis", "cp932"),
        ("us-ascii", "ascii"),
        ("ansi_x3.4-1968", "ascii"),
        ("", None),
        ("unknown-8bit", None),
        ("base64", None),
        ("rot13", None),
        ("idna", None),
        ("punycode", None),
        ("zlib", None),
        ("undefined", None),
        ("utf-8\0", None),
        ("../x", None),
        ("x" * 10_000, None),
    ],
)
def test_charset_labels(label: str, codec: str | None) -> None:
    assert codec_name(label) == codec


@settings(deadline=None)
@given(
    st.binary(max_size=40),
    st.sampled_from(["utf-7", "utf-16", "utf-32", "hz", "iso-2022-kr", "johab", "big5"]),
)
def test_charsets_never_raise(octets: bytes, label: str) -> None:
    assert decode_charset(octets, label) is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ('plain text, (with) "specials"', 'plain text, (with) "specials"'),
        ("ä", "=?utf-8?b?w6Q=?="),
        ("naïve approach", "=?utf-8?q?na=C3=AFve_approach?="),
        ("Grüße aus Köln", "=?utf-8?b?R3LDvMOfZSBhdXMgS8O2bG4=?="),
        ("日本語", "=?utf-8?b?5pel5pys6Kqe?="),
        ("a =?utf-8?q?b?= c", "=?utf-8?b?YSA9P3V0Zi04P3E/Yj89IGM=?="),
        ("\ud800", "=?utf-8?b?Pw==?="),
    ],
)
def test_encode(text: str, words: str) -> None:
    assert encode_words(text) == words


@settings(deadline=None)
@given(st.text(max_size=300))
def test_encoded_text_reads_back(text: str) -> None:
    words = encode_words(text)
    assert decode_words(words.encode("ascii")) == text.encode("utf-8", "replace").decode()
    if words != text:
        assert all(len(word) <= WORD_OCTETS for word in words.split(" "))
        # The standard library agrees.
        assert str(make_header(decode_header(words))) == text.encode("utf-8", "replace").decode()


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=300), st.booleans())
def test_written_fields_read_back(text: str, utf8: bool) -> None:
    field = make_field("Subject", text, utf8=utf8)
    assume(not (utf8 and "=?" in text))  # raw UTF-8 cannot say that it is no encoded word
    assert Message(field.raw + b"\r\n").text("subject") == text.strip()


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("", b"N: \r\n"),
        ("a", b"N: a\r\n"),
        ("a\r\nBcc: b", b"N: a  Bcc: b\r\n"),
        ("a" * 100, b"N: " + b"a" * 100 + b"\r\n"),
        ("a " * 60, b"N: " + b"a " * 36 + b"a a\r\n" + b" a" * 22 + b"\r\n"),
        ("x" * 70 + " " + "y" * 70, b"N: " + b"x" * 70 + b"\r\n " + b"y" * 70 + b"\r\n"),
        ("ä", b"N: =?utf-8?b?w6Q=?=\r\n"),
    ],
)
def test_make_field(text: str, raw: bytes) -> None:
    assert make_field("N", text).raw == raw


@settings(deadline=None)
@given(st.lists(st.text("abcö", min_size=1, max_size=20), max_size=40))
def test_written_lines_are_short(words: list[str]) -> None:
    raw = make_field("Subject", " ".join(words)).raw
    assert all(len(line) <= FOLD_COLUMNS + len("Subject:") for line in raw.split(b"\r\n"))


@pytest.mark.parametrize(
    "octets",
    [
        b"=?" * 500_000,
        b"=?a?q?" * 200_000,
        b"=?a?q?b" * 150_000,
        b"=?utf-8?q?a?= " * 70_000,
        b"=?utf-8?b?" + b"a" * 1_000_000 + b"?=",
        b"=?utf-8?b?" + b"=" * 1_000_000 + b"?=",
        b"=?utf-8?q?" + b"=" * 1_000_000 + b"?=",
        b"=?utf-8?q?a?=" + b" " * 1_000_000,
        b"".join(b"=?x-%d?q?=FF?= " % number for number in range(60_000)),
    ],
    ids=["marks", "open", "open-text", "words", "base64", "pads", "equals", "blanks", "charsets"],
)
def test_linear_time(octets: bytes) -> None:
    start = time.process_time()
    decode_words(octets)
    assert time.process_time() - start < 3


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_value_decodes(value: bytes) -> None:
    decode_words(value)


words = st.sampled_from(
    [
        b"=?utf-8?q?",
        b"=?utf-8?b?",
        b"=?x?q?",
        b"=?utf-7?b?",
        b"?=",
        b"=C3",
        b"=A4",
        b"w6Q=",
        b" ",
        b"a",
        b"=",
        b"\xe4",
    ]
)


@settings(deadline=None)
@given(st.lists(words, max_size=15).map(b"".join))
def test_any_mixture_of_word_pieces_decodes(value: bytes) -> None:
    text = decode_words(value)
    assert len(text) <= len(value)


def test_half_of_a_surrogate_pair_is_no_character() -> None:
    """UTF-7 can write one, and Python's codec lets it through; what has one can't be encoded again."""
    assert decode_words(b"=?utf-7?Q?+2AA-x?=") == "\ufffdx"
    assert decode_charset(b"+2ADcAA-", "utf-7") == "\U00010000"
    assert decode_charset(b"+AOQ-", "UTF-7") == "\u00e4"


QUOTED = 'Größe, Zoë "Z"'


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Ann Smith <ann@example.org>", "Ann Smith <ann@example.org>"),
        ("Zoë <zoe@example.org>", f"{encode_words('Zoë')} <zoe@example.org>"),
        ("Zoë Größe Otto <a@b.c>", f"{encode_words('Zoë Größe')} Otto <a@b.c>"),
        ('"Größe, Zoë \\"Z\\"" <a@b.c>', f"{encode_words(QUOTED)} <a@b.c>"),
        ('"Smith, Ann" <a@b.c>, Zoë<z@b.c>', f'"Smith, Ann" <a@b.c>, {encode_words("Zoë")} <z@b.c>'),
        ("Büro: Zoë <z@b.c>, a@b.c;", f"{encode_words('Büro')} : {encode_words('Zoë')} <z@b.c>, a@b.c;"),
        ("a@b.c (Zoë (Z))", f"a@b.c ( {encode_words('Zoë')} (Z))"),
        ("zoë@example.org", "zoë@example.org"),
        ("Zoë <zoë@example.org>", f"{encode_words('Zoë')} <zoë@example.org>"),
        ('"=?utf-8?q?x?=" <a@b.c>', f"{encode_words('=?utf-8?q?x?=')} <a@b.c>"),
        ('"Zoë <a@b.c>', f'" {encode_words("Zoë")} <a@b.c>'),
        ("(Zoë <a@b.c>", f"( {encode_words('Zoë')} <a@b.c>"),
        ("", ""),
    ],
)
def test_only_names_are_encoded_in_fields_of_addresses(text: str, written: str) -> None:
    assert encode_names(text) == written


@pytest.mark.parametrize("text", ['\\"', '"\\', "<", '"', "(Zoë"])
def test_names_are_encoded_in_linear_time(text: str) -> None:
    began = time.process_time()
    encode_names("Zoë " + text * 30_000)
    assert time.process_time() - began < 2.0


@given(st.text())
def test_addresses_are_never_encoded(name: str) -> None:
    written = encode_names(f"{name} Zoë <zoe@example.org>")
    assert written.endswith(" <zoe@example.org>") or set(name) & set('"<>(),:;\\@')


def test_a_field_of_addresses_is_written_with_encoded_names() -> None:
    field = make_field("reply-TO", "Zoë <zoe@example.org>")
    assert field.raw == f"reply-TO: {encode_words('Zoë')} <zoe@example.org>\r\n".encode()
    assert make_field("Subject", "Zoë <x>").raw == f"Subject: {encode_words('Zoë <x>')}\r\n".encode()
