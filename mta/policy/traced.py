"""`TracedPolicy`: some sessions go through scripts that tell the log what they do (`policy.trace`).

Two policies of the same files: the usual one, which pays nothing, and one whose scripts are compiled with the
calls in place.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from mta import log
from mta.net.limits import Networks
from mta.policy.forwarding import Forwarding
from mta.policy.verdict import Policy
from mta.session import Session
from sieve_ext import Event


class TracedPolicy(Forwarding):
    """`mta.policy.verdict.Policy` of two."""

    def __init__(self, usual: Policy, traced: Policy, wants: Callable[[Session], bool]) -> None:
        """`wants` tells which sessions are traced; it may change its mind when a user logs in."""
        super().__init__(usual)
        self._traced = traced
        self._wants = wants

    def behind(self, session: Session) -> Policy:
        """The one that tells, or the usual one."""
        return self._traced if self._wants(session) else self.inner


def chosen(entries: Sequence[str]) -> Callable[[Session], bool]:
    """Which sessions policy.trace names: clients of its networks, and its users."""
    networks = [entry for entry in entries if is_network(entry)]
    users = frozenset(entries) - frozenset(networks)
    clients = Networks(networks)

    def wants(session: Session) -> bool:
        return session.user in users or clients.contain_text(session.client_address)

    return wants


def is_network(entry: str) -> bool:
    """True for an address or a prefix, False for the name of a user."""
    try:
        ipaddress.ip_network(entry)
    except ValueError:
        return False
    return True


def tell_log(session: Session, stage: str, file: str, event: Event) -> None:
    """One line of the log for each thing that happens."""
    log.get("policy").info(
        "trace",
        session=session.id,
        stage=stage,
        place=f"{file}:{event.position.line}",
        what=describe(event),
    )


def describe(event: Event) -> str:
    """What happened, in one line for people."""
    if event.kind != "test":
        return f"{event.kind} {event.word}"
    result = "yes" if event.result else "no"
    if not event.keys:
        return f"test {event.word}: {result}"
    return f"test {event.word} {list(event.values)} against {list(event.keys)}: {result}"
