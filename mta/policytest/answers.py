"""What the services of a server would say, as a test file has it: tables, DNS, authentication, filters,
counters.

Where the server's own code can answer - tables, aliases, counters, greylists, return addresses, the
configuration's domains - it does, from what the test has said. The rest is answered by `test_answer`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from mta.policy.external.policyservers import Told
from mta.policy.external.scanwire import Found as Scanned
from mta.policy.ledger import Change, State
from mta.policy.sieve.asking import Handler, Unavailable
from mta.policy.sieve.auth import Authenticate
from mta.policy.sieve.dnsnet import DnsList, DnsLists, Records, ReverseName
from mta.policy.sieve.facts import Facts
from mta.policy.sieve.milter import AskMilter
from mta.policy.sieve.policyserver import AskPolicyServer
from mta.policy.sieve.scan import Scan
from mta.reply import Reply
from mta.tables.table import TableUnavailable
from sieve_ext import Request

KINDS = (
    "arc", "dkim", "dmarc", "dns", "dnsbl", "helo", "iprev", "milter", "owns_sender", "policy_server",
    "reverse_dns", "scan", "spf",
)  # fmt: skip
"""What `test_answer` may be about."""
AWAY = "away"
"""The answer of a service that cannot be asked."""

_REPLY = re.compile(r"([45]\d\d) ([45]\.\d{1,3}\.\d{1,3}) (.*)", re.DOTALL)


class AnswerError(ValueError):
    """An answer that the service cannot give; the text says what is expected."""


@dataclass(slots=True)
class TestTable:
    """A table of a test (`mta.tables.table.Table`)."""

    __test__ = False

    entries: dict[str, str] = field(default_factory=dict)
    is_away: bool = False

    def get(self, key: str) -> str | None:
        """The value of `key`."""
        if self.is_away:
            raise TableUnavailable("the test says so")
        return self.entries.get(key.lower())

    async def close(self) -> None:
        """Nothing is open."""


class MemoryLedger:
    """Counters of a test (`mta.policy.ledger.Ledger`). What has expired is not there."""

    def __init__(self) -> None:
        """Empty."""
        self._entries: dict[str, tuple[State, float]] = {}
        self.now = 0.0
        """Seconds of the epoch."""

    async def update(self, key: str, change: Change) -> Any:
        """Change what is kept of `key`."""
        kept = self._entries.get(key)
        made = change(kept[0] if kept is not None and kept[1] > self.now else None)
        if made.state is not None:
            self._entries[key] = (made.state, made.expires)
        return made.answer

    async def close(self) -> None:
        """Nothing is open."""


class Answers:
    """What `test_answer` has said, by kind and name."""

    def __init__(self) -> None:
        """Nothing was said."""
        self._said: dict[tuple[str, str], tuple[str, ...]] = {}

    def say(self, kind: str, name: str, answer: Sequence[str]) -> None:
        """From now on that is the answer. Raises AnswerError."""
        if kind in ("milter", "policy_server") and tuple(answer) != (AWAY,):
            for text in answer:
                read_reply(text)
        if kind == "scan" and tuple(answer) != (AWAY,):
            _scanned(answer)
        self._said[kind, name.lower()] = tuple(answer)

    def names(self, kind: str) -> list[str]:
        """Of what was said something."""
        return [name for one, name in self._said if one == kind]

    def of(self, kind: str, name: str = "") -> tuple[str, ...] | None:
        """The answer, None when nothing was said."""
        return self._said.get((kind, name.lower()))

    @property
    def services(self) -> dict[type[Request], Handler]:
        """Who answers what."""
        return {
            Authenticate: self._authenticate,
            ReverseName: lambda request, facts: self._first("reverse_dns"),
            Records: lambda request, facts: self._list("dns", f"{request.type} {request.name}"),
            DnsLists: lambda request, facts: [self._listed(one) for one in request.lists],
            AskMilter: self._milter,
            AskPolicyServer: self._policy_server,
            Scan: self._scan,
        }

    def _first(self, kind: str) -> str | Unavailable:
        found = self._list(kind, "")
        return found if isinstance(found, Unavailable) else "".join(found[:1])

    def _list(self, kind: str, name: str) -> list[str] | Unavailable:
        said = self.of(kind, name)
        return Unavailable(f"{kind}: the test says so") if said == (AWAY,) else list(said or ())

    def _listed(self, one: DnsList) -> list[str] | Unavailable:
        about = one.zone if one.domain is None else f"{one.domain}.{one.zone}"
        return self._list("dnsbl", about)

    def _authenticate(self, request: Authenticate, facts: Facts) -> Any:
        if request.method == "dkim":
            return [
                SimpleNamespace(
                    result=_result(result),
                    domain=name.partition(" ")[0],
                    signature=SimpleNamespace(selector=name.partition(" ")[2]),
                )
                for name in self.names("dkim")
                for result in self.of("dkim", name) or ()
            ]
        said = self.of(request.method) or ("none",)
        rest = said[1:]
        match request.method:
            case "dmarc":
                return SimpleNamespace(
                    result=_result(said[0]),
                    disposition=_result(*rest[:1] or ("none",)),
                    dkim_aligned=rest[1:],
                )
            case "arc":
                sealers = [one for one in rest if "=" not in one]
                return SimpleNamespace(
                    result=_result(said[0]), sets=sealers, sealers=sealers,
                    said=frozenset(one for one in rest if "=" in one),
                )  # fmt: skip
        return SimpleNamespace(result=_result(said[0]), domain="".join(rest[:1]))

    def _milter(self, request: AskMilter, facts: Facts) -> Any:
        said = self.of("milter", request.milter)
        return (None if not said else read_reply(said[0])), None

    def _policy_server(self, request: AskPolicyServer, facts: Facts) -> Told | None:
        said = self.of("policy_server", request.server)
        if not said:
            return None
        return Told(failure="the test says so") if said == (AWAY,) else Told(read_reply(said[0]))

    def _scan(self, request: Scan, facts: Facts) -> Scanned | Unavailable | None:
        said = self.of("scan", request.scanner)
        if not said:
            return None
        return Unavailable("scan: the test says so") if said == (AWAY,) else _scanned(said)


def read_reply(text: str) -> Reply:
    """A refusal such as "550 5.7.1 text". Raises AnswerError."""
    found = _REPLY.fullmatch(text)
    if found is None:
        raise AnswerError(f"'{text[:80]}' is no refusal such as '550 5.7.1 text'")
    return Reply(int(found[1]), found[2], found[3])


def _scanned(answer: Sequence[str]) -> Scanned:
    """ "spam 0.8", "virus 5", and names. Raises AnswerError."""
    spam = virus = None
    names = []
    for text in answer:
        what, _, value = text.partition(" ")
        try:
            if what == "spam":
                spam = float(value)
            elif what == "virus":
                virus = int(value)
            else:
                names.append(text)
        except ValueError:
            raise AnswerError(f"'{text[:80]}' is nothing such as 'spam 0.8' or 'virus 5'") from None
    return Scanned(spam, virus, tuple(names))


def _result(text: str) -> SimpleNamespace:
    return SimpleNamespace(value=text.lower())
