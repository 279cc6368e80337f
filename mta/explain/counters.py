"""Words that count, in an explanation: nothing is counted, and no counter is looked at.

Counters are those of the running server, and an explanation may be asked for by who may not read them. So
nothing has happened too often yet, and every client has waited long enough: the explanation goes on, and says
at the place that the answer of the server may be another.
"""

from __future__ import annotations

from mta.policy.sieve.asking import Services
from mta.policy.sieve.greylist import AskGreylist, GreylistCommand, GreylistTest
from mta.policy.sieve.rate import Count, RateTest
from mta.policy.traced import describe
from sieve_ext import Event

NOT_LOOKED_AT = "(no counter was looked at)"
_WORDS = frozenset((RateTest.word, GreylistTest.word, GreylistCommand.word))


def without_counters(services: Services) -> Services:
    """The services, with words that count in nobody's way."""
    return {**services, Count: lambda request, facts: False, AskGreylist: lambda request, facts: 0.0}


def shown(event: Event) -> str:
    """What happened, in one line for people, who are told when a counter would have decided."""
    text = describe(event)
    return f"{text} {NOT_LOOKED_AT}" if event.word in _WORDS else text


def is_open(line: str) -> bool:
    """Whether a line of `shown` is one that a counter would have decided."""
    return line.endswith(NOT_LOOKED_AT)
