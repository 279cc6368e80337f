"""`tamis dns`: the records that our domains need, printed, compared with the DNS, or published by an update.

Exit statuses: 0 done (and with --compare: all is published), 1 something is missing or the update failed, 2
wrong usage or an answer of the DNS is missing, 78 the configuration cannot be used.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mta import config
from mta.authn.dkimkeys import KeyFileError
from mta.cli_exit import EXIT_CONFIG, EXIT_FAILED, EXIT_USAGE
from mta.folders import in_words
from mta.net.certificates import CertificateError
from mta.net.resolver.base import Answer
from mta.queue_stores import become_server_user, read_configuration
from mta.spool.remote import QueueProblem
from mta.startup.claims import Site, site_of
from mta.startup.comparing import Compared, State, compare
from mta.startup.material import certificate_file, chains, keys_to_publish
from mta.startup.publish import Record, records, sets, zone_file

EXIT_UNKNOWN = 2
"""The DNS did not say enough."""


def show(
    path: str,
    following: str,
    *,
    comparing: bool,
    as_machine: bool,
    server: str,
    key: str,
    zones: Sequence[str],
) -> int:
    """Run the command; returns the exit status. `following` is a file with the next certificate."""
    try:
        settings = read_configuration(path)
        secret = Path(key).read_text() if key else ""
        become_server_user(settings)
        site = site_of(settings)
        found, answers = asyncio.run(_gather(site, following, ask=comparing or bool(server)))
    except config.ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except (QueueProblem, KeyFileError, CertificateError, OSError, ValueError) as error:
        print(f"tamis: {in_words(error)}", file=sys.stderr)
        return EXIT_CONFIG
    if not comparing and not server:
        print(_json(found) if as_machine else zone_file(found), end="\n" if as_machine else "")
        return 0
    compared = compare(sets(found), answers)
    if server:
        return _update(sets(found), compared, server, secret, zones or site.domains)
    _print(compared, as_machine)
    states = {one.state for one in compared}
    if states & {State.MISSING, State.DIFFERENT}:
        return EXIT_FAILED
    return EXIT_UNKNOWN if State.UNKNOWN in states else 0


async def _gather(
    site: Site, following: str, *, ask: bool
) -> tuple[list[Record], dict[tuple[str, str], Answer]]:
    from mta.daemon_dns import build_resolver
    from mta.startup.identity import our_addresses
    from mta.startup.world import World

    resolver = build_resolver(site.settings)
    try:
        world = World(resolver, dns_seconds=site.settings.dns.timeout)
        addresses, _ = await our_addresses(site, world)
        more = [certificate_file(following)] if following else []
        found = records(site, addresses, keys_to_publish(site), chains(site, more))
        answers: dict[tuple[str, str], Answer] = {}
        if ask:
            names = list(sets(found))
            got = await asyncio.gather(*(world.ask(*name) for name in names))
            answers = dict(zip(names, got, strict=True))
        return found, answers
    finally:
        if resolver is not None:
            resolver.close()


def _update(
    wanted: dict[tuple[str, str], list[Record]],
    compared: Sequence[Compared],
    server: str,
    secret: str,
    zones: Sequence[str],
) -> int:
    from mta.config.dns import parse_dns_server
    from mta.startup.updating import UpdateFailed, build, read_key, send, zone_of

    unknown = [one for one in compared if one.state is State.UNKNOWN]
    if unknown:
        print(
            f"tamis: {unknown[0].type} {unknown[0].name}: {unknown[0].reason}; nothing is changed",
            file=sys.stderr,
        )
        return EXIT_USAGE
    try:
        keyring, _ = read_key(secret)
        address = parse_dns_server(server, "")
    except ValueError as error:
        print(f"tamis: {error}", file=sys.stderr)
        return EXIT_USAGE
    differing = [one for one in compared if one.state is not State.SAME]
    status = 0
    for zone in zones:
        changes = [one for one in differing if zone_of(one.name, zones) == zone]
        if not changes:
            continue
        try:
            send(build(zone, wanted, changes, keyring), address.host, address.port)
        except UpdateFailed as error:
            print(f"tamis: {zone}: {error}", file=sys.stderr)
            status = EXIT_FAILED
            continue
        for one in changes:
            print(f"{zone}: published {one.type} {one.name}")
    for one in differing:
        if not zone_of(one.name, zones):
            print(
                f"tamis: {one.type} {one.name} is in none of the zones {', '.join(zones)}: --zone",
                file=sys.stderr,
            )
            status = EXIT_FAILED
    if not differing:
        print("nothing to do: all is published")
    return status


def _print(compared: Sequence[Compared], as_machine: bool) -> None:
    if as_machine:
        facts = [
            {
                "name": one.name,
                "type": one.type,
                "state": one.state.value,
                "lacking": list(one.lacking),
                "others": list(one.others),
                "reason": one.reason,
            }
            for one in compared
        ]
        print(json.dumps(facts, indent=2))
        return
    for one in compared:
        print(f"{one.state.value:10}{one.type:6}{one.name}" + (f"  ({one.reason})" if one.reason else ""))
        for value in one.lacking:
            print(f"    + {value}")
        for value in one.others:
            print(f"    - {value}")


def _json(found: Sequence[Record]) -> str:
    facts = [
        {"name": one.name, "type": one.type, "ttl": one.ttl, "value": one.value, "note": one.note}
        for one in found
    ]
    return json.dumps(facts, indent=2)
