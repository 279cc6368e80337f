"""Users' scripts in the embedded store: real sockets, real Maildirs, a server that takes what they send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from mta import config
from mta.reply import Reply
from mta.scripts.names import active_script, user_folder
from mta.scripts.store import FolderLimits, ScriptFolder
from mta.store.deliver import Deliverer
from mta.store.quota import Quota
from mta.supervisor.storehost import store_settings
from tests.peers.ports import free_port
from tests.peers.running import until
from tests.peers.scripted import Script, ScriptedServer
from tests.peers.store import NO_QUOTA, RawClient, Running, mailboxes, running

MESSAGE = b"From: s@example.org\r\nTo: alice@example.test\r\nSubject: %s\r\n\r\nHello.\r\n"


class Taker:
    """Takes mail, or refuses it."""

    def __init__(self) -> None:
        self.got: list[tuple[str, list[str], bytes]] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.answer.startswith("250"):
            self.got.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return self.answer

    def wait(self, mails: int) -> None:
        """Answers come after the reply to the message."""
        until(lambda: len(self.got) >= mails, "an answer")


@contextmanager
def scripted(
    folder: Path, script: str, *, quota: Quota = NO_QUOTA, **changes: object
) -> Iterator[tuple[Running, RawClient, Taker]]:
    """A store in which alice has a script."""
    state = folder / "state"
    state.mkdir()
    scripts = ScriptFolder(user_folder(str(state), "alice@example.test"), FolderLimits())
    with scripts.locked():
        scripts.put("mine", script.encode())
        scripts.activate("mine")
    taker = Taker()
    controller = Controller(taker, hostname="127.0.0.1", port=free_port())
    controller.start()
    root = folder / "mail"
    settings: dict[str, Any] = {"state_directory": str(state), "submit": f"127.0.0.1:{controller.port}"}
    try:
        boxes = mailboxes(root, alice=quota, bob=NO_QUOTA, carol=NO_QUOTA)
        with running(root, boxes, **(settings | changes)) as store, store.connect() as client:
            client.hello()
            yield store, client, taker
    finally:
        controller.stop()


def send(
    client: RawClient, subject: str = "hi", *recipients: str, sender: str = "s@example.org"
) -> list[str]:
    """A message for alice, or others; the final replies."""
    people = recipients or ("alice",)
    client.ask(f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}@example.test>" for one in people), "DATA")
    client.send(MESSAGE % subject.encode() + b".\r\n")
    return [client.reply() for _ in people]


def folder(store: Running, name: str) -> list[bytes]:
    """The messages in a folder of alice."""
    return [path.read_bytes() for path in sorted((store.box("alice") / name / "new").iterdir())]


def test_fileinto_keep_and_others(tmp_path: Path) -> None:
    script = """require ["fileinto", "copy", "mailbox"];
if header "subject" "lists" { fileinto "Lists/Tamis"; }
elsif header "subject" "both" { fileinto :copy "Work"; }
elsif header "subject" "umlaut" { fileinto "B\u00fccher & mehr"; }
elsif allof (header "subject" "known", mailboxexists "Work") { fileinto "Work"; }
elsif header "subject" "none" { discard; }
"""
    with scripted(tmp_path, script) as (store, client, _):
        assert send(client, "lists")[0].startswith("250 2.0.0 Stored as")
        assert len(folder(store, ".Lists.Tamis")) == 1
        assert (
            b"Return-Path: <s@example.org>\nDelivered-To: alice@example.test\n"
            in folder(store, ".Lists.Tamis")[0]
        )
        assert store.messages("alice") == []
        send(client, "both")
        send(client, "known")
        assert len(folder(store, ".Work")) == 2
        assert len(store.messages("alice")) == 1
        send(client, "umlaut")
        assert len(folder(store, ".B&APw-cher &- mehr")) == 1
        assert send(client, "none")[0].startswith("250 2.0.0 Done as the recipient's script says")
        send(client, "else", "alice", "bob")
        assert [len(store.messages(one)) for one in ("alice", "bob")] == [2, 1]
        assert store.left_over() == []


def test_senders_do_not_make_folders_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.store.maildir.FOLDERS_MOST", 3)
    script = """require ["fileinto", "variables"];
if header :matches "subject" "*" { fileinto "${1}"; }
"""
    with scripted(tmp_path, script) as (store, client, _):
        for subject in ("a", "b", "c", "d", "a"):
            assert send(client, subject)[0].startswith("250 2.0.0 Stored as")
        assert sorted(path.name for path in store.box("alice").glob(".*")) == [".a", ".b", ".c"]
        assert len(folder(store, ".a")) == 2
        assert len(store.messages("alice")) == 1


def test_a_folder_that_cannot_be_makes_no_second_copy(tmp_path: Path) -> None:
    """The message is in the mailbox already: a client that was told to try again would put it there again."""
    script = (
        'require ["fileinto", "copy"]; fileinto :copy "a..b"; fileinto "example.org"; fileinto "A"; keep;'
    )
    with scripted(tmp_path, script) as (store, client, _):
        assert send(client)[0].startswith("250 2.0.0 Stored as")
        assert len(store.messages("alice")) == 1
        assert len(folder(store, ".A")) == 1


@pytest.mark.parametrize(
    ("script", "room"),
    [
        ('fileinto "A"; fileinto "B";', 1),
        ('fileinto "A"; fileinto "B"; redirect "away@example.org";', 2),
    ],
)
def test_what_has_no_room_for_all_its_copies_leaves_none(tmp_path: Path, script: str, room: int) -> None:
    """The sender is told that it was refused, or sends it again."""
    script = f'require "fileinto"; {script}'
    with scripted(tmp_path, script, quota=Quota(messages=room)) as (store, client, taker):
        taker.answer = "550 no"
        for _ in range(2):
            assert send(client) == ["552 5.2.2 Mailbox full"]
            assert not any(folder(store, path.name) for path in store.box("alice").glob(".*"))
            assert store.messages("alice") == []


def test_what_a_reader_has_taken_has_arrived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to take back: the message is not refused."""
    script = 'require "fileinto"; fileinto "A"; fileinto "B";'
    with scripted(tmp_path, script, quota=Quota(messages=1)) as (store, client, _):
        original = Deliverer._taken_back

        def read_first(self: Deliverer, target: Any, done: Sequence[Any], refusal: Reply) -> Reply:
            for path in (store.box("alice") / ".A" / "new").iterdir():
                path.rename(path.parents[1] / "cur" / f"{path.name}:2,S")
            return original(self, target, done, refusal)

        monkeypatch.setattr(Deliverer, "_taken_back", read_first)
        assert send(client) == ["250 2.0.0 Stored, though not in all folders"]


def test_a_link_leads_no_message_out_of_the_mailbox(tmp_path: Path) -> None:
    with scripted(tmp_path, 'require "fileinto"; fileinto "away";') as (store, client, _):
        (tmp_path / "elsewhere").mkdir()
        store.box("alice").mkdir(parents=True)
        (store.box("alice") / ".away").symlink_to(tmp_path / "elsewhere")
        assert send(client)[0].startswith("250 2.0.0 Stored as")
        assert len(store.messages("alice")) == 1
        assert not list((tmp_path / "elsewhere").glob("**/*,S=*"))


def test_edited_headers_are_stored(tmp_path: Path) -> None:
    script = 'require ["editheader", "fileinto"]; addheader "X-Mark" "1"; fileinto "A"; keep;'
    with scripted(tmp_path, script) as (store, client, _):
        send(client)
        for octets in (*folder(store, ".A"), *store.messages("alice")):
            assert b"X-Mark: 1\nFrom: s@example.org\n" in octets
            assert b"\r" not in octets


def test_redirect(tmp_path: Path) -> None:
    script = """require "copy";
if header "subject" "copy" { redirect :copy "x@far.test"; } else { redirect "x@far.test"; }
"""
    with scripted(tmp_path, script) as (store, client, taker):
        assert send(client)[0].startswith("250")
        ((sender, recipients, octets),) = taker.got
        assert (sender, recipients) == ("s@example.org", ["x@far.test"])
        assert b"X-Sieve-Redirected-From: alice@example.test\r\n" in octets
        assert store.messages("alice") == []
        send(client, "copy")
        assert len(taker.got) == 2
        assert len(store.messages("alice")) == 1
        client.ask("MAIL FROM:<s@example.org>", "RCPT TO:<alice@example.test>", "DATA")
        client.send(octets.replace(b"\r\n..", b"\r\n.") + b"\r\n.\r\n")
        assert client.reply().startswith("250")
        assert len(taker.got) == 2, "it was here before"
        assert len(store.messages("alice")) == 2


@pytest.mark.parametrize("answer", ["550 5.7.1 no", "451 4.3.0 later", ""])
def test_what_cannot_be_sent_is_kept(tmp_path: Path, answer: str) -> None:
    changes: dict[str, Any] = {} if answer else {"submit": f"127.0.0.1:{free_port()}"}
    with scripted(tmp_path, 'redirect "x@far.test";', **changes) as (store, client, taker):
        taker.answer = answer or taker.answer
        assert send(client)[0].startswith("250 2.0.0 Stored as")
        assert len(store.messages("alice")) == 1
        assert taker.got == []


def test_reject_is_our_reply(tmp_path: Path) -> None:
    with scripted(tmp_path, 'require "reject"; reject "not today\nthank you";') as (store, client, taker):
        assert send(client, "x", "alice", "bob") == ["550 5.7.1 not today thank you", client_ok(store)]
        assert store.messages("alice") == []
        assert taker.got == []


def client_ok(store: Running) -> str:
    """The reply to the one message of bob."""
    (path,) = (store.box("bob") / "new").iterdir()
    return f"250 2.0.0 Stored as {path.name}"


def test_vacation_answers_once(tmp_path: Path) -> None:
    script = 'require "vacation"; vacation :days 3 :addresses "alice@example.test" "I am away";'
    with scripted(tmp_path, script) as (store, client, taker):
        send(client)
        taker.wait(1)
        send(client)
        send(client, sender="")
        send(client, sender="other@example.org")
        taker.wait(2)
        assert len(store.messages("alice")) == 4
        taker.answer = "550 5.7.1 no"
        assert send(client, sender="third@example.org")[0].startswith("250")
    assert {sender for sender, _, _ in taker.got} <= {"", "<>"}
    assert [people for _, people, _ in taker.got] == [["s@example.org"], ["other@example.org"]]
    assert b"I am away" in taker.got[0][2]


def test_duplicate(tmp_path: Path) -> None:
    script = 'require "duplicate"; if duplicate :header "subject" { discard; }'
    with scripted(tmp_path, script) as (store, client, _):
        send(client, "one")
        send(client, "one")
        send(client, "two")
        assert len(store.messages("alice")) == 2


@pytest.mark.parametrize(
    "script",
    ["this is no sieve", 'require "variables"; redirect "${none}";', 'require "fileinto"; fileinto "a..b";'],
)
def test_a_script_that_fails_loses_nothing(tmp_path: Path, script: str) -> None:
    with scripted(tmp_path, script) as (store, client, _):
        assert send(client)[0].startswith("250 2.0.0 Stored as")
        assert len(store.messages("alice")) == 1


def test_a_new_script_counts_at_once(tmp_path: Path) -> None:
    with scripted(tmp_path, "keep;") as (store, client, _):
        send(client)
        scripts = ScriptFolder(user_folder(str(tmp_path / "state"), "alice@example.test"), FolderLimits())
        with scripts.locked():
            scripts.put("other", b"discard;")
            scripts.activate("other")
        send(client)
        with scripts.locked():
            scripts.activate("")
        send(client)
        assert len(store.messages("alice")) == 2


def test_a_script_that_is_renamed_just_now_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(tmp_path, "discard;") as (store, client, _):
        seen = iter([str(tmp_path / "gone.sieve")])
        monkeypatch.setattr("mta.store.scripts.active_script", lambda path: next(seen, active_script(path)))
        assert send(client)[0].startswith("250")
        assert store.messages("alice") == []


def put(tmp_path: Path, name: str, text: bytes) -> None:
    """Another script of alice."""
    scripts = ScriptFolder(user_folder(str(tmp_path / "state"), "alice@example.test"), FolderLimits())
    with scripts.locked():
        scripts.put(name, text)


@pytest.mark.parametrize("name", ["sub", "50% off", ".hidden", "\u00e9t\u00e9"])
def test_an_included_script_counts_at_once(tmp_path: Path, name: str) -> None:
    """Also when it comes later than the script that includes it, and whatever it is called."""
    with scripted(tmp_path, f'require "include"; include "{name}";') as (store, client, _):
        send(client)
        assert len(store.messages("alice")) == 1
        put(tmp_path, name, b"discard;")
        send(client)
        assert len(store.messages("alice")) == 1
        put(tmp_path, name, b"keep;")
        send(client)
        assert len(store.messages("alice")) == 2


def test_what_could_not_be_stored_is_no_duplicate(tmp_path: Path) -> None:
    """Its client comes again, and the message must not be discarded then (RFC 7352 section 3)."""
    script = 'require "duplicate"; if duplicate :header "subject" { discard; }'
    with scripted(tmp_path, script) as (store, client, _):
        send(client, "first")
        new = store.box("alice") / "new"
        new.rename(new.with_name("away"))
        new.touch()
        assert send(client, "one")[0].startswith("451")
        new.unlink()
        new.with_name("away").rename(new)
        assert send(client, "one")[0].startswith("250 2.0.0 Stored as")
        assert len(store.messages("alice")) == 2


def test_what_is_not_remembered_is_stored(tmp_path: Path) -> None:
    script = 'require "duplicate"; if duplicate :header "subject" { discard; }'
    with scripted(tmp_path, script) as (store, client, _):
        (tmp_path / "state" / "sieve-answered").touch()
        assert send(client, "one", "alice", "bob")[0].startswith("250 2.0.0 Stored as")
        assert [len(store.messages(one)) for one in ("alice", "bob")] == [1, 1]


@pytest.mark.parametrize("where", ["scripts.UserScripts._plan", "submission.Submission.send"])
def test_an_error_of_ours_is_no_matter_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("not foreseen")

    monkeypatch.setattr(f"mta.store.{where}", fails)
    with scripted(tmp_path, 'redirect "x@far.test";') as (store, client, _):
        first, second = send(client, "hi", "alice", "bob")
        assert second == client_ok(store)
        assert first.startswith(("250 2.0.0 Stored as", "451 4.3.0"))
        assert len(store.messages("alice")) == first.startswith("250")
        assert client.ask("NOOP")[0].startswith("250")


class Forwarder(Taker):
    """Delivers what it takes to the store before it answers, as the mail server does."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        def deliver() -> str:
            with store_of[0].connect() as client:
                client.hello()
                client.ask("MAIL FROM:<s@example.org>", f"RCPT TO:<{envelope.rcpt_tos[0]}>", "DATA")
                client.send(envelope.content.replace(b"\n.", b"\n..") + b"\r\n.\r\n")
                return client.reply()

        reply = await asyncio.get_running_loop().run_in_executor(threads, deliver)
        return "250 queued" if reply.startswith("4") else reply


store_of: list[Running] = []
threads = ThreadPoolExecutor(100)


@pytest.mark.parametrize("onward", ["", 'redirect "bob@example.test";'])
def test_mail_that_comes_back_to_the_store_is_not_waited_for_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, onward: str
) -> None:
    """Each message of alice is sent to carol of the same store, in more sessions than there are threads."""
    monkeypatch.setattr(f"{__name__}.Taker", Forwarder)
    monkeypatch.setattr("mta.store.server.TURN", 0.5)
    with scripted(tmp_path, 'redirect "carol@example.test";', writers=4) as (store, _, __):
        store_of[:] = [store]
        if onward:
            scripts = ScriptFolder(user_folder(str(tmp_path / "state"), "carol@example.test"), FolderLimits())
            with scripts.locked():
                scripts.put("mine", onward.encode())
                scripts.activate("mine")

        def one(number: int) -> str:
            with store.connect() as client:
                client.hello()
                return send(client, str(number))[0]

        begun = time.monotonic()
        replies = list(threads.map(one, range(40)))
        assert time.monotonic() - begun < 9
        assert {reply[:3] for reply in replies} <= {"250", "451"}
        assert store.messages("alice") == []
        if not onward:
            assert {reply[:3] for reply in replies} == {"250"}
            assert len(store.messages("carol")) == 40


def test_where_mail_of_scripts_goes() -> None:
    """To a listener of this machine that needs no login."""
    text = """
[[listener]]
name = "lmtp"
protocol = "lmtp"
addresses = ["127.0.0.1:24"]
[[listener]]
name = "smtp"
addresses = ["[::]:25", "0.0.0.0:25"]
"""
    settings = store_settings(config.parse(f'{text}[delivery]\ndeadline = "40s"\n', "tamis.toml"))
    assert settings.submit == "[::1]:25"
    assert settings.submit_deadline == 40
    assert settings.trusted == ("127.0.0.0/8", "::1/128")
    assert settings.state_directory
    assert (
        store_settings(config.parse(text + "[store]\nscripts = false\n", "tamis.toml")).state_directory == ""
    )


def test_a_redirect_passes_on_what_the_script_asks_for(tmp_path: Path) -> None:
    script = """require ["redirect-dsn", "redirect-deliverby"];
redirect :notify "NEVER" :ret "HDRS" :bytimerelative 60 :bymode "return" "x@far.test";
"""

    async def main() -> None:
        async with ScriptedServer(Script(offers=("DSN", "DELIVERBY"), lmtp=False)) as server:
            submit = f"127.0.0.1:{server.port}"
            with scripted(tmp_path, script, submit=submit) as (_, client, __):
                assert (await asyncio.to_thread(send, client))[0].startswith("250")
            assert "MAIL FROM:<s@example.org> RET=HDRS BY=60;R" in server.said
            assert "RCPT TO:<x@far.test> NOTIFY=NEVER" in server.said

    asyncio.run(main())
