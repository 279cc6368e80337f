"""Durations, sizes, addresses, names: text to value and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.notation import (
    Inet,
    Inherited,
    RecipientSource,
    Unix,
    parse_connect,
    parse_fqdn,
    parse_hostname,
    parse_listen,
    parse_login,
    parse_mail_address,
    parse_mode,
    parse_network,
    parse_path,
    parse_recipients,
)
from mta.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("0s", 0), ("5s", 5), ("1.5h", 5400), ("1m30s", 90), ("2w", 1209600), (" 1d ", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "5x",
        "5S",
        "-5s",
        "5s5s",
        "5s1m",
        "1.2.3s",
        "5.s",
        "1e3s",
        "11000d",
        "5 s",
        "٥s",
        "1m 30s",
    ],
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_duration(text)


@given(st.integers(0, 10 * 365 * 86_400_000))
def test_a_duration_is_written_as_it_is_read(milliseconds: int) -> None:
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("0B", 0),
        ("512B", 512),
        ("64KiB", 65536),
        ("1.5KiB", 1536),
        ("50MiB", 52428800),
        ("50 MB", 50_000_000),
    ],
)
def test_sizes(text: str, octets: int) -> None:
    assert parse_size(text) == octets


@pytest.mark.parametrize("text", ["", "5", "MiB", "5M", "-5B", "5 m", "1.0001KiB", "5BB", "1e3B"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_size(text)


@given(st.integers(0, 2**50))
def test_a_size_is_written_as_it_is_read(octets: int) -> None:
    assert parse_size(format_size(octets)) == octets


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:25", Inet("0.0.0.0", 25)),
        ("[::]:25", Inet("::", 25)),
        ("[2001:DB8:0:0::1]:0", Inet("2001:db8::1", 0)),
        ("[192.0.2.1]:25", Inet("192.0.2.1", 25)),
        ("unix:/run/x", Unix("/run/x")),
        ("unix:x/../y", Unix("/f/y")),
        ("fd:smtp", Inherited("smtp")),
    ],
)
def test_listen_addresses(text: str, address: object) -> None:
    assert parse_listen(text, "/f") == address


@pytest.mark.parametrize(
    "text", ["", ":25", "x:25", "::1:25", "[::1]", "1.2.3.4:", "1.2.3.4:-1", "1.2.3.4:65536", "1.2.3.4:٢٥",
             "unix:", "unix:" + "x" * 108, "fd:", "fd:a:b", "01.2.3.4:25"],
)  # fmt: skip
def test_no_listen_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_listen(text, "/")


@pytest.mark.parametrize(
    "text", ["[::1]:24", "192.0.2.1:24", "imap.example.org:24", "unix:/run/dovecot/lmtp"]
)
def test_addresses_to_connect_to_are_written_as_they_are_read(text: str) -> None:
    assert str(parse_connect(text, "/")) == text


@pytest.mark.parametrize("text", ["imap:0", "a_b:24", "imap", "", "fd:x", "-a:24", "1.2.3:24"])
def test_no_addresses_to_connect_to(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_connect(text, "/")


NAMES: list[tuple[Any, str, str | None]] = [
    (parse_hostname, "Mail.Example.ORG.", "mail.example.org"),
    (parse_hostname, "bücher.example", "xn--bcher-kva.example"),
    (parse_hostname, "localhost", "localhost"),
    (parse_hostname, "a" * 64 + ".example", None),
    (parse_hostname, ".".join(["a" * 60] * 5), None),
    (parse_hostname, "a..b", None),
    (parse_hostname, "-a.b", None),
    (parse_hostname, "", None),
    (parse_hostname, "a b", None),
    (parse_hostname, "\u2603\u0301.\u200d", None),
    (parse_fqdn, "", ""),
    (parse_fqdn, "localhost", None),
    (parse_fqdn, "192.0.2.1", None),
    (parse_network, "192.0.2.0/24", "192.0.2.0/24"),
    (parse_network, "192.0.2.7", "192.0.2.7/32"),
    (parse_network, "2001:DB8::/32", "2001:db8::/32"),
    (parse_network, "192.0.2.7/24", None),
    (parse_network, "x", None),
    (parse_path, "a/./b", "/f/a/b"),
    (parse_path, "/a", "/a"),
    (parse_path, "", ""),
    (parse_path, "a\0b", None),
    (parse_mail_address, "Info@Example.org", "Info@example.org"),
    (parse_mail_address, "jörg@example.org", "jörg@example.org"),
    (parse_mail_address, "", ""),
    (parse_mail_address, "a..b@example.org", None),
    (parse_mail_address, '"a b"@example.org', None),
    (parse_mail_address, "@example.org", None),
    (parse_mail_address, "info", None),
    (parse_mail_address, "ö" * 33 + "@example.org", None),
    (parse_login, "Scanner@Example.ORG", "scanner@example.org"),
    (parse_login, "Webmail", "webmail"),
    (parse_login, "", None),
    (parse_login, "two words", None),
    (parse_login, "a@b@c..d", None),
]


@pytest.mark.parametrize(("parse", "text", "value"), NAMES)
def test_names_networks_and_paths(parse: Any, text: str, value: str | None) -> None:
    if value is None:
        with pytest.raises(ValueError, match=r"\w"):
            parse(text, "/f")
    else:
        assert parse(text, "/f") == value
        assert parse(value, "/f") == value


@pytest.mark.parametrize(("text", "mode"), [("0660", 0o660), ("600", 0o600), ("0000", 0), ("0777", 0o777)])
def test_modes(text: str, mode: int) -> None:
    assert parse_mode(text, "/") == mode


@pytest.mark.parametrize("text", ["", "66", "0o660", "0668", "1777", "00660", "-660", "rw-rw----", "٠٦٦٠"])
def test_no_modes(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_mode(text, "/")


def test_sources_of_recipients() -> None:
    assert parse_recipients("table:x", "/f") == RecipientSource("table", "/f/x", "x")
    assert parse_recipients("table:./x", "/f") == RecipientSource("table", "/f/x")
    assert str(parse_recipients("table:x", "/f")) == "table:/f/x"
    assert str(parse_recipients("ask", "/f")) == "ask"
