"""The line of a message and the counters that it moves."""

from __future__ import annotations

import ssl
from typing import Any, cast

import pytest

from mta import metrics
from mta.accounts.limiter import TOO_MANY_FROM_CLIENT
from mta.address import parse_address
from mta.delivery.fold import fold
from mta.delivery.outcome import Outcome
from mta.envelope import Envelope, Recipient
from mta.firsttry import HAS_IT_ALREADY
from mta.handover import Completed
from mta.journal import LogJournal
from mta.log import Logger
from mta.reply import Reply
from mta.session import Session, TlsInfo
from mta.spool.journal import QueueJournal
from mta.spool.keeper import _kept


class Lines:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **fields: self.lines.append({"level": level, "event": event, **fields})


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def stats() -> metrics.Stats:
    return metrics.Stats()


@pytest.fixture
def journal(lines: Lines, stats: metrics.Stats) -> LogJournal:
    return LogJournal(cast(Logger, lines), stats)


def session(**more: Any) -> Session:
    return Session("s1", "smtp", "smtp", "192.0.2.1", helo="client.test", **more)


def outcome(name: str, reply: Reply, peer: str = "store:24", **more: Any) -> Outcome:
    return Outcome(Recipient(parse_address(f"{name}@example.test")), reply, peer, **more)


def complete(journal: LogJournal, who: Session, *outcomes: Outcome) -> None:
    envelope = Envelope(parse_address("a@x.test"), [each.recipient for each in outcomes])
    result = Completed(fold(outcomes, per_recipient=False), list(outcomes), "<1@x.test>", 1234, 0.01234)
    journal.completed(who, envelope, "s1.1", result)


def test_one_line_says_who_sent_what_to_whom_and_what_came_of_it(journal: LogJournal, lines: Lines) -> None:
    kept = Reply(250, "2.0.0", "kept")
    full = Reply(552, "5.2.2", "full", cause="quota of 5 MB")
    complete(journal, session(), outcome("b", kept), outcome("c", full))
    (line,) = lines.lines
    reply = line.pop("reply")
    assert reply.startswith("55")
    assert "not delivered to" in reply
    assert line == {
        "level": "info",
        "event": "message",
        "id": "s1.1",
        "result": "mixed",
        "client": "192.0.2.1",
        "helo": "client.test",
        "sender": "a@x.test",
        "message_id": "<1@x.test>",
        "size": 1234,
        "recipients": [
            {"to": "b@example.test", "reply": "250 2.0.0 kept", "peer": "store:24"},
            {"to": "c@example.test", "reply": "552 5.2.2 full", "peer": "store:24", "cause": "quota of 5 MB"},
        ],
        "seconds": 0.0123,
    }


def test_a_single_recipients_reply_is_said_once(journal: LogJournal, lines: Lines) -> None:
    complete(journal, session(), outcome("b", Reply(250, "2.0.0", "kept")))
    assert "reply" not in lines.lines[0]


@pytest.mark.parametrize(
    ("is_ours", "error", "reason"),
    [
        (True, None, "timeout or stop"),
        (False, None, "closed by the client"),
        (False, ConnectionResetError("reset by peer"), "reset by peer"),
    ],
)
def test_a_message_that_breaks_off(
    journal: LogJournal, lines: Lines, is_ours: bool, error: Exception | None, reason: str
) -> None:
    envelope = None if is_ours else Envelope(parse_address("a@x.test"))
    journal.broken_off(session(user="ann@x.test"), envelope, 1234, error)
    (line,) = lines.lines
    assert (line["event"], line["user"], line["size"]) == ("message broken off", "ann@x.test", 1234)
    assert (line["sender"], line["reason"]) == ("" if is_ours else "a@x.test", reason)


def test_login_tls_and_origin_stand_in_the_line(journal: LogJournal, lines: Lines) -> None:
    who = session(user="a@x.test", tls=TlsInfo("TLSv1.3", "X", 256), forwarded={"ADDR": "198.51.100.9"})
    complete(journal, who, outcome("b", Reply(250, "2.0.0", "kept")))
    line = lines.lines[0]
    assert (line["user"], line["tls"], line["origin"]) == ("a@x.test", "TLSv1.3", "198.51.100.9")


def test_why_starttls_failed_is_said_as_of_implicit_tls(journal: LogJournal, lines: Lines) -> None:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    error.reason, error.verify_message = "CERTIFICATE_VERIFY_FAILED", "certificate has expired"
    journal.handshake_failed(session(), error)
    (line,) = lines.lines
    assert (line["listener"], line["client"]) == ("smtp", "192.0.2.1")
    assert (line["reason"], line["detail"]) == ("client_certificate", "certificate has expired")


def test_counters(journal: LogJournal, stats: metrics.Stats) -> None:
    complete(
        journal,
        session(),
        outcome("b", Reply(250, "2.0.0", "kept")),
        outcome("c", Reply(452, "4.2.2", "full"), "other:24"),
        outcome("d", Reply(550, "5.1.1", "unknown")),
        outcome("e", HAS_IT_ALREADY, ""),
        outcome("f", Reply(250, "2.0.0", "queued"), "", queue_id="q1"),
    )
    snapshot = stats.snapshot()

    def count(name: str, *labels: str) -> float:
        return metrics.value(snapshot, name, *labels)

    assert count("messages", "mixed", "smtp") == 1
    assert count("message_bytes", "smtp") == 1234
    assert count("recipients", "delivered", "store:24") == 1
    assert count("recipients", "temporary", "other:24") == 1
    assert count("recipients", "permanent", "store:24") == 1
    assert count("recipients", "delivered", "") == 1
    assert count("recipients", "queued", "") == 1
    assert count("repeats_answered") == 1
    assert sum(snapshot["answer_seconds"]["smtp"]["counts"]) == 1


def test_mechanisms_that_clients_invent_are_one_series(journal: LogJournal, stats: metrics.Stats) -> None:
    for number in range(100):
        journal.login_failed(session(), f"X-{number}", Reply(504, "5.5.4", "no such mechanism"))
    assert stats.snapshot()["auth"] == {"failure\tunknown": 100}


def test_sessions_refusals_and_logins_are_counted(journal: LogJournal, stats: metrics.Stats) -> None:
    who = session(auth_mechanism="PLAIN")
    journal.connected(who)
    who.tls = TlsInfo("TLSv1.3", "X", 256)
    journal.tls_started(who)
    journal.connected(session(tls=TlsInfo("TLSv1.2", "X", 256)))  # a proxy has told of it
    journal.logged_in(who)
    journal.login_failed(who, "PLAIN", Reply(535, "5.7.8", "no"))
    journal.login_failed(who, "PLAIN", Reply(454, "4.7.0", "away"))
    journal.login_failed(who, "PLAIN", Reply(421, "4.7.0", "enough", close=True))
    journal.login_failed(who, "LOGIN", TOO_MANY_FROM_CLIENT)
    journal.limited("overloaded")
    journal.refused(who, "RCPT", Reply(550, "5.1.1", "unknown"), None, "b@example.test")
    journal.unacknowledged(who, "s1.1", 2)
    journal.closed(who, None)
    snapshot = stats.snapshot()
    found = {
        (name, *labels): metrics.value(snapshot, name, *labels)
        for name, *labels in (
            ("sessions", "smtp"),
            ("sessions_open", "smtp"),
            ("tls_sessions", "TLSv1.3", "smtp"),
            ("tls_sessions", "TLSv1.2", "smtp"),
            ("auth", "success", "PLAIN"),
            ("auth", "failure", "PLAIN"),
            ("auth", "temporary", "PLAIN"),
            ("limits", "failures_per_client"),
            ("limits", "overloaded"),
            ("refusals", "rcpt", "smtp"),
            ("unacknowledged",),
        )
    }
    assert list(found.values()) == [2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 2]


@pytest.mark.parametrize(("messages", "level"), [(0, "info"), (3, "warning")])
def test_an_empty_stream_that_is_adopted_is_no_warning(
    lines: Lines, stats: metrics.Stats, messages: int, level: str
) -> None:
    QueueJournal(cast(Logger, lines), stats).store("stream adopted", {"stream": "01", "messages": messages})
    assert [line["level"] for line in lines.lines] == [level]


def test_the_same_trouble_of_a_store_is_not_told_every_two_seconds(
    lines: Lines, stats: metrics.Stats, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 5000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    journal = QueueJournal(cast(Logger, lines), stats)
    away: dict[str, object] = {"error": "s3://b: no connection"}
    for _ in range(3):
        journal.store("watching other streams", away)
    journal.store("watching other streams", {"error": "s3://b: it answered 403"})
    journal.store("housekeeping", away)
    for _ in range(2):
        journal.store("stream adopted", {"stream": "01", "messages": 3})
    told = ["watching other streams"] * 2 + ["housekeeping"] + ["stream adopted"] * 2
    assert [line["event"] for line in lines.lines] == told
    now += 601
    journal.store("watching other streams", away)
    assert len(lines.lines) == 6
    for name in ("01A", "01B"):
        journal.not_tried(name, OSError("no room"))
    assert [line["queue"] for line in lines.lines if line["event"] == "cannot be tried now"] == ["01A"]
    for number in range(3000):
        journal.store("takeover", {"error": str(number)})
    assert len(journal._told) <= 1000


def test_what_a_next_hop_is_known_for_is_said_once() -> None:
    """One that does not answer is known by its reply with the cause: that is the cause as it stands."""
    known = "451 4.4.1 Not reached (127.0.0.1:9: Connection refused)"
    for cause in ("127.0.0.1:9: Connection refused", known):
        kept = _kept(outcome("b", Reply(451, "4.4.1", "Not reached", cause=cause)), "01M8")
        assert (str(kept.reply), kept.reply.cause) == ("250 2.0.0 queued as 01M8", known)
