"""The policy of a worker, put together from the configuration: the part of `mta.daemon` about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mta import config, log
from mta.address import Address, domain_key, parse_address
from mta.delivery.fixed import FixedTransport
from mta.delivery.outcome import BACKEND, RELAY, NextHop
from mta.director.director import Director
from mta.lastgood import NOBODY, LastGood
from mta.net.limits import Networks
from mta.policy.ground import DomainRule, Ground, PolicySettings
from mta.policy.recipients import (
    AskBackend,
    Directory,
    Everybody,
    Lookup,
    RecipientFile,
    RecipientSource,
    Verify,
)
from mta.policy.verdict import SCRIPT_FAILED, Policy
from mta.reply import Reply
from mta.tables.table import Table

if TYPE_CHECKING:
    from mta.accounts.usersfile import UsersFile
    from mta.daemon_filters import Programs
    from mta.net.resolver.base import Resolver
    from mta.net.resolver.stub import Stub
    from mta.policy.ledger import Ledger
    from mta.policy.sieve.asking import Services
    from mta.policy.sieve.loading import Read
    from mta.policy.sieve.local import Owns
    from mta.policy.sieve.policy import Trace
    from mta.policy.sieve.program import Program
    from mta.spool.addressing import Find
    from mta.tables.build import Tables

NO_TABLES: Mapping[str, Table] = {}
NO_DIRECTORS: Mapping[str, Director] = {}


def build_tables(
    settings: config.Config, resolver: Stub | None, complain: Callable[[str], None], good: LastGood = NOBODY
) -> Tables | None:
    """The tables of [tables.NAME], None without. `complain` hears later of what cannot be read or asked.

    `good` has what others have read. Raises TableError.
    """
    if not settings.tables:
        return None
    from mta.tables.build import Tables

    folder = f"{settings.process.state_directory}/tables"
    return Tables(settings.tables, folder, resolver, complain=complain, good=good)


def build_ledger(settings: config.Config, read_secret: Callable[[str], str]) -> Ledger:
    """Where rates and greylists are kept; nothing is opened yet. Raises ValueError, OSError."""
    url = settings.policy.counters
    if not url:
        from mta.policy.ledgerfile import FileLedger

        return FileLedger(f"{settings.process.state_directory}/policy.sqlite3", time.time)
    from mta.policy.ledgerredis import RedisLedger

    file = settings.policy.counters_password_file
    return RedisLedger(url, read_secret(file) if file else "", time.time)


def build_policy(
    settings: config.Config,
    transports: Mapping[str, FixedTransport],
    users_file: Callable[[], UsersFile],
    owns: Owns | None,
    complain: Callable[[str], None],
    choose: Callable[[Services], Services] = lambda services: services,
    trace: Trace | None = None,
    programs: Programs | None = None,
    tables: Mapping[str, Table] = NO_TABLES,
    ledger: Ledger | None = None,
    resolver: Resolver | None = None,
    directors: Mapping[str, Director] = NO_DIRECTORS,
    own_mail: Callable[[Find], None] | None = None,
    read: Read | None = None,
    good: LastGood = NOBODY,
) -> Policy:
    """The policy: the site's scripts, if there are any, before the base policy, before the ground.

    `owns` tells who may send as whom, None when nobody can log in. `complain` is told when a table cannot
    be read. `choose` may put others in the place of the services that scripts ask. `trace` is told what
    scripts do in any session; without, sessions of policy.trace are logged. `programs` are those beside
    the worker, `tables` those of [tables.NAME]; `ledger` counts, `resolver` asks the DNS. `own_mail` is
    given what tells who gets mail that the server writes itself. `read` gives policy files in place of the
    disk, `good` has what others have read of files of recipients. Raises TableError, what `users_file`
    raises, and ValueError and OSError for scripts.
    """
    # Here, for the tools that only want to know routes do without the Sieve engine.
    from mta.policy.sieve.expand import Aliases
    from mta.policy.sieve.loading import load_base, load_policy, source_of
    from mta.policy.sieve.local import site_services
    from mta.policy.sieve.policy import SievePolicy, Site
    from mta.policy.sieve.tables import Lists
    from mta.policy_services import build_services

    read = read or source_of
    ground = build_ground(settings, transports, users_file, complain, tables, directors, good)
    if not settings.auth.sender_login:
        owns = _owns_everything
    services = {
        **choose(build_services(settings, tables, ledger, resolver)),
        **({} if programs is None else programs.services()),
        **site_services(ground, _owns_nothing if owns is None else owns),
        **Aliases(Lists(tables), ground).services,
    }
    if settings.srs.secrets_file:
        services |= _srs_services(settings, ground, good)

    @cache
    def program(paths: Sequence[str], tracing: bool) -> Program:
        if not paths:
            return load_base(settings, tracing=tracing, read=read)
        return load_policy(settings, paths, tracing=tracing, read=read)

    find = None
    if tables or own_mail is not None:
        from mta.policy.sieve.ownmail import OwnMail, own_ground, own_services

        answering, free = own_services(services), own_ground(ground)
        where = Site(settings.identity.hostname, free)
        made: Policy = free
        for paths in ((), settings.policy.after, settings.policy.scripts):
            if paths or made is free:
                made = SievePolicy(program(paths, False), made, where, tell, answering)
        find = OwnMail(made)
        if own_mail is not None:
            own_mail(find)
    site = Site(settings.identity.hostname, ground, find if tables else None)

    def stack(trace: Trace | None) -> Policy:
        tracing = trace is not None
        made: Policy = SievePolicy(program((), tracing), ground, site, tell, services, trace)
        if settings.policy.after:
            made = SievePolicy(program(settings.policy.after, tracing), made, site, tell, services, trace)
        if settings.policy.user_scripts or any(domain.script for domain in settings.domains.values()):
            made = _build_recipient_scripts(settings, made, ground, trace, read)
        if settings.policy.scripts:
            made = SievePolicy(program(settings.policy.scripts, tracing), made, site, tell, services, trace)
        return made

    policy: Policy
    if trace is not None or not settings.policy.trace:
        policy = stack(trace)
    else:
        from mta.policy.traced import TracedPolicy, chosen, tell_log

        policy = TracedPolicy(stack(None), stack(tell_log), chosen(settings.policy.trace))
    if programs is None:
        return policy
    base = SievePolicy(program((), False), ground, site, tell, services)
    return programs.around(settings, policy, base)


def _srs_services(settings: config.Config, ground: Ground, good: LastGood = NOBODY) -> Services:
    """Raises OSError and ValueError for the file of secrets."""
    from mta.config.rules_forwarding import read_secrets
    from mta.policy.sieve.srs import srs_services
    from mta.policy.srs import DAY, Srs, SrsSettings

    srs = settings.srs
    try:
        octets = Path(srs.secrets_file).read_bytes()
        secrets = read_secrets(octets)
    except (OSError, ValueError) as error:
        kept = good.content(srs.secrets_file)
        if kept is None:
            told = f": {error.strerror}" if isinstance(error, OSError) else str(error)
            raise ValueError(f"{srs.secrets_file}{told}") from error
        secrets = read_secrets(kept)
    else:
        good.note(srs.secrets_file, octets)
    made = SrsSettings(secrets, srs.domain, srs.separator, int(srs.validity // DAY), srs.hash_length)
    return srs_services(Srs(made), ground, time.time)


def _build_recipient_scripts(
    settings: config.Config, inner: Policy, ground: Ground, trace: Trace | None, read: Read
) -> Policy:
    from mta.policy.sieve.loading import load_domains
    from mta.policy.sieve.recipients import RecipientScripts
    from mta.policy.sieve.sandbox import UserScripts

    tracing = trace is not None
    pattern = settings.policy.user_scripts
    users = UserScripts(pattern, _tell_of_script, tracing=tracing) if pattern else None
    return RecipientScripts(
        load_domains(settings, tracing=tracing, read=read),
        _nobody if users is None else users.of,
        inner,
        settings.identity.hostname,
        ground,
        tell,
        trace,
    )


def _nobody(address: Address) -> None:
    """There are no scripts of users."""


def _tell_of_script(text: str) -> None:
    log.get("policy").warning("user script", reason=text)


def tell(what: str, session: str, text: str) -> None:
    """What scripts have to say: a failure is for the administrator to mend, the rest is to be known."""
    logger = log.get("policy")
    (logger.error if what == SCRIPT_FAILED else logger.warning)(what, session=session, reason=text)


def build_ground(
    settings: config.Config,
    transports: Mapping[str, FixedTransport],
    users_file: Callable[[], UsersFile],
    complain: Callable[[str], None],
    tables: Mapping[str, Table] = NO_TABLES,
    directors: Mapping[str, Director] = NO_DIRECTORS,
    good: LastGood = NOBODY,
) -> Ground:
    """What the configuration says of domains and clients. Raises TableError, and what `users_file` raises."""
    policy = settings.policy
    asks: dict[str, AskBackend] = {}
    files: dict[str, RecipientFile] = {}
    """Thousands of domains may share one, which is read and kept once."""

    def recipients(domain: config.Domain) -> RecipientSource:
        match domain.recipients.kind:
            case "all":
                return Everybody()
            case "users":
                users = users_file()
                return Directory(lambda key: users.of_key(key) is not None)
            case "table" if domain.recipients.name:
                name = domain.recipients.name
                return Lookup(tables[name], is_file=settings.tables[name].type in ("file", "aliases"))
            case "table":
                path = domain.recipients.file
                if path not in files:
                    files[path] = RecipientFile(Path(path), time.monotonic, complain=complain, good=good)
                return files[path]
            case "ask":
                found = asks.get(domain.backend)
                if found is None:
                    found = asks[domain.backend] = AskBackend(
                        _asker(domain, transports, directors),
                        time.monotonic,
                        positive=policy.recipient_cache_positive,
                        negative=policy.recipient_cache_negative,
                        entries=policy.recipient_cache_entries,
                    )
                return found

    return Ground(
        PolicySettings(
            domains={
                domain_key(name): DomainRule(
                    NextHop(f"{BACKEND}{domain.backend}"),
                    recipients(domain),
                    domain.subaddress_delimiter,
                    parse_address(domain.catch_all) if domain.catch_all else None,
                    directors.get(domain.backend),
                )
                for name, domain in settings.domains.items()
            },
            postmaster=parse_address(settings.identity.postmaster),
            is_trusted=networks(policy.trusted_networks),
            relay=NextHop(f"{RELAY}{policy.relay}") if policy.relay else None,
            world=settings.outbound.enabled,
            always_accept=frozenset(part.lower() for part in policy.always_accept),
            auth_required=frozenset(
                listener.name for listener in settings.listener if listener.auth == "required"
            ),
        )
    )


def _asker(
    domain: config.Domain, transports: Mapping[str, FixedTransport], directors: Mapping[str, Director]
) -> Verify:
    """Who is asked whether a recipient exists: the back end, or of several the one that has the user."""
    director = directors.get(domain.backend)
    if director is None:
        return transports[f"{BACKEND}{domain.backend}"].verify

    async def ask(sender: Address, address: Address) -> Reply:
        await director.find(address.key)
        hop = director.hop(address.key)
        if isinstance(hop, Reply):
            return hop
        transport = transports.get(hop.transport)
        if transport is None:  # other nodes know more back ends than this one
            cause = f"director: there is no {hop.transport} in this configuration"
            return Reply(451, "4.3.5", "the next hop is not configured", cause)
        return await transport.verify(sender, address)

    return ask


def networks(networks: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether an address is in one of some networks."""
    if not networks:
        return lambda address: False
    return Networks(networks).contain_text


def _owns_nothing(session: object, sender: Address) -> bool:
    return False


def _owns_everything(session: object, sender: Address) -> bool:
    return True
