"""What an explanation asks nobody about: counters, and the programs that look at mail.

Counters are those of the running server, and an explanation may be asked for by who may not read them. So
nothing has happened too often yet, and every client has waited long enough. Milters, policy servers, scanners
and content filters may remember what they are told; they have nothing to say here. The explanation goes on,
and says at the place that the answer of the server may be another.
"""

from __future__ import annotations

from collections.abc import Iterator

from mta import config
from mta.assembly_filters import filtered, serving
from mta.policy.sieve.asking import Services
from mta.policy.sieve.greylist import AskGreylist, GreylistCommand, GreylistTest
from mta.policy.sieve.milter import MilterCommand
from mta.policy.sieve.policyserver import PolicyServerCommand
from mta.policy.sieve.rate import Count, RateTest
from mta.policy.sieve.scan import ScanCommand
from mta.policy.traced import describe
from sieve_ext import Event

NOT_LOOKED_AT = "(no counter was looked at)"
NOT_ASKED = "(it was not asked)"
_MARKS = {
    RateTest.word: NOT_LOOKED_AT,
    GreylistTest.word: NOT_LOOKED_AT,
    GreylistCommand.word: NOT_LOOKED_AT,
    MilterCommand.word: NOT_ASKED,
    PolicyServerCommand.word: NOT_ASKED,
    ScanCommand.word: NOT_ASKED,
}


def without_counters(services: Services) -> Services:
    """The services, with words that count in nobody's way."""
    return {**services, Count: lambda request, facts: False, AskGreylist: lambda request, facts: 0.0}


def shown(event: Event) -> str:
    """What happened, in one line for people; it says when others would have decided."""
    text = describe(event)
    mark = _MARKS.get(event.word)
    return f"{text} {mark}" if mark else text


def is_open(line: str) -> bool:
    """Whether a line of `shown` is one that others would have decided."""
    return line.endswith((NOT_LOOKED_AT, NOT_ASKED))


def programs_of(settings: config.Config, listener: str) -> Iterator[str]:
    """What takes part in all sessions of a listener whatever scripts say, in words."""
    for name in serving(settings.milters, listener):
        yield f"milter {name} takes part {NOT_ASKED}"
    if to := filtered(settings).get(listener):
        yield f"content {to.replace(':', ' ')} gets the message {NOT_ASKED}"
    if any(one.returns_to == listener for one in settings.filters.values()):
        yield "mail of this listener comes back from a content filter: the server asks the base policy alone"
