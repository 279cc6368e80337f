"""A queued message that is sent to somebody else: what is reported of that one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mta.address import parse_address
from mta.envelope import Recipient
from mta.spool.record import encode_recipient
from tests.unit.spool_kit import LATER, NO, Work, played


@pytest.mark.parametrize(
    ("wishes", "reported"),
    [
        ([None], True),
        ([frozenset({"NEVER"})], False),
        ([frozenset({"SUCCESS"})], False),
        ([frozenset({"NEVER"}), None], True),
        ([frozenset({"NEVER"}), frozenset({"DELAY"})], False),
        ([frozenset({"FAILURE"}), frozenset({"SUCCESS"})], True),
    ],
)
def test_who_gets_it_instead_is_reported_on_as_the_sender_has_asked(
    wishes: list[frozenset[str] | None], reported: bool
) -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        work.hops["relay"].answer = lambda address, call: NO
        new = work.message(*(f"bob{number}@back.test" for number in range(len(wishes))))
        new.recipients = [
            replace(one, data=encode_recipient(Recipient(parse_address(one.address), notify)))
            for one, notify in zip(new.recipients, wishes, strict=True)
        ]
        name = await work.queue.enqueue(new)
        work.runner.added(name)
        await asyncio.sleep(5)
        assert await work.acts.act("redirect", name, to="carol@relay.test")
        await work.idle(10)
        told = work.hops["home"].seen
        assert len(told) == reported
        if reported:
            assert (b"Original-Recipient: rfc822; bob0@back.test" in told[0].octets) == (len(wishes) == 1)

    played(main)


def test_who_gets_it_in_place_of_a_member_of_a_list_is_the_owners_as_well() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        work.hops["relay"].answer = lambda address, call: NO
        new = work.message("bob@back.test")
        owner = parse_address("owner-list@home.test")
        member = Recipient(
            parse_address("bob@back.test"), sender=owner, owners=(parse_address("carl@home.test"),)
        )
        new.recipients = [replace(one, data=encode_recipient(member)) for one in new.recipients]
        name = await work.queue.enqueue(new)
        work.runner.added(name)
        await asyncio.sleep(5)
        assert await work.acts.act("redirect", name, to="carol@relay.test")
        await work.idle(10)
        assert work.hops["relay"].seen[0].envelope.sender == owner
        assert [seen.recipients for seen in work.hops["home"].seen] == [["carl@home.test"]]

    played(main)
