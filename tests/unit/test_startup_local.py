"""Start-up checks of what is ours; how checks are run, and what follows from them."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from mailmilter.constants import Action, Command
from mailmilter.packets import packet
from mailqueue.store.base import Blob
from mta.config.checks import Checks
from mta.config.read import sections_of
from mta.config.schema import Config
from mta.reply import Reply
from mta.startup import runner
from mta.startup.backends import judge_backend
from mta.startup.claims import Site, is_local
from mta.startup.clock import TIME_ERROR, judge_clock
from mta.startup.policy import judge_relay
from mta.startup.render import as_json, show
from mta.startup.result import Outcome, Result, ok, unknown, wrong
from mta.startup.runner import run, run_patiently, wanted
from mta.startup.table import CHECKS, NAMES, Check
from mta.startup.verdict import exit_code, judge
from mta.startup.world import World
from tests.unit.startup_kit import CONFIGURATION, answering, look, site

NOW = 1_800_000_000.0


def test_clock() -> None:
    good = judge_clock(0, NOW, {"/x": NOW - 5})
    assert (good.outcome, good.found) == (Outcome.OK, "it is 2027-01-15 08:00:00 UTC, kept by something")
    late = judge_clock(0, NOW, {"/etc/key.pem": NOW + 86400})
    assert late.outcome is Outcome.WRONG
    assert late.found == "it is 2027-01-15 08:00:00 UTC, but /etc/key.pem is 86400 s newer"
    alone = judge_clock(TIME_ERROR, NOW, {})
    assert (alone.outcome, alone.settled) == (Outcome.UNKNOWN, True)
    assert alone.mend == "run chrony or systemd-timesyncd; `timedatectl` shows what keeps the clock"
    assert judge_clock(None, NOW, {}).outcome is Outcome.UNKNOWN


def test_clock_of_this_machine_is_read(tmp_path: Path) -> None:
    (result,) = look("clock", site(tmp_path), None, now=lambda: NOW / 2)
    assert result.outcome is Outcome.WRONG  # files of today, a clock of 1998


def test_queue_store_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (result,) = look("queue_store", site(tmp_path), None)
    assert (result.outcome, result.found) == (Outcome.OK, "6 trials went well")
    (result,) = look("queue_store", site(tmp_path, "[queue]\nenabled = false\n"), None)
    assert (result.outcome, result.found) == (Outcome.OK, "off: nothing is kept")


def test_queue_store_before_the_first_start(tmp_path: Path) -> None:
    (result,) = look("queue_store", site(tmp_path), None)
    assert result.outcome is Outcome.OK
    assert result.found == f"{tmp_path}/state is not there yet; the first start makes it"
    assert not (tmp_path / "state").exists()


def test_queue_store_in_a_folder_that_is_missing(tmp_path: Path) -> None:
    elsewhere = f'[queue]\nstores = ["far"]\n[queue_stores.far]\nurl = "file:{tmp_path}/gone/queue"\n'
    (result,) = look("queue_store", site(tmp_path, elsewhere), None)
    assert result.outcome is Outcome.WRONG
    assert result.found.endswith("the folder above it does not exist")
    assert result.mend == "make it, or [queue_stores.far] url"


def test_dovecots_auth_service_is_looked_at(tmp_path: Path) -> None:
    socket_path = tmp_path / "auth-client"
    text = CONFIGURATION.replace(
        'backend = "users"', f'backend = "dovecot"\ndovecot_socket = "unix:{socket_path}"'
    )
    began = time.monotonic()
    found = look("backends", site(tmp_path, text=text), None, seconds=60.0)
    (result,) = [one for one in found if one.subject == "auth"]
    assert time.monotonic() - began < 30  # it is known at once
    assert (result.outcome, result.found) == (Outcome.UNKNOWN, "No such file or directory")
    assert str(socket_path) in result.asked
    assert "auth.dovecot_socket" in result.mend


def test_queue_store_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").write_text("no folder")
    (result,) = look("queue_store", site(tmp_path), None)
    assert result.outcome is Outcome.WRONG
    assert "Not a directory" in result.found
    from mailqueue.store.memory import MemoryStore
    from mta.startup import store

    class Silent(MemoryStore):
        async def put_new(self, key: str, octets: bytes | Blob) -> bool:
            await asyncio.sleep(60)
            return True

    monkeypatch.setattr(store, "open_stores", lambda queue, stores: Silent())
    (result,) = look("queue_store", site(tmp_path), None, seconds=0.05)
    assert (result.outcome, result.found) == (Outcome.UNKNOWN, "no answer within 0.05 s")
    assert result.mend == "[queue_stores.local]"


def test_queue_store_that_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    from mailqueue.store.memory import MemoryStore
    from mta.startup import store

    class Liar(MemoryStore):
        async def put_new(self, key: str, octets: bytes | Blob) -> bool:
            await super().put_new(key, octets)
            return True

    monkeypatch.setattr(store, "open_stores", lambda queue, stores: Liar())
    (result,) = look("queue_store", site(tmp_path), None)
    assert result.outcome is Outcome.WRONG
    assert "a key was created twice" in result.found
    assert result.mend == "[queue_stores.local]: another store"


@pytest.mark.parametrize(
    ("lines", "outcome", "found"),
    [
        ((b"220 hi", b"250 hi", b"221 bye"), Outcome.OK, "ready for mail"),
        ((b"220 hi", b"500 5.5.1 no LHLO here"), Outcome.WRONG, "LHLO: 500 5.5.1 no LHLO here"),
        ((b"421 4.3.2 busy",), Outcome.UNKNOWN, "421 4.3.2 busy"),
        ((b"* OK IMAP4rev1",), Outcome.WRONG, ""),
    ],
)
def test_back_end(lines: tuple[bytes, ...], outcome: Outcome, found: str, tmp_path: Path) -> None:
    with answering(*lines) as port:
        where = site(tmp_path, text=CONFIGURATION.replace(":24", f":{port}"))
        (result,) = look("backends", where, None)
    assert (result.subject, result.outcome) == ("backends.store", outcome), result
    assert found in result.found


def test_back_end_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        (result,) = look("backends", site(tmp_path, text=CONFIGURATION.replace(":24", f":{port}")), None)
    assert result.outcome is Outcome.UNKNOWN
    assert result.asked == f"LMTP session with 127.0.0.1:{port}"
    assert result.mend == "start it, or mend the addresses in [backends.store]"


def test_back_end_without_the_tls_that_is_required() -> None:
    refusal = Reply(451, "4.7.4", "not secure", "STARTTLS is not offered")
    result = judge_backend("backends.store", "[::1]:24", "LMTP", refusal)
    assert (result.outcome, result.found) == (Outcome.WRONG, "STARTTLS is not offered")
    assert result.mend == "[backends.store]: protocol, tls, implicit_tls, tls_name, tls_ca"


MILTER = '[milters.m]\naddress = "inet:127.0.0.1:{port}"\n'


def test_milter_that_answers(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            client.settimeout(20)
            assert client.recv(17)[4:5] == b"O"
            client.sendall(b"\0\0\0\x0dO\0\0\0\x06" + bytes(8))
            client.recv(5)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        (result,) = look("milters", site(tmp_path, MILTER.format(port=listener.getsockname()[1])), None)
        thread.join()
    assert (result.subject, result.outcome, result.found) == ("milters.m", Outcome.OK, "version 6")


def test_milter_that_wants_what_the_configured_version_has_not(tmp_path: Path) -> None:
    wants = (6).to_bytes(4, "big") + Action.SET_SYMBOLS.to_bytes(4, "big") + bytes(4)
    for version, outcome in ((6, Outcome.OK), (2, Outcome.WRONG)):
        with answering(packet(Command.NEGOTIATE, wants)) as port:
            where = site(tmp_path, MILTER.format(port=port) + f"version = {version}\n")
            (result,) = look("milters", where, None)
        assert result.outcome is outcome, result
    assert result.found == "the filter speaks version 6, offered was 2"
    assert result.mend == "[milters.m] version"


def test_milter_that_is_none_or_is_not_there(tmp_path: Path) -> None:
    with answering(b"220 this is SMTP") as port:
        (result,) = look("milters", site(tmp_path, MILTER.format(port=port)), None)
    assert result.outcome is Outcome.WRONG
    assert result.mend == "[milters.m] address: is that a milter?"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        more = MILTER.format(port=port) + f'[policy_servers.p]\naddress = "127.0.0.1:{port}"\n'
        results = look("milters", site(tmp_path, more), None)
    assert [result.outcome for result in results] == [Outcome.UNKNOWN] * 2
    assert results[1].mend == "start it, or mend [policy_servers.p] address"
    (result,) = look("milters", site(tmp_path), None)
    assert result.found == "there are none"


def test_policy_and_relaying(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("")
    (tmp_path / "users").chmod(0o600)
    (result,) = look("policy", site(tmp_path), None)
    assert (result.outcome, result.asked, result.found) == (Outcome.OK, "the built-in policy", "loads")
    results = look("open_relay", site(tmp_path), None)
    assert [result.subject for result in results] == ["smtp", "submissions"]
    assert [result.found for result in results] == [
        "550 5.7.1 relaying denied",
        "530 5.7.0 authentication required",
    ]
    assert {result.outcome for result in results} == {Outcome.OK}


def test_policy_that_trusts_the_world(tmp_path: Path) -> None:
    more = """
[policy]
trusted_networks = ["192.0.0.0/8"]
relay = "out"
[relays.out]
host = "127.0.0.1"
tls = "none"
"""
    results = look("open_relay", site(tmp_path, more), None)
    assert results[0].outcome is Outcome.WRONG
    assert results[0].found.startswith(
        "accepted from 192.0.2.99 as <>, 192.0.2.99 as <postmaster@good.test>: an"
    )
    assert results[0].mend.startswith("[policy] trusted_networks")


def scripted(folder: Path, text: str) -> Site:
    (folder / "policy.sieve").write_text(text)
    return site(folder, '[policy]\nscripts = ["policy.sieve"]\n')


def test_policy_script_that_does_not_load(tmp_path: Path) -> None:
    where = scripted(tmp_path, 'require "vnd.tamis.stage"; stage "rcpt" { nonsense; }')
    (result,) = look("policy", where, None)
    assert result.outcome is Outcome.WRONG
    assert "policy.sieve" in result.found
    (result,) = look("open_relay", where, None)
    assert result.outcome is Outcome.UNKNOWN
    (tmp_path / "policy.sieve").unlink()
    (result,) = look("policy", where, None)
    assert result.outcome is Outcome.UNKNOWN


def test_policy_script_that_cannot_decide(tmp_path: Path) -> None:
    where = scripted(
        tmp_path,
        'require ["vnd.tamis.stage", "vnd.tamis.reply"];'
        'stage "rcpt" { reply :code 451 :enhanced "4.7.1" "come again"; }',
    )
    results = look("open_relay", where, None)
    assert results[0].outcome is Outcome.UNKNOWN
    assert results[0].found == "192.0.2.99 as <>: 451 4.7.1 come again"


def test_relay_check_that_is_not_answered_in_time() -> None:
    result = judge_relay("smtp", {"192.0.2.99 as <>": TimeoutError()})
    assert (result.outcome, result.found) == (Outcome.UNKNOWN, "192.0.2.99 as <>: no decision in time")


# Running, and what follows


def test_each_check_has_its_key() -> None:
    assert {name for name in NAMES if hasattr(Checks(), name)} == set(NAMES)
    actions = [field for field in Checks.__struct_fields__ if getattr(Checks(), field) == "refuse"]
    assert sorted([*actions, "postmaster"]) == sorted(NAMES)
    assert Checks().postmaster == "warn"


@pytest.mark.parametrize("subject", ["backends.store", "relays.out"])
def test_keys_that_are_named_exist(subject: str) -> None:
    result = judge_backend(subject, "192.0.2.1:24", "SMTP", Reply(535, "5.7.8", "no", "AUTH PLAIN: 535 no"))
    section, _, names = result.mend.partition(": ")
    known = sections_of(Config)[f"{subject.partition('.')[0]}.NAME"]
    assert section == f"[{subject}]"
    assert set(names.split(", ")) - known == set()
    assert ("password_file" in names) is (subject == "relays.out")


@pytest.mark.parametrize(
    ("lines", "local"),
    [
        ('[identity]\nhostname = "mx.good.test"\n', True),
        ('[identity]\nhostname = "mx.testing.eu"\n', False),
        ('[identity]\nhostname = "mx.good.test"\n[checks]\nmode = "production"\n', False),
        ('[identity]\nhostname = "mx.testing.eu"\n[checks]\nmode = "local"\n', True),
        ("", True),  # a machine without a name of its own
    ],
)
def test_mode(lines: str, local: bool, tmp_path: Path) -> None:
    assert is_local(site(tmp_path, text=lines).settings) is local


def test_checks_that_are_off_are_made_only_when_asked_for(tmp_path: Path) -> None:
    where = site(tmp_path, '[checks]\nmx = "off"\n')
    assert [check.name for check in wanted(where)] == [name for name in NAMES if name != "mx"]
    assert [check.name for check in wanted(where, ["mx"])] == ["mx"]
    names = [check.name for check in wanted(where, local=True)]
    assert "policy" in names
    assert "spf" not in names


def test_what_breaks_or_hangs_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SECONDS", 0.05)

    async def breaks(where: Site, world: World) -> list[Result]:
        raise RuntimeError("a bug")

    async def hangs(where: Site, world: World) -> list[Result]:
        await asyncio.sleep(60)
        return []

    async def works(where: Site, world: World) -> list[Result]:
        return [ok("x", "x", "x")]

    checks = [Check("a", breaks), Check("b", hangs), Check("c", works)]
    found = asyncio.run(run(site(tmp_path), World(None), checks))
    assert found["a"][0].found == "the check itself failed: RuntimeError('a bug')"
    assert found["b"][0].found == "not done within 0.05 s"
    assert found["c"] == [Result("x", Outcome.OK, "x", "x", check="c")]
    assert exit_code(found) == 2


def test_what_is_unknown_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PAUSE", 0.001)
    tries = {"slow": 0, "settled": 0, "good": 0}

    def check(name: str, *answers: Result) -> Check:
        async def answer(where: Site, world: World) -> list[Result]:
            tries[name] += 1
            return [answers[min(tries[name], len(answers)) - 1]]

        return Check(name, answer)

    checks = [
        check("slow", unknown("x", "q", "no answer"), unknown("x", "q", "no answer"), ok("x", "q", "yes")),
        check("settled", unknown("x", "q", "never", settled=True)),
        check("good", ok("x", "q", "yes")),
    ]
    found = asyncio.run(run_patiently(site(tmp_path), World(None), checks, 10))
    assert found["slow"][0].outcome is Outcome.OK
    assert tries == {"slow": 3, "settled": 1, "good": 1}
    tries.update(slow=0)
    failing = [checks[0], check("good", wrong("x", "q", "no"))]
    found = asyncio.run(run_patiently(site(tmp_path), World(None), failing, 10))
    assert tries["slow"] == 1  # something is wrong: waiting would not help
    tries.update(good=0)
    passing = check("good", wrong("x", "q", "old", passing=0.01), ok("x", "q", "yes"))
    found = asyncio.run(run_patiently(site(tmp_path), World(None), [passing], 10))
    assert (found["good"][0].outcome, tries["good"]) == (Outcome.OK, 2)
    tries.update(good=0)
    later = check("good", wrong("x", "q", "old", passing=3600.0), ok("x", "q", "yes"))
    found = asyncio.run(run_patiently(site(tmp_path), World(None), [later], 10))
    assert (found["good"][0].outcome, tries["good"]) == (Outcome.WRONG, 1)


FINDINGS = {
    "mx": [
        Result("a.test", Outcome.WRONG, "MX a.test", "no MX record", "a.test. 3600 IN MX 10 b.", check="mx")
    ],
    "spf": [Result("a.test", Outcome.UNKNOWN, "TXT a.test", "no answer", check="spf")],
    "srv": [Result("a.test", Outcome.OK, "SRV", "fine", check="srv")],
}


def test_what_follows_from_results() -> None:
    line = "check mx: a.test: wrong: MX a.test: no MX record; to mend it: a.test. 3600 IN MX 10 b."
    unsure = "check spf: a.test: unknown: TXT a.test: no answer"
    found = judge(Checks(), FINDINGS)
    assert (found.wrong, found.refused, found.warnings) == ((line,), (), (unsure,))
    found = judge(Checks(mx="warn", unknown="refuse"), FINDINGS)
    assert (found.wrong, found.refused, found.warnings) == ((), (unsure,), (line,))
    found = judge(Checks(mx="off", spf="warn", unknown="refuse"), FINDINGS)
    assert (found.wrong, found.refused, found.warnings) == ((), (), (unsure,))


def test_what_is_wrong_and_may_pass_lets_the_start_be_tried_again() -> None:
    """Exit status 1: systemd starts again, which it does not for what only people can mend."""
    old = Result("a.test", Outcome.WRONG, "TLSA a.test", "old", "publish this", check="tlsa", passing=300.0)
    line = (
        "check tlsa: a.test: wrong: TLSA a.test: old; to mend it: publish this;"
        " if that is done, the resolver will know it in 300 s"
    )
    found = judge(Checks(), {"tlsa": [old]})
    assert (found.wrong, found.refused, found.warnings) == ((), (line,), ())
    assert judge(Checks(tlsa="warn"), {"tlsa": [old]}).warnings == (line,)
    assert exit_code({"tlsa": [old]}) == 1


def test_exit_codes() -> None:
    assert exit_code(FINDINGS) == 1
    assert exit_code({"spf": FINDINGS["spf"], "srv": FINDINGS["srv"]}) == 2
    assert exit_code({"srv": FINDINGS["srv"]}) == 0


def test_table_and_json() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    show(console, FINDINGS, 0.5, ["a note"])
    text = console.export_text()
    assert "no MX record" in text
    assert "\na.test. 3600 IN MX 10 b.\n" in text
    assert text.endswith("a note\n\n1 ok, 1 wrong, 1 unknown in 0.5 s\n")
    facts = json.loads(as_json(FINDINGS, {"mode": "production"}))
    assert facts["mode"] == "production"
    assert facts["results"][0] == {
        "check": "mx",
        "subject": "a.test",
        "outcome": "wrong",
        "asked": "MX a.test",
        "found": "no MX record",
        "mend": "a.test. 3600 IN MX 10 b.",
    }


@pytest.mark.parametrize("check", ["policy", "open_relay", "postmaster"])
def test_users_of_several_mail_stores_are_no_fault_of_a_check(tmp_path: Path, check: str) -> None:
    text = CONFIGURATION.replace('recipients = "all"', 'recipients = "ask"')
    text = text.replace('backend = "store"', 'backend = "stores"')
    where = site(tmp_path, '[director.stores]\nbackends = ["store"]\n', text)
    results = look(check, where, None)
    assert [str(one.outcome) for one in results] == ["ok"] * len(results), results


def test_what_others_have_written_does_nothing_to_the_terminal() -> None:
    out = io.StringIO()
    mend = 'a.test. 3600 IN TXT "x"\nand \x1b[2J'
    found = Result("a.test", Outcome.WRONG, "TXT a.test", "v=spf1 \x1b]0;owned\x07 \u202e", mend, check="spf")
    show(Console(width=100, file=out), {"spf": [found]}, 0.5, [])
    text = out.getvalue()
    assert "\x1b" not in text
    assert "TXT a.test: v=spf1 \u241b]0;owned\u2407 \ufffd" in text
    assert 'a.test. 3600 IN TXT "x"\nand \u241b[2J\n' in text


def test_all_checks_are_in_the_table_once() -> None:
    assert len(set(NAMES)) == len(CHECKS) == 25
