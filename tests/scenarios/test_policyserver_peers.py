"""Real policy servers for our client, and a real Postfix for our server."""

from __future__ import annotations

import asyncio
import smtplib
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from mailmilter.endpoint import Endpoint, parse_endpoint
from mailmilter.policy import Kind, PolicyClient, PolicyRequest, PolicyService, Reply, serve_policy
from mailmilter.policy.request import NAMES
from tests.peers.milters import running_postgrey
from tests.peers.policyd_spf import running_policyd_spf
from tests.peers.postfix import running_postfix

pytestmark = pytest.mark.scenario

SETTINGS = """\
smtpd_recipient_restrictions = check_policy_service {{ {endpoint}, policy_context=rules }}, permit
smtpd_data_restrictions = check_policy_service {endpoint}
"""
Asked = list[dict[str, str]]


@contextmanager
def deciding(asked: Asked) -> Iterator[str]:
    """A policy server of ours in a thread, where Postfix may connect."""

    async def decide(request: dict[str, str]) -> str:
        asked.append(request)
        return {"refused@relay.test": "550 5.1.1 not ours"}.get(request["recipient"], "DUNNO")

    with tempfile.TemporaryDirectory(prefix="tamis-policy-") as name:
        Path(name).chmod(0o755)
        endpoint = f"unix:{name}/socket"
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(serve_policy(decide, endpoint, mode=0o666), loop).result(10)
        try:
            yield endpoint
        finally:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def test_we_send_what_postfix_sends() -> None:
    asked: Asked = []
    chain = trustme.CA().issue_cert("relay.test").private_key_and_cert_chain_pem.bytes()
    with deciding(asked) as endpoint:
        settings = SETTINGS.format(endpoint=endpoint)
        with (
            running_postfix(chain, settings) as server,
            smtplib.SMTP("127.0.0.1", server.port, "client.test") as client,
        ):
            client.ehlo("client.test")
            client.mail("a@sender.test", ["SIZE=1000"])
            assert client.rcpt("b@relay.test")[0] == 250
            code, text = client.rcpt("refused@relay.test")
            assert (code, text[:5]) == (550, b"5.1.1")
            assert client.data(b"Subject: x\r\n\r\nx\r\n")[0] == 250
    assert [one["protocol_state"] for one in asked] == ["RCPT", "RCPT", "DATA"]
    theirs = list(asked[0])
    ours = ["request", *NAMES]
    # Debian 12 has Postfix 3.7; 3.9 has two more, which say what it is itself.
    about_itself = {"compatibility_level", "mail_version"}
    assert theirs == [name for name in ours if name in theirs]
    assert set(ours) - set(theirs) <= about_itself
    assert len({one["instance"] for one in asked}) == 1
    request = PolicyRequest(
        "RCPT",
        client_address="127.0.0.1",
        client_port=asked[0]["client_port"],
        server_address="127.0.0.1",
        server_port=str(server.port),
        helo_name="client.test",
        sender="a@sender.test",
        recipient="b@relay.test",
        instance=asked[0]["instance"],
        size="1000",
        policy_context="rules",
    )
    lines = request.encode().decode().strip().split("\n")
    mine = dict(line.split("=", 1) for line in lines)
    told = {name: value for name, value in asked[0].items() if name not in about_itself}
    assert {name: mine[name] for name in told} == told
    assert asked[2]["recipient_count"] == "1"


def ask(endpoint: Endpoint, *requests: PolicyRequest, pause: float = 0.0) -> list[Reply]:
    """Ask one after the other on one connection."""

    async def main() -> list[Reply]:
        client = PolicyClient(PolicyService("peer", endpoint, timeout=20.0))
        replies = []
        for one in requests:
            replies.append(await client.ask(one))
            await asyncio.sleep(pause)
        client.close()
        return replies

    return asyncio.run(main())


def test_postgrey_defers_and_then_lets_pass() -> None:
    request = PolicyRequest(
        "RCPT",
        client_address="192.0.2.1",
        client_name="mail.sender.test",
        sender="a@sender.test",
        recipient="b@relay.test",
        instance="1",
    )
    with running_postgrey(delay=1) as endpoint:
        first, again = ask(parse_endpoint(endpoint), request, request)
        time.sleep(1.1)
        (later,) = ask(parse_endpoint(endpoint), request)
    assert first.decision.kind is again.decision.kind is Kind.DEFER_IF_PERMIT
    assert (first.decision.code, first.decision.enhanced) == (450, "4.2.0")
    assert "Greylisted" in first.decision.text
    assert later.decision.kind is Kind.PREPEND
    assert later.decision.text.startswith("X-Greylist: delayed ")


def test_policyd_spf_answers() -> None:
    def request(instance: str, recipient: str) -> PolicyRequest:
        return PolicyRequest(
            "RCPT",
            client_address="127.0.0.1",
            client_name="localhost",
            helo_name="localhost",
            sender="a@sender.test",
            recipient=recipient,
            instance=instance,
        )

    with running_policyd_spf() as endpoint:
        first, second, other = ask(
            endpoint,
            request("1.a", "b@relay.test"),
            request("1.a", "c@relay.test"),
            request("2.b", "b@relay.test"),
        )
    assert first.failure == second.failure == other.failure == ""
    assert first.decision.kind is Kind.PREPEND, "one header a message"
    assert second.decision.kind is Kind.DUNNO, "the same instance"
    assert other.decision.kind is Kind.PREPEND
