"""The policy loads, and refuses strangers who send to other domains: we are no open relay.

The policy of the configuration is asked as a session would ask it, tables on servers too. Nothing is sent:
back ends, relays and services of scripts that count or remember are absent, and a script that cannot decide
without them leaves the answer unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from mta import config
from mta.accounts.usersfile import UsersFile, UsersFileError
from mta.address import NULL, parse_address
from mta.config.tables import FILES
from mta.daemon_director import hashing
from mta.daemon_policy import build_policy
from mta.delivery.fixed import FixedTransport
from mta.delivery.outcome import BACKEND
from mta.envelope import Envelope, Recipient
from mta.policy.verdict import Policy, Verdict
from mta.policy.watched import TableError
from mta.reply import Reply
from mta.session import Session
from mta.spool.addressing import Find
from mta.startup.claims import Site
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.tables import open_tables
from mta.startup.world import World
from mta.tables.table import Table, TableUnavailable

if TYPE_CHECKING:
    from mta.policy.sieve.asking import Services

STRANGERS = ("192.0.2.99", "2001:db8::99")
"""Clients that nobody has: of the networks for documentation."""
ELSEWHERE = "relay-check@elsewhere.example"
"""A recipient whose domain is nobody's (RFC 6761)."""

NOT_ASKED = Reply(451, "4.4.1", "not asked")
TAKEN_TO_EXIST = Reply(250, "2.1.5", "not asked")


class _Verifier:
    """Stands for a back end: says the same of every recipient, and is not asked for anything else."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def verify(self, *arguments: object) -> Reply:
        """What is said of each recipient."""
        return self._reply


def offline_policy(
    settings: config.Config,
    own_mail: Callable[[Find], None] | None = None,
    asked: Reply = NOT_ASKED,
    tables: Mapping[str, Table] | None = None,
) -> Policy:
    """The policy without anybody behind it. Raises ValueError, OSError, TableError, UsersFileError.

    `own_mail` is that of `build_policy`; `asked` is what back ends say of recipients. Without `tables` those
    of files are looked up in, and no others.
    """
    names = [f"{BACKEND}{name}" for name in settings.backends]
    transports = {name: cast(FixedTransport, _Verifier(asked)) for name in names}
    return build_policy(
        settings,
        transports,
        lambda: UsersFile(settings.auth.users_file),
        None,
        lambda text: None,
        _silent,
        tables=_files(settings) if tables is None else tables,
        directors=hashing(settings),
        own_mail=own_mail,
    )


def offline_own_mail(settings: config.Config, tables: Mapping[str, Table]) -> Find:
    """Who gets mail that the server writes itself, as far as policy and tables know it.

    Recipients that only a back end knows are taken to exist. Raises what `offline_policy` does.
    """
    found: list[Find] = []
    offline_policy(settings, found.append, TAKEN_TO_EXIST, tables)
    return found[0]


class _Away:
    """Stands for a table on a server."""

    def get(self, key: str) -> str | None:
        """Nothing is known."""
        raise TableUnavailable("not asked")

    async def close(self) -> None:
        """Nothing is open."""


def _files(settings: config.Config) -> Mapping[str, Table]:
    """The tables of files as they are; of others nothing is known."""
    if not settings.tables:
        return {}
    from mta.tables.build import Tables

    files = {name: table for name, table in settings.tables.items() if table.type in FILES}
    made = Tables(files, f"{settings.process.state_directory}/tables")
    return {name: made.get(name) or _Away() for name in settings.tables}


def _silent(services: Services) -> Services:
    """Only what looks into files answers; what counts, remembers or asks others is not to be had."""
    from mta.policy.sieve.asking import Unavailable
    from mta.policy.sieve.tables import Lists

    def absent(request: Any, facts: Any) -> Unavailable:
        return Unavailable("a check asks nobody")

    harmless = Lists({}).services
    return {kind: handler if kind in harmless else absent for kind, handler in services.items()}


async def policy(site: Site, world: World) -> list[Result]:
    """Load it."""
    scripts = site.settings.policy.scripts
    asked = ", ".join(scripts) or "the built-in policy"
    try:
        offline_policy(site.settings)
    except OSError as error:
        return [unknown("policy", asked, str(error), "[policy] scripts")]
    except (ValueError, TableError, UsersFileError) as error:
        return [wrong("policy", asked, str(error), "`tamis check-config` tells line and column")]
    return [ok("policy", asked, "loads")]


async def open_relay(site: Site, world: World) -> list[Result]:
    """Each listener for mail, asked by strangers of both families, as nobody and as one of us."""
    try:
        async with open_tables(site.settings, site.settings.tables, world) as tables:
            return await _strangers(offline_policy(site.settings, tables=tables), site, world)
    except (OSError, ValueError, TableError, UsersFileError) as error:
        return [unknown("policy", "the policy", str(error), settled=True)]


async def _strangers(asking: Policy, site: Site, world: World) -> list[Result]:
    senders = ["", f"postmaster@{site.domains[0]}" if site.domains else "stranger@elsewhere.example"]
    results = []
    for listener in site.settings.listener:
        if listener.protocol in ("lmtp", "managesieve"):
            continue
        answers: dict[str, Reply | TimeoutError | None] = {}
        for client in STRANGERS:
            for sender in senders:
                session = _session(listener, client)
                who = f"{client} as <{sender}>"
                try:
                    async with asyncio.timeout(world.seconds):
                        answers[who] = await _ask(asking, session, sender)
                except TimeoutError as error:
                    answers[who] = error
        results.append(judge_relay(listener.name, answers))
    return results


def _session(listener: config.Listener, client: str) -> Session:
    return Session(
        "relay-check", listener.name, listener.protocol, client, 40000, helo="stranger.example", esmtp=True
    )


async def _ask(asking: Policy, session: Session, sender: str) -> Reply | None:
    """The refusal of the session that strangers try, None when it would be let through."""
    envelope = Envelope(parse_address(sender) if sender else NULL)
    recipient = Recipient(parse_address(ELSEWHERE))
    stages: tuple[Callable[[], Verdict | Awaitable[Verdict]], ...] = (
        lambda: asking.connect(session),
        lambda: asking.helo(session),
        lambda: asking.mail(session, envelope),
        lambda: asking.rcpt(session, envelope, recipient),
    )
    for stage in stages:
        given = stage()
        verdict = given if isinstance(given, Verdict) else await given
        if verdict.reply is not None:
            return verdict.reply
    return None


def judge_relay(listener: str, answers: Mapping[str, Reply | TimeoutError | None]) -> Result:
    """What strangers were told; None: their mail would be taken."""
    asked = f"RCPT TO:<{ELSEWHERE}> by strangers"
    taken = [
        who
        for who, reply in answers.items()
        if reply is None or (isinstance(reply, Reply) and reply.is_positive)
    ]
    if taken:
        return wrong(
            listener, asked, f"accepted from {', '.join(taken)}: an open relay",
            "[policy] trusted_networks, and the scripts of [policy] that accept at rcpt",
        )  # fmt: skip
    unsure = {
        who: reply for who, reply in answers.items() if not isinstance(reply, Reply) or reply.is_temporary
    }
    if unsure:
        who, reply = next(iter(unsure.items()))
        reason = "no decision in time" if isinstance(reply, TimeoutError) else str(reply)
        return unknown(listener, asked, f"{who}: {reason}")
    return ok(listener, asked, str(next(iter(answers.values()))))
