"""pyspf without its sockets: a query that is evaluated again whenever it misses an answer of the DNS.

pyspf knows the language of SPF records (RFC 7208) and passes its test suite, but it asks the DNS itself and
blocks. `Engine` gives it answers from a table and raises `Miss` for what is not there; whoever runs it looks
that up and runs it again. An evaluation takes some 50 microseconds without its lookups and is repeated once
for each, so the cost stays small. What stock pyspf does in more than linear time or differently from the RFC
is replaced here: records are read and macros expanded by us (modifiers in any case, unknown ones however
often, redirect= counts only when it is followed, an include of itself is no mistake of syntax), terms are
read once for all runs, addresses are compared as numbers, records and terms have a size limit, a DNS error
behind `ptr` is no error of the check (section 5.5), and a void lookup counts once for each term (section
4.6.4), however many hosts without an IPv6 address an MX names.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

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

_modifier = re.compile(r"([a-z][a-z0-9_.-]*)=(.*)", re.IGNORECASE | re.DOTALL).fullmatch
_macro = re.compile(r"%(?:([%_-])|\{([slodiphcrtv])(0*[1-9][0-9]*)?(r?)([.+,/_=-]*)\})", re.IGNORECASE).match
_CODES = {"%": "%", "_": " ", "-": "%20"}

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

    def _mx(self, domain: str, bits: int) -> bool:
        """Whether an exchange of a domain matches; they are looked at in their order (section 5.4)."""
        exchanges = self.dns(domain, "MX")
        if len(exchanges) > spf.MAX_MX:
            raise PERM_ERROR(f"more than {spf.MAX_MX} MX records")
        is_void = bool(exchanges)
        for _, exchange in sorted(exchanges):
            found = self._records(exchange, self.A) or ()
            if self.cidrmatch(found, bits):
                return True
            is_void = is_void and not found
        if is_void:
            self.void_lookups += 1
            if self.void_lookups > MAX_VOID:
                raise PERM_ERROR(f"more than {MAX_VOID} lookups found nothing")
        return False

    def validated_ptrs(self) -> list[str]:
        """Names of the client that lead back to its address (RFC 7208 section 5.5)."""
        try:
            names = self.dns_ptr(self.i)
        except TEMP_ERROR:
            return []
        return [name.lower() for name in names[: spf.MAX_PTR] if self._leads_back(name)]

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

    def check0(self, spf: str | None, recursion: int) -> tuple[str, int, str]:
        """Result, SMTP code and explanation of a record; None or "" for no record."""
        if not spf:
            return "none", 250, ""
        mechanisms, redirect, explanation = self._once(("record", spf, self.d), lambda: self._record(spf), "")
        matched = next((one for one in mechanisms if self._matches(one[1], one[2], one[3], recursion)), None)
        if matched is None and redirect:
            self.check_lookups()
            target = self.dns_spf(redirect)
            if not target:
                raise PERM_ERROR("redirect domain has no SPF record", redirect)
            found: tuple[str, int, str] = self.check1(target, redirect, recursion)
            return found
        result: str = matched[4] if matched else "neutral"
        if recursion:
            return result, 250, ""
        self.mechanism = matched[0] if matched else None
        if result != "fail":
            return result, 250, ""
        return result, 550, self._explained(explanation)

    def _record(self, record: str) -> tuple[list[Any], str, str]:
        """The mechanisms of a record, its redirect= and exp=; all of it is read first (section 4.6)."""
        mechanisms: list[Any] = []
        modifiers: dict[str, str] = {}
        for term in record.split(" ")[1:]:
            modifier = _modifier(term)
            if modifier is None:
                if term:
                    mechanisms.append(self.validate_mechanism(term))
                continue
            name, value = modifier[1].lower(), modifier[2]
            if name not in ("redirect", "exp"):
                self.expand(value)  # of others nothing but the syntax counts, however often (section 6)
            elif name in modifiers or not value:
                raise PERM_ERROR(f"{name}= without a domain, or twice", term)
            else:
                modifiers[name] = self.expand_domain(value)
        return mechanisms, modifiers.get("redirect", ""), modifiers.get("exp", "")

    def _matches(self, name: str, argument: str, bits: int, recursion: int) -> bool:
        """Whether a mechanism matches (section 5)."""
        if name not in ("all", "ip4", "ip6"):
            self.check_lookups()
        match name:
            case "include":
                result, _, _ = self.check1(self.dns_spf(argument), argument, recursion + 1)
                if result == "none":
                    raise PERM_ERROR("No valid SPF record for included domain", argument)
                return bool(result == "pass")
            case "exists":
                return bool(self.dns_a(argument, "A"))
            case "a":
                return self.cidrmatch(self.dns_a(argument, self.A), bits)
            case "mx":
                return self._mx(argument, bits)
            case "ip4" | "ip6":
                return name.endswith(str(self.ipaddr.version)) and self.cidrmatch([argument], bits)
            case "ptr":
                return bool(spf.domainmatch(self.validated_ptrs(), argument))
            case _:
                return True

    def _explained(self, domain: str) -> str:
        """The text of exp=; what is wrong with it, or missing, is no error of the check (section 6.2)."""
        try:
            return (self.get_explanation(domain) if domain else None) or ""
        except (PERM_ERROR, TEMP_ERROR, Miss):
            return ""

    def validate_mechanism(self, mech: str) -> Any:
        """The parts of a term, read once."""
        return self._once(("term", mech, self.d), lambda: self._mechanism(mech), mech)

    def _mechanism(self, written: str) -> Any:
        try:
            return super().validate_mechanism(written)
        except PERM_ERROR as error:
            # Not a matter of syntax: a mechanism before it may match, and if not, the lookups run out.
            if error.args[0] != "include has trivial recursion":
                raise
            return written, "include", self.d, self.cidrmax, spf.RESULTS.get(written[0], "pass")

    def expand(self, s: str, stripdot: bool = True) -> Any:
        """A string with its macros expanded (RFC 7208 section 7), once."""
        kind = "name" if stripdot else "text"
        return self._once((kind, s, self.d), lambda: self._expanded(s, stripdot), s)

    def _expanded(self, text: str, is_name: bool) -> str:
        parts: list[str] = []
        position = 0
        while (mark := text.find("%", position)) >= 0:
            macro = _macro(text, mark)
            if macro is None or (is_name and (macro[2] or "").lower() in ("c", "r", "t")):
                raise PERM_ERROR("not a macro here", text[mark:])
            parts += (text[position:mark], _CODES[macro[1]] if macro[1] else self._macro(*macro.groups()[1:]))
            position = macro.end()
        found = "".join(parts) + text[position:]
        if is_name:
            found = found.removesuffix(".")
            while len(found) > 253 and "." in found:  # section 7.3: labels go from the left
                found = found.partition(".")[2]
        return found

    def _macro(self, letter: str, digits: str, reverse: str, delimiters: str) -> str:
        """One macro expanded (section 7.3)."""
        value: str = self.getp() if letter in "pP" else getattr(self, letter.lower())
        if digits or reverse or delimiters:
            for sign in delimiters:
                value = value.replace(sign, "\0")
            labels = value.split("\0" if delimiters else ".")
            if reverse:
                labels.reverse()
            value = ".".join(labels[-int(digits) :] if digits else labels)
        return value if letter.islower() else quote(value, safe="~")

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
