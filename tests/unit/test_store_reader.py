"""Reading mailboxes: lists, states, arrivals, and messages made harmless for a terminal."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.store import maildir, readable, reader
from mta.store.quota import Ledger, Quota
from mta.store.reader import NoMailbox, Watcher
from sieve_ext.message import Message


def put(root: Path, user: str, name: str, text: bytes, folder: str = "", part: str = "new") -> Path:
    box = root / "example.test" / user
    for one in maildir.FOLDERS:
        (box / one).mkdir(parents=True, exist_ok=True)
        (box / folder / one).mkdir(parents=True, exist_ok=True)
    path = box / folder / part / name
    path.write_bytes(text)
    return path


def test_messages_are_in_order_of_arrival_with_state_and_size(tmp_path: Path) -> None:
    put(tmp_path, "alice", "1700000002.M5Q1.mx,S=7:2,", b"x" * 7, part="cur")
    put(tmp_path, "alice", "1700000001.M000009Q2.mx,S=8", b"x" * 8)
    put(tmp_path, "alice", "1700000001.M000001Q1.mx", b"x" * 9)
    put(tmp_path, "alice", "1700000003.x:2,RS", b"x" * 5, folder=".Lists", part="cur")
    put(tmp_path, "alice", ".hidden", b"")
    found = reader.messages(tmp_path / "example.test" / "alice")
    assert [(m.received, m.state, m.size, m.folder, m.flags) for m in found] == [
        (1700000001.000001, "new", 9, "", ""),
        (1700000001.000009, "new", 8, "", ""),
        (1700000002.0, "unseen", 7, "", ""),
        (1700000003.0, "seen", 5, "Lists", "RS"),
    ]
    assert found[-1].key == "1700000003.x"


def test_a_name_without_a_time_is_dated_by_its_file(tmp_path: Path) -> None:
    path = put(tmp_path, "alice", "from-somewhere", b"")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert reader.messages(tmp_path / "example.test" / "alice")[0].received == 1_600_000_000


def test_summary_has_the_quota_that_deliveries_recorded(tmp_path: Path) -> None:
    put(tmp_path, "alice", "1.M2.mx,S=8", b"x" * 8)
    put(tmp_path, "alice", "2.M2.mx,S=3:2,S", b"x" * 3, part="cur")
    box = tmp_path / "example.test" / "alice"
    assert reader.summary(box) == reader.Summary("alice@example.test", 2, 1, 11, Quota())
    with maildir.opened(box, tmp_path) as opened:
        Ledger().check(str(box), opened, Quota(octets=500), 1)
    assert reader.summary(box).quota == Quota(octets=500)


def test_mailboxes_and_who_has_none(tmp_path: Path) -> None:
    put(tmp_path, "bob", "1", b"")
    put(tmp_path, "alice", "1", b"")
    assert [path.name for path in reader.mailboxes(tmp_path)] == ["alice", "bob"]
    assert reader.mailbox(tmp_path, "Alice@example.test").name == "alice"
    with pytest.raises(NoMailbox):
        reader.mailbox(tmp_path, "carol@example.test")
    with pytest.raises(ValueError, match="no @"):
        reader.mailbox(tmp_path, "../../etc")


def test_a_watcher_sees_what_arrives_and_only_that(tmp_path: Path) -> None:
    old = put(tmp_path, "alice", "1.old", b"")
    all_boxes, bob = Watcher(tmp_path), Watcher(tmp_path, "bob@example.test")

    def poll(watcher: Watcher) -> list[tuple[str, str]]:
        return [(user, stored.path.name) for user, stored in watcher.poll(time.time())]

    assert poll(all_boxes) == poll(bob) == []
    put(tmp_path, "alice", "2.first", b"")
    put(tmp_path, "bob", "3.second", b"")  # a mailbox that did not exist before
    assert poll(all_boxes) == [("alice@example.test", "2.first"), ("bob@example.test", "3.second")]
    assert poll(bob) == [("bob@example.test", "3.second")]
    old.rename(old.parent.parent / "cur" / "1.old:2,S")
    assert poll(all_boxes) == poll(bob) == []


def test_a_watcher_does_not_list_folders_that_have_been_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "alice", "1.old", b"")
    watcher = Watcher(tmp_path)
    later = time.time() + 60
    monkeypatch.setattr(reader, "messages", lambda path: pytest.fail("listed"))
    assert watcher.poll(later) == []


def test_only_files_are_messages(tmp_path: Path) -> None:
    """A link may lead out of the store, and a look into a pipe would last for ever."""
    kept = put(tmp_path, "alice", "1.M1P1.host", b"Subject: x\n\n")
    (kept.parent / "2.M1P1.host").symlink_to("/etc/passwd")
    (kept.parent / "3.M1P1.host").mkdir()
    os.mkfifo(kept.parent / "4.M1P1.host")
    mailbox = reader.mailbox(tmp_path, "alice@example.test")
    assert [one.path for one in reader.messages(mailbox)] == [kept]


def message(text: bytes) -> Message:
    return Message(text)


PLAIN = b"""From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>
To: a@example.test
Subject: =?utf-8?b?R3LDvMOfZQ==?=
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Sch=F6n=
e Gr=FC=DFe
"""

MIXED = b"""From: a@example.org
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: multipart/alternative; boundary=c

--c
Content-Type: text/html

<p>rich</p>
--c
Content-Type: text/plain

plain
--c--
--b
Content-Type: text/plain
Content-Disposition: attachment; filename="notes.txt"

not shown
--b
Content-Type: image/png; name="=?utf-8?q?b=C3=BCld=2Epng?="
Content-Transfer-Encoding: base64

AAAA
--b
Content-Type: text/plain

footer
--b--
"""


def test_encoded_headers_and_text_are_decoded() -> None:
    found = message(PLAIN)
    assert readable.headers(found) == [
        ("From", "Jürgen <j@example.org>"),
        ("To", "a@example.test"),
        ("Subject", "Grüße"),
    ]
    assert readable.body(found) == ("Schöne Grüße\n", [])


def test_the_plain_alternative_is_shown_and_attachments_are_listed() -> None:
    text, attachments = readable.body(message(MIXED))
    assert text == "plain\n\nfooter\n"
    assert [(a.name, a.content_type) for a in attachments] == [
        ("notes.txt", "text/plain"),
        ("büld.png", "image/png"),
    ]


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One\ntwo</p><p>three &amp; four<br>five</p>", "One two\nthree & four\nfive\n"),
        ("<head><title>t</title></head><script>alert(1)</script>x", "x\n"),
        ("<style>p{}", "\n"),
        ("a<b>b</b> &lt;i&gt;", "ab <i>\n"),
    ],
)
def test_html_becomes_text(html: str, text: str) -> None:
    assert readable.text_of_html(html) == text


@given(st.binary(max_size=300))
def test_any_message_becomes_text_without_controls(octets: bytes) -> None:
    found = message(octets)
    text, attachments = readable.body(found)
    shown = [text, *(a.name for a in attachments), *(f"{n}{v}" for n, v in readable.headers(found))]
    for one in shown:
        one.encode("utf-8")
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in one.replace("\n", "").replace("\t", ""))
