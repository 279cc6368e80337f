"""`tamis tls`: certificates. `rollover` changes to a certificate with another key, in step with the DNS.

Exit statuses: 0 switched, 1 not yet (run it again), 2 wrong usage, 78 configuration or files cannot be used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mta import config
from mta.cli_exit import EXIT_CONFIG, EXIT_USAGE, fail
from mta.folders import in_words, opened_folder, replacing
from mta.net.certcheck import load
from mta.net.certificates import CertificateError, CertificateFiles, read_file
from mta.net.resolver.base import Answer
from mta.queue_stores import read_configuration
from mta.startup.claims import Site, site_of
from mta.startup.rollover import Seen, Step, decide, put_in_place
from mta.startup.tlsa import ders, tlsa_name

NOT_YET = 1
STATE = "rollover.json"
"""In process.state_directory: since when the next record is published."""


def make_app(configuration: Callable[[], str]) -> typer.Typer:
    """The sub-command."""
    app = typer.Typer(help="Manage certificates.", no_args_is_help=True, pretty_exceptions_enable=False)

    @app.command()
    def rollover(
        following: Annotated[str, typer.Option("--next", metavar="CHAIN", help="The next certificate.")],
        key: Annotated[str, typer.Option("--next-key", metavar="KEY", help="Its private key.")],
        certificate: Annotated[
            str, typer.Option(metavar="NAME", help="Which [certificates.NAME]; default: the only one.")
        ] = "",
    ) -> None:
        """Go as far towards the next certificate as the DNS allows; to be run again until it has switched."""
        try:
            site = site_of(read_configuration(configuration()))
            names = list(site.settings.certificates)
            name = certificate or (names[0] if len(names) == 1 else "")
            if name not in names:
                fail(f"--certificate: one of {', '.join(names) or 'none, for there is none'}", EXIT_USAGE)
            step = _step(site, name, CertificateFiles(name, following, key))
        except (config.ConfigError, CertificateError, OSError, ValueError) as error:
            fail(in_words(error), EXIT_CONFIG)
        for line in step.lines:
            typer.echo(line)
        if not step.switch:
            raise typer.Exit(NOT_YET)

    return app


def _step(site: Site, name: str, following: CertificateFiles) -> Step:
    now = time.time()
    one = site.settings.certificates[name]
    moment = datetime.fromtimestamp(now, UTC)
    current = load(CertificateFiles(name, one.chain, one.key, one.names), moment, read_file)
    after = load(following, moment, read_file)
    ports = sorted({service.port for service in site.services if service.tls != "none"})
    answers = asyncio.run(_ask(site, [tlsa_name(port, site.hostname) for port in ports]))
    path = Path(site.settings.process.state_directory, STATE)
    step = decide(ders(current), ders(after), answers, _read(path), now)
    if step.switch:
        # The key first: a server that looks between the two finds a pair that does not fit, and waits.
        put_in_place(Path(following.key), Path(one.key))
        put_in_place(Path(following.chain), Path(one.chain))
        path.unlink(missing_ok=True)
        return step
    if step.seen is None:
        path.unlink(missing_ok=True)
    else:
        with opened_folder(path.parent) as folder, replacing(path.name, folder=folder) as file:
            file.write(msgspec.json.encode(step.seen))
    return step


async def _ask(site: Site, names: list[str]) -> dict[str, Answer]:
    from mta.daemon_dns import build_resolver
    from mta.startup.world import World

    resolver = build_resolver(site.settings)
    try:
        world = World(resolver, dns_seconds=site.settings.dns.timeout)
        found = await asyncio.gather(*(world.ask(name, "TLSA") for name in names))
        return dict(zip(names, found, strict=True))
    finally:
        if resolver is not None:
            resolver.close()


def _read(path: Path) -> Seen | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Seen)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None  # or it is damaged: the wait begins anew
