"""The ARC sets of a message as they are written (RFC 8617 section 4): collected, numbered, checked for shape.

A set is three header fields with the same instance number `i=`: ARC-Authentication-Results (AAR),
ARC-Message-Signature (AMS) and ARC-Seal (AS). Nothing is looked up or computed here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from mta.authn.dkimlib import Malformed, tag_list
from mta.authn.dkimsignature import Signature, read_message_signature, read_seal
from sieve_ext.message import Field, Message

RESULTS, MESSAGE_SIGNATURE, SEAL = (
    "arc-authentication-results", "arc-message-signature", "arc-seal",
)  # fmt: skip
MAX_INSTANCE = 50
"""Sets that a message may have (section 4.2.1)."""

_instance = re.compile(rb"[ \t]*i[ \t]*=[ \t]*([0-9]{1,3})[ \t]*;").match

T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class ArcSet:
    """One set."""

    instance: int
    results: Field
    """What the sealer found out about the message."""
    message_signature: Signature
    seal: Signature

    @property
    def payload(self) -> str:
        """What the AAR says after its instance: an Authentication-Results value, unfolded."""
        return self.results.unfolded.partition(b";")[2].strip(b" \t").decode("latin-1")


def has_sets(message: Message) -> bool:
    """True when a message has any field of ARC."""
    return RESULTS in message or MESSAGE_SIGNATURE in message or SEAL in message


def read_sets(message: Message) -> list[ArcSet]:
    """The sets of a message, that of instance 1 first. Raises Malformed unless each is whole and alone."""
    fields = [message.all(name) for name in (RESULTS, MESSAGE_SIGNATURE, SEAL)]
    count = len(fields[0])
    if any(len(some) > MAX_INSTANCE for some in fields):
        raise Malformed(f"there are more than {MAX_INSTANCE} sets")
    if any(len(some) != count for some in fields):
        raise Malformed("a set is not whole")
    results: dict[int, Field] = {}
    for field in fields[0]:
        _number(results, field, _results_instance(field))
    signatures: dict[int, Signature] = {}
    for field in fields[1]:
        tags = tag_list(field.unfolded)
        _number(signatures, read_message_signature(field, tags), _tag_instance(tags))
    seals: dict[int, Signature] = {}
    for field in fields[2]:
        tags = tag_list(field.unfolded)
        _number(seals, read_seal(field, tags), _tag_instance(tags))
    numbers = range(1, count + 1)
    if not all(number in results and number in signatures and number in seals for number in numbers):
        raise Malformed("the sets are not numbered 1, 2, 3")
    return [ArcSet(number, results[number], signatures[number], seals[number]) for number in numbers]


def _number(known: dict[int, T], value: T, instance: int) -> None:
    if instance in known:
        raise Malformed(f"instance {instance} occurs twice")
    known[instance] = value


def _results_instance(field: Field) -> int:
    found = _instance(field.unfolded)
    if found is None:
        raise Malformed("ARC-Authentication-Results does not begin with its instance")
    return _checked(int(found[1]))


def _tag_instance(tags: dict[bytes, bytes]) -> int:
    value = tags.get(b"i", b"")
    if not value.isdigit() or len(value) > 3:
        raise Malformed("i= is no instance number")
    return _checked(int(value))


def _checked(instance: int) -> int:
    if not 1 <= instance <= MAX_INSTANCE:
        raise Malformed(f"i= is not from 1 to {MAX_INSTANCE}")
    return instance
