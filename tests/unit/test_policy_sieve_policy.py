"""`SievePolicy` around another policy: what is refused stays refused, at once or later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from mta.address import NULL, parse_address
from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, OriginalRecipient, Recipient
from mta.policy.sieve.policy import SievePolicy, Site
from mta.policy.verdict import CONTINUE, NO_ADVICE, Indifferent, Orders, Policy, Tried, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message
from tests.unit.policy_tables import MESSAGE, program, session

T = TypeVar("T")

NO = Verdict(Reply(550, "5.1.1", "behind"))
LATER = Verdict(Reply(451, "4.4.1", "behind"))


class Fake(Indifferent):
    """A policy behind that says what the test wants, at once or later, and notes what it is asked."""

    def __init__(self, verdict: Verdict = CONTINUE, *, late: bool = False) -> None:
        self.verdict = verdict
        self.late = late
        self.advice = NO_ADVICE
        self.asked: list[str] = []

    def _say(self, what: str) -> Any:
        self.asked.append(what)
        return _later(self.verdict) if self.late else self.verdict

    def connect(self, session: Session) -> Any:
        return self._say("connect")

    def helo(self, session: Session) -> Any:
        return self._say("helo")

    def auth(self, session: Session) -> Any:
        return self._say("auth")

    def mail(self, session: Session, envelope: Envelope) -> Any:
        return self._say(f"mail {envelope.sender.text}")

    def rcpt(self, session: Session, envelope: Envelope, recipient: Recipient) -> Any:
        return self._say(f"rcpt {recipient.address.text}")

    def data(self, session: Session, envelope: Envelope, message: Message) -> Any:
        return self._say("data")

    def depart(self, session: Session, envelope: Envelope, message: Message) -> Any:
        return self._say("depart")

    def retry(self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried) -> Any:
        self.asked.append("retry")
        return _later(self.advice) if self.late else self.advice

    def bounce(self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried) -> Any:
        self.asked.append("bounce")
        return _later(True) if self.late else True

    def route(self, session: Session, envelope: Envelope, recipient: Recipient) -> NextHop:
        return NextHop("usual")


async def _later(answer: T) -> T:
    await asyncio.sleep(0)
    return answer


def policy(script: str, behind: Policy) -> tuple[SievePolicy, list[tuple[str, str, str]]]:
    told: list[tuple[str, str, str]] = []
    made = SievePolicy(
        program(script),
        behind,
        Site("mx.test"),
        lambda *words: told.append(words),
        {},
    )
    return made, told


def settle(verdict: Verdict | Awaitable[Verdict]) -> Verdict:
    if isinstance(verdict, Verdict):
        return verdict

    async def wait() -> Verdict:
        return await verdict

    return asyncio.run(wait())


def envelope(*recipients: str, sender: str = "a@x.test") -> Envelope:
    people = [Recipient(parse_address(one)) for one in recipients or ("b@example.test",)]
    return Envelope(parse_address(sender) if sender else NULL, people)


def ask(made: Policy, stage: str, given: Envelope | None = None) -> Verdict:
    given = given or envelope()
    match stage:
        case "mail":
            return settle(made.mail(session(), given))
        case "rcpt":
            return settle(made.rcpt(session(), given, given.recipients[0]))
        case "data":
            return settle(made.data(session(), given, Message(MESSAGE)))
    return settle(getattr(made, stage)(session()))


STAGES = ("connect", "helo", "auth", "mail", "rcpt", "data")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_a_refusal_of_the_policy_behind_stands(stage: str, late: bool) -> None:
    fake = Fake(NO, late=late)
    made, _ = policy(f'stage "{stage}" {{ accept; }}', fake)
    assert ask(made, stage) == NO
    assert len(fake.asked) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_script_refuses_is_not_asked_further(stage: str) -> None:
    fake = Fake()
    made, _ = policy(f'stage "{stage}" {{ reply "no"; }}', fake)
    assert str(ask(made, stage).reply) == "550 5.7.1 no"
    assert fake.asked == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_without_a_script_is_the_policys_behind(stage: str) -> None:
    other = "mail" if stage == "rcpt" else "rcpt"
    made, _ = policy(f'stage "{other}" {{ reply "no"; }}', Fake(replace(NO, delay=3.0)))
    assert ask(made, stage) == replace(NO, delay=3.0)


@pytest.mark.parametrize("late", [False, True])
def test_delays(late: bool) -> None:
    made, _ = policy('stage "rcpt" { tarpit 5; }', Fake(replace(NO, delay=3.0), late=late))
    assert ask(made, "rcpt") == replace(NO, delay=5.0)
    made, _ = policy('stage "rcpt" { tarpit 2; }', Fake(replace(CONTINUE, delay=3.0), late=late))
    assert ask(made, "rcpt").delay == 3.0


@pytest.mark.parametrize("late", [False, True])
def test_the_sender_is_changed_after_it_was_judged(late: bool) -> None:
    fake = Fake(late=late)
    made, _ = policy('stage "mail" { set_sender "new@x.test"; }', fake)
    given = envelope()
    ask(made, "mail", given)
    assert (fake.asked, given.sender.text) == (["mail a@x.test"], "new@x.test")
    fake.verdict = NO
    given = envelope()
    ask(made, "mail", given)
    assert given.sender.text == "a@x.test"
    fake.verdict = CONTINUE
    given = envelope(sender="")
    ask(made, "mail", given)
    assert given.sender.is_null


def test_a_rewritten_recipient_is_judged_as_rewritten_and_keeps_its_name() -> None:
    fake = Fake()
    made, _ = policy('stage "rcpt" { rewrite_recipient "new@x.test"; route :to "relay:out"; }', fake)
    given = envelope()
    ask(made, "rcpt", given)
    (recipient,) = given.recipients
    assert fake.asked == ["rcpt new@x.test"]
    assert recipient.original == OriginalRecipient("rfc822", "b@example.test")
    assert made.route(session(), given, recipient) == NextHop("relay:out")
    assert made.route(session(), given, Recipient(NULL)) == NextHop("usual")
    beyond = envelope()
    beyond.recipients[0].address = parse_address("bé@example.test")
    ask(made, "rcpt", beyond)
    assert beyond.recipients[0].original == OriginalRecipient("utf-8", "bé@example.test")
    recipient.original = OriginalRecipient("rfc822", "first@x.test")
    ask(made, "rcpt", given)
    assert recipient.original.address == "first@x.test"


def test_names_beyond_ascii_come_along_in_variables() -> None:
    """A rule for a domain that has another name now is for all of its people."""
    script = """require "variables";
        stage "mail" { if envelope :matches "from" "*@old.test" { set_sender "${1}@new.test"; } }
        stage "rcpt" { if envelope :matches "to" "*@old.test" { rewrite_recipient "${1}@bücher.example"; } }
        stage "data" { if envelope :matches "to" "ö*" { remove_recipient "${0}"; } }
    """
    made, told = policy(script, Fake())
    given = envelope("jürgen@old.test", "ö@old.test", sender="zoë@old.test")
    assert ask(made, "mail", given) == CONTINUE
    assert given.sender.text == "zoë@new.test"
    assert ask(made, "rcpt", given) == CONTINUE
    assert given.recipients[0].address == parse_address("jürgen@bücher.example")
    orders = ask(made, "data", given).orders
    assert orders is not None
    assert list(orders.removed or ()) == [1]
    assert told == []


@pytest.mark.parametrize("domain", ["bücher.example", "Bu\u0308cher.Example", "xn--bcher-kva.example"])
def test_a_domain_is_the_same_in_whatever_spelling_the_client_names_it(domain: str) -> None:
    """A rule that refuses it, or asks for TLS on the way there, is not for clients to choose."""
    script = """
        stage "mail" { if envelope :domain "from" "xn--bcher-kva.example" { reply "no mail from there"; } }
        stage "rcpt" { if envelope "to" "ann@xn--bcher-kva.example" { reply "nor to there"; } }
        stage "data" { if envelope "to" "bé@xn--bcher-kva.example" { reply "nor at last"; } }
    """
    made, _ = policy(script, Fake())
    given = envelope(sender=f"ann@{domain}")
    assert str(ask(made, "mail", given).reply) == "550 5.7.1 no mail from there"
    given.recipients[0].address = parse_address(f"ann@{domain}")
    assert str(ask(made, "rcpt", given).reply) == "550 5.7.1 nor to there"
    given.recipients[0].address = parse_address(f"bé@{domain}")
    assert str(ask(made, "data", given).reply) == "550 5.7.1 nor at last"


@pytest.mark.parametrize("late", [False, True])
def test_added_recipients_are_judged(late: bool) -> None:
    fake = Fake(late=late)
    made, told = policy('stage "data" { add_recipient ["c@x.test", "b@example.test", "c@x.test"]; }', fake)
    orders = ask(made, "data").orders
    assert orders is not None
    assert [(one.address.text, one.notify) for one in orders.added] == [("c@x.test", frozenset({"NEVER"}))]
    assert told == []


def test_added_recipients_that_are_refused() -> None:
    class OnlyMessages(Fake):
        def rcpt(self, session: Session, envelope: Envelope, recipient: Recipient) -> Any:
            return NO if recipient.address.local == "no" else LATER

    made, told = policy('stage "data" { add_recipient ["no@x.test", "later@x.test"]; }', OnlyMessages())
    orders = ask(made, "data").orders
    assert orders is not None
    assert [one.address.text for one in orders.added] == ["later@x.test"]
    assert told == [
        ("recipient not added", "abcdefghijk", "a.sieve:2: no@x.test is not added: 550 5.1.1 behind")
    ]


def test_no_orders_where_nothing_is_ordered() -> None:
    made, _ = policy('stage "data" { remove_recipient "nobody@x.test"; }', Fake())
    assert ask(made, "data") is CONTINUE
    given = envelope(sender="")
    made, _ = policy('stage "data" { set_sender "a@x.test"; }', Fake())
    assert ask(made, "data", given).orders is None


def test_removed_recipients_and_route_of_all() -> None:
    made, _ = policy('stage "data" { remove_recipient "B@EXAMPLE.test"; route :to "relay:out"; }', Fake())
    given = envelope("a@example.test", "b@example.test")
    orders = ask(made, "data", given).orders
    assert orders is not None
    assert orders.removed == {1: "a.sieve:2"}
    assert {one.route for one in given.recipients} == {"relay:out"}


def test_failures_are_told() -> None:
    made, told = policy('stage "data" { set "a" "x"; add_recipient "${a}"; }', Fake())
    reply = ask(made, "data").reply
    assert reply is not None
    assert (reply.code, reply.enhanced) == (451, "4.3.5")
    assert told == [("script failed", "abcdefghijk", reply.cause)]
    made, told = policy('stage "data" { deleteheader "Received"; }', Fake())
    assert ask(made, "data").reply is None
    assert [what for what, _, _ in told] == ["note"]


def depart(made: Policy, given: Envelope) -> Verdict:
    return settle(made.depart(session(), given, Message(MESSAGE)))


def test_stage_route_is_asked_for_each_recipient() -> None:
    fake = Fake()
    made, _ = policy(
        'stage "route" { if envelope "to" "b@x.test" { route :to "relay:out"; }'
        ' elsif envelope "to" "c@x.test" { reply :code 551 "moved"; } }',
        fake,
    )
    given = envelope("a@x.test", "b@x.test", "c@x.test")
    assert depart(made, given) == CONTINUE
    assert fake.asked == ["depart"]
    ways = [made.route(session(), given, one) for one in given.recipients]
    assert ways[:2] == [NextHop("usual"), NextHop("relay:out")]
    assert str(ways[2]) == "551 5.7.1 moved"


@pytest.mark.parametrize("stage", ["route", "sign"])
def test_what_is_temporary_as_the_message_leaves_concerns_all_of_it(stage: str) -> None:
    fake = Fake()
    made, _ = policy(f'stage "{stage}" {{ if envelope "to" "b@x.test" {{ defer; }} }}', fake)
    verdict = depart(made, envelope("a@x.test", "b@x.test"))
    assert str(verdict.reply) == "451 4.7.1 try again later"
    assert fake.asked == []


@pytest.mark.parametrize("late", [False, True])
def test_what_the_policy_behind_says_of_a_leaving_message_stands(late: bool) -> None:
    made, _ = policy('stage "route" { route :to "relay:out"; }', Fake(LATER, late=late))
    assert depart(made, envelope()) == LATER


def test_a_script_lets_nobody_pass_who_is_refused_already() -> None:
    made, _ = policy('stage "route" { if envelope "to" "c@x.test" { reply "no way"; } }', Fake())
    given = envelope("b@x.test", "c@x.test", "d@x.test")
    given.recipients[0].refusal = NO.reply
    assert settle(made.depart(session(), given, Message(MESSAGE))).reply is None
    said = [one.refusal and one.refusal.text for one in given.recipients]
    assert said == ["behind", "no way", None]


@pytest.mark.parametrize("late", [False, True])
def test_who_signs_in_front_keeps_nobody_behind_from_being_asked(late: bool) -> None:
    signs = Verdict(orders=Orders(signing=("behind",)))
    behind = Fake(signs, late=late)
    made, _ = policy('stage "sign" { dkim_sign :domain "x.test"; }', behind)
    orders = settle(made.depart(session(), envelope(), Message(MESSAGE))).orders
    assert behind.asked == ["depart"]
    assert orders is not None
    assert len(orders.signing) == 2
    assert orders.signing[1] == "behind"
    refusing = Fake(NO, late=late)
    made, _ = policy('stage "sign" { dkim_sign :domain "x.test"; }', refusing)
    assert settle(made.depart(session(), envelope(), Message(MESSAGE))) == NO
