"""Policy scripts in sessions: what a client reads at each stage, and what is written in the log."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path

import pytest

from mta import log
from mta.accounts.user import User
from mta.accounts.usersfile import edit
from tests.dialog.policies import FIRST, REQUIRE, STRANGERS, greeted, policed
from tests.dialog.server import run, serving

DATA = "From: a@x.test\r\nSubject: {}\r\n\r\nhello\r\n"


class Lines:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str, dict[str, object]]] = []

    def of(self, event: str) -> list[dict[str, object]]:
        return [fields for _, name, fields in self.kept if name == event]

    def __getattr__(self, level: str) -> object:
        return lambda event, **fields: self.kept.append((level, event, fields))


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    found = Lines()
    monkeypatch.setattr(log, "get", lambda name: found)
    return found


def test_connect_refuses_by_network(tmp_path: Path, lines: Lines) -> None:
    script = 'stage "connect" { if ip_in "127.0.0.0/8" { reply :code 554 "not you, ${env.remote_ip}"; } }'

    async def main() -> None:
        async with policed(tmp_path, script) as server:
            client = await server.connect()
            assert await client.read_reply() == "554 5.7.1 not you, 127.0.0.1\r\n"
            assert await client.read_reply() == ""

    run(main)
    (refused,) = lines.of("refused")
    assert refused["stage"] == "connect"
    assert refused["cause"] == f"policy.sieve:{FIRST}"


def test_helo_is_refused_and_may_be_said_again(tmp_path: Path) -> None:
    script = 'stage "helo" { if environment "vnd.tamis.helo" "localhost" { defer; } }'

    async def main() -> None:
        async with policed(tmp_path, script) as server:
            client = await server.connect()
            await client.read_reply()
            assert await client.say("EHLO localhost") == "451 4.7.1 try again later\r\n"
            assert (await client.say("EHLO other.test")).startswith("250-mx.test")
            assert (await client.send("b@example.test")).startswith("250 2.0.0")

    run(main)


def test_tarpit_and_disconnect(tmp_path: Path) -> None:
    script = """
stage "mail" { if envelope :domain "from" "slow.test" { tarpit 1; } }
stage "rcpt" { if envelope :localpart "to" "trap" { disconnect; } }
"""

    async def main() -> None:
        async with policed(tmp_path, script) as server:
            client = await greeted(server)
            started = time.monotonic()
            assert (await client.say("MAIL FROM:<a@slow.test>")).startswith("250")
            assert 0.9 < time.monotonic() - started < 15
            assert (await client.say("RCPT TO:<b@example.test>")).startswith("250")
            assert await client.say("RCPT TO:<trap@example.test>") == "421 4.7.0 closing the connection\r\n"
            assert await client.read_reply() == ""

    run(main)


def test_mail_changes_the_sender_and_never_the_null_sender(tmp_path: Path) -> None:
    script = 'stage "mail" { set_sender "list@example.test"; }'

    async def main() -> None:
        async with policed(tmp_path, script) as server:
            client = await greeted(server)
            await client.send("b@example.test")
            await client.envelope("b@example.test", sender="")
            await client.say("DATA")
            await client.say(DATA.format("report") + ".")
            assert [one.sender for one in server.store.delivered] == ["list@example.test", ""]

    run(main)


def test_rcpt_rewrites_and_the_policy_behind_still_judges(tmp_path: Path) -> None:
    script = """
stage "rcpt" {
    if envelope "to" "old@example.test" { rewrite_recipient "new@example.test"; }
    elsif envelope "to" "away@example.test" { rewrite_recipient "x@elsewhere.test"; accept; }
    elsif envelope "to" "gone@example.test" { reply :code 551 :enhanced "5.1.6" "moved"; }
    accept;
}
"""

    async def main() -> None:
        async with policed(tmp_path, script, policy=STRANGERS) as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<a@x.test>")
            assert (await client.say("RCPT TO:<x@foreign.test>")).startswith("550 5.7.1 relaying denied")
            assert (await client.say("RCPT TO:<away@example.test>")).startswith("550 5.7.1 relaying denied")
            assert await client.say("RCPT TO:<gone@example.test>") == "551 5.1.6 moved\r\n"
            assert (await client.say("RCPT TO:<old@example.test>")).startswith("250")
            await client.say("DATA")
            assert (await client.say(DATA.format("x") + ".")).startswith("250")
            assert [one.recipient for one in server.store.delivered] == ["new@example.test"]

    run(main)


def test_data_refuses_and_discards(tmp_path: Path, lines: Lines) -> None:
    script = """
stage "data" {
    if header :contains "subject" "spam" { reject "we do not want this"; }
    if header :contains "subject" "junk" { discard; }
}
"""

    async def main() -> None:
        async with policed(tmp_path, script) as server:
            client = await greeted(server)
            spam = await client.send("b@example.test", "c@example.test", body=DATA.format("spam and junk"))
            assert spam == "550 5.7.1 we do not want this\r\n"
            assert await client.send("b@example.test", body=DATA.format("junk")) == "250 2.0.0 accepted\r\n"
            assert server.store.delivered == []
            counts = server.daemon.snapshot()["messages"]
            assert counts["discarded\tsmtp"] == 1
            assert (await client.send("b@example.test", body=DATA.format("good"))).startswith(
                "250 2.0.0 kept"
            )

    run(main)
    spam, junk, _ = lines.of("message")
    assert [one["cause"] for one in spam["recipients"]] == [f"policy.sieve:{FIRST + 2}"] * 2  # type: ignore[attr-defined]
    assert junk["result"] == "discarded"
    assert junk["recipients"][0]["cause"] == f"discarded: policy.sieve:{FIRST + 3}"  # type: ignore[index]


def test_a_failing_script_is_a_temporary_failure(tmp_path: Path, lines: Lines) -> None:
    script = 'stage "rcpt" {\n set "a" "no address";\n rewrite_recipient "${a}";\n}'

    async def main() -> None:
        async with policed(tmp_path, script) as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<a@x.test>")
            reply = await client.say("RCPT TO:<b@example.test>")
            assert reply == "451 4.3.5 policy error, try again later\r\n"

    run(main)
    (failed,) = lines.of("script failed")
    assert str(failed["reason"]).startswith(f"policy.sieve:{FIRST + 2}:2: 'no address' is no address")
    assert failed["reason"] == lines.of("refused")[0]["cause"]


def test_work_is_bounded(tmp_path: Path, lines: Lines) -> None:
    keys = ", ".join(f'"*{number}*x*y*"' for number in range(300))
    script = 'stage "data" {' + f'if header :matches "x-a" [{keys}] {{ discard; }}' * 20 + "}"
    header = "".join(f"X-A: {number} {'a' * 200}\r\n" for number in range(900))

    async def main() -> None:
        async with policed(tmp_path, script) as server:
            client = await greeted(server)
            started = time.monotonic()
            reply = await client.send("b@example.test", body=header + "\r\nx\r\n")
            assert reply == "451 4.3.5 policy error, try again later\r\n"
            assert time.monotonic() - started < 30

    run(main)
    reason = str(lines.of("script failed")[0]["reason"])
    assert reason.startswith(f"policy.sieve:{FIRST}:")
    assert "too many operations" in reason or "CPU time limit" in reason


def test_a_large_message_is_read_aside(tmp_path: Path) -> None:
    script = 'stage "data" { if body :contains "needle" { reject "found"; } }'
    straw = ("x" * 70 + "\r\n") * 30_000

    async def main() -> None:
        async with policed(tmp_path, script) as server:
            client = await greeted(server)
            assert (await client.send("b@example.test", body=f"Subject: a\r\n\r\n{straw}")).startswith("250")
            found = await client.send("b@example.test", body=f"Subject: a\r\n\r\n{straw}needle\r\n")
            assert found == "550 5.7.1 found\r\n"

    run(main)


def test_files_run_in_order_and_accept_ends_the_stage(tmp_path: Path) -> None:
    (tmp_path / "second.sieve").write_text(
        REQUIRE + 'stage "rcpt" { reply "the second file"; } stage "mail" { defer; }'
    )
    first = 'stage "rcpt" { if envelope "to" "vip@example.test" { accept; } } stage "mail" { stop; }'
    (tmp_path / "first.sieve").write_text(REQUIRE + first)

    async def main() -> None:
        more = '[policy]\nscripts = ["first.sieve", "second.sieve"]'
        async with serving(tmp_path, more=more) as server:
            client = await greeted(server)
            assert (await client.say("MAIL FROM:<a@x.test>")).startswith("451 4.7.1")
            (tmp_path / "second.sieve").write_text("")  # it has been read
        (tmp_path / "second.sieve").write_text(REQUIRE + 'stage "rcpt" { reply "the second file"; }')
        async with serving(tmp_path, more=more) as server:
            client = await greeted(server)
            await client.say("MAIL FROM:<a@x.test>")
            assert (await client.say("RCPT TO:<vip@example.test>")).startswith("250")
            assert await client.say("RCPT TO:<b@example.test>") == "550 5.7.1 the second file\r\n"

    run(main)


def test_a_broken_script_refuses_the_start(tmp_path: Path) -> None:
    from mta.config import ConfigError

    async def main() -> None:
        async with policed(tmp_path, 'stage "rcpt" { nonsense; }\nstage "connect" { discard; }'):
            raise AssertionError("it has started")

    with pytest.raises(ConfigError) as caught:
        run(main)
    path = tmp_path / "policy.sieve"
    texts = str(caught.value).splitlines()
    assert [text.partition(" ")[0] for text in texts] == [f"{path}:{FIRST}:16:", f"{path}:{FIRST + 1}:19:"]


def test_login_may_be_refused_and_leaves_no_user(tmp_path: Path, lines: Lines) -> None:
    script = """
stage "auth" {
    if environment "vnd.tamis.auth-user" "bob@example.test" {
        tarpit 1;
        reply :code 535 :enhanced "5.7.8" "${env.auth_mechanism} is not for you";
    }
}
stage "mail" { if environment "vnd.tamis.auth-user" "" { reply "nobody"; } }
"""
    more = f'[auth]\nbackend = "users"\nusers_file = "{tmp_path}/users"\nrequire_tls = false'
    with edit(tmp_path / "users") as table:
        for name in ("alice@example.test", "bob@example.test"):
            table.put(User(name).with_password("secret"))

    def plain(name: str) -> str:
        return base64.b64encode(f"\0{name}@example.test\0secret".encode()).decode()

    async def main() -> None:
        async with policed(tmp_path, script, more=more, listener='auth = "optional"') as server:
            client = await greeted(server)
            started = time.monotonic()
            refused = await client.say(f"AUTH PLAIN {plain('bob')}")
            assert refused == "535 5.7.8 PLAIN is not for you\r\n"
            assert time.monotonic() - started > 0.9
            assert await client.say("MAIL FROM:<a@x.test>") == "550 5.7.1 nobody\r\n"
            assert (await client.say(f"AUTH PLAIN {plain('alice')}")).startswith("235 2.7.0")
            assert (await client.say("MAIL FROM:<alice@example.test>")).startswith("250")

    run(main)
    assert lines.of("login failed")[0]["cause"] == f"policy.sieve:{FIRST + 4}"
    assert [one["user"] for one in lines.of("login")] == ["alice@example.test"]


def test_tables_are_looked_up_and_read_again(tmp_path: Path) -> None:
    script = """
stage "mail" { if envelope :list "from" "table:blocked" { reply "${0} is blocked"; } }
stage "rcpt" { if not envelope :domain :list "to" "table:open" { defer; } }
"""
    (tmp_path / "blocked").write_text("# who\nSpammer@X.test\n")
    (tmp_path / "open").write_text("example.test\n")
    more = '[tables.blocked]\nfile = "blocked"\n[tables.open]\nfile = "open"'

    async def main() -> None:
        async with policed(tmp_path, script, more=more) as server:
            client = await greeted(server)
            assert await client.say("MAIL FROM:<spammer@x.test>") == "550 5.7.1 spammer@x.test is blocked\r\n"
            assert (await client.send("b@example.test")).startswith("250")
            (tmp_path / "open").write_text("# nobody\n")
            await client.say("MAIL FROM:<a@x.test>")
            reply = ""
            for _ in range(90):  # a message has a hundred recipients
                reply = await client.say("RCPT TO:<b@example.test>")
                if reply.startswith("451"):
                    break
                await asyncio.sleep(0.3)
            assert reply == "451 4.7.1 try again later\r\n"

    run(main)


@pytest.mark.parametrize(("trace", "told"), [('["192.0.2.0/24", "eve"]', False), ('["127.0.0.0/8"]', True)])
def test_chosen_sessions_tell_the_log_what_scripts_do(
    tmp_path: Path, lines: Lines, trace: str, told: bool
) -> None:
    script = 'stage "rcpt" { if envelope :localpart "to" "eve" { reply "not eve"; } }'

    async def main() -> None:
        async with policed(tmp_path, script, policy=f"trace = {trace}") as server:
            client = await greeted(server)
            await client.envelope("bob@example.test")
            assert (await client.say("RCPT TO:<eve@example.test>")).startswith("550 5.7.1 not eve")

    run(main)
    found = [(one["stage"], one["place"], one["what"]) for one in lines.of("trace")]
    if not told:
        assert found == []
        return
    asked = ("rcpt", f"policy.sieve:{FIRST}", "test envelope ['eve'] against ['eve']: yes")
    assert asked in found
    assert ("rcpt", f"policy.sieve:{FIRST}", "action reply 550 5.7.1 not eve") in found
    assert ("mail", "test login_required: no") in [(stage, what) for stage, _, what in found]
