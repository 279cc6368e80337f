"""What `tamis queue` shows of mail and of next hops: others have written it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from typer.testing import CliRunner

from mta.cli_queue import make_app
from mta.mailq.rows import QueueRow

HEADER = "Subject: \x1b]0;owned\x07 hi\r\nX-Turned: \u202e\r\n\r\n"
OCTETS = HEADER.encode() + "caf\u00e9 \x1b[2J\r\n".encode()
SITE = "mx/[IPv6:2001:db8::1]"


class Queue:
    """`mta.cli_queue_common.Access` of one message by somebody who means ill."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}

    def reading(self) -> AbstractContextManager[None]:
        return nullcontext()

    def rows(self, words: Sequence[str]) -> Iterator[QueueRow]:
        return iter(())

    def show(self, name: str) -> dict[str, Any]:
        recipient = {"address": "b\u202e@x.test", "status": "deferred", "reply": "", "next_try": None}
        row = {"id": name, "size": 9, "arrived": 0.0, "sender": "a\u202e@x.test", "recipients": [recipient]}
        more = {"attempts": 1, "last": 0.0, "site": "mx/x.test"}
        origin = {"user": "u\u202e", "transaction": "t", "client": "192.0.2.1"}
        return {
            "row": row, "recipients": [more], "expires": 0.0, "priority": 0, "origin": origin,
            "header": HEADER,
        }  # fmt: skip

    def octets(self, name: str) -> Iterator[bytes]:
        # Cut within a character.
        at = OCTETS.index("\u00e9".encode()) + 1
        return iter((OCTETS[:at], OCTETS[at:]))

    def act(self, action: str, ids: Sequence[str], words: Sequence[str], to: str = "") -> Iterator[str]:
        return iter(())

    def stats(self) -> dict[str, dict[str, Any]]:
        hop = {"in_flight": 0, "window": 1, "dead_until": 0.0, "reason": "421 4.7.0 [/b] [red]no[/red]"}
        return {"worker-1.1": {"sites": {SITE: {"messages": 1}}, "hops": {SITE: hop}}}

    def flush(self, site: str) -> int:
        return 0


class Terminal(io.TextIOWrapper):
    """Standard output that is a terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="")

    def isatty(self) -> bool:
        return True

    @property
    def written(self) -> str:
        self.flush()
        octets = self.buffer.getvalue()  # type: ignore[attr-defined]
        assert isinstance(octets, bytes)
        return octets.decode()


def run(*words: str) -> bytes:
    done = CliRunner().invoke(make_app(lambda config: Queue()), [*words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout_bytes


@pytest.mark.parametrize("option", ["--raw", "--headers"])
def test_a_header_does_nothing_to_a_terminal(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(SystemExit):
        make_app(lambda config: Queue())(["show", "1", option])
    shown = terminal.written
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert shown.startswith("Subject: ?]0;owned? hi\nX-Turned: ?\n\n")
    assert shown.endswith("caf\u00e9 ?[2J\n") == (option == "--raw")


def test_octets_are_what_they_are_in_a_pipe() -> None:
    assert run("show", "1", "--raw") == OCTETS
    assert run("show", "1", "--headers") == HEADER.replace("\r\n", "\n").encode()


def test_addresses_cannot_turn_a_line() -> None:
    shown = run("show", "1").decode()
    assert "\u202e" not in shown
    assert "From <a?@x.test>" in shown
    assert "To <b?@x.test>" in shown


def test_words_of_a_next_hop_are_no_markup() -> None:
    shown = run("stats").decode()
    assert SITE in shown
    assert "421 4.7.0 [/b] [red]no[/red]" in shown


def test_the_busiest_next_hops_are_shown() -> None:
    class Large(Queue):
        def stats(self) -> dict[str, dict[str, Any]]:
            idle = {"mx/idle.test": {"in_flight": 0, "window": 1, "dead_until": None, "reason": ""}}
            sites = {f"mx/{number:03}.test": {"messages": number} for number in range(1, 151)}
            return {
                "one": {"sites": sites, "hops": idle},
                "two": {"sites": sites, "hops": {}},
            }

    def hops(*words: str) -> list[list[str]]:
        done = CliRunner().invoke(make_app(lambda config: Large()), ["stats", *words])
        assert done.exit_code == 0, (done.output, done.exception)
        lines = done.stdout.splitlines()
        return [line.split() for line in lines[lines.index("") + 2 :]]

    found = hops()
    assert len(found) == 101
    assert found[0][:2] == ["mx/150.test", "300"]
    assert found[-1] == ["51", "more", str(2 * sum(range(1, 51)))]
    assert len(hops("--most", "0")) == 151
    assert hops("--most", "1")[0][0] == "mx/150.test"


def test_the_mail_for_a_site_and_what_is_known_of_it_are_in_one_row() -> None:
    """By whatever name of the next hop the mail waits, and also in a worker that has not tried it yet."""

    class Shared(Queue):
        def stats(self) -> dict[str, dict[str, Any]]:
            dead = {"in_flight": 0, "window": 1, "dead_until": 0.0, "reason": "451 4.4.1 nobody there"}
            site = {"site": "mx/(mx.test)"}
            mine = {"mx/a.test": {"messages": 3, **site}, "mx/b.test": {"messages": 2, **site}}
            others = {"mx/a.test": {"messages": 4, "site": "mx/a.test"}, "relay:r": {"messages": 1}}
            return {
                "one": {"sites": mine, "hops": {"mx/(mx.test)": dead}},
                "two": {"sites": others, "hops": {}},
            }

    done = CliRunner().invoke(make_app(lambda config: Shared()), ["stats"])
    lines = done.stdout.splitlines()
    rows = [line.split(maxsplit=4) for line in lines[lines.index("") + 2 :]]
    assert [row[:2] for row in rows] == [["mx/(mx.test)", "9"], ["relay:r", "1"]]
    assert "451 4.4.1 nobody there" in rows[0][4]


def test_an_address_that_is_none_is_a_mistake_of_usage() -> None:
    """It was said of a worker that its answer was incomplete."""

    def nobody(config: str) -> Queue:
        raise AssertionError("the queue is not asked")

    done = CliRunner().invoke(make_app(nobody), ["redirect", "--all", "--to", "nonsense"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no address" in done.stderr
