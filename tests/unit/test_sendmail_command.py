"""`sendmail`: its options, what it makes of a message, where it sends it and how it ends; no server."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta import config, queue_stores, sendmail_server
from mta.address import NULL, parse_address
from mta.config.problems import unreadable
from mta.sendmail import read_limited
from mta.sendmail_message import (
    Outgoing,
    RecipientError,
    crlf,
    cut_at_dot,
    from_field,
    prepare,
    read_recipients,
    with_header_end,
)
from mta.sendmail_options import Options, UsageError, parse
from mta.sendmail_queue import QueueOptions, parse_queue
from mta.sendmail_server import NoListener, NotPublished, bound, find_server, local_server, publish
from mta.sendmail_submit import status_of
from sieve_ext.message import Message

SENDER = parse_address("root@example.org")


def made(octets: bytes, *recipients: str, **changes: Any) -> Outgoing:
    given: dict[str, Any] = {"from_header": False, "sender": SENDER, "full_name": "Charlie Root"} | changes
    return prepare(
        octets, recipients, origin="example.org", hostname="mx.example.org", now=1_795_776_400.0,
        entropy=bytes, **given,
    )  # fmt: skip


# Options


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", Options()),
        ("bob@x.test", Options(recipients=["bob@x.test"])),
        ("-t", Options(from_header=True)),
        ("-ti", Options(from_header=True, dot_ends=False)),
        ("-oi", Options(dot_ends=False)),
        ("-oem -odb -om -n -U -G -m", Options()),
        ("-v", Options(is_verbose=True)),
        ("-f a@b.test x@y.test", Options(sender="a@b.test", recipients=["x@y.test"])),
        ("x@y.test -fa@b.test", Options(sender="a@b.test", recipients=["x@y.test"])),
        ("-r <>", Options(sender="")),
        ("-f<a@b.test>", Options(sender="a@b.test")),
        ("-fMe<a@b.test>", Options(sender="Me<a@b.test>")),
        ("-F Me -- -t", Options(full_name="Me", recipients=["-t"])),
        ("-V id -R hdrs -N success,DELAY", Options(envid="id", ret="HDRS", notify=("SUCCESS", "DELAY"))),
        ("-N never -B 8bitmime", Options(notify=("NEVER",), body="8BITMIME")),
        ("-bp", Options(mode="mailq")),
        ("-bs", Options(mode="smtp")),
        ("-bi", Options(mode="aliases")),
        ("-I", Options(mode="aliases")),
        ("-bm -h 3 -L label -X log -A c -p proto -O Timeout=1 -d8.1", Options()),
        ("-q", Options(mode="flush")),
        ("-qI01ABC", Options(mode="flush", flush="I01ABC")),
        ("-qRexample.net", Options(mode="flush", flush="Rexample.net")),
        ("-C /etc/x.toml", Options(configuration="/etc/x.toml")),
    ],
)
def test_options(line: str, expected: Options) -> None:
    assert parse(line.split()) == expected


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-Z", "-Z"),
        ("-f", "requires argument"),
        ("-bd", "tamis serve"),
        ("-bx", "no such mode"),
        ("-bv", "not verified"),
        ("-q15m", "by itself"),
        ("-qX", "no such choice"),
        ("-R all", "full or hdrs"),
        ("-N never,delay", "never"),
        ("-N often", "success"),
        ("-B binary", "8BITMIME"),
        ("-V caf\udce9", "ASCII"),
    ],
)
def test_wrong_options(line: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse(line.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-p", QueueOptions("text")),
        ("-j -c /etc/tamis.toml", QueueOptions("json", configuration="/etc/tamis.toml")),
        ("-vf", QueueOptions("flush")),
        ("-i 01ABC", QueueOptions("retry", "01ABC")),
        ("-s example.net", QueueOptions("site", "example.net")),
        ("-f Rexample.net", QueueOptions("recipient", "example.net")),
    ],
)
def test_options_of_postqueue(line: str, expected: QueueOptions) -> None:
    assert parse_queue(line.split()) == expected


@pytest.mark.parametrize("line", ["", "-p -j", "-p x", "-Z"])
def test_wrong_options_of_postqueue(line: str) -> None:
    with pytest.raises(UsageError):
        parse_queue(line.split())


# The message


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"a\n.\nb\n", b"a\n"),
        (b"a\r\n.\r\nb", b"a\r\n"),
        (b"a\n.", b"a\n"),
        (b".\na", b""),
        (b".", b""),
        (b"a\n..\nb\n", b"a\n..\nb\n"),
        (b"a.\nb\n", b"a.\nb\n"),
        (b"", b""),
    ],
)
def test_dot_ends_the_message(octets: bytes, expected: bytes) -> None:
    assert cut_at_dot(octets) == expected


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"Subject: a\r\n\r\nbody\r\n", b"Subject: a\r\n\r\nbody\r\n"),
        (b"Subject: a\r\n b\r\nbody\r\n", b"Subject: a\r\n b\r\n\r\nbody\r\n"),
        (b"hello\r\n", b"\r\nhello\r\n"),
        (b" indented\r\n", b"\r\n indented\r\n"),
        (b"From root Fri Nov 27\r\nSubject: a\r\n\r\nx\r\n", b"Subject: a\r\n\r\nx\r\n"),
        (b"Subject: a\r\n", b"Subject: a\r\n\r\n"),
        (b"", b"\r\n"),
        (b"\r\nbody\r\n", b"\r\nbody\r\n"),
    ],
)
def test_end_of_the_header(octets: bytes, expected: bytes) -> None:
    assert with_header_end(octets) == expected


@given(st.binary(max_size=300))
def test_line_ends(octets: bytes) -> None:
    fixed = crlf(octets)
    assert fixed.replace(b"\r\n", b"").count(b"\n") == fixed.replace(b"\r\n", b"").count(b"\r") == 0
    assert crlf(fixed) == fixed
    assert fixed.replace(b"\r\n", b"") == octets.translate(None, b"\r\n\0")


@given(st.binary(max_size=300), st.booleans())
def test_every_input_becomes_a_message_or_is_refused(octets: bytes, from_header: bool) -> None:
    try:
        message = made(octets, "bob@example.net", from_header=from_header)
    except RecipientError:
        assert from_header
        return
    read = Message(message.octets)
    assert read.has_header_end
    assert {"from", "date", "message-id"} <= set(read.keys())


def test_missing_fields_are_added() -> None:
    message = made(b"Subject: x\n\nhi\n", "bob@example.net")
    assert (
        message.octets
        == (
            b'From: "Charlie Root" <root@example.org>\r\n'
            b"Date: " + Message(message.octets).get("date").value.strip() + b"\r\n"  # type: ignore[union-attr]
            b"Message-ID: <20261127104640.000000000000000000000000@mx.example.org>\r\n"
            b"Subject: x\r\n\r\nhi\r\n"
        )
    )
    whole = b"From: a@b.test\r\nDate: Fri, 27 Nov 2026 10:46:40 +0000\r\nMessage-ID: <x@y>\r\n\r\nhi\r\n"
    assert made(whole, "bob@example.net").octets == whole
    report = made(b"\nhi\n", "bob@example.net", sender=NULL).octets
    assert report.startswith(b"From: MAILER-DAEMON@example.org\r\n"), "mail without an author is refused"


def test_recipients_of_the_header() -> None:
    octets = (
        b"To: Bob <bob@example.net>, carol\nCc: team: dave@example.net;\nbcc: eve@example.net,\n frank\n"
        b"Subject: x\n\nBcc: stays\n"
    )
    message = made(octets, "bob@EXAMPLE.net", from_header=True)
    texts = [address.text for address in message.recipients]
    assert texts == [
        "bob@example.net", "carol@example.org", "dave@example.net", "eve@example.net", "frank@example.org",
    ]  # fmt: skip
    header, _, body = message.octets.partition(b"\r\n\r\n")
    assert b"eve" not in header
    assert b"frank" not in header
    assert b"To: Bob" in header
    assert body == b"Bcc: stays\r\n"
    assert b"bcc: eve" in made(octets, "bob@example.net").octets


def test_resent_recipients_go_before() -> None:
    octets = b"Resent-To: new@example.net\nResent-Bcc: hidden@example.net\nTo: old@example.net\n\nx\n"
    message = made(octets, from_header=True)
    assert [address.text for address in message.recipients] == ["new@example.net", "hidden@example.net"]
    assert b"hidden" not in message.octets


def test_nul_is_taken_out() -> None:
    """Cron mails what a job prints, and `find -print0` prints NUL; no server may take that."""
    message = made(b"Subject: a\0b\n\n1\0002\n", "bob@example.net")
    assert message.octets.endswith(b"\r\nSubject: ab\r\n\r\n12\r\n")


def test_semicolons_between_addresses() -> None:
    found = read_recipients(b"a@example.net; B <b@example.net>;c", "example.org")
    assert [address.text for address in found] == ["a@example.net", "b@example.net", "c@example.org"]
    for text in (b'"a@example.net; b@example.net', b"a (;", b"a; @"):
        with pytest.raises(RecipientError):
            read_recipients(text, "example.org")


def test_very_many_addresses_are_told_in_a_line() -> None:
    with pytest.raises(RecipientError, match="more than 10000 addresses") as caught:
        read_recipients(b", ".join(b"u%d@example.net" % number for number in range(20_000)), "example.org")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["bob@", "a b@c.test", "<>", "bob@-x-.test", "bob@exa mple.test", ""])
def test_wrong_recipients(text: str) -> None:
    if text:
        with pytest.raises(RecipientError):
            read_recipients(text.encode(), "example.org")
    else:
        assert read_recipients(b"", "example.org") == []


def test_local_parts_that_differ_in_case_may_be_two_people() -> None:
    message = made(b"Subject: x\n\nx\n", "bob@example.net", "BOB@example.net", "bob@Example.net")
    assert [address.local for address in message.recipients] == ["bob", "BOB"]


@pytest.mark.parametrize("word", ["b\udcf6b@example.net", '"b\udcf6b"@example.net', "bob@b\udcf6b.example"])
def test_addresses_that_are_no_utf8(word: str) -> None:
    """As from a shell whose locale is Latin-1: Python hands such octets on as lone surrogates."""
    with pytest.raises(RecipientError, match="UTF-8"):
        made(b"Subject: x\n\nx\n", word)
    with pytest.raises(RecipientError, match="UTF-8"):
        made(b"To: " + word.encode("utf-8", "surrogateescape") + b"\n\nx\n", from_header=True)


def test_what_is_not_ascii() -> None:
    plain = made("Subject: x\n\nhällo\n".encode(), "bob@example.net")
    assert (plain.has_8bit, plain.utf8_header) == (True, False)
    header = made("Subject: hällo\n\nx\n".encode(), "bob@example.net")
    assert (header.has_8bit, header.utf8_header) == (True, True)
    old = made("Subject: hällo\n\nx\n".encode("latin-1"), "bob@example.net")
    assert (old.has_8bit, old.utf8_header) == (True, False)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("", b"From: root@example.org\r\n"),
        ('A "B" \\', b'From: "A \\"B\\" \\\\" <root@example.org>\r\n'),
        ("J\u00f6rg\n evil: x", b"From: =?utf-8?b?SsO2cmcgZXZpbDogeA==?= <root@example.org>\r\n"),
    ],
)
def test_from(name: str, field: bytes) -> None:
    assert from_field(SENDER, name) == field


def test_size_is_bounded() -> None:
    assert read_limited(io.BytesIO(b"x" * 1000), 1000) == b"x" * 1000
    assert read_limited(io.BytesIO(b"x" * 1001), 1000) is None


# The server, and how it ends


BALANCED = 'proxy_protocol_from = ["198.51.100.0/24"]\n'


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ('domains."b.test" = {}\ndomains."a.test" = {}', "b.test"),
        ('identity.postmaster = "me@a.test"\ndomains."b.test" = {}\ndomains."a.test" = {}', "a.test"),
        ('identity.postmaster = "me@freemail.test"\ndomains."b.test" = {}\ndomains."a.test" = {}', "b.test"),
        ('identity.postmaster = "me@a.test"', "a.test"),
    ],
)
def test_origin(text: str, origin: str) -> None:
    """Mail of cron for root is for ours, not for that of the provider who has the postmaster's mailbox."""
    more = 'outbound.enabled = true\ndns.resolvers = ["127.0.0.1"]\nstore.enabled = true\n'
    settings = config.parse(more + text, "tamis.toml", config.this_machine())
    assert local_server(settings, "tamis.toml").origin == origin


@pytest.mark.parametrize(
    ("listeners", "where"),
    [
        ('addresses = ["0.0.0.0:25", "[::]:25"]', "127.0.0.1:25"),
        ('addresses = ["192.0.2.1:25", "[::1]:2525"]', "[::1]:2525"),
        ('addresses = ["192.0.2.1:25"]', "192.0.2.1:25"),
        ('addresses = ["unix:/run/tamis/smtp"]', "unix:/run/tamis/smtp"),
        (
            f'{BALANCED}addresses = ["127.0.0.1:25"]\n[[listener]]\nname = "b"\naddresses = ["192.0.2.1:26"]',
            "192.0.2.1:26",
        ),
    ],
)
def test_listener(listeners: str, where: str) -> None:
    settings = config.parse(f'[domains."example.org"]\n[store]\nenabled = true\n[[listener]]\n{listeners}\n')
    assert str(local_server(settings, "tamis.toml").where) == where


@pytest.mark.parametrize(
    "listener",
    [
        'protocol = "lmtp"',
        f'{BALANCED}addresses = ["127.0.0.1:25"]',
        f'{BALANCED}addresses = ["unix:/run/tamis/smtp"]',
    ],
)
def test_no_listener(listener: str) -> None:
    text = f'[domains."example.org"]\n[store]\nenabled = true\n[[listener]]\n{listener}\n'
    local = local_server(config.parse(text), "tamis.toml")
    with pytest.raises(NoListener, match=r"127\.0\.0\.1"):
        print(local.where)


def test_the_port_that_the_system_chose() -> None:
    text = """
        [[listener]]
        name = "other"
        addresses = ["127.0.0.1:2525"]
        protocol = "lmtp"
        [[listener]]
        name = "chosen"
        addresses = ["unix:/run/smtp", "[::]:0", "0.0.0.0:0"]
    """
    local = local_server(config.parse(text), "tamis.toml")
    assert (local.host, local.port, local.listener, local.is_known) == ("127.0.0.1", 0, "chosen", False)
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_server(("0.0.0.0", 0)) as chosen,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        found = bound(local, {"other": [other], "chosen": [unix, chosen]})
        assert found.where == config.Inet("127.0.0.1", chosen.getsockname()[1])
        assert bound(found, {"chosen": [other]}) == found
    assert bound(local, {}) == local


def test_the_socket_that_the_system_opened(tmp_path: Path) -> None:
    text = f"""
        identity.hostname = "mx.example.org"
        [domains."example.org"]
        [store]
        enabled = true
        [process]
        runtime_directory = "{tmp_path}"
        [[listener]]
        name = "behind"
        addresses = ["fd:proxied"]
        proxy_protocol_from = ["127.0.0.1"]
        [[listener]]
        name = "smtp"
        addresses = ["fd:smtp"]
    """
    path = tmp_path / "tamis.toml"
    path.write_text(text)
    local = local_server(config.parse(text, str(path)), str(path))
    assert (local.listener, local.is_known) == ("smtp", False)
    with pytest.raises(NoListener, match="only a server that runs knows where the listener smtp is"):
        print(local.where)
    with pytest.raises(NotPublished, match=r"the listener smtp, and no server runs: .*sendmail\.json is not"):
        find_server(str(path))
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as inet,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(str(tmp_path / "smtp"))
        assert bound(local, {"smtp": [unix, inet]}).where == config.Unix(str(tmp_path / "smtp"))
        found = bound(local, {"smtp": [inet, unix]})
        assert found.where == config.Inet("::1", inet.getsockname()[1])
    publish(found, str(tmp_path))
    assert find_server(str(path)) == found


def test_the_server_tells_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration is closed, so the server says what `sendmail` needs where all may read it."""
    path = tmp_path / "tamis.toml"

    def closed(name: str) -> Any:
        reason = PermissionError(13, "Permission denied")
        raise config.ConfigError((unreadable(name, reason),)) from reason

    monkeypatch.setattr(queue_stores, "read_configuration", closed)
    monkeypatch.setattr(sendmail_server, "PUBLISHED", str(tmp_path / "sendmail.json"))
    with pytest.raises(
        NotPublished, match=r"tamis\.toml is closed to you, and no server runs: .*sendmail.json"
    ):
        find_server(str(path))
    local = local_server(config.parse('identity.hostname = "mx.example.org"\n', str(path)), str(path))
    old = os.umask(0o077)
    try:
        publish(local, str(tmp_path))
    finally:
        os.umask(old)
    assert (tmp_path / "sendmail.json").stat().st_mode & 0o777 == 0o644
    made = (tmp_path / "sendmail.json").stat().st_ino
    publish(local, str(tmp_path))
    assert (tmp_path / "sendmail.json").stat().st_ino == made, "what is there is not written again"
    assert find_server(str(path)) == local
    assert (local.hostname, local.origin, str(local.where)) == (
        "mx.example.org", "mx.example.org", "127.0.0.1:25",
    )  # fmt: skip
    with pytest.raises(NotPublished, match=f"the server that runs has another one: {path}"):
        find_server("other.toml")
    (tmp_path / "sendmail.json").write_text("{")
    with pytest.raises(NotPublished, match="cannot be read"):
        find_server(str(path))


def test_a_configuration_that_is_being_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The running server still takes mail, so what cron sends in that minute is not lost."""
    monkeypatch.setattr(sendmail_server, "PUBLISHED", str(tmp_path / "nowhere.json"))
    path = tmp_path / "tamis.toml"
    right = '[identity]\nhostname = "mx.example.org"\n[process]\nruntime_directory = "run"\n'
    path.write_text(right)
    local = find_server(str(path))
    for wrong in ("hostname = mx.example.org", "hostnme = 1"):
        path.write_text(f"{right}[message]\n{wrong}\n")
        with pytest.raises(config.ConfigError, match=r"tamis\.toml:6"):
            find_server(str(path))
        (tmp_path / "run").mkdir(exist_ok=True)
        publish(local, str(tmp_path / "run"))
        assert find_server(str(path)) == local
        (tmp_path / "run/sendmail.json").unlink()
    publish(local, str(tmp_path / "run"))
    other = tmp_path / "other.toml"
    other.write_text(f"{right}[message]\n{wrong}\n")
    with pytest.raises(config.ConfigError, match=r"other\.toml:6"):
        find_server(str(other))
    monkeypatch.setattr(sendmail_server, "PUBLISHED", str(tmp_path / "run/sendmail.json"))
    path.unlink()
    assert find_server(str(path)) == local, "an editor may be about to rename another file to it"


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (421, "4.3.2 stopping", 75),
        (451, "4.4.1 away", 75),
        (550, "5.1.1 no such user", 67),
        (550, "no such user", 67),
        (550, "5.7.1 relaying denied", 77),
        (550, "5.6.0 bare LF", 65),
        (552, "5.2.2 mailbox full", 69),
        (554, "5.4.6 looping", 69),
        (354, "odd", 75),
    ],
)
def test_exit_statuses(code: int, text: str, status: int) -> None:
    assert status_of(code, text) == status
