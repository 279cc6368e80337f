"""Own mail for aliases, in virtual time: who gets it, what waits, and what is never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from mailqueue.model import Status
from mta.address import parse_address
from mta.dsn.decide import Kind, Vouching, Why
from mta.envelope import Envelope, OriginalRecipient, Recipient
from mta.reply import Reply
from mta.spool.record import encode_recipient
from tests.unit.spool_kit import LATER, NO, Silent, Work, played, received

AWAY = Reply(451, "4.7.1", "the table is away")
NOBODY = Reply(550, "5.1.1", "nobody is left")


class Tables:
    """`mta.spool.addressing.Find`: what is known of aliases, by address."""

    def __init__(self, **known: list[str] | Reply) -> None:
        self.known = known
        self.asked: list[str] = []

    async def __call__(
        self, name: str, envelope: Envelope, recipient: Recipient
    ) -> Sequence[Recipient] | Reply | None:
        await asyncio.sleep(0)
        assert envelope.sender.is_null
        self.asked.append(recipient.address.local)
        found = self.known.get(recipient.address.local)
        if found is None or isinstance(found, Reply):
            return found
        original = OriginalRecipient("rfc822", recipient.address.text)
        return [Recipient(parse_address(one), recipient.notify, original) for one in found]


def test_those_behind_an_alias_get_the_report_and_are_not_looked_for_again() -> None:
    """Also where the alias leads to itself, and one of them is busy."""
    tables = Tables(alice=["alice@home.test", "bob@back.test"])

    async def main(work: Work) -> None:
        work.hops["relay"].answer = lambda address, call: NO
        work.hops["back"].answer = lambda address, call: LATER if call == 0 else Reply(250, "2.0.0", "kept")
        await work.add("x@relay.test")
        await work.idle()
        assert sorted(received(work.hops["home"])) == ["alice@home.test"]
        assert received(work.hops["back"]) == ["bob@back.test", "bob@back.test"]
        (seen,) = work.hops["home"].seen
        assert seen.envelope.sender.is_null
        assert b"Action: failed" in seen.octets
        assert tables.asked == ["alice"]
        assert [to for _, to in work.journal.addressings] == [["alice@home.test", "bob@back.test"]]
        assert work.reasons[0] is Why.OWED
        assert set(work.reasons[1:]) == {Why.NULL_SENDER}

    played(main, Work(find=tables))


def test_mail_that_came_in_is_not_looked_for() -> None:
    tables = Tables(bob=["alice@home.test"])

    async def main(work: Work) -> None:
        await work.add("bob@back.test")
        await work.idle(5)
        assert received(work.hops["back"]) == ["bob@back.test"]
        assert tables.asked == []

    played(main, Work(find=tables))


def test_one_copy_for_who_is_behind_two() -> None:
    tables = Tables(one=["bob@back.test", "carol@back.test"], two=["bob@back.test"])

    async def main(work: Work) -> None:
        await work.add("one@home.test", "two@home.test", "plain@home.test", kind=Kind.REPORT)
        await work.idle(60)
        assert sorted(received(work.hops["back"])) == ["bob@back.test", "carol@back.test"]
        assert received(work.hops["home"]) == ["plain@home.test"]

    played(main, Work(find=tables))


def test_a_report_waits_for_the_tables() -> None:
    tables = Tables(alice=AWAY)

    async def main(work: Work) -> None:
        name = await work.add("alice@home.test", kind=Kind.REPORT)
        await asyncio.sleep(30)
        assert work.states(name) == [Status.DEFERRED]
        tables.known = {"alice": ["bob@back.test"]}
        await work.idle()
        assert received(work.hops["back"]) == ["bob@back.test"]
        assert received(work.hops["home"]) == []
        assert work.reasons == []

    played(main, Work(find=tables))


@pytest.mark.parametrize("reply", [NOBODY, AWAY])
def test_a_report_that_finds_nobody_becomes_a_notice(reply: Reply) -> None:
    """At once, or when its time is over; the postmaster's own aliases are looked up."""
    tables = Tables(alice=reply, postmaster=["root@back.test"])

    async def main(work: Work) -> None:
        await work.add("alice@home.test", kind=Kind.REPORT)
        await work.idle()
        assert received(work.hops["home"]) == []
        (notice,) = work.hops["back"].seen
        assert notice.recipients == ["root@back.test"]
        assert b"alice@home.test" in notice.octets
        assert work.reasons == [Why.DOUBLE_BOUNCE, Why.NULL_SENDER]

    played(main, Work(find=tables))


@pytest.mark.parametrize("reply", [NOBODY, AWAY])
def test_a_notice_that_finds_nobody_is_held(reply: Reply) -> None:
    """The log has an error; released, it goes to whom the tables name then."""
    tables = Tables(postmaster=reply)

    async def main(work: Work) -> None:
        name = await work.add("postmaster@home.test", kind=Kind.NOTICE)
        await asyncio.sleep(30)
        assert work.states(name) == [Status.HELD if reply is NOBODY else Status.DEFERRED]
        await asyncio.sleep(4000)
        assert work.states(name) == [Status.HELD]
        assert work.journal.unaddressables == [("postmaster@home.test", str(reply))]
        assert len(work.journal.tries) == len(tables.asked) >= 1
        tables.known = {"postmaster": ["root@back.test"]}
        assert await work.acts.act("release", name)
        await work.idle(60)
        assert received(work.hops["back"]) == ["root@back.test"]
        assert work.reasons == []

    played(main, Work(find=tables, advisor=Silent()))


def test_who_is_behind_an_owner_is_not_looked_for_again() -> None:
    """That was done with the list."""
    tables = Tables(carol=["carol@home.test", "dan@home.test"])

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: NO
        member = Recipient(
            parse_address("bob@back.test"),
            sender=parse_address("owner-staff@home.test"),
            owners=(parse_address("carol@home.test"),),
        )
        message = work.message("bob@back.test", vouching=Vouching.NOBODY)
        message.recipients[0].data = encode_recipient(member)
        work.runner.added(await work.queue.enqueue(message))
        await work.idle(60)
        assert received(work.hops["home"]) == ["carol@home.test"]
        assert tables.asked == []

    played(main, Work(find=tables))
