"""Which of our domains seals what is passed on: the first that has keys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mta.authn import keysource
from mta.authn.dkimkeys import SigningKey
from mta.authn.keysource import FirstWithKeys
from tests.unit.dkim_kit import ED25519, RSA


class Source:
    """Keys in memory; who was asked for."""

    def __init__(self, keys: dict[str, tuple[SigningKey, ...]]) -> None:
        self.keys = keys
        self.asked: list[str] = []

    def signing_keys(self, domain: str) -> tuple[SigningKey, ...]:
        self.asked.append(domain)
        return self.keys.get(domain, ())


def first(keys: dict[str, tuple[SigningKey, ...]], domains: Iterable[str]) -> tuple[Source, FirstWithKeys]:
    source = Source(keys)
    return source, FirstWithKeys(source, tuple(domains))


def test_the_first_is_remembered() -> None:
    async def main() -> None:
        source, found = first({"b.test": (RSA,), "c.test": (ED25519,)}, ("a.test", "b.test", "c.test"))
        assert await found.keys() == (RSA,)
        assert source.asked == ["a.test", "b.test", "b.test"]
        assert await found.keys() == (RSA,)
        assert source.asked[3:] == ["b.test"]
        source.keys["b.test"] = (ED25519,)  # another key signs from now on
        assert await found.keys() == (ED25519,)
        assert await found.with_selector(RSA.selector) == ()
        assert await found.with_selector(ED25519.selector) == (ED25519,)

    asyncio.run(main())


def test_a_domain_that_has_lost_its_keys_is_replaced() -> None:
    async def main() -> None:
        source, found = first({"a.test": (RSA,), "b.test": (ED25519,)}, ("a.test", "b.test"))
        assert await found.keys() == (RSA,)
        del source.keys["a.test"]
        await found.keys()
        assert await found.keys() == (ED25519,)

    asyncio.run(main())


def test_it_is_looked_for_again() -> None:
    async def main() -> None:
        source, found = first({}, ("a.test", "b.test"))
        assert await found.keys() == ()
        source.keys["b.test"] = (RSA,)
        assert await found.keys() == ()
        found._next = 0.0  # a minute later
        assert await found.keys() == (RSA,)
        source.keys["a.test"] = (ED25519,)
        found._next = 0.0
        assert await found.keys() == (ED25519,)

    asyncio.run(main())


def test_thousands_without_keys_hold_nobody_up() -> None:
    """Each costs a system call or two: sessions would wait for a second."""

    async def main() -> None:
        domains = [f"d{number}.test" for number in range(20 * keysource.AT_ONCE)]
        source, found = first({"last.test": (RSA,)}, (*domains, "last.test"))
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(others())
        assert await asyncio.gather(*(found.keys() for _ in range(5))) == [(RSA,)] * 5
        other.cancel()
        assert turns >= 20
        assert source.asked.count("d0.test") == 1

    asyncio.run(main())
