"""pyspf without its sockets: a query that is evaluated again whenever it misses an answer of the DNS.

pyspf knows the language of SPF records (RFC 7208) and passes its test suite, but it asks the DNS itself and
blocks. `Engine` gives it answers from a table and raises `Miss` for what is not there; whoever runs it looks
that up and runs it again. An evaluation takes some 50 microseconds without its lookups and is repeated once
for each, so the cost stays small. What stock pyspf does in more than linear time or differently from the RFC
is replaced here: terms are read once for all runs, addresses are compared as numbers, records and terms have
a size limit, a DNS error behind `ptr` is no error of the check (section 5.5), and a void lookup counts once
for each term (section 4.6.4), however many hosts without an IPv6 address an MX names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import spf  # type: ignore[import-untyped]

from mta.net.resolver.base import Answer
from mta.net.resolver.names import wire_name

MAX_RECORD = 4096
"""Octets of a record that is evaluated; RFC 7208 section 3.4 wants to see no more than 512."""
MAX_TERM = 512
"""Octets of one term and of an explanation: a name has 253, macros included or not."""
MAX_ADDRESSES = 512
"""Addresses of one name that are compared."""
MAX_VOID = 2
"""Terms whose lookups found nothing (RFC 7208 section 4.6.4)."""

PERM_ERROR: type[Exception] = spf.PermError
TEMP_ERROR: type[Exception] = spf.TempError

Key = tuple[str, str]
"""Name in lower case and type of a question."""


class Miss(BaseException):
    """An answer is missing. No Exception, so that nothing in pyspf mistakes it for an error of its own."""

    def __init__(self, key: Key) -> None:
        """`key` is the question to ask before the next run."""
        super().__init__(key)
        self.key = key


class Memory:
    """What runs of one check share: answers of the DNS, and what has been read already."""

    __slots__ = ("answers", "read", "unseen")

    def __init__(self) -> None:
        self.answers: dict[Key, Answer] = {}
        self.read: dict[tuple[str, ...], Any] = {}
        self.unseen: list[Key] = []
        """Questions that were missing in the last run; of these pyspf swallows those of an explanation."""


class Engine(spf.query):  # type: ignore[misc]
    """One run of a check."""

    def __init__(
        self, memory: Memory, address: str, local: str, domain: str, helo: str, receiver: str
    ) -> None:
        """`address` is an IP address, `domain` in A-labels; see `mta.authn.spf.check_host`."""
        super().__init__(i=address, s=f"postmaster@{domain}", h=helo, receiver=receiver)
        # Set by hand: pyspf would take the domain to begin behind the first "@", also of a quoted one.
        self.l = local or "postmaster"
        self.o = self.d = domain
        self.s = f"{self.l}@{domain}"
        self.memory = memory
        memory.unseen.clear()
        self.set_default_explanation("")

    def dns(self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False) -> list[Any]:
        """Records as pyspf wants them; CNAMEs were followed by the resolver."""
        found = self._records(str(name), qtype)
        if found is None:
            return []
        if not found and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > MAX_VOID:
                raise PERM_ERROR(f"more than {MAX_VOID} lookups found nothing")
        return found

    def _records(self, name: str, qtype: str) -> list[Any] | None:
        """Records, none, or None for a name that cannot be asked for."""
        # RFC 8616 section 4: what a local part beyond ASCII expands to matches nothing.
        if not name.isascii() or wire_name(name) is None:
            return None
        key = name.lower().rstrip("."), qtype
        answer = self.memory.answers.get(key)
        if answer is None:
            self.memory.unseen.append(key)
            raise Miss(key)
        if not answer.usable:
            raise TEMP_ERROR(f"{qtype} of {key[0]}: {answer.reason or 'no answer'}")
        return plain_records(answer, qtype)

    def dns_spf(self, domain: str) -> Any:
        """The record of a domain, None without one."""
        record = super().dns_spf(domain)
        if record is not None and len(record) > MAX_RECORD:
            raise PERM_ERROR("the record is too long")
        return record

    def dns_mx(self, domainname: str) -> list[str]:
        """Addresses of the exchanges of a domain."""
        exchanges = self.dns(domainname, "MX")
        if len(exchanges) > spf.MAX_MX:
            raise PERM_ERROR(f"more than {spf.MAX_MX} MX records")
        found: list[str] = []
        for _, exchange in sorted(exchanges):
            found += self._records(exchange, self.A) or ()
        if exchanges and not found:
            self.void_lookups += 1
            if self.void_lookups > MAX_VOID:
                raise PERM_ERROR(f"more than {MAX_VOID} lookups found nothing")
        return found

    def validated_ptrs(self) -> list[str]:
        """Names of the client that lead back to its address (RFC 7208 section 5.5)."""
        try:
            names = self.dns_ptr(self.i)
        except TEMP_ERROR:
            return []
        return [name for name in names[: spf.MAX_PTR] if self._leads_back(name)]

    def _leads_back(self, name: str) -> bool:
        try:
            return self.cidrmatch(self._records(name, self.A) or (), self.cidrmax)
        except (TEMP_ERROR, PERM_ERROR):  # the client's own zone may not decide about another's record
            return False

    def cidrmatch(self, ipaddrs: Any, n: int) -> bool:
        """Whether the client is in one of the networks of `n` bits."""
        if len(ipaddrs) > MAX_ADDRESSES:
            raise PERM_ERROR("too many addresses")
        shift = self.cidrmax - n
        wanted = int(self.ipaddr) >> shift
        for text in ipaddrs:
            version, number = self._number(text)
            if number >> shift == wanted and version == self.ipaddr.version:
                return True
        return False

    def _number(self, text: str) -> tuple[int, int]:
        """IP version and address as a number."""
        key = "address", text
        found: tuple[int, int] | None = self.memory.read.get(key)
        if found is None:
            try:
                address = ipaddress.ip_address(text)
            except ValueError as error:
                raise PERM_ERROR("not an IP address") from error
            found = self.memory.read[key] = address.version, int(address)
        return found

    def validate_mechanism(self, mech: str) -> Any:
        """The parts of a term, read once."""
        return self._once(("term", mech, self.d), lambda: super(Engine, self).validate_mechanism(mech), mech)

    def expand(self, s: str, stripdot: bool = True) -> Any:
        """A string with its macros expanded (RFC 7208 section 7), once."""
        kind = "name" if stripdot else "text"
        return self._once((kind, s, self.d), lambda: self._expanded(s, stripdot), s)

    def _expanded(self, text: str, stripdot: bool) -> str:
        found: str = super().expand(text, stripdot)
        while stripdot and len(found) > 253 and "." in found:  # section 7.3: labels go from the left
            found = found.partition(".")[2]
        return found

    def _once(self, key: tuple[str, ...], read: Callable[[], Any], text: str) -> Any:
        memory = self.memory.read
        if key not in memory:
            if len(text) > MAX_TERM:
                raise PERM_ERROR("a term is too long")
            try:
                memory[key] = read()
            except PERM_ERROR as error:
                memory[key] = error
        found = memory[key]
        if isinstance(found, Exception):
            raise found
        return found


def plain_records(answer: Answer, qtype: str) -> list[Any]:
    """The records of an answer in the forms of pyspf."""
    match qtype:
        case "TXT":
            return [(text,) for text in answer.texts]
        case "MX":
            return [(record.preference, record.exchange.to_text(True)) for record in _of(answer)]
        case "PTR":
            return [record.target.to_text(True) for record in _of(answer)]
        case _:
            return [record.address for record in _of(answer)]


def _of(answer: Answer) -> tuple[Any, ...]:
    return answer.records
