"""A resolver for tests: answers from a table, written as in a zone file, without a network.

    dns = FakeResolver()
    dns.add("example.org", "MX", "10 mx.example.org")
    dns.add("example.org", "TXT", '"v=spf1 mx -all"')
    dns.fail("slow.example")             # all types: FAIL
    dns.status("signed.example", Status.SECURE)

A name exists when it or a name below it has an entry (RFC 8020). CNAMEs are followed.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.rdata import Rdata

from mta.net.resolver.base import Answer, Status
from mta.net.resolver.names import name_text, wire_name
from mta.net.resolver.stub import NO_NAME

CHAIN = 10
"""CNAMEs that are followed."""


class FakeResolver:
    """A `mta.net.resolver.base.Resolver` of a table. `asked` lists (name, type) of all questions."""

    def __init__(self) -> None:
        """Nothing exists yet."""
        self.asked: list[tuple[str, str]] = []
        self.delay = 0.0
        """Seconds that each answer takes."""
        self._records: dict[tuple[str, str], list[Rdata]] = {}
        self._broken: dict[tuple[str, str], Answer] = {}
        self._statuses: dict[str, Status] = {}
        self._names: set[str] = {"."}

    def add(self, name: str, rdtype: str, *values: str) -> None:
        """Add records, each written as in a zone file; names in them are absolute. No values: an empty name.

        Raises ValueError for a name that is none, dnspython's errors for values that cannot be read.
        """
        key = self._register(name)
        for value in values:
            record = dns.rdata.from_text(
                dns.rdataclass.IN, dns.rdatatype.from_text(rdtype), value, dns.name.root, relativize=False
            )
            self._records.setdefault((key, rdtype.upper()), []).append(record)

    def remove(self, name: str, rdtype: str) -> None:
        """Take the records of one type away; the name stays."""
        self._records.pop((self._register(name), rdtype.upper()), None)

    def text(self, name: str, *texts: str | bytes) -> None:
        """Add TXT records, one for each of `texts`, whatever octets they hold."""
        for text in texts:
            octets = text.encode() if isinstance(text, str) else text
            strings = [octets[start : start + 255] for start in range(0, len(octets), 255)] or [b""]
            wire = b"".join(bytes((len(string),)) + string for string in strings)
            record = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.TXT, wire, 0, len(wire))
            self._records.setdefault((self._register(name), "TXT"), []).append(record)

    def fail(
        self, name: str, rdtype: str = "", status: Status = Status.FAIL, reason: str = "SERVFAIL"
    ) -> None:
        """Questions for `name` (of one type, or of all) fail."""
        self._broken[self._register(name), rdtype.upper()] = Answer(status, reason=reason)

    def status(self, name: str, status: Status) -> None:
        """Answers about `name` and all below it are `status` and not INSECURE."""
        self._statuses[self._register(name)] = status

    def close(self) -> None:
        """There is nothing to close."""

    async def query(self, name: str, rdtype: str, deadline: float) -> Answer:
        """See `mta.net.resolver.base.Resolver`."""
        wire = wire_name(name)
        if wire is None:
            return NO_NAME
        key = name_text(wire)
        rdtype = rdtype.upper()
        self.asked.append((key, rdtype))
        loop = asyncio.get_running_loop()
        left = deadline - loop.time()
        if left <= self.delay:
            await asyncio.sleep(max(left, 0))
            return Answer(Status.FAIL, reason="no answer in time")
        await asyncio.sleep(self.delay)
        answer = self._answer(key, rdtype)
        status = self._status(key)
        return replace(answer, status=status) if answer.usable and status is not None else answer

    def _answer(self, name: str, rdtype: str) -> Answer:
        asked = name
        for _ in range(CHAIN):
            broken = self._broken.get((name, rdtype)) or self._broken.get((name, ""))
            if broken is not None:
                return broken
            records = self._records.get((name, rdtype))
            aliases = self._records.get((name, "CNAME"))
            if records or not aliases:
                break
            name = aliases[0].to_text().rstrip(".").lower()
        canonical = "" if name == asked else name
        return Answer(
            Status.INSECURE, tuple(records or ()), 300.0, exists=name in self._names, canonical=canonical
        )

    def _register(self, name: str) -> str:
        wire = wire_name(name)
        if wire is None:
            raise ValueError(f"not a domain name: {name!r}")
        key = name_text(wire)
        parent = key
        while parent:
            self._names.add(parent)
            parent = parent.partition(".")[2]
        return key

    def _status(self, name: str) -> Status | None:
        while name:
            if name in self._statuses:
                return self._statuses[name]
            name = name.partition(".")[2]
        return self._statuses.get(".")
