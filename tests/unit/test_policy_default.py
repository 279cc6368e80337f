"""The base policy on its ground: who may send what to whom, as a table; never an open relay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from mta import config
from mta.accounts.usersfile import UsersFile
from mta.address import NULL, Address, parse_address
from mta.daemon_policy import build_ground
from mta.delivery.fixed import FixedTransport
from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, Recipient
from mta.policy.ground import DomainRule, Ground, PolicySettings
from mta.policy.recipients import AskBackend, Directory, Everybody, RecipientFile
from mta.policy.sieve.loading import default_base, source_of
from mta.policy.sieve.local import Owns, site_services
from mta.policy.sieve.policy import SievePolicy, Site
from mta.policy.sieve.program import Program, load, settings_for
from mta.policy.verdict import Policy, Verdict
from mta.policy.watched import TableError
from mta.reply import Reply
from mta.session import Session

STORE, RELAY = NextHop("store"), NextHop("relay")
POSTMASTER = parse_address("root@example.test")


def settings(**changes: object) -> PolicySettings:
    values: dict[str, object] = {
        "domains": {
            "example.test": DomainRule(
                STORE, Directory({"bob@example.test", "root@example.test"}.__contains__)
            ),
            "catch.test": DomainRule(
                STORE, Directory(frozenset[str]().__contains__), catch_all=parse_address("all@catch.test")
            ),
            "plain.test": DomainRule(
                STORE, Directory({"a+b@plain.test"}.__contains__), subaddress_delimiters=""
            ),
            "open.test": DomainRule(STORE, Everybody()),
        },
        "postmaster": POSTMASTER,
        "is_trusted": lambda address: address == "192.0.2.1",
        "relay": RELAY,
        "auth_required": frozenset({"submission"}),
    }
    return PolicySettings(**{**values, **changes})  # type: ignore[arg-type]


@cache
def program() -> Program:
    """conf/policy.sieve."""
    made, found = load([source_of(str(default_base()))], settings_for((), has_queue=True))
    assert made is not None, found
    assert found == []
    return made


def base(settings: PolicySettings, owns: Owns) -> Policy:
    """The base policy as the daemon has it."""
    ground = Ground(settings)
    site = Site("mx.test", ground)
    return SievePolicy(program(), ground, site, complain, site_services(ground, owns))


def complain(*words: str) -> None:
    raise AssertionError(words)


def session(user: str = "", client: str = "198.51.100.7", listener: str = "smtp") -> Session:
    return Session("s", listener, "smtp", client, server_address="203.0.113.5", user=user)


def owns(session: Session, sender: Address) -> bool:
    return sender.is_null or sender.key == session.user


def rcpt(policy: Policy, who: Session, text: str) -> tuple[str, str]:
    address = Address("postmaster", "", text) if text.lower() == "postmaster" else parse_address(text)
    recipient = Recipient(address)
    verdict = policy.rcpt(who, Envelope(NULL), recipient)
    assert isinstance(verdict, Verdict)
    return str(verdict.reply)[:9] if verdict.reply else "ok", recipient.address.text


RCPT = [
    # (user, client, recipient, reply, address afterwards)
    ("", "198.51.100.7", "bob@example.test", "ok", "bob@example.test"),
    ("", "198.51.100.7", "BOB@EXAMPLE.TEST", "ok", "BOB@EXAMPLE.TEST"),
    ("", "198.51.100.7", "bob+list@example.test", "ok", "bob+list@example.test"),
    ("", "198.51.100.7", "a+b@plain.test", "ok", "a+b@plain.test"),
    ("", "198.51.100.7", "nobody@example.test", "550 5.1.1", "nobody@example.test"),
    ("", "198.51.100.7", "anybody@open.test", "ok", "anybody@open.test"),
    ("", "198.51.100.7", "nobody@catch.test", "ok", "all@catch.test"),
    ("", "198.51.100.7", "postmaster", "ok", "root@example.test"),
    ("", "198.51.100.7", "Postmaster@example.test", "ok", "root@example.test"),
    ("", "198.51.100.7", "abuse@example.test", "ok", "root@example.test"),
    ("", "198.51.100.7", "postmaster@[203.0.113.5]", "ok", "root@example.test"),
    ("", "198.51.100.7", "bob@[203.0.113.5]", "550 5.7.1", "bob@[203.0.113.5]"),
    ("", "198.51.100.7", "x@elsewhere.test", "550 5.7.1", "x@elsewhere.test"),
    ("", "198.51.100.7", "x%elsewhere.test@example.test", "550 5.1.1", "x%elsewhere.test@example.test"),
    ("", "198.51.100.7", '"x@elsewhere.test"@example.test', "550 5.1.1", '"x@elsewhere.test"@example.test'),
    ("", "198.51.100.7", "elsewhere.test!x@example.test", "550 5.1.1", "elsewhere.test!x@example.test"),
    ("", "198.51.100.7", "bob@sub.example.test", "550 5.7.1", "bob@sub.example.test"),
    ("", "192.0.2.1", "x@elsewhere.test", "ok", "x@elsewhere.test"),
    ("u@example.test", "198.51.100.7", "x@elsewhere.test", "ok", "x@elsewhere.test"),
    ("u@example.test", "198.51.100.7", "nobody@example.test", "550 5.1.1", "nobody@example.test"),
]


@pytest.mark.parametrize(("user", "client", "text", "reply", "after"), RCPT)
def test_rcpt(user: str, client: str, text: str, reply: str, after: str) -> None:
    assert rcpt(base(settings(), owns), session(user, client), text) == (reply, after)


@pytest.mark.parametrize(
    ("address", "reply"),
    [
        ("x@elsewhere.test", "ok"),
        ("x@mailhost", "not qualified"),
        ("x@[192.0.2.1]", "ok"),
        ("x@local", "ok"),
        ("", "ok"),
    ],
)
def test_what_is_submitted_names_its_domains_in_full(address: str, reply: str) -> None:
    """RFC 6409 section 4.2; a domain of ours may be a single word."""
    ground = Ground(settings(domains={"local": DomainRule(STORE, Everybody())}))
    who = Session("s", "submission", "submission", "198.51.100.7", user="u@example.test")
    envelope = Envelope(parse_address(address) if address else NULL)
    wrong = reply != "ok"
    found = ground.mail(who, envelope).reply
    assert (found is not None and str(found)[:9] == "553 5.1.8") is wrong
    assert ground.mail(session("u@example.test"), envelope).reply is None  # relays do not judge
    if address:
        found = ground.rcpt(who, envelope, Recipient(parse_address(address))).reply
        assert (found is not None and str(found)[:9] == "550 5.1.2") is wrong


@pytest.mark.parametrize(
    ("user", "client", "text", "reply"),
    [
        ("", "198.51.100.7", "x@elsewhere.test", "550 5.7.1"),
        ("", "198.51.100.7", "x@[192.0.2.99]", "550 5.7.1"),
        ("", "198.51.100.7", "anybody@open.test", "ok"),
        ("", "192.0.2.1", "x@elsewhere.test", "ok"),
        ("u@example.test", "198.51.100.7", "x@elsewhere.test", "ok"),
    ],
)
def test_a_base_policy_that_refuses_nobody_makes_no_open_relay(
    user: str, client: str, text: str, reply: str
) -> None:
    empty, _ = load([("base.sieve", b"")], settings_for((), has_queue=True))
    assert empty is not None
    ground = Ground(settings())
    policy = SievePolicy(empty, ground, Site("mx.test", ground), complain, site_services(ground, owns))
    assert rcpt(policy, session(user, client), text)[0] == reply


def test_without_a_relay_nobody_reaches_other_domains() -> None:
    policy = base(settings(relay=None), owns)
    assert rcpt(policy, session(), "x@elsewhere.test")[0] == "550 5.7.1"
    assert rcpt(policy, session("u@example.test"), "x@elsewhere.test")[0] == "550 5.4.4"
    hop = policy.route(session(), Envelope(NULL), Recipient(parse_address("x@elsewhere.test")))
    assert isinstance(hop, Reply)
    assert hop.enhanced == "5.4.4"


@pytest.mark.parametrize(
    ("user", "listener", "sender", "reply"),
    [
        ("", "smtp", "a@x.test", "ok"),
        ("", "smtp", "", "ok"),
        ("", "submission", "a@x.test", "530 5.7.0"),
        ("u@example.test", "submission", "u@example.test", "ok"),
        ("u@example.test", "submission", "", "ok"),
        ("u@example.test", "submission", "bob@example.test", "553 5.7.1"),
        ("u@example.test", "smtp", "bob@example.test", "553 5.7.1"),
    ],
)
def test_mail(user: str, listener: str, sender: str, reply: str) -> None:
    envelope = Envelope(parse_address(sender) if sender else NULL)

    async def slow(who: Session, address: Address) -> bool:
        await asyncio.sleep(0)
        return owns(who, address)

    at_once = base(settings(), owns).mail(session(user, listener=listener), envelope)
    later = base(settings(), slow).mail(session(user, listener=listener), envelope)
    for verdict in (at_once, later):
        if isinstance(verdict, Awaitable):
            verdict = asyncio.run(finish(verdict))
        assert (str(verdict.reply)[:9] if verdict.reply else "ok") == reply
    if user:
        verdict = base(settings(), lambda who, address: True).mail(session(user, listener=listener), envelope)
        assert isinstance(verdict, Verdict)
        assert verdict.reply is None


async def finish(verdict: Awaitable[Verdict]) -> Verdict:
    return await verdict


@pytest.mark.parametrize(
    ("user", "named", "passed_on"),
    [
        ("", "bob@example.test", "<>"),
        ("", "<>", "<>"),
        ("bob@example.test", "Bob@example.test", "Bob@example.test"),
        ("bob@example.test", "sales@example.test", "sales@example.test"),
        ("bob@example.test", "root@example.test", "<>"),
        ("bob@example.test", "<>", "<>"),
    ],
)
def test_a_submitter_is_believed_about_itself_alone(user: str, named: str, passed_on: str) -> None:
    """AUTH= of MAIL (RFC 4954 section 5): what strangers say is not passed on."""
    who = session(user)
    who.addresses = ("sales@example.test",)
    envelope = Envelope(NULL, auth=named)
    base(settings(), owns).mail(who, envelope)
    assert envelope.auth == passed_on


def test_route_goes_by_the_recipients_domain() -> None:
    policy = base(settings(), owns)
    for text, hop in (("bob@example.test", STORE), ("x@elsewhere.test", RELAY)):
        assert policy.route(session(), Envelope(NULL), Recipient(parse_address(text))) == hop


def test_asking_the_back_end() -> None:
    now = [0.0]
    asked: list[str] = []
    answers = {
        "bob": Reply(250, "2.1.5", "ok"),
        "eve": Reply(550, "5.1.1", "who?"),
        "may": Reply(451, "4.3.0", "later"),
    }

    async def verify(sender: Address, address: Address) -> Reply:
        assert sender.is_null
        asked.append(address.local)
        return answers[address.local]

    source = AskBackend(verify, lambda: now[0], positive=100, negative=10, entries=2)

    async def find(local: str) -> Reply | None:
        found = source.find(parse_address(f"{local}@example.test"))
        return await found if isinstance(found, Awaitable) else found

    async def main() -> None:
        for _ in range(2):
            assert await find("bob") is None
            assert await find("eve") == answers["eve"]
            assert await find("may") == answers["may"]
        assert asked == ["bob", "eve", "may", "may"]
        now[0] = 11
        await find("eve")
        await find("bob")
        assert asked == ["bob", "eve", "may", "may", "eve"]
        now[0] = 101
        await find("bob")
        assert asked[-1] == "bob"

    asyncio.run(main())


def test_how_long_the_back_end_is_believed_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    asked: list[str] = []

    class Backend:
        async def verify(self, sender: Address, address: Address) -> Reply:
            asked.append(address.local)
            return Reply(550, "5.1.1", "who?") if address.local == "eve" else Reply(250, "2.1.5", "ok")

    text = """
identity.hostname = "mx.example.test"
backends.mail.addresses = ["192.0.2.7:24"]
[domains."example.test"]
[policy]
recipient_cache_positive = "100s"
recipient_cache_negative = "10s"
recipient_cache_entries = 2
"""
    monkeypatch.setattr("mta.daemon_policy.time", SimpleNamespace(monotonic=lambda: now[0]))
    backends = cast(Mapping[str, FixedTransport], {"backend:mail": Backend()})
    ground = build_ground(config.parse(text, "/etc/tamis/tamis.toml"), backends, no_users, complain)

    async def find(*locals_: str) -> None:
        for local in locals_:
            found = ground.find(parse_address(f"{local}@example.test"))
            if isinstance(found, Awaitable):
                await found

    asyncio.run(find("bob", "eve", "bob", "eve"))
    assert asked == ["bob", "eve"]
    now[0] = 11.0
    asyncio.run(find("bob", "eve"))
    assert asked == ["bob", "eve", "eve"]
    now[0] = 101.0
    asyncio.run(find("bob"))
    assert asked == ["bob", "eve", "eve", "bob"]
    asyncio.run(find("ann", "cat", "bob"))
    assert asked[4:] == ["ann", "cat", "bob"], "there is room for two"


def test_domains_share_what_a_file_of_recipients_holds(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("bob\n")
    domains = "".join(f'[domains."{name}.test"]\nrecipients = "table:list"\n' for name in "abc")
    text = 'identity.hostname = "mx.a.test"\nbackends.mail.addresses = ["192.0.2.7:24"]\n' + domains
    backends = cast(Mapping[str, FixedTransport], {"backend:mail": None})
    ground = build_ground(config.parse(text, str(tmp_path / "tamis.toml")), backends, no_users, complain)
    rules = ground.settings.domains.values()
    assert len(rules) == 3
    assert len({id(rule.recipients) for rule in rules}) == 1


def no_users() -> UsersFile:
    raise AssertionError


def test_a_full_mailbox_is_no_missing_recipient() -> None:
    full = Reply(552, "5.2.2", "full")

    class Source:
        def find(self, address: Address) -> Reply | None:
            return full

    rule = DomainRule(STORE, Source(), catch_all=parse_address("all@full.test"))
    policy = base(settings(domains={"full.test": rule}), owns)
    assert rcpt(policy, session(), "postmaster@full.test") == ("552 5.2.2", "postmaster@full.test")


def test_a_table_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "recipients"
    path.write_text("# ours\nbob\n\nEve@Example.Test\n")
    now = [0.0]
    complaints: list[str] = []
    table = RecipientFile(path, lambda: now[0], complain=complaints.append)
    bob, eve, may = (parse_address(f"{name}@example.test") for name in ("bob", "eve", "may"))
    assert table.find(bob) is None
    assert table.find(eve) is None
    assert table.find(may) is not None
    assert table.find(parse_address("eve@other.test")) is not None
    assert table.find(parse_address("bob@other.test")) is None
    path.write_text("may\nand more\n")
    now[0] = 2
    assert table.find(bob) is None, "a bad file leaves the old content in force"
    assert complaints == [f"{path}:2: one address or local part a line is expected, found 'and more'"]
    path.write_text("may\n")
    now[0] = 4
    assert table.find(bob) is not None
    assert table.find(may) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [("a b\n", ":1: one address or local part"), ("ok\n@@\n", ":2: @@: "), (b"\xff\n", ":1: is no UTF-8")],
)
def test_a_bad_table_says_where(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "recipients"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TableError, match=message):
        RecipientFile(path, lambda: 0.0)


def test_a_missing_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="No such file"):
        RecipientFile(tmp_path / "none", lambda: 0.0)


@pytest.mark.parametrize(
    ("client", "user", "answer", "expected"),
    [
        ("198.51.100.7", "", Reply(451, "4.4.1", "away"), "451 4.4.1"),
        ("198.51.100.7", "u@ask.test", Reply(451, "4.4.1", "away"), "ok"),
        ("192.0.2.1", "", Reply(451, "4.4.1", "away"), "ok"),
        ("192.0.2.1", "", Reply(452, "4.2.2", "full"), "452 4.2.2"),
        ("192.0.2.1", "", Reply(550, "5.1.1", "no"), "550 5.1.1"),
    ],
)
def test_who_can_be_told_later_needs_no_answer_now(
    client: str, user: str, answer: Reply, expected: str
) -> None:
    """`sendmail` and mail programs do not try again as servers do."""

    async def verify(sender: Address, address: Address) -> Reply:
        return answer

    source = AskBackend(verify, lambda: 0.0)
    policy = base(settings(domains={"ask.test": DomainRule(STORE, source)}), owns)

    async def ask() -> Verdict:
        asked = policy.rcpt(session(user, client), Envelope(NULL), Recipient(parse_address("x@ask.test")))
        return asked if isinstance(asked, Verdict) else await asked

    verdict = asyncio.run(ask())
    assert (str(verdict.reply)[:9] if verdict.reply else "ok") == expected
