"""Logging in to the whole daemon over real sockets, and what a login allows and does not."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mta import metrics
from mta.accounts.user import User
from mta.accounts.usersfile import edit
from mta.smtp.auth import Credentials
from mta.smtp.authclient import client_mechanism
from tests.dialog.server import Client, Server, run, serving
from tests.peers.certificates import Authority, authority
from tests.peers.load import sinking

ALICE, BOB, SHUT = "alice@example.test", "bob@example.test", "shut@example.test"
PASSWORD = "correct horse"
SUBMISSION = """\
[[listener]]
name = "submission"
protocol = "submission"
addresses = ["127.0.0.1:2"]
[[listener]]
name = "open"
protocol = "submission"
tls = "starttls"
auth = "optional"
addresses = ["127.0.0.1:3"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Authority]:
    """A folder with users and certificates: hashing passwords takes its time."""
    folder = tmp_path_factory.mktemp("accounts")
    ca = authority(folder)
    ca.issue("main", "mx.test")
    with edit(folder / "users") as table:
        for name, more in (
            (ALICE, {"addresses": ("sales@example.test", "@alias.test")}),
            (BOB, {}),
            (SHUT, {"disabled": True}),
        ):
            table.put(User(name, **more).with_password(PASSWORD))
    return folder, ca


@asynccontextmanager
async def accounts(
    tmp_path: Path,
    site: tuple[Path, Authority],
    *,
    auth: str = 'failure_delay = "0.05s"',
    more: str = "",
    **options: Any,
) -> AsyncIterator[Server]:
    """A daemon with ports for users."""
    folder, _ = site
    users = "" if "users_file" in auth else f'users_file = "{folder}/users"\n'
    text = f"""{SUBMISSION}
[certificates.main]
chain = "{folder}/main.pem"
key = "{folder}/main.key"
[auth]
backend = "users"
{users}{auth}
{more}
"""
    async with serving(tmp_path, more=text, **options) as server:
        yield server


class Submitter:
    """A client of the submission port."""

    def __init__(self, client: Client, greeting: str) -> None:
        self.client = client
        self.greeting = greeting

    @property
    def offered(self) -> list[str]:
        """The mechanisms of EHLO."""
        for line in self.greeting.splitlines():
            if line[4:].startswith("AUTH "):
                return line[9:].split()
        return []

    async def log_in(self, credentials: Credentials, bindings: Mapping[str, bytes] | None = None) -> str:
        """The final reply to an exchange made by our own client side."""
        exchange = client_mechanism(self.offered, credentials, bindings or {}, encrypted=True)
        initial = exchange.initial()
        command = f"AUTH {exchange.name}"
        if initial is not None:
            command += f" {b64encode(initial).decode() or '='}"
        reply = await self.client.say(command)
        while reply.startswith("334 "):
            answer = exchange.respond(b64decode(reply[4:].strip()))
            reply = await self.client.say(b64encode(answer).decode())
        if reply.startswith("235"):
            assert exchange.complete  # SCRAM: the server has proved itself
        return reply


def trust(site: tuple[Path, Authority]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=site[1].file)


async def secure(
    server: Server,
    site: tuple[Path, Authority],
    *,
    context: ssl.SSLContext | None = None,
    port: str = "submission",
) -> Submitter:
    """A client inside TLS."""
    client = await server.connect(port)
    await client.hello()
    await client.starttls(context or trust(site), "mx.test")
    return Submitter(client, await client.say("EHLO client.test"))


def password(mechanism: str, user: str = ALICE, secret: str = PASSWORD) -> Credentials:
    return Credentials(user, secret, mechanisms=(mechanism,))


# --- mechanisms -------------------------------------------------------------------------------------------


def test_nothing_is_offered_before_tls(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    async def main() -> None:
        async with accounts(tmp_path, site) as server:
            client = await server.connect("submission")
            assert "AUTH" not in await client.hello()
            guess = b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()
            assert (await client.say(f"AUTH PLAIN {guess}")).startswith("530 5.7.0")  # TLS is required here
            opened = await server.connect("open")
            assert "AUTH" not in await opened.hello()
            assert (await opened.say(f"AUTH PLAIN {guess}")).startswith("538 5.7.11")
            smtp = await server.connect()
            await smtp.hello()
            await smtp.starttls(trust(site), "mx.test")
            assert "AUTH" not in await smtp.say("EHLO c.test")
            assert (await smtp.say(f"AUTH PLAIN {guess}")).startswith("502 5.5.1")

    run(main)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-1"])
def test_passwords(tmp_path: Path, site: tuple[Path, Authority], mechanism: str) -> None:
    async def main() -> None:
        async with accounts(tmp_path, site) as server:
            user = await secure(server, site)
            assert user.offered == ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN"]
            assert (await user.log_in(password(mechanism))).startswith("235 2.7.0")
            assert (await user.client.say(f"AUTH {mechanism}")).startswith("503 5.5.1")
            assert "AUTH" not in await user.client.say("EHLO client.test")
            await user.client.envelope(BOB, sender=ALICE)
            await user.client.say("DATA")
            reply = await user.client.say("From: alice@example.test\r\nSubject: x\r\n\r\nhello\r\n.")
            assert reply == "250 2.0.0 kept\r\n"
            (message,) = server.store.delivered
            assert b" with ESMTPSA id " in message.octets
            assert b"\r\nDate: " in message.octets
            assert b"\r\nMessage-ID: <" in message.octets
            assert PASSWORD.encode() not in message.octets

    run(main)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
def test_wrong_passwords_and_users(tmp_path: Path, site: tuple[Path, Authority], mechanism: str) -> None:
    async def main() -> None:
        async with accounts(tmp_path, site) as server:
            replies = set()
            for name, secret in ((ALICE, "wrong"), ("nobody@example.test", PASSWORD), (SHUT, PASSWORD)):
                user = await secure(server, site)
                replies.add(await user.log_in(password(mechanism, name, secret)))
                assert (await user.client.say(f"MAIL FROM:<{ALICE}>")).startswith("530 5.7.0")
                assert (await user.log_in(password("PLAIN"))).startswith("235 2.7.0")
            assert len(replies) == 1  # nothing tells an unknown user from a wrong password
            assert replies.pop().startswith("535 5.7.8")

    run(main)


def test_an_exchange_that_goes_wrong(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    async def main() -> None:
        async with accounts(tmp_path, site) as server:
            user = await secure(server, site)
            say = user.client.say
            assert await say("AUTH LOGIN") == "334 VXNlcm5hbWU6\r\n"
            assert (await say("*")).startswith("501 5.7.0")
            assert (await say("AUTH PLAIN")) == "334 \r\n"
            assert (await say("no base64!")).startswith("501 5.5.2")
            assert (await say("AUTH PLAIN ====")).startswith("501 5.5.2")
            assert (await say("AUTH CRAM-MD5")).startswith("504 5.5.4")
            assert (await say("AUTH")).startswith("501 5.5.4")
            assert (await user.log_in(password("PLAIN"))).startswith("235 ")
            pipelined = await secure(server, site)
            pipelined.client.writer.write(b"AUTH LOGIN\r\nMAIL FROM:<a@x.test>\r\n")
            assert (await pipelined.client.read_reply()).startswith("554 5.5.0")
            assert await pipelined.client.reader.read() == b""

    run(main)


def test_bearer_tokens_are_not_for_the_users_file(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    async def main() -> None:
        async with accounts(tmp_path, site) as server:
            user = await secure(server, site)
            token = b64encode(b"n,,\x01auth=Bearer abc\x01\x01").decode()
            for mechanism in ("OAUTHBEARER", "XOAUTH2"):
                assert mechanism not in user.offered
                assert (await user.client.say(f"AUTH {mechanism} {token}")).startswith("504 5.5.4")
            assert (await user.log_in(password("PLAIN"))).startswith("235 ")

    run(main)


def version(site: tuple[Path, Authority], wanted: ssl.TLSVersion) -> ssl.SSLContext:
    context = trust(site)
    context.minimum_version = context.maximum_version = wanted
    return context


def test_channel_binding(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    """SCRAM-SHA-256-PLUS over TLS 1.2 (tls-unique), and refused when the connection is not the same."""
    context = version(site, ssl.TLSVersion.TLSv1_2)

    async def main() -> None:
        async with accounts(tmp_path, site) as server:
            user = await secure(server, site, context=context)
            assert user.offered[0] == "SCRAM-SHA-256-PLUS"
            unique = user.client.ssl_object.get_channel_binding("tls-unique")
            assert unique
            credentials = password("SCRAM-SHA-256-PLUS")
            assert (await user.log_in(credentials, {"tls-unique": unique})).startswith("235 ")
            relayed = await secure(server, site, context=context)
            assert (await relayed.log_in(credentials, {"tls-unique": unique})).startswith("535 5.7.8")

    run(main)


def test_channel_binding_to_the_certificate(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    """With TLS 1.3, where the administrator names the mechanism."""
    auth = 'mechanisms = ["SCRAM-SHA-256-PLUS"]\nfailure_delay = "0.05s"'

    async def main() -> None:
        async with accounts(tmp_path, site, auth=auth) as server:
            user = await secure(server, site)
            assert user.offered == ["SCRAM-SHA-256-PLUS"]
            certificate = user.client.ssl_object.getpeercert(binary_form=True)
            assert certificate
            credentials = password("SCRAM-SHA-256-PLUS")
            for binding, code in ((b"another", "535 "), (hashlib.sha256(certificate).digest(), "235 ")):
                reply = await user.log_in(credentials, {"tls-server-end-point": binding})
                assert reply.startswith(code)

    run(main)


def test_a_client_certificate(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    _, ca = site
    more = '[[listener]]\nname = "certified"\nprotocol = "submission"\naddresses = ["127.0.0.1:4"]\n'
    more += f'client_ca = "{ca.file}"'

    async def main() -> None:
        async with accounts(tmp_path, site, more=more) as server:

            async def with_certificate(*identities: str) -> Submitter:
                context = trust(site)
                ca.ca.issue_cert(*identities).configure_cert(context)
                return await secure(server, site, context=context, port="certified")

            user = await with_certificate(ALICE)
            assert "EXTERNAL" in user.offered
            assert (await user.log_in(Credentials("", mechanisms=("EXTERNAL",)))).startswith("235 2.7.0")
            assert (await user.client.say(f"MAIL FROM:<{BOB}>")).startswith("553 5.7.1")
            assert (await user.client.say(f"MAIL FROM:<{ALICE}>")).startswith("250 ")
            other = await with_certificate(ALICE)
            reply = await other.log_in(Credentials(BOB, mechanisms=("EXTERNAL",)))
            assert reply.startswith("535 5.7.8")  # the identity is the certificate's, not the client's wish
            unknown = await with_certificate("nobody@example.test")
            assert (await unknown.log_in(Credentials("", mechanisms=("EXTERNAL",)))).startswith("535 5.7.8")
            host = await with_certificate("client.test")
            assert "EXTERNAL" not in host.offered
            bare = await secure(server, site, port="certified")
            assert "EXTERNAL" not in bare.offered
            assert (await bare.client.say("AUTH EXTERNAL =")).startswith("504 5.5.4")
            assert (await bare.log_in(password("PLAIN"))).startswith("235 ")

    run(main)


# --- guessing ---------------------------------------------------------------------------------------------


def test_guesses_are_answered_late_and_the_third_ends_the_session(
    tmp_path: Path, site: tuple[Path, Authority]
) -> None:
    async def main() -> None:
        async with accounts(tmp_path, site, auth='failure_delay = "0.3s"') as server:
            user = await secure(server, site)
            waited = []
            replies = []
            for _ in range(3):
                started = time.monotonic()
                replies.append(await user.log_in(password("PLAIN", secret="wrong")))
                waited.append(time.monotonic() - started)
            assert [reply[:9] for reply in replies] == ["535 5.7.8", "535 5.7.8", "421 4.7.0"]
            assert await user.client.reader.read() == b""
            assert all(seconds > 0.29 * 2**before for before, seconds in enumerate(waited)), waited
            # Another session may log in meanwhile.
            assert (await (await secure(server, site)).log_in(password("PLAIN"))).startswith("235 ")
            assert metrics.value(server.daemon.snapshot(), "auth", "failure") == 3

    run(main)


def test_too_many_guesses_from_one_address(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    auth = 'failure_delay = "0.01s"\nfailures_per_client = 4\nfailure_window = "12s"'
    more = "[limits]\nexempt_networks = []"

    async def main() -> None:
        async with accounts(tmp_path, site, auth=auth, more=more) as server:
            before = await secure(server, site)
            for _ in range(2):
                user = await secure(server, site)
                for _ in range(2):
                    assert (await user.log_in(password("PLAIN", secret="wrong"))).startswith("535 ")
            for user in (before, await secure(server, site)):
                for mechanism in ("PLAIN", "SCRAM-SHA-256"):
                    assert (await user.log_in(password(mechanism))).startswith("454 4.7.0")
            async with asyncio.timeout(60):
                while not (await before.log_in(password("PLAIN"))).startswith("235 "):  # noqa: ASYNC110
                    await asyncio.sleep(2)  # a session has twenty refusals

    run(main)


def test_a_client_that_leaves_while_its_password_is_checked(
    tmp_path: Path, site: tuple[Path, Authority]
) -> None:
    async def main() -> None:
        async with accounts(tmp_path, site, auth='failure_delay = "0.2s"') as server:
            for secret in (PASSWORD, "wrong"):
                user = await secure(server, site)
                guess = b64encode(f"\0{ALICE}\0{secret}".encode())
                user.client.writer.write(b"AUTH PLAIN " + guess + b"\r\n")
                await user.client.writer.drain()
                user.client.cut()
            async with asyncio.timeout(60):
                while metrics.value(server.daemon.snapshot(), "sessions_open"):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.4)
            assert metrics.value(server.daemon.snapshot(), "internal_errors") == 0
            assert (await (await secure(server, site)).log_in(password("PLAIN"))).startswith("235 ")

    run(main)


# --- what a login is good for -----------------------------------------------------------------------------


def test_submission_needs_a_login(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    async def main() -> None:
        async with accounts(tmp_path, site) as server:
            user = await secure(server, site)
            assert (await user.client.say(f"MAIL FROM:<{ALICE}>")).startswith("530 5.7.0")
            assert (await user.client.say("MAIL FROM:<>")).startswith("530 5.7.0")
            assert (await user.client.say(f"RCPT TO:<{BOB}>")).startswith("503 5.5.1")
            assert (await user.client.say("NOOP")).startswith("250 ")
            await user.log_in(password("PLAIN"))
            assert (await user.client.say(f"MAIL FROM:<{ALICE}>")).startswith("250 ")

    run(main)


def test_received_tells_how_each_message_of_a_session_came(
    tmp_path: Path, site: tuple[Path, Authority]
) -> None:
    """What has changed since the message before counts: another EHLO, TLS, a login (RFC 3848)."""

    async def main() -> None:
        async with accounts(tmp_path, site) as server:
            client = await server.connect("open")

            async def sent() -> tuple[str, str]:
                await client.envelope(BOB, sender=ALICE)
                await client.say("DATA")
                assert (await client.say(f"From: {ALICE}\r\n\r\nhi\r\n.")).startswith("250 ")
                words = server.store.delivered[-1].octets.decode().split()
                return words[2], words[words.index("with", words.index("by")) + 1]

            await client.hello("one.test")
            assert await sent() == ("one.test", "ESMTP")
            await client.say("EHLO two.test")
            assert await sent() == ("two.test", "ESMTP")
            await client.say("HELO three.test")
            assert await sent() == ("three.test", "SMTP")
            await client.say("EHLO four.test")
            await client.starttls(trust(site), "mx.test")
            user = Submitter(client, await client.say("EHLO five.test"))
            assert await sent() == ("five.test", "ESMTPS")
            assert (await user.log_in(password("PLAIN"))).startswith("235 ")
            assert await sent() == ("five.test", "ESMTPSA")

    run(main)


def test_a_user_sends_as_itself(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    async def main() -> None:
        async with accounts(tmp_path, site) as server:
            user = await secure(server, site)
            await user.log_in(password("SCRAM-SHA-256"))
            say = user.client.say
            for own in (
                ALICE, "Alice@EXAMPLE.test", "alice+shop@example.test", "sales@example.test",
                "sales+x@example.test", "whoever@alias.test", "",
            ):  # fmt: skip
                assert (await say(f"MAIL FROM:<{own}>")).startswith("250 2.1.0"), own
                await say("RSET")
            for foreign in (
                BOB, "alice@example.org", "alice.x@example.test", "malice@example.test", "x@sub.alias.test",
                "sales+alice@example.org", "postmaster@example.test",
            ):  # fmt: skip
                assert (await say(f"MAIL FROM:<{foreign}>")).startswith("553 5.7.1"), foreign
                assert (await say(f"RCPT TO:<{BOB}>")).startswith("503 ")

    run(main)


def test_a_user_without_a_domain_sends_from_the_default_one(
    tmp_path: Path, site: tuple[Path, Authority]
) -> None:
    """But not from what another one's name is."""
    with edit(tmp_path / "users") as table:
        for name in ("ann", "ann+other"):
            table.put(User(name).with_password(PASSWORD))
    auth = f'users_file = "{tmp_path}/users"\ndefault_domain = "example.test"'

    async def main() -> None:
        async with accounts(tmp_path, site, auth=auth) as server:
            user = await secure(server, site)
            reply = await user.log_in(Credentials("ann", PASSWORD, mechanisms=("PLAIN",)))
            assert reply.startswith("235 ")
            for own in ("ann@example.test", "Ann+shop@EXAMPLE.test", ""):
                assert (await user.client.say(f"MAIL FROM:<{own}>")).startswith("250 2.1.0"), own
                await user.client.say("RSET")
            for foreign in ("ann@example.org", "ann+other@example.test", "bob@example.test"):
                assert (await user.client.say(f"MAIL FROM:<{foreign}>")).startswith("553 5.7.1"), foreign

    run(main)


def test_sender_login_may_be_switched_off(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    async def main() -> None:
        async with accounts(tmp_path, site, auth="sender_login = false") as server:
            user = await secure(server, site)
            await user.log_in(password("PLAIN"))
            assert (await user.client.say(f"MAIL FROM:<{BOB}>")).startswith("250 ")

    run(main)


def test_users_may_relay_and_strangers_may_not(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    async def main() -> None:
        async with sinking(keywords=("PIPELINING", "8BITMIME")) as relay:
            out = f'[relays.out]\nhost = "127.0.0.1"\nport = {relay.port}\ntls = "none"'
            more = f'[policy]\ntrusted_networks = []\nrelay = "out"\n{out}'
            async with accounts(tmp_path, site, more=more) as server:
                stranger = await server.connect()
                await stranger.hello()
                await stranger.say(f"MAIL FROM:<{ALICE}>")
                assert (await stranger.say("RCPT TO:<x@other.test>")).startswith("550 5.7.1")
                user = await secure(server, site)
                await user.log_in(password("PLAIN"))
                await user.client.envelope("x@other.test", BOB, sender=ALICE)
                await user.client.say("DATA")
                reply = await user.client.say("From: alice@example.test\r\nSubject: x\r\n\r\nhello\r\n.")
                assert reply.startswith("250 2.0.0")
                assert [(m.sender, m.recipient) for m in relay.delivered] == [(ALICE, "x@other.test")]
                assert [m.recipient for m in server.store.delivered] == [BOB]
                assert relay.delivered[0].octets == server.store.delivered[0].octets
                half = await user.client.say(f"MAIL FROM:<{ALICE}>\r\nRCPT TO:<x@mailhost>", 2)
                assert half.splitlines()[1].startswith("550 5.1.2 ")  # RFC 6409 section 4.2
                # A new session knows nothing of the login.
                again = await secure(server, site)
                assert (await again.client.say(f"MAIL FROM:<{ALICE}>")).startswith("530 5.7.0")

    run(main)


def test_a_new_password_counts_at_once(tmp_path: Path, site: tuple[Path, Authority]) -> None:
    folder, _ = site
    path = tmp_path / "users"
    path.write_bytes((folder / "users").read_bytes())
    path.chmod(0o640)
    auth = f'users_file = "{path}"\nfailure_delay = "0.05s"'

    async def main() -> None:
        async with accounts(tmp_path, site, auth=auth) as server:
            assert (await (await secure(server, site)).log_in(password("PLAIN"))).startswith("235 ")
            with edit(path) as table:
                table.put(table.users[ALICE].with_password("battery staple"))
            async with asyncio.timeout(60):
                while True:
                    user = await secure(server, site)
                    if (await user.log_in(password("PLAIN", secret="battery staple"))).startswith("235 "):
                        break
                    await asyncio.sleep(0.1)
            assert (await (await secure(server, site)).log_in(password("PLAIN"))).startswith("535 ")

    run(main)


@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_user_who_is_gone_sends_no_more(
    tmp_path: Path, site: tuple[Path, Authority], is_deleted: bool
) -> None:
    """The sessions of a stolen account end with the account, or who has stolen it goes on for a day."""
    folder, _ = site
    path = tmp_path / "users"
    path.write_bytes((folder / "users").read_bytes())
    path.chmod(0o640)

    async def main() -> None:
        async with accounts(tmp_path, site, auth=f'users_file = "{path}"') as server:
            user, other = await secure(server, site), await secure(server, site)
            await user.log_in(password("PLAIN"))
            await other.log_in(password("PLAIN", BOB))
            assert (await user.client.say(f"MAIL FROM:<{ALICE}>")).startswith("250 ")
            await user.client.say("RSET")
            with edit(path) as table:
                if is_deleted:
                    table.remove(ALICE)
                else:
                    table.put(replace(table.users[ALICE], disabled=True))
            async with asyncio.timeout(60):
                while not (await user.client.say(f"MAIL FROM:<{ALICE}>")).startswith("553 5.7.1"):
                    await user.client.say("RSET")
                    await asyncio.sleep(0.2)
            assert (await user.client.say("MAIL FROM:<>")).startswith("553 5.7.1")
            assert (await other.client.say(f"MAIL FROM:<{BOB}>")).startswith("250 ")

    run(main)
