"""Logins against a real Dovecot auth service, and hashes exchanged with `doveadm pw`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest
import uvloop

from mta.accounts import passwords
from mta.accounts.authenticator import AuthSettings, SessionAuthenticator
from mta.accounts.dovecotbackend import DovecotBackend
from mta.accounts.dovecotclient import DovecotClient, Where
from mta.accounts.limiter import FailureLimiter, LimiterSettings
from mta.accounts.user import User
from mta.accounts.usersfile import UsersFile, edit
from mta.reply import Reply
from mta.session import Session, TlsInfo
from mta.smtp.auth import Challenge, Credentials, Failure, Login, ServerExchange, Step
from mta.smtp.authclient import client_mechanism
from tests.peers import dovecot_version as version
from tests.peers.dovecot_auth import DovecotAuth, dovecot_auth, token
from tests.peers.failures import CountedFailures
from tests.peers.needs import needs

pytestmark = pytest.mark.scenario

ALICE = "alice@example.test"
ADDRESSES = ("sales@example.test", "@shop.test")
USERS = f"""\
{ALICE}:{{PLAIN}}correct horse::::::addresses=Sales@example.test,@shop.test
shut@example.test:{{PLAIN}}correct horse::::::nologin=y
"""
TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, sni="mx.example.test")


@pytest.fixture(scope="module")
def service() -> Iterator[DovecotAuth]:
    with dovecot_auth(USERS) as running:
        yield running


def session(number: int = 1, tls: TlsInfo = TLS) -> Session:
    return Session(
        f"session-{number}", "submission", "submission", "127.0.0.1", 4711, "127.0.0.1", 587, tls=tls
    )


def with_dovecot(
    where: Where,
    body: Callable[[SessionAuthenticator, DovecotClient], Awaitable[None]],
    *,
    max_age: float = 60.0,
) -> None:
    async def main() -> None:
        client = DovecotClient(
            where, on_change=lambda up, why: None, connect_timeout=5, request_timeout=20, max_age=max_age
        )
        limiter = FailureLimiter(
            LimiterSettings(0, failures_per_session=100, failures_per_client=0), CountedFailures()
        )
        authenticator = SessionAuthenticator(
            DovecotBackend(client, penalty=False),
            limiter,
            AuthSettings(),
            sleep=lambda seconds: asyncio.sleep(0),
        )
        await client.start()
        try:
            await body(authenticator, client)
        finally:
            await authenticator.close()

    uvloop.run(main())


async def log_in(
    authenticator: SessionAuthenticator, credentials: Credentials, on: Session | None = None
) -> tuple[Step, list[bytes]]:
    """The end of an exchange between our client and, through our server side, Dovecot; and its challenges."""
    on = on or session()
    offered = authenticator.mechanisms(on, frozenset())
    client = client_mechanism(offered, credentials, {}, encrypted=True)
    exchange = authenticator.begin(client.name, on, {})
    assert not isinstance(exchange, Reply)
    step = await take(exchange, client.initial())
    challenges = []
    while isinstance(step, Challenge):
        challenges.append(step.data)
        step = await take(exchange, client.respond(step.data))
    assert client.complete
    return step, challenges


async def take(exchange: ServerExchange, response: bytes | None) -> Step:
    step = exchange.step(response)
    return step if isinstance(step, (Challenge, Login, Failure)) else await step


def code(step: Step) -> int:
    assert isinstance(step, Failure)
    return step.reply.code


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
@pytest.mark.parametrize("over", ["unix", "tcp"])
def test_passwords(service: DovecotAuth, mechanism: str, over: str) -> None:
    async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
        right = Credentials(ALICE, "correct horse", mechanisms=(mechanism,))
        step, challenges = await log_in(authenticator, right)
        assert step == Login(ALICE, mechanism, ADDRESSES)
        assert len(challenges) == {"PLAIN": 0, "LOGIN": 2}.get(mechanism, 2)
        shut, _ = await log_in(authenticator, replace(right, user="shut@example.test"))
        assert code(shut) == 535  # Dovecot says OK, with nologin

    with_dovecot(service.socket if over == "unix" else ("127.0.0.1", service.port), body)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(
    ("user", "password"), [(ALICE, "battery staple"), ("nobody@example.test", "correct horse")]
)
def test_refused_passwords(service: DovecotAuth, mechanism: str, user: str, password: str) -> None:
    async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
        step, _ = await log_in(authenticator, Credentials(user, password, mechanisms=(mechanism,)))
        assert code(step) == 535

    with_dovecot(service.socket, body)


def test_a_wrong_scram_proof(service: DovecotAuth) -> None:
    async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
        mine = client_mechanism(["SCRAM-SHA-256"], Credentials(ALICE, "battery staple"), {}, encrypted=True)
        exchange = authenticator.begin("SCRAM-SHA-256", session(), {})
        assert not isinstance(exchange, Reply)
        challenge = await take(exchange, mine.initial())
        assert isinstance(challenge, Challenge)
        assert code(await take(exchange, mine.respond(challenge.data))) == 535

    with_dovecot(service.socket, body)


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_tokens(service: DovecotAuth, mechanism: str) -> None:
    async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
        good = Credentials(ALICE, token=token(ALICE), mechanisms=(mechanism,))
        step, challenges = await log_in(authenticator, good)
        assert step == Login(ALICE, mechanism)
        assert challenges == []
        another = token("bob@example.test")
        expired, forged = token(ALICE, expires_in=-60), token(ALICE, key=b"another key")
        for bad in (expired, forged, another, "nonsense"):
            step, challenges = await log_in(authenticator, replace(good, token=bad))
            assert code(step) == 535
            if not (version.is_2_4() and bad is another):  # 2.4 does not say why when the user is another
                assert "status" in json.loads(challenges[0])  # why, in the words of RFC 7628

    with_dovecot(service.socket, body)


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_a_refused_token_counts_without_the_535(service: DovecotAuth, mechanism: str) -> None:
    async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
        failures = CountedFailures()
        limiter = FailureLimiter(LimiterSettings(0), failures)
        counting = SessionAuthenticator(DovecotBackend(client, penalty=False), limiter, AuthSettings())
        forged = Credentials(ALICE, token=token(ALICE, key=b"another key"), mechanisms=(mechanism,))
        exchange = counting.begin(mechanism, session(), {})
        assert not isinstance(exchange, Reply)
        initial = client_mechanism([mechanism], forged, {}, encrypted=True).initial()
        step = await take(exchange, initial)
        assert isinstance(step, Challenge)
        assert step.refused
        exchange.cancel()
        assert failures.count("127.0.0.1") == 1

    with_dovecot(service.socket, body)


def test_a_guess_that_is_left_behind_is_answered(service: DovecotAuth) -> None:
    async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
        for mechanism, password in (
            ("PLAIN", "wrong"),
            ("PLAIN", "correct horse"),
            ("SCRAM-SHA-256", "wrong"),
        ):
            exchange = authenticator.begin(mechanism, session(), {})
            assert not isinstance(exchange, Reply)
            guesser = client_mechanism([mechanism], Credentials(ALICE, password), {}, encrypted=True)
            response = guesser.initial()
            if mechanism != "PLAIN":
                challenge = await take(exchange, response)
                assert isinstance(challenge, Challenge)
                response = guesser.respond(challenge.data)
            check = asyncio.ensure_future(take(exchange, response))
            await asyncio.sleep(0)
            exchange.cancel()
            step = await check
            assert code(step) == 535 if password == "wrong" else isinstance(step, Login)
            assert client.connection is not None
            assert client.connection.requests == {}

    with_dovecot(service.socket, body)


def test_certificates(service: DovecotAuth) -> None:
    async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
        certified = replace(TLS, peer_subject="alice", peer_names=(ALICE,))
        credentials = Credentials("", mechanisms=("EXTERNAL",))
        step, _ = await log_in(authenticator, credentials, session(tls=certified))
        assert step == Login(ALICE, "EXTERNAL")
        assert "EXTERNAL" not in authenticator.mechanisms(session(), frozenset())

    with_dovecot(service.socket, body)


def test_malformed_responses(service: DovecotAuth) -> None:
    async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "OAUTHBEARER"):
            for response in (b"", b"\0", b"\xff\0\n\t", bytes(9000)):
                exchange = authenticator.begin(mechanism, session(), {})
                assert not isinstance(exchange, Reply)
                step = await take(exchange, response)
                if isinstance(step, Challenge):  # the JSON of OAUTHBEARER
                    step = await take(exchange, b"\x01")
                assert code(step) == 535
        step, _ = await log_in(authenticator, Credentials(ALICE, "correct horse"))
        assert isinstance(step, Login)  # on the same connection

    with_dovecot(service.socket, body)


def test_many_at_once_on_one_connection(service: DovecotAuth) -> None:
    async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
        kinds = ("PLAIN", "LOGIN", "SCRAM-SHA-256")
        logins = [
            log_in(
                authenticator,
                Credentials(
                    ALICE, "correct horse" if number % 5 else "wrong", mechanisms=(kinds[number % 2],)
                ),
                session(number),
            )
            for number in range(100)
        ]
        steps = [step for step, _ in await asyncio.gather(*logins)]
        assert [isinstance(step, Login) for step in steps] == [bool(number % 5) for number in range(100)]
        assert client.connection is not None
        assert client.connection.requests == {}

    with_dovecot(service.socket, body)


def test_a_cancelled_exchange_leaves_nothing_behind(service: DovecotAuth) -> None:
    async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
        exchange = authenticator.begin("SCRAM-SHA-256", session(), {})
        assert not isinstance(exchange, Reply)
        assert isinstance(await take(exchange, b"n,,n=alice@example.test,r=abc"), Challenge)
        exchange.cancel()
        assert client.connection is not None
        assert client.connection.requests == {}
        step, _ = await log_in(authenticator, Credentials(ALICE, "correct horse"))
        assert isinstance(step, Login)

    with_dovecot(service.socket, body)


def process_of(client: DovecotClient) -> int:
    assert client.connection is not None
    return int(client.connection.reader.handshake.process)


def test_dovecot_dies_and_comes_back() -> None:
    with dovecot_auth(USERS) as service:

        async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
            credentials = Credentials(ALICE, "correct horse", mechanisms=("PLAIN",))
            killed = process_of(client)
            os.kill(killed, signal.SIGKILL)  # the master starts another one
            await asyncio.sleep(0.05)
            assert isinstance((await log_in(authenticator, credentials))[0], Login)
            assert process_of(client) != killed
            await asyncio.to_thread(service.stop)
            os.kill(process_of(client), signal.SIGKILL)
            await asyncio.sleep(0.05)
            client._connect_timeout = 0.3
            step, _ = await log_in(authenticator, credentials)
            assert code(step) == 454
            client._connect_timeout = 20
            await asyncio.to_thread(service.start)
            assert isinstance((await log_in(authenticator, credentials))[0], Login)

        with_dovecot(service.socket, body)


def test_a_restart_is_noticed_although_the_old_process_lives_on() -> None:
    with dovecot_auth(USERS) as service:

        async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
            credentials = Credentials(ALICE, "correct horse", mechanisms=("PLAIN",))
            old = process_of(client)
            slow = authenticator.begin("LOGIN", session(), {})
            assert not isinstance(slow, Reply)
            assert isinstance(await take(slow, None), Challenge)
            await asyncio.to_thread(service.stop)
            await asyncio.to_thread(service.start)
            async with asyncio.timeout(20):
                while process_of(client) == old:
                    assert isinstance((await log_in(authenticator, credentials))[0], Login)
                    await asyncio.to_thread(time.sleep, 0.05)
            assert isinstance((await log_in(authenticator, credentials))[0], Login)
            assert isinstance(await take(slow, ALICE.encode()), Challenge)  # ends where it began
            assert isinstance(await take(slow, b"correct horse"), Login)

        with_dovecot(service.socket, body, max_age=0.3)


# ----------------------------------------------------------------------------------------------- hashes


def doveadm(*words: str) -> str:
    needs("dovecot-core")
    return subprocess.run(
        ["doveadm", "pw", *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("scheme", [*passwords.SCHEMES, "SHA256.hex", "SHA512.b64", "SSHA.hex", "PLAIN.hex"])
def test_hashes_of_doveadm(scheme: str) -> None:
    stored = passwords.parse(doveadm("-s", scheme, "-p", "correct horse"))
    assert passwords.verify(stored, "correct horse")
    assert not passwords.verify(stored, "correct house")


@pytest.mark.parametrize("password", ["correct horse", "pässwörd", "\U0001f600 and more"])
def test_doveadm_takes_our_hashes(password: str) -> None:
    user = User(ALICE).with_password(password)
    assert user.password is not None
    for stored in (user.password, *user.verifiers):
        assert doveadm("-t", str(stored), "-p", password).endswith("(verified)")
        wrong = subprocess.run(
            ["doveadm", "pw", "-t", str(stored), "-p", "no"], capture_output=True, check=False
        )
        assert wrong.returncode != 0


def test_one_file_for_both() -> None:
    """`tamis user passwd` on a passwd-file of Dovecot: both read the new password."""
    with dovecot_auth(USERS) as service:
        path = service.folder / "users"
        path.chmod(0o640)
        subprocess.run(["chgrp", "dovecot", path], check=True)
        with edit(path) as table:
            table.put(table.users[ALICE].with_password("battery staple"))
        user = UsersFile(path, on_error=lambda error: None).get(ALICE)
        assert user is not None
        assert user.addresses == ADDRESSES
        assert user.password is not None
        assert passwords.verify(user.password, "battery staple")

        async def body(authenticator: SessionAuthenticator, client: DovecotClient) -> None:
            for password, right in (("battery staple", True), ("correct horse", False)):
                step, _ = await log_in(authenticator, Credentials(ALICE, password, mechanisms=("PLAIN",)))
                assert isinstance(step, Login) is right

        with_dovecot(service.socket, body)
