"""`scan` in the daemon: rspamd, spamd and clamd as they speak, and as they fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mta.policy.external.scanwire import Found, ScanError, read_clamd, read_rspamd, read_spamd, together
from tests.dialog.programs import scanning
from tests.dialog.server import run, serving

REQUIRE = (
    'require ["vnd.tamis.stage", "vnd.tamis.scan", "vnd.tamis.reply", "spamtest", "spamtestplus",'
    ' "virustest", "relational", "comparator-i;ascii-numeric", "variables"];\n'
)
SCRIPT = """stage "data" {{
    scan {tag}"one";
    if virustest "5" {{ reply "virus"; }}
    elsif spamtest "10" {{ reply "spam"; }}
    elsif spamtest :percent :value "gt" :comparator "i;ascii-numeric" "40" {{ reply "doubtful"; }}
    elsif allof (spamtest "0", virustest "0") {{ reply "not scanned"; }}
}}"""
MORE = """[scanners.one]
kind = "{kind}"
address = "unix:one"
{more}
[policy]
scripts = ["policy.sieve"]
"""
JSON = b'{"action":"x","score":%s,"required_score":15.0,"symbols":{"A":{},"B":{}}}'


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def spamd(line: str) -> bytes:
    return f"SPAMD/1.1 0 EX_OK\r\nContent-length: 5\r\nSpam: {line}\r\n\r\nA,B\r\n".encode()


CASES = [
    ("rspamd", http(JSON % b"16.5"), "550 5.7.1 spam"),
    ("rspamd", http(JSON % b"7.5"), "550 5.7.1 doubtful"),
    ("rspamd", http(JSON % b"-1"), "250 "),
    ("rspamd", http(b"{}"), "451 4.7.1"),
    ("rspamd", http(b"no", "403 Forbidden"), "451 4.7.1"),
    ("rspamd", b"SSH-2.0\r\n", "451 4.7.1"),
    ("spamassassin", spamd("True ; 6.0 / 5.0"), "550 5.7.1 spam"),
    ("spamassassin", spamd("False ; 2.5 / 5.0"), "550 5.7.1 doubtful"),
    ("spamassassin", spamd("False ; 0.0 / 5.0"), "250 "),
    ("spamassassin", b"SPAMD/1.1 74 EX_TEMPFAIL\r\n\r\n", "451 4.7.1"),
    ("spamassassin", b"", "451 4.7.1"),
    ("clamav", b"stream: OK\0", "250 "),
    ("clamav", b"stream: Eicar-Test FOUND\0", "550 5.7.1 virus"),
    ("clamav", b"INSTREAM size limit exceeded. ERROR\0", "451 4.7.1"),
    ("clamav", b"", "451 4.7.1"),
]


async def answer(
    folder: Path, kind: str, says: bytes | None, *, tag: str = "", more: str = "", delay: float = 0.0
) -> tuple[str, list[bytes]]:
    """The reply to a message, and what the scanner was asked; without `says` nobody listens."""
    (folder / "policy.sieve").write_text(REQUIRE + SCRIPT.format(tag=tag))
    place = folder / ("one" if says is not None else "nowhere")
    async with (
        scanning(place, says or b"", delay) as asked,
        serving(folder, more=MORE.format(kind=kind, more=more)) as server,
    ):
        client = await server.connect()
        await client.hello()
        return await client.send("b@example.test", body="Subject: hi\r\n\r\n..x\r\n"), asked


@pytest.mark.parametrize(("kind", "says", "expected"), CASES)
def test_what_scanners_say(tmp_path: Path, kind: str, says: bytes, expected: str) -> None:
    async def main() -> None:
        reply, asked = await answer(tmp_path, kind, says)
        assert reply.startswith(expected)
        assert b"Subject: hi\r\n\r\n.x\r\n" in asked[0]
        if kind == "rspamd":
            assert asked[0].startswith(b"POST /checkv2 HTTP/1.1\r\n")
            assert b"\r\nFrom: a@x.test\r\nRcpt: b@example.test\r\nIP: 127.0.0.1\r\n" in asked[0]

    run(main)


@pytest.mark.parametrize("kind", ["rspamd", "spamassassin", "clamav"])
@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("", "451 4.7.1"),
        (':on_error "ignore" ', "550 5.7.1 not scanned"),
        (':on_error "reject" ', "554 5.7.1"),
    ],
)
def test_scanners_that_are_down_or_slow(tmp_path: Path, kind: str, tag: str, expected: str) -> None:
    async def main() -> None:
        assert (await answer(tmp_path, kind, None, tag=tag))[0].startswith(expected)
        more = 'timeout = "200ms"'
        reply, _ = await answer(tmp_path, kind, b"late", tag=tag, more=more, delay=0.6)
        assert reply.startswith(expected)

    run(main)


def test_a_message_that_is_too_large_is_not_scanned(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "policy.sieve").write_text(REQUIRE + SCRIPT.format(tag=""))
        async with (
            scanning(tmp_path / "one", b"stream: OK\0") as asked,
            serving(tmp_path, more=MORE.format(kind="clamav", more='size_limit = "1KiB"')) as server,
        ):
            client = await server.connect()
            await client.hello()
            reply = await client.send("b@example.test", body="Subject: hi\r\n\r\n" + "x\r\n" * 500)
            assert reply.startswith("550 5.7.1 not scanned")
            assert not asked

    run(main)


def test_chunked_answers_and_the_worse_of_two() -> None:
    body = JSON % b"3"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    found = read_rspamd(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert found == Found(spam=0.2, names=("A", "B"))
    assert together(found, read_clamd(b"stream: OK\0")) == Found(0.2, 1, ("A", "B"))
    for octets in (b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n[1]", b"\xff\0" * 9):
        for read in (read_rspamd, read_spamd, read_clamd):
            with pytest.raises(ScanError):
                read(octets)


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"score": 1e999, "required_score": 1e999}', b'{"score": NaN, "required_score": 5}'],
)
def test_nonsense_of_rspamd_is_no_result(body: bytes) -> None:
    """So that `:on_error` says what becomes of the message."""
    with pytest.raises(ScanError):
        read_rspamd(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)


def test_limits_of_each_recipient(tmp_path: Path) -> None:
    """The recipe of docs/filter-recipes.md: each recipient has an answer by a limit of its own."""
    page = (Path(__file__).parents[2] / "docs" / "filter-recipes.md").read_text(encoding="utf-8")
    (script,) = [
        text for text in re.findall(r"^```sieve\n(.*?)^```$", page, re.M | re.S) if "spam_limits" in text
    ]
    (tmp_path / "policy.sieve").write_text(script)
    (tmp_path / "limits").write_text("b@example.test  40\n")
    more = """[scanners.rspamd]
kind = "rspamd"
address = "unix:one"
[policy]
scripts = ["policy.sieve"]
[tables.spam_limits]
file = "limits"
"""

    async def main() -> None:
        async with (
            scanning(tmp_path / "one", http(JSON % b"7.5")),
            serving(tmp_path, more=more) as server,
        ):
            client = await server.connect()
            await client.hello()
            await client.say("MAIL FROM:<a@x.test> PRDR")
            await client.say("RCPT TO:<alice@example.test>")
            await client.say("RCPT TO:<b@example.test>")
            await client.say("DATA")
            assert (await client.say("X-Spam-Percent: 1\r\n\r\nhi\r\n.")).startswith("353")
            assert (await client.read_reply()).startswith("250 2.0.0 kept")
            assert await client.read_reply() == "550 5.7.1 this looks like spam to us\r\n"
            (got,) = server.store.delivered
            assert got.recipient == "alice@example.test"
            assert b"X-Spam-Percent: 50\r\n" in got.octets
            assert b"X-Spam-Percent: 1\r\n" not in got.octets

    run(main)
