"""Results of sender authentication in milters and policy servers: found out for those that want them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from mailmilter.filter import Context
from tests.dialog.milters import Puppet, at, puppet, quiet
from tests.dialog.programs import deciding
from tests.dialog.senders import Zone, authenticating, deliver, signed, stranger
from tests.dialog.server import run

MESSAGE = (
    b"From: Alice <alice@good.test>\r\nSubject: hi\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\nhello\r\n"
)
MILTER = '[milters.one]\naddress = "unix:one"\nlisteners = ["smtp"]\n'
MACROS = (
    "_", "client_name", "client_ptr", "spf_result", "iprev_result", "dkim_result", "dmarc_result",
    "arc_result", "auth_results",
)  # fmt: skip
ASKED = """
connect_macros = ["_", "{client_name}", "{client_ptr}", "{iprev_result}"]
mail_macros = ["i", "{spf_result}"]
end_of_message_macros = ["i", "{dkim_result}", "{dmarc_result}", "{arc_result}", "{auth_results}"]
"""


@pytest.mark.parametrize("asked", [True, False])
def test_macros_tell_milters_what_they_ask_for(tmp_path: Path, asked: bool) -> None:
    found: dict[str, dict[str, str]] = {}

    def behave(milter: Puppet, ctx: Context, name: str) -> None:
        found[name] = {one: value for one in MACROS if (value := ctx.macro(one))}

    async def main() -> None:
        more = MILTER + (ASKED if asked else "")
        async with (
            puppet(tmp_path, "one", behave) as heard,
            authenticating(tmp_path, Zone(), more=more) as server,
        ):
            client = await stranger(server)
            assert (await deliver(client, signed(MESSAGE, now=time.time()))).startswith("250")
            assert "connect mx.good.test 192.0.2.25" in heard
            assert found["connect"]["_"] == "mx.good.test [192.0.2.25]"
            client.cut()
            await quiet(heard, "close")
        if not asked:  # nobody has waited for any of them
            assert not {"spf_result", "dkim_result", "auth_results"} & found["eom"].keys()
            return
        assert found["connect"]["client_ptr"] == found["connect"]["client_name"] == "mx.good.test"
        assert found["connect"]["iprev_result"] == "pass"
        assert found["mail"]["spf_result"] == "pass"
        assert "dkim_result" not in found["mail"]
        eom = found["eom"]
        assert (eom["dkim_result"], eom["dmarc_result"], eom["arc_result"]) == ("pass", "pass", "none")
        assert eom["auth_results"].startswith("mx.test; iprev=pass (mx.good.test) policy.iprev=")

    run(main)


def test_a_reverse_name_that_does_not_lead_back(tmp_path: Path) -> None:
    found: dict[str, str | None] = {}

    def behave(ctx: Context) -> None:
        found.update({one: ctx.macro(one) for one in ("_", "client_name", "client_ptr")})

    async def main() -> None:
        zone = Zone()
        zone.add("7.2.0.192.in-addr.arpa", "PTR", "liar.good.test.")
        async with (
            puppet(tmp_path, "one", at("connect", behave)) as heard,
            authenticating(tmp_path, zone, more=MILTER + ASKED) as server,
        ):
            client = await stranger(server, "192.0.2.7")
            client.cut()
            await quiet(heard, "close")
        assert "connect [192.0.2.7] 192.0.2.7" in heard
        assert found == {
            "_": "unknown [192.0.2.7]", "client_name": "unknown", "client_ptr": "liar.good.test",
        }  # fmt: skip

    run(main)


def remove_first(ctx: Context) -> None:
    ctx.delete_header("Authentication-Results")


def insert_below(ctx: Context) -> None:
    ctx.insert_header(1, "X-Here", "1")
    ctx.insert_header(3, "X-There", "1")


@pytest.mark.parametrize(
    ("behave", "fields"),
    [
        (lambda ctx: None, []),
        (remove_first, []),
        (insert_below, [b"X-Here", b"X-There"]),
        (lambda ctx: ctx.replace_body(b"new\r\n"), []),
    ],
)
def test_milters_see_our_results_in_the_header(tmp_path: Path, behave: Any, fields: list[bytes]) -> None:
    """As the first field, whatever they do with it; the message has it once, where we write it."""
    seen: list[bytes] = []

    def look(ctx: Context) -> None:
        seen.extend(one.name + b": " + one.value.lstrip() for one in ctx.fields)
        behave(ctx)

    async def main() -> None:
        more = MILTER + "authentication_results = true\n"
        async with (
            puppet(tmp_path, "one", at("eom", look)) as heard,
            authenticating(tmp_path, Zone(), more=more) as server,
        ):
            client = await stranger(server)
            assert (await deliver(client, MESSAGE)).startswith("250")
            client.cut()
            await quiet(heard, "close")
            (kept,) = server.store.delivered
        assert seen[0].startswith(b"Authentication-Results: mx.test; iprev=pass"), seen
        assert b"dmarc=pass" in seen[0]
        assert [one.split(b":")[0] for one in seen[1:]] == [b"From", b"Subject", b"Date"]
        head = kept.octets.partition(b"\r\n\r\n")[0]
        assert head.count(b"Authentication-Results: mx.test;") == 1
        names = [line.split(b":")[0] for line in head.split(b"\r\n") if not line.startswith((b"\t", b" "))]
        assert names[2:] == [*fields, b"From", b"Subject", b"Date"], names

    run(main)


@pytest.mark.parametrize("everything", [True, False])
def test_policy_servers_are_told_what_they_want(tmp_path: Path, everything: bool) -> None:
    async def main() -> None:
        script = "".join(f'stage "{one}" {{ policy_server "one"; }}' for one in ("mail", "data"))
        (tmp_path / "policy.sieve").write_text(
            f'require ["vnd.tamis.stage", "vnd.tamis.policy_server"]; {script}'
        )
        more = '[policy_servers.one]\naddress = "unix:one"\n'
        if everything:
            more += 'authentication = ["iprev", "spf", "dkim", "dmarc"]\n'
        async with (
            deciding(tmp_path / "one", lambda asked: "DUNNO") as asked,
            authenticating(tmp_path, Zone(), policy='scripts = ["policy.sieve"]', more=more) as server,
        ):
            client = await stranger(server)
            assert (await deliver(client, signed(MESSAGE, now=time.time()))).startswith("250")
        mail, end = asked
        for one in asked:
            assert one["client_name"] == one["reverse_client_name"] == "mx.good.test"
            assert one["iprev_result"] == "pass"
        wanted = ("spf_result", "dkim_result", "dmarc_result", "arc_result")
        if everything:
            assert [mail.get(one) for one in wanted] == ["pass", None, None, None]
            assert [end.get(one) for one in wanted] == ["pass", "pass", "pass", None]
        else:
            assert not set(wanted) & mail.keys()

    run(main)
