"""Logging in over the users file: what is offered, what is answered, and that nobody can tell who exists."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mta.accounts import passwords
from mta.accounts.authenticator import ORDER, AuthSettings, SessionAuthenticator
from mta.accounts.limiter import TOO_MANY_FROM_CLIENT, FailureLimiter, LimiterSettings
from mta.accounts.passwords import StoredPassword
from mta.accounts.senderlogin import SenderLoginSettings, owns
from mta.accounts.usersbackend import UsersBackend, host_key
from mta.accounts.usersfile import UsersFile
from mta.accounts.verifier import MAX_WAITING, PasswordVerifier
from mta.address import NULL, parse_address
from mta.reply import Reply
from mta.session import Session, TlsInfo
from mta.smtp.auth import (
    CREDENTIALS_INVALID,
    ENCRYPTION_REQUIRED,
    MECHANISM_TOO_WEAK,
    MECHANISM_UNKNOWN,
    Challenge,
    Credentials,
    Failure,
    Login,
    ServerExchange,
    Step,
)
from mta.smtp.authclient import ScramClient, client_mechanism
from tests.peers.failures import CountedFailures

KEY = "#% decoy-key c2VjcmV0\n"
SCRAM1 = "{SCRAM-SHA-1}4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE="
SCRAM256 = (
    "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)
PENCIL = "{CRYPT}$5$rounds=1000$saltsalt$1E80wIeNUk6Tw.cvgykgsGLDhE7YCS/mO7gtCEoKze9"
FILE = (
    KEY
    + f"alice@example.org:{PENCIL}+{SCRAM256}+{SCRAM1}:addresses=sales@example.org,@shop.example\n"
    + f"gone@example.org:{PENCIL}+{SCRAM256}+{SCRAM1}:disabled\n"
    + "mailonly@example.org:*:\n"
)
BINDINGS = {"tls-exporter": b"exported"}
TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)


def session(
    tls: TlsInfo | None = TLS, *, id: str = "s1", client: str = "192.0.2.1", user: str = ""
) -> Session:
    return Session(id, "submission", "submission", client, tls=tls, user=user)


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class World:
    """An authenticator over a file, with its own time."""

    def __init__(
        self,
        folder: Path,
        text: str = FILE,
        settings: AuthSettings | None = None,
        limits: LimiterSettings | None = None,
    ) -> None:
        self.path = folder / "users"
        self.write(text)
        self.time = Time()
        self.verifier = PasswordVerifier(clock=self.time.clock)
        users = UsersFile(self.path, on_error=lambda error: None, clock=self.time.clock)
        self.backend = UsersBackend(users, self.verifier, fallback_key=b"fallback")
        self.limiter = FailureLimiter(limits or LimiterSettings(), CountedFailures())
        self.authenticator = SessionAuthenticator(
            self.backend,
            self.limiter,
            settings or AuthSettings(),
            clock=self.time.clock,
            sleep=self.time.sleep,
        )

    def write(self, text: str) -> None:
        new = self.path.with_name("new")
        new.write_text(text)
        new.chmod(0o640)
        new.rename(self.path)

    def begin(self, mechanism: str, on: Session | None = None) -> ServerExchange:
        exchange = self.authenticator.begin(mechanism, on or session(), BINDINGS)
        assert not isinstance(exchange, Reply)
        return exchange

    def plain(self, user: str, password: str, on: Session | None = None) -> Step:
        return self.run(self.begin("PLAIN", on), f"\0{user}\0{password}".encode())

    def run(self, exchange: ServerExchange, response: bytes | None) -> Step:
        async def step() -> Step:
            result = exchange.step(response)
            return result if isinstance(result, (Challenge, Login, Failure)) else await result

        return asyncio.run(step())

    def scram_challenge(self, mechanism: str, user: str) -> bytes:
        step = self.run(self.begin(mechanism), f"n,,n={user},r=abc".encode())
        assert isinstance(step, Challenge)
        return re.sub(rb"r=[^,]*", b"", step.data)


def public(step: Step) -> object:
    """What the client sees."""
    return replace(step.reply, cause="") if isinstance(step, Failure) else step


ALICE = Login("alice@example.org", "PLAIN", ("sales@example.org", "@shop.example"))


@pytest.mark.parametrize("spelling", ["alice@example.org", "Alice@EXAMPLE.org", "al\u00adice@example.org"])
def test_plain(tmp_path: Path, spelling: str) -> None:
    world = World(tmp_path)
    assert world.plain(spelling, "pencil") == ALICE
    assert world.time.slept == []


@pytest.mark.parametrize(
    ("user", "password", "cause"),
    [
        ("alice@example.org", "pen", "wrong password"),
        ("nobody@example.org", "pencil", "unknown user"),
        ("mailonly@example.org", "*", "user has no password of this kind"),
        ("gone@example.org", "pencil", "user is disabled"),
        ("gone@example.org", "pen", "wrong password"),
        ("@", "pencil", "unknown user"),
    ],
)
def test_refusals_look_all_the_same(tmp_path: Path, user: str, password: str, cause: str) -> None:
    world = World(tmp_path)
    step = world.plain(user, password)
    assert public(step) == CREDENTIALS_INVALID
    assert isinstance(step, Failure)
    assert step.reply.cause == cause
    assert world.time.slept == [pytest.approx(1.0)]


@pytest.mark.parametrize(
    "user", ["alice@example.org", "gone@example.org", "mailonly@example.org", "no@example.org"]
)
def test_refusals_cost_all_the_same(tmp_path: Path, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    costs: list[str] = []
    verify = passwords.verify

    def spy(stored: StoredPassword, password: str) -> bool:
        costs.append(stored.cost)
        return verify(stored, password)

    monkeypatch.setattr(passwords, "verify", spy)
    world.plain(user, "wrong")
    assert costs == ["$5$rounds=1000"]


def test_an_empty_file_still_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, "")
    seen: list[StoredPassword] = []

    def match(stored: StoredPassword, password: str) -> bool:
        seen.append(stored)
        return True

    monkeypatch.setattr(passwords, "verify", match)
    assert public(world.plain("a@example.org", "x")) == CREDENTIALS_INVALID  # even where the decoy "matches"
    assert seen == [passwords.DECOY]


def test_a_right_password_is_hashed_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, limits=LimiterSettings(failures_per_session=9))
    assert world.plain("alice@example.org", "pencil") == ALICE
    monkeypatch.setattr(passwords, "verify", lambda stored, password: False)
    assert world.plain("alice@example.org", "pencil") == ALICE
    assert public(world.plain("alice@example.org", "pen")) == CREDENTIALS_INVALID
    world.write(FILE.replace(":addresses=", ":disabled addresses="))
    world.time.now += 1
    assert public(world.plain("alice@example.org", "pencil")) == CREDENTIALS_INVALID
    world.write(FILE)
    world.time.now += 121
    assert public(world.plain("alice@example.org", "pencil")) == CREDENTIALS_INVALID


def test_a_back_end_with_too_much_to_do_answers_454(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    monkeypatch.setattr(world.verifier, "_limit", 0)
    step = world.plain("alice@example.org", "pencil")
    assert isinstance(step, Failure)
    assert (step.reply.code, step.reply.enhanced) == (454, "4.7.0")
    assert world.time.slept == []  # not the client's fault


@pytest.mark.parametrize("mechanism", [name for name in ORDER if name.startswith("SCRAM")])
def test_scram(tmp_path: Path, mechanism: str) -> None:
    world = World(tmp_path)
    credentials = Credentials("Alice@example.org", "pencil", mechanisms=(mechanism,))
    client = client_mechanism(ORDER, credentials, BINDINGS, encrypted=True)
    exchange = world.begin(mechanism)
    step = world.run(exchange, client.initial())
    while isinstance(step, Challenge):
        step = world.run(exchange, client.respond(step.data))
    assert step == replace(ALICE, mechanism=mechanism)
    assert client.complete


@pytest.mark.parametrize("user", ["gone@example.org", "mailonly@example.org", "nobody@example.org"])
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_scram_refuses_late_and_alike(tmp_path: Path, user: str, mechanism: str) -> None:
    world = World(tmp_path)
    client = ScramClient(mechanism, Credentials(user, "pencil"), "", b"")
    exchange = world.begin(mechanism)
    challenge = world.run(exchange, client.initial())
    assert isinstance(challenge, Challenge)
    assert challenge.data.endswith(b",i=4096")
    assert public(world.run(exchange, client.respond(challenge.data))) == CREDENTIALS_INVALID
    assert world.time.slept == [pytest.approx(1.0)]


def test_an_unknown_user_has_one_salt_for_ever(tmp_path: Path) -> None:
    """Not after a restart, in another worker, nor after new users, does the salt give the name away."""
    world = World(tmp_path)
    challenge = world.scram_challenge("SCRAM-SHA-256", "nobody@example.org")
    assert world.scram_challenge("SCRAM-SHA-256", "Nobody@example.org") == challenge
    assert world.scram_challenge("SCRAM-SHA-256", "other@example.org") != challenge
    world.write(FILE + f"new@example.org:{PENCIL}+{SCRAM256}:\n")
    world.time.now += 1
    assert world.scram_challenge("SCRAM-SHA-256", "nobody@example.org") == challenge
    other = tmp_path / "other"
    other.mkdir()
    assert World(other).scram_challenge("SCRAM-SHA-256", "nobody@example.org") == challenge
    assert len(challenge) == len(world.scram_challenge("SCRAM-SHA-256", "alice@example.org"))


def test_unknown_users_share_the_kinds_of_keys_in_the_file(tmp_path: Path) -> None:
    other = passwords.parse(SCRAM256.replace("4096,W22ZaJ0SNY7soEsUEjb6gQ==", "9000,AAAA"))
    world = World(tmp_path, FILE + f"new@example.org:{PENCIL}+{other}+{SCRAM1}:\n")
    kinds = {
        re.sub(rb"s=[^,]*", b"%d" % len(challenge), challenge)
        for challenge in (world.scram_challenge("SCRAM-SHA-256", f"u{n}@example.org") for n in range(40))
    }
    known = {
        re.sub(rb"s=[^,]*", b"%d" % len(challenge), challenge)
        for challenge in (
            world.scram_challenge("SCRAM-SHA-256", f"{n}@example.org") for n in ("alice", "new")
        )
    }
    assert len(known) == 2
    assert kinds == known


def test_scram_with_a_password_in_clear(tmp_path: Path) -> None:
    world = World(tmp_path, KEY + "a@example.org:{PLAIN}pencil:\nbell@example.org:{PLAIN.hex}07:\n")
    for _ in range(2):
        client = ScramClient("SCRAM-SHA-256", Credentials("a@example.org", "pencil"), "", b"")
        exchange = world.begin("SCRAM-SHA-256")
        step = world.run(exchange, client.initial())
        while isinstance(step, Challenge):
            step = world.run(exchange, client.respond(step.data))
        assert step == Login("a@example.org", "SCRAM-SHA-256")
    nobody = world.scram_challenge("SCRAM-SHA-256", "nobody@example.org")
    assert nobody.endswith(b"i=65536")
    assert nobody == world.scram_challenge("SCRAM-SHA-256", "nobody@example.org")
    step = world.run(world.begin("SCRAM-SHA-256"), b"n,,n=bell@example.org,r=abc")
    assert public(step) == CREDENTIALS_INVALID


# ------------------------------------------------------------------------------- what is offered to whom


@pytest.mark.parametrize(
    ("on", "bindings", "settings", "offered"),
    [
        (session(), ["tls-exporter"], AuthSettings(), " ".join(ORDER[:6])),
        (session(), [], AuthSettings(), "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN"),
        (session(), ["tls-unique"], AuthSettings(), " ".join(ORDER[:6])),
        (session(), ["tls-server-end-point"], AuthSettings(), "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN"),
        (session(), ["tls-server-end-point"], AuthSettings(mechanisms=ORDER[:1]), ORDER[0]),
        (session(), [], AuthSettings(mechanisms=ORDER[:1]), ""),
        (session(None), [], AuthSettings(), ""),
        (session(None), [], AuthSettings(require_tls=False), "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN"),
        (session(None, client="unix"), [], AuthSettings(mechanisms=("PLAIN", "OAUTHBEARER")), "PLAIN"),
        (
            session(replace(TLS, peer_names=("mx.example.org", "alice@example.org"))),
            [],
            AuthSettings(mechanisms=("EXTERNAL", "PLAIN")),
            "EXTERNAL PLAIN",
        ),
        (
            session(replace(TLS, peer_names=("mx.example.org",))),
            [],
            AuthSettings(mechanisms=("EXTERNAL",)),
            "",
        ),
        (session(replace(TLS, peer_fingerprint="00")), [], AuthSettings(mechanisms=("EXTERNAL",)), ""),
    ],
)
def test_mechanisms(
    tmp_path: Path, on: Session, bindings: list[str], settings: AuthSettings, offered: str
) -> None:
    world = World(tmp_path, settings=settings)
    assert world.authenticator.mechanisms(on, frozenset(bindings)) == tuple(offered.split())


def test_scram_is_offered_only_when_everybody_can(tmp_path: Path) -> None:
    world = World(tmp_path, FILE + f"old@example.org:{PENCIL}:\n")
    assert world.authenticator.mechanisms(session(), frozenset(BINDINGS)) == ("PLAIN", "LOGIN")
    world.write(FILE + f"old@example.org:{PENCIL}+{SCRAM1}:\n")
    world.time.now += 1
    assert world.authenticator.mechanisms(session(), frozenset()) == ("SCRAM-SHA-1", "PLAIN", "LOGIN")


@pytest.mark.parametrize(
    ("on", "mechanism", "reply"),
    [
        (session(None), "PLAIN", ENCRYPTION_REQUIRED),
        (session(), "CRAM-MD5", MECHANISM_TOO_WEAK),
        (session(), "OAUTHBEARER", MECHANISM_TOO_WEAK),
        (session(), "EXTERNAL", MECHANISM_UNKNOWN),
        (session(), "NONSENSE", MECHANISM_UNKNOWN),
        (session(), "", MECHANISM_UNKNOWN),
    ],
)
def test_what_begin_refuses(tmp_path: Path, on: Session, mechanism: str, reply: Reply) -> None:
    assert World(tmp_path).authenticator.begin(mechanism, on, {}) == reply
    assert World(tmp_path).authenticator.begin("SCRAM-SHA-1-PLUS", session(), {}) == MECHANISM_UNKNOWN


def test_mechanism_names_have_no_case(tmp_path: Path) -> None:
    assert not isinstance(World(tmp_path).authenticator.begin("plain", session(), {}), Reply)


def test_a_removed_offer_of_plus_is_noticed(tmp_path: Path) -> None:
    world = World(tmp_path)
    step = world.run(world.begin("SCRAM-SHA-256"), b"y,,n=alice@example.org,r=abc")
    assert public(step) == CREDENTIALS_INVALID


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Alice@example.org", Login("alice@example.org", "EXTERNAL", ALICE.addresses)),
        ("gone@example.org", CREDENTIALS_INVALID),
        ("nobody@example.org", CREDENTIALS_INVALID),
    ],
)
def test_external(tmp_path: Path, name: str, expected: object) -> None:
    world = World(tmp_path)
    on = session(replace(TLS, peer_names=("mx.example.org", name)))
    exchange = world.begin("EXTERNAL", on)
    assert public(world.run(exchange, b"")) == expected


# -------------------------------------------------------------------------------------------- the limiter


def test_delays_grow_and_the_session_ends(tmp_path: Path) -> None:
    world = World(tmp_path)
    on = session()
    steps = [world.plain("alice@example.org", "pen", on) for _ in range(3)]
    assert [step.reply.code for step in steps if isinstance(step, Failure)] == [535, 535, 421]
    last = steps[-1]
    assert isinstance(last, Failure)
    assert last.reply.close
    assert last.reply.cause == "wrong password"
    assert world.time.slept == [pytest.approx(n) for n in (1, 2, 4)]
    # A new session of the same client goes on where it was; another client does not.
    world.plain("alice@example.org", "pen", session(id="s2"))
    world.plain("alice@example.org", "pen", session(id="s3", client="192.0.2.2"))
    assert world.time.slept[3:] == [pytest.approx(n) for n in (5, 1)]


def test_a_login_forgives_the_session_but_not_the_client(tmp_path: Path) -> None:
    world = World(tmp_path)
    on = session()
    for _ in range(2):
        world.plain("alice@example.org", "pen", on)
    assert world.plain("alice@example.org", "pencil", on) == ALICE
    step = world.plain("alice@example.org", "pen", on)
    assert isinstance(step, Failure)
    assert step.reply.code == 535
    assert world.time.slept[-1] == pytest.approx(4)


def test_malformed_responses_are_no_guesses(tmp_path: Path) -> None:
    world = World(tmp_path)
    step = world.run(world.begin("PLAIN"), b"\0")
    assert isinstance(step, Failure)
    assert step.reply.code == 501
    assert world.time.slept == []
    assert world.limiter.refuses(session()) is None


def test_a_client_with_too_many_failures_is_not_listened_to(tmp_path: Path) -> None:
    world = World(tmp_path, limits=LimiterSettings(failures_per_client=2, failures_per_session=9))
    for number in range(2):
        world.plain("alice@example.org", "pen", session(id=f"s{number}"))
    reply = world.authenticator.begin("PLAIN", session(id="new"), {})
    assert isinstance(reply, Reply)
    assert (reply.code, reply.enhanced) == (454, "4.7.0")
    assert not isinstance(world.authenticator.begin("PLAIN", session(client="192.0.2.9"), {}), Reply)


def test_the_delay_counts_from_the_response(tmp_path: Path) -> None:
    """A refusal comes at the same time whatever the check took."""
    world = World(tmp_path)
    exchange = world.begin("PLAIN")
    inner = exchange._exchange  # type: ignore[attr-defined]

    async def slow(response: bytes | None) -> Step:
        world.time.now += 0.4
        return Failure(CREDENTIALS_INVALID)

    class Slow:
        step = staticmethod(slow)
        cancel = inner.cancel

    exchange._exchange = Slow()  # type: ignore[attr-defined]
    world.run(exchange, b"x")
    assert world.time.slept == [pytest.approx(0.6)]


def test_memory_of_the_limiter_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.accounts.limiter.MAX_SESSIONS", 3)
    limiter = FailureLimiter(LimiterSettings(), CountedFailures())
    for number in range(9):
        limiter.failed(session(id=str(number), client=f"192.0.2.{number}"))
    assert len(limiter._sessions) == 3


def test_who_leaves_is_counted_and_not_delayed(tmp_path: Path) -> None:
    world = World(tmp_path, limits=LimiterSettings(failures_per_client=2))

    async def guess(password: str) -> Step:
        exchange = world.begin("PLAIN")
        step = exchange.step(f"\0alice@example.org\0{password}".encode())
        assert not isinstance(step, (Challenge, Login, Failure))
        exchange.cancel()
        exchange.cancel()  # counts once
        assert world.limiter._left == {"192.0.2.1": 1}
        return await step

    for password, expected in (("pen", Failure), ("pencil", Login)):
        assert isinstance(asyncio.run(guess(password)), expected)
        assert world.limiter._left == {}
    assert world.time.slept == []
    assert world.limiter.refuses(session()) is None
    world.limiter.left(session())
    assert world.limiter.refuses(session()) is TOO_MANY_FROM_CLIENT
    assert world.limiter.refuses(session(client="192.0.2.2")) is None
    world.limiter.settled(session())
    assert world.limiter.refuses(session()) is None


# ----------------------------------------------------------------------------------------- sender login


@pytest.mark.parametrize(
    ("user", "addresses", "sender", "settings", "allowed"),
    [
        ("alice@example.org", (), "alice@example.org", {}, True),
        ("alice@example.org", (), "Alice@EXAMPLE.org", {}, True),
        ("alice@example.org", (), "alice+tag@example.org", {}, True),
        ("alice@example.org", (), "alice-tag@example.org", {}, False),
        ("alice@example.org", (), "alice-tag@example.org", {"delimiters": "+-"}, True),
        ("alice@example.org", (), "alice+tag@example.org", {"delimiters": ""}, False),
        ("alice@example.org", (), "alice-tag@example.org", {"delimiters_of": {"example.org": "-"}}, True),
        ("alice@example.org", (), "alice+tag@example.org", {"delimiters_of": {"example.org": "-"}}, False),
        ("alice@example.org", (), "alice+tag@example.org", {"delimiters_of": {"example.com": "-"}}, True),
        ("alice@example.org", (), "alice+tag@example.org", {"delimiters_of": {"example.org": ""}}, False),
        ("alice@example.org", (), "alice+tag@example.org", {"is_user": lambda key: key == "x@y"}, True),
        (
            "alice@example.org",
            (),
            "Alice+Tag@example.org",
            {"is_user": lambda key: key == "alice+tag@example.org"},
            False,
        ),
        (
            "alice@example.org",
            ("alice+tag@example.org",),
            "alice+tag@example.org",
            {"is_user": lambda key: True},
            True,
        ),
        ("alice@example.org", (), "bob@example.org", {}, False),
        ("alice@example.org", (), "alice@example.com", {}, False),
        ("alice@example.org", (), "alice@sub.example.org", {}, False),
        ("alice@example.org", ("sales@example.org",), "Sales+x@example.org", {}, True),
        ("alice@example.org", ("@example.com",), "anything@example.com", {}, True),
        ("alice@example.org", ("@example.com",), "anything@sub.example.com", {}, False),
        ("alice@example.org", ("@example.com",), '"a b"@example.com', {}, True),
        ("alice@example.org", (), '"alice@example.org"@evil.example', {}, False),
        ("alice@example.org", (), "", {}, True),
        (
            "root@example.org",
            (),
            "anybody@anywhere.example",
            {"masters": frozenset({"root@example.org"})},
            True,
        ),
        ("alice", (), "alice@example.org", {}, False),
        ("alice", (), "alice@example.org", {"default_domain": "example.org"}, True),
        ("alice", (), "alice+x@example.org", {"default_domain": "example.org"}, True),
        ("alice", (), "alice@example.com", {"default_domain": "example.org"}, False),
        ("", (), "alice@example.org", {}, False),
        ("", (), "", {}, False),
    ],
)
def test_who_may_send_as_whom(
    user: str, addresses: tuple[str, ...], sender: str, settings: dict[str, object], allowed: bool
) -> None:
    on = session(user=user)
    on.addresses = addresses
    address = parse_address(sender) if sender else NULL
    assert owns(SenderLoginSettings(**settings), on, address) is allowed  # type: ignore[arg-type]


def test_a_user_who_is_gone_owns_nothing() -> None:
    settings = SenderLoginSettings(
        masters=frozenset({"bob@example.org"}), is_gone=lambda user: user != "carol@example.org"
    )
    for user in ("alice@example.org", "bob@example.org", "carol@example.org"):
        on = session(user=user)
        for address in (parse_address(user), NULL):
            assert owns(settings, on, address) is user.startswith("carol")
        on.auth_mechanism = "XCLIENT"
        assert owns(settings, on, parse_address(user))


def test_the_authenticator_knows_who_owns_what(tmp_path: Path) -> None:
    world = World(
        tmp_path, settings=AuthSettings(sender_login=SenderLoginSettings(default_domain="b.example"))
    )
    assert world.authenticator.owns(session(user="a"), parse_address("a@b.example"))
    assert not world.authenticator.owns(session(user="a"), parse_address("b@b.example"))
    asyncio.run(world.authenticator.close())


def test_the_key_of_a_host_is_stable_and_of_the_file() -> None:
    assert len(host_key("/etc/tamis/users")) == 32
    assert host_key("/etc/tamis/users") != host_key("/etc/other/users")
    if os.path.exists("/etc/machine-id") and os.path.getsize("/etc/machine-id"):
        assert host_key("/etc/tamis/users") == host_key("/etc/tamis/users")


def test_logins_go_on_when_the_system_has_no_threads_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of processes counts threads, too."""
    verifier = PasswordVerifier()
    monkeypatch.setattr(threading.Thread, "start", refuse_thread)
    done: list[int] = []

    async def scenario() -> None:
        await asyncio.gather(*(verifier.run(partial(done.append, number)) for number in range(MAX_WAITING)))

    asyncio.run(scenario())
    verifier.close()
    assert sorted(done) == [*range(MAX_WAITING)]
    with pytest.raises(OSError, match="can't start new thread"):
        PasswordVerifier()


def refuse_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
