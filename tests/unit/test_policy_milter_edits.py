"""What edits of milters make of recipients: those that they put in the place of others."""

from __future__ import annotations

import pytest

from mailmilter.values import AddRecipient, DeleteRecipient, Edit
from mta.address import parse_address
from mta.envelope import Recipient
from mta.policy.milter.edits import changes_of, shown_to_milters
from sieve_ext.message import Message


@pytest.mark.parametrize(
    ("said", "deleted", "notify"),
    [
        ({"NEVER"}, True, {"NEVER"}),
        ({"SUCCESS"}, True, {"SUCCESS"}),
        (None, True, None),
        (None, False, {"NEVER"}),
    ],
)
def test_one_in_the_place_of_another_is_reported_as_the_sender_has_asked(
    said: set[str] | None, deleted: bool, notify: set[str] | None
) -> None:
    message = Message(b"Subject: x\r\n\r\nbody\r\n")
    people = [Recipient(parse_address("b@x.test"), None if said is None else frozenset(said))]
    edits: list[Edit] = [AddRecipient(b"c@x.test")]
    if deleted:
        edits.append(DeleteRecipient(b"b@x.test"))
    edited = shown_to_milters(message, people, b"", b"")
    fields = list(edited.fields)
    edited.apply(edits)
    changes = changes_of(edits, edited, fields, message, people, ["b@x.test"], "mx.test")
    assert [(one.address.text, one.notify) for one in changes.added] == [("c@x.test", notify)]
