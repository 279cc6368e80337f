"""Invariant: whatever stands in a policy file, an alias file or an address, it is used or refused, and it
ends.

Run ``python -m tests.fuzz.fuzz_policy [-max_total_time=SECONDS] [CORPUS]``. `check` is also run with
generated octets by the unit tests. A policy that loads is done at each stage; only what the runs themselves
report may go wrong. Aliases of any content end in addresses, or in an AliasError; no return address is found
that was not made.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from mta.address import Address, AddressError, parse_address
from mta.policy.aliases import OWNERS_MOST, AliasError, Member, expand, read_targets
from mta.policy.sieve.facts import STAGES
from mta.policy.srs import Srs, SrsError, SrsSettings
from mta.policytest.answers import TestTable
from mta.policytest.world import NOW, World
from mta.tables.aliases import parse_aliases
from sieve_ext import Settings
from sieve_ext.message import Message

DOMAINS = {"a.test": "+", "b.test": "-+"}
SRS = Srs(SrsSettings(["a secret that nobody knows"], "a.test", hash_length=16))
MESSAGE = b"From: a@a.test\r\nSubject: x\r\n\r\nbody\r\n"


def check(data: bytes) -> None:
    """The first octet says what the rest is."""
    text = data[1:].decode("utf-8", "replace")
    match data[:1]:
        case b"a":
            _aliases(text)
        case b"s":
            _address(text)
        case _:
            _policy(data[1:])


def _aliases(text: str) -> None:
    """An alias file, and all that it leads to."""
    wrong: list[int] = []
    table = parse_aliases(text.split("\n"), lambda number, reason: wrong.append(number))
    if wrong:
        return
    for name, value in table.items():
        assert read_targets(value)
        try:
            start = parse_address(name if "@" in name else f"{name}@a.test").to_ascii()
        except AddressError:
            continue
        found = _expanded(start, table)
        assert len(found) == len({one.address.text for one in found})
        for one in found:
            assert one.owner is None or 0 < len(one.owner.people) <= OWNERS_MOST


def _expanded(start: Address, table: dict[str, str]) -> tuple[Member, ...]:
    """Who is behind an address; nobody when the aliases are not in order."""
    going = expand(start, DOMAINS.get)
    try:
        key = next(going)
        while True:
            key = going.send(table.get(key))
    except StopIteration as end:
        return end.value or ()
    except AliasError:
        return ()


def _address(text: str) -> None:
    """A return address, and a sender to be rewritten."""
    try:
        address = parse_address(text)
    except AddressError:
        return
    with suppress(SrsError):
        assert SRS.reverse(address, NOW) is None
    try:
        made = SRS.forward(address, NOW)
    except SrsError:
        return
    found = SRS.reverse(made, NOW)
    assert found is not None
    assert found.domain == address.domain or address.local[:4].upper() == "SRS1"


def world() -> World:
    """A server with a table, a milter and one person."""
    made = World()
    made.add_person("ann@a.test")
    made.tables["t"] = TestTable({"ann@a.test": "bob@a.test, x@far.test", "bob": "ann"})
    made.answers.say("milter", "m", ["550 5.7.1 no"])
    return made


def _policy(octets: bytes) -> None:
    """A policy file, done at each stage."""
    server = world()
    if server.load("policy.sieve", octets, Settings()):
        return
    for stage in STAGES:
        server.run(stage, "eve@far.test", "ann@a.test", "", Message(MESSAGE))


def main() -> None:
    """Fuzz."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
