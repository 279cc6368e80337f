"""DKIM: each of our domains has keys that sign, and the DNS has their public halves (RFC 6376)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from mta.authn.dkimfolder import KeyFolder
from mta.authn.dkimkeys import KeyFileError, SigningKey
from mta.authn.dkimrecord import Published, compare, record_name, zone_line
from mta.authn.keysource import KeySource, KeyTable, nearest_keys
from mta.net.resolver.base import Answer
from mta.policy.watched import TableError
from mta.startup.claims import Site
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World

NO_SIGNING = 'tamis dkim new DOMAIN; in [signing]: keys = "dkim"'


async def dkim(site: Site, world: World) -> list[Result]:
    """The keys of our domains, or of the domain above them."""
    signing = site.settings.signing
    if not signing.keys and not signing.key_table:
        return [wrong("signing", "[signing] keys", "not set: mail is not signed", NO_SIGNING)]
    results: list[Result] = []
    keys: dict[tuple[str, str], SigningKey] = {}
    try:
        source = _source(site)
    except TableError as error:
        return [wrong("signing", signing.key_table, str(error), "[signing] key_table")]
    for domain in site.domains:
        try:
            found = nearest_keys(source, domain)
        except KeyFileError as error:
            results.append(wrong(domain, "the keys of the domain", str(error), "mend the file it names"))
            continue
        if not found:
            results.append(no_keys(domain, signing.keys or signing.key_table))
        keys |= {(key.domain, key.selector): key for key in found}
    names = [record_name(key.domain, key.selector) for key in keys.values()]
    answers = await asyncio.gather(*(world.ask(name, "TXT") for name in names))
    return results + [judge_key(key, answer) for key, answer in zip(keys.values(), answers, strict=True)]


def _source(site: Site) -> KeySource:
    signing = site.settings.signing
    if signing.keys:
        return KeyFolder(signing.keys)
    return KeyTable(Path(signing.key_table), time.monotonic, lambda text: None)


def no_keys(domain: str, place: str) -> Result:
    """A domain whose mail is not signed."""
    return wrong(
        domain, f"active keys in {place}", "there is none",
        f"tamis dkim new {domain}; publish what it prints; tamis dkim rotate {domain}",
    )  # fmt: skip


def judge_key(key: SigningKey, answer: Answer) -> Result:
    """Whether the DNS has this key."""
    name = record_name(key.domain, key.selector)
    seen = compare(key, answer)
    found = "; ".join((seen.reason or f"the {key.type} key that signs", *seen.warnings))
    match seen.state:
        case Published.OK:
            return ok(key.domain, f"TXT {name}", found)
        case Published.UNKNOWN:
            return unknown(key.domain, f"TXT {name}", found)
    return wrong(key.domain, f"TXT {name}", found, zone_line(key))
