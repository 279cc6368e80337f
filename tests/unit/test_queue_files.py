"""Messages of the queue as files, and streams as they are shown; no queue."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailqueue.heartbeat import Beat
from mailqueue.ids import id_text
from mailqueue.inspect import StreamInfo
from mailqueue.model import QueuedMessage, QueuedRecipient, Status, StoredBody
from mta.address import NULL, parse_address
from mta.cli_queue_stores import _prepare_folder, stream_facts, stream_lines
from mta.delivery.outcome import NextHop
from mta.dsn.decide import Vouching
from mta.envelope import Envelope, OriginalRecipient, Recipient
from mta.queue_export import ExportError, export
from mta.queue_import import ImportProblem, find_files, read_message, split
from mta.session import Session
from mta.spool.facts import message_facts
from mta.spool.record import decode_recipient, encode_recipient, encode_record, make_record

NOW = 1_795_776_400.0


@pytest.mark.parametrize(
    ("octets", "header", "body"),
    [
        (b"A: b\r\n\r\nx\r\n", b"A: b\r\n\r\n", b"x\r\n"),
        (b"A: b\n\nx\ny", b"A: b\r\n\r\n", b"x\r\ny"),
        (b"A: b\r\n", b"A: b\r\n\r\n", b""),
        (b"A: b", b"A: b\r\n\r\n", b""),
        (b"\nx", b"\r\n", b"x"),
        (b"", b"\r\n\r\n", b""),
    ],
)
def test_split(octets: bytes, header: bytes, body: bytes) -> None:
    assert split(octets) == (header, body)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_what_was_exported_is_split_where_it_was(header: bytes, body: bytes) -> None:
    whole = b"A: " + header.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n\r\n"
    body = body.replace(b"\r", b"").replace(b"\n", b"\r\n")
    assert split(whole + body) == (whole, body)


def test_files_are_found(tmp_path: Path) -> None:
    for name in ("b.json", "b.eml", "a.json", "a.eml", "other.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_files([tmp_path, tmp_path / "a.eml"])] == ["a.json", "b.json"]
    with pytest.raises(ImportProblem, match=r"other\.json"):
        find_files([tmp_path / "other.txt"])
    with pytest.raises(ImportProblem, match="no such file"):
        find_files([tmp_path / "none.json"])


class Source:
    """A queue with one message."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts

    def show(self, name: str) -> dict[str, Any]:
        return self.facts

    def octets(self, name: str) -> Any:
        yield b"A: b\r\n\r\n"


FACTS: dict[str, Any] = {
    "row": {"id": "X", "sender": "", "recipients": [], "arrived": NOW},
    "recipients": [],
    "expires": NOW,
    "priority": 0,
    "tags": [],
    "envelope": {},
}


WISHES = [
    Recipient(parse_address("plain@d.test")),
    Recipient(
        parse_address("all@d.test"),
        frozenset({"DELAY", "FAILURE"}),
        OriginalRecipient("rfc822", "list@example.org"),
        route="mx;tls=verify",
        sender=parse_address("owner-list@example.org"),
        owners=(parse_address("ann@example.org"), parse_address("bob@example.org")),
    ),
    Recipient(parse_address("copy@d.test"), frozenset({"NEVER"}), sender=NULL),
]


def test_what_was_decided_for_recipients_outlives_export_and_import(tmp_path: Path) -> None:
    """Else mail that must go another way, or with TLS only, would go the usual one, and reports to others."""
    record = make_record(Envelope(parse_address("a@example.org")), None, NOW, vouching=Vouching.LOGIN)
    recipients = [
        QueuedRecipient(wish.address.text, "x", Status.DEFERRED, NOW, data=encode_recipient(wish))
        for wish in WISHES
    ]
    message = QueuedMessage(
        id_text(bytes(16)), 1, "a@example.org", recipients, b"A: b\r\n\r\n", StoredBody(0, none),
        encode_record(record), NOW, NOW + 60, 0, (),
    )  # fmt: skip
    export(Source(**message_facts(message, active=False, node="n")), message.id, tmp_path)
    routed: list[Recipient] = []

    def route(session: Session, envelope: Envelope, recipient: Recipient) -> NextHop:
        routed.append(recipient)
        return NextHop("relay:x")

    stream: Any = SimpleNamespace(route=route)
    new = read_message(tmp_path / f"{message.id}.json", stream, NOW)
    assert [decode_recipient(one.address, one.data) for one in new.recipients] == WISHES
    assert routed == WISHES


async def none() -> Any:
    raise AssertionError("nobody reads it")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="No such file"):
        export(Source(**FACTS), "X", tmp_path / "none")
    with pytest.raises(ExportError, match="unreadable"):
        export(Source(problem="the envelope is unreadable", **FACTS), "X", tmp_path)
    assert list(tmp_path.iterdir()) == []
    export(Source(**FACTS), "X", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["X.eml", "X.json"]


def test_a_worker_from_before_an_upgrade_does_not_tell_all(tmp_path: Path) -> None:
    """What it leaves out may be the way that a policy has chosen."""
    shown = {"address": "a@d.test", "status": "deferred", "next_try": NOW, "reply": ""}
    told = {"attempts": 1, "last": NOW, "notify": None, "original": None}
    facts = FACTS | {"row": FACTS["row"] | {"recipients": [shown]}, "recipients": [told]}
    with pytest.raises(ExportError, match="older version and does not tell its 'route': reload the server"):
        export(Source(**facts), "X", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_names_are_on_the_disk_before_the_next_file_and_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[list[str]] = []
    flush = os.fsync

    def noted(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            flushed.append(sorted(os.listdir(descriptor)))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    export(Source(**FACTS), "X", tmp_path)
    assert flushed == [["X.eml"], ["X.eml", "X.json"]]


def test_files_belong_to_the_owner_of_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written by root, read again by the server."""
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda fd, uid, gid: owners.append((uid, gid)))
    export(Source(**FACTS), "X", tmp_path)
    status = tmp_path.stat()
    assert owners == [(status.st_uid, status.st_gid)] * 2


def test_root_exports_nothing_behind_a_link_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, target = tmp_path / "theirs", tmp_path / "target"
    theirs.mkdir()
    target.mkdir()
    (theirs / "out").symlink_to(target)
    if os.geteuid() == 0:
        os.chown(theirs, 65534, 65534)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ExportError, match=f"{theirs}/out is a link that others"):
        export(Source(**FACTS), "X", theirs / "out")
    assert list(target.iterdir()) == []


def test_the_folder_is_made_for_who_writes_there(tmp_path: Path) -> None:
    """Its server's user gets through the folders above, whatever the umask of root."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    path = tmp_path / "tamis.toml"
    path.write_text(f'identity.hostname = "mail.example.org"\nprocess.user = "{me}"\n')
    out = tmp_path / "a" / "b" / "out"
    old = os.umask(0o077)
    try:
        _prepare_folder(out, str(path))
        _prepare_folder(out, str(path))
    finally:
        os.umask(old)
    assert [one.stat().st_mode & 0o777 for one in (out, out.parent, out.parent.parent)] == [
        0o700, 0o755, 0o755,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("age", "closed", "retired", "state"),
    [
        (1.0, False, 0, "alive"),
        (11.0, False, 0, "silent"),
        (11.0, True, 3, "closed"),
        (-5.0, False, 0, "alive"),
        (None, False, 0, "silent"),
        (11.0, True, 16, "adopted"),
    ],
)
def test_streams(age: float | None, closed: bool, retired: int, state: str) -> None:
    beat = None if age is None else Beat(3, 7, NOW - age, 0, closed)
    stream = StreamInfo("S", None, beat, 8, 7, 5, dict.fromkeys(range(retired), "T"), {2: 1})
    facts = stream_facts(stream, 4, NOW, 10.0)
    assert (facts["state"], facts["lag"], facts["messages"]) == (state, 2, 4)
    lines = stream_lines(facts)
    assert lines[0].split()[1] == state
    assert (f"    {retired} of 16 parts adopted by T" in lines) is (retired > 0)
    assert max(map(len, lines)) <= 80
