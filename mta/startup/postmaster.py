"""Somebody gets what is written to the postmaster: reports that nobody takes, and what these checks find.

Aliases are followed as for mail that the server writes itself. Those behind them, and the postmaster where
there are none, are asked for where their mail would go: the back end of their domain by RCPT, the embedded
store in its users file. What goes to other domains is not asked for: those would have to be told mail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mta import assembly, config
from mta.accounts.usersfile import UsersFile, UsersFileError
from mta.address import NULL, Address, parse_address, split_subaddress
from mta.delivery.fixed import FixedTransport
from mta.envelope import Envelope, Recipient
from mta.net.tls import CertificateError
from mta.policy.watched import TableError
from mta.reply import Reply
from mta.startup.claims import Site
from mta.startup.policy import offline_own_mail
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.tables import open_tables
from mta.startup.world import World

MEND = "make a mailbox or an alias for it, or set [identity] postmaster"


async def postmaster(site: Site, world: World) -> list[Result]:
    """identity.postmaster, or those behind it."""
    subject = site.postmaster
    recipient = Recipient(parse_address(subject))
    asked = "who gets its mail"
    try:
        async with open_tables(site.settings, site.settings.tables, world) as tables:
            find = offline_own_mail(site.settings, tables)
            async with asyncio.timeout(world.seconds):
                found = await find("check", Envelope(NULL), recipient)
    except TimeoutError:
        return [unknown(subject, asked, f"no decision within {world.seconds:g} s")]
    except (OSError, ValueError, TableError, UsersFileError) as error:
        return [unknown(subject, "the policy", str(error), settled=True)]
    if isinstance(found, Reply):
        if found.is_permanent:
            return [wrong(subject, asked, f"its alias leads to nobody: {found}", MEND)]
        return [unknown(subject, asked, str(found))]
    behind: Sequence[Recipient] = found or (recipient,)
    return list(await asyncio.gather(*(_look(subject, one.address, site, world) for one in behind)))


async def _look(subject: str, address: Address, site: Site, world: World) -> Result:
    """Whether the mail of one address would be taken."""
    settings = site.settings
    domain = settings.domains.get(address.domain)
    title = subject if address.text == subject else f"{subject}: {address.text}"
    if domain is None:
        return ok(title, "is its domain ours?", f"{address.domain} is not: its mail goes there")
    if domain.backend in settings.director:
        return ok(title, f"[director.{domain.backend}]", "says where its mailbox is; not asked")
    if settings.store.enabled and domain.backend == "store":
        return _in_users_file(title, address, domain.subaddress_delimiter, settings)
    where = f"backends.{domain.backend}"
    asked = f"RCPT TO:<{address.text}> at [{where}]"
    try:
        hop = assembly.backend(domain.backend, settings.backends[domain.backend], site.hostname, 1)
    except CertificateError as error:
        return unknown(title, asked, str(error), f"[{where}] tls_ca", settled=True)
    transport = FixedTransport(hop)
    try:
        reply = await transport.verify(NULL, address, world.deadline)
    finally:
        await transport.close()
    return judge_postmaster(title, asked, reply)


def judge_postmaster(title: str, asked: str, reply: Reply) -> Result:
    """What the back end said."""
    if reply.is_positive:
        return ok(title, asked, str(reply))
    if reply.is_permanent:
        return wrong(title, asked, str(reply), MEND)
    return unknown(title, asked, reply.cause or str(reply))


def _in_users_file(title: str, address: Address, delimiters: str, settings: config.Config) -> Result:
    asked = f"is it in {settings.auth.users_file}?"
    try:
        users = UsersFile(settings.auth.users_file)
    except (UsersFileError, OSError) as error:
        return unknown(title, asked, str(error), settled=True)
    local, _ = split_subaddress(address.local, delimiters)
    user = users.of_key(address.key) or users.of_key(address.with_local(local).key)
    if user is None:
        return wrong(title, asked, "no", f"tamis user add {address.text}, or {MEND}")
    if user.disabled:
        return wrong(title, asked, "it is disabled", MEND)
    return ok(title, asked, "yes")
