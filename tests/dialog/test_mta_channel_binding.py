"""SCRAM-SHA-256 and -PLUS against the daemon by a client that is written here from RFC 5802 and RFC 5929, so
that it may lie: wrong bindings, types that do not belong to the connection, an offer that was removed."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from tests.dialog.server import Client, run
from tests.dialog.test_mta_auth import ALICE, PASSWORD, accounts, secure, trust, version
from tests.dialog.test_mta_auth import site as site  # the fixture
from tests.peers.certificates import Authority

PLUS, PLAIN = "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"
UNIQUE, END_POINT = "tls-unique", "tls-server-end-point"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
OFFERED = f'mechanisms = ["{PLUS}", "{PLAIN}"]\nfailure_delay = "0.01s"'
DEFAULT = 'failure_delay = "0.01s"'


async def scram(client: Client, mechanism: str, header: str, data: bytes, later: str | None = None) -> str:
    """One exchange with this GS2 header and this binding data; `later` is the header of the final message."""
    bare = f"n={ALICE},r=nonce"
    reply = await client.say(f"AUTH {mechanism} {b64encode((header + bare).encode()).decode()}")
    if not reply.startswith("334 "):
        return reply
    first = b64decode(reply[4:]).decode()
    nonce, salt, rounds = (part[2:] for part in first.split(","))
    bound = b64encode((header if later is None else later).encode() + data).decode()
    message = f"{bare},{first},c={bound},r={nonce}"
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), b64decode(salt), int(rounds))
    key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(key).digest(), message.encode(), "sha256")
    proof = b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
    reply = await client.say(b64encode(f"c={bound},r={nonce},p={proof}".encode()).decode())
    if not reply.startswith("334 "):
        return reply
    verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message.encode(), "sha256")
    assert b64decode(reply[4:]) == b"v=" + b64encode(verifier)
    return await client.say("")


RIGHT, WRONG, NONE = "right", "wrong", "none"


@pytest.mark.parametrize(
    ("tls", "auth", "mechanism", "header", "binding", "expected"),
    [
        (V12, DEFAULT, PLUS, f"p={UNIQUE},,", RIGHT, "235 2.7.0"),
        (V12, DEFAULT, PLUS, f"p={END_POINT},,", RIGHT, "235 2.7.0"),
        (V13, OFFERED, PLUS, f"p={END_POINT},,", RIGHT, "235 2.7.0"),
        (V12, DEFAULT, PLUS, f"p={UNIQUE},a={ALICE},", RIGHT, "235 2.7.0"),
        # A binding of another connection, of another certificate, of the other type, or none at all.
        (V12, DEFAULT, PLUS, f"p={UNIQUE},,", WRONG, "535 5.7.8"),
        (V12, DEFAULT, PLUS, f"p={END_POINT},,", WRONG, "535 5.7.8"),
        (V13, OFFERED, PLUS, f"p={END_POINT},,", WRONG, "535 5.7.8"),
        (V12, DEFAULT, PLUS, f"p={UNIQUE},,", NONE, "535 5.7.8"),
        (V13, OFFERED, PLUS, f"p={END_POINT},,", NONE, "535 5.7.8"),
        # Types that this connection does not have: tls-unique is not defined for TLS 1.3 (RFC 9266).
        (V13, OFFERED, PLUS, f"p={UNIQUE},,", WRONG, "535 5.7.8"),
        (V12, DEFAULT, PLUS, "p=tls-unheard-of,,", NONE, "535 5.7.8"),
        # -PLUS without a binding, and a binding without -PLUS.
        (V12, DEFAULT, PLUS, "n,,", NONE, "501 5.5.2"),
        (V12, DEFAULT, PLUS, "y,,", NONE, "501 5.5.2"),
        (V12, DEFAULT, PLAIN, f"p={UNIQUE},,", RIGHT, "501 5.5.2"),
        # "y": I could bind, but you do not offer it. Where it was offered, somebody took it out of EHLO.
        (V12, DEFAULT, PLAIN, "y,,", NONE, "535 5.7.8"),
        (V13, OFFERED, PLAIN, "y,,", NONE, "535 5.7.8"),
        (V13, DEFAULT, PLAIN, "y,,", NONE, "235 2.7.0"),
        (V12, DEFAULT, PLAIN, "n,,", NONE, "235 2.7.0"),
        (V13, OFFERED, PLAIN, "n,,", NONE, "235 2.7.0"),
    ],
)
def test_what_the_client_says_of_its_channel(
    tmp_path: Path,
    site: tuple[Path, Authority],
    tls: ssl.TLSVersion,
    auth: str,
    mechanism: str,
    header: str,
    binding: str,
    expected: str,
) -> None:
    async def main() -> None:
        async with accounts(tmp_path, site, auth=auth) as server:
            user = await secure(server, site, context=version(site, tls))
            assert (PLUS in user.offered) == (auth == OFFERED or tls is V12)
            data = b""
            if binding == RIGHT and UNIQUE in header:
                data = user.client.ssl_object.get_channel_binding(UNIQUE) or b""
                assert data
            elif binding == RIGHT:
                data = hashlib.sha256(user.client.ssl_object.getpeercert(binary_form=True) or b"").digest()
            elif binding == WRONG:
                data = bytes(32 if END_POINT in header else 12)
            assert (await scram(user.client, mechanism, header, data)).startswith(expected)

    run(main)


def test_the_certificate_that_was_served_is_bound(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    """There are two, the client's server name chooses, and TLS begins with the first octet."""
    folder, ca = site
    ca.issue("other", "other.test")
    more = f"""
[certificates.other]
chain = "{folder}/other.pem"
key = "{folder}/other.key"
[[listener]]
name = "submissions"
protocol = "submission"
tls = "implicit"
addresses = ["127.0.0.1:4"]
"""

    def end_point(client: Client) -> bytes:
        return hashlib.sha256(client.ssl_object.getpeercert(binary_form=True) or b"").digest()

    async def main() -> None:
        async with accounts(tmp_path, site, auth=OFFERED, more=more) as server:
            clients = []
            for name in ("mx.test", "other.test"):
                clients.append(await server.connect("submissions", ssl=trust(site), server_hostname=name))
                await clients[-1].hello()
            bindings = [end_point(client) for client in clients]
            assert bindings[0] != bindings[1]
            for client, crossed, own in zip(clients, reversed(bindings), bindings, strict=True):
                header = f"p={END_POINT},,"
                assert (await scram(client, PLUS, header, crossed)).startswith("535 5.7.8")
                assert (await scram(client, PLUS, header, own)).startswith("235 2.7.0")

    run(main)


def test_the_header_is_bound_too(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    """Who changes "y" to "n" on the way is found out by the proof."""

    async def main() -> None:
        async with accounts(tmp_path, site, auth=OFFERED) as server:
            user = await secure(server, site)
            reply = await scram(user.client, PLAIN, "n,,", b"", later="y,,")
            assert reply.startswith("535 5.7.8")

    run(main)
