"""Milters and policy servers answer where they are configured.

A milter is asked to negotiate (SMFIC_OPTNEG) and told to quit: it sees no session. A policy server has no
question without an effect (a greylist remembers), so only the connection is tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mailmilter.constants import CHUNK, Command
from mailmilter.negotiation import Offer, agree
from mailmilter.packets import MilterProtocolError, PacketReader, packet
from mta import assembly_filters, config
from mta.startup.claims import Site
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World


async def milters(site: Site, world: World) -> list[Result]:
    """Each of [milters.NAME] and [policy_servers.NAME]."""
    settings = site.settings
    looks = [_milter(name, milter, world) for name, milter in settings.milters.items()]
    servers: Mapping[str, config.Inet | config.Unix] = {
        f"policy_servers.{name}": server.address for name, server in settings.policy_servers.items()
    }
    looks += [_server(subject, address, world) for subject, address in servers.items()]
    return await asyncio.gather(*looks) or [ok("milters", "[milters] and [policy_servers]", "there are none")]


async def _open(address: config.Inet | config.Unix) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, config.Unix):
        return await asyncio.open_unix_connection(address.path)
    return await asyncio.open_connection(address.host, address.port)


async def _milter(name: str, milter: config.Milter, world: World) -> Result:
    subject, asked = f"milters.{name}", f"negotiation with {milter.address}"
    offered = assembly_filters.milter(name, milter).offer()
    try:
        async with asyncio.timeout(world.seconds):
            answer = await _negotiate(milter.address, offered)
    except EOFError:
        return wrong(subject, asked, "it closes the connection", f"[{subject}] address: is that a milter?")
    except MilterProtocolError:
        return _no_milter(subject, asked)
    except TimeoutError:
        return unknown(subject, asked, f"no answer within {world.seconds:g} s", f"[{subject}]")
    except OSError as error:
        return unknown(subject, asked, error.strerror or str(error), f"start it, or mend [{subject}] address")
    return judge_answer(subject, asked, offered, *answer)


async def _negotiate(address: config.Inet | config.Unix, offered: Offer) -> tuple[int, bytes]:
    """The packet that answers the offer. Raises MilterProtocolError, EOFError and OSError."""
    reader, writer = await _open(address)
    try:
        writer.write(packet(Command.NEGOTIATE, offered.encode()))
        packets = PacketReader()
        while (found := packets.next()) is None:
            octets = await reader.read(CHUNK)
            if not octets:
                raise EOFError
            packets.feed(octets)
        writer.write(packet(Command.QUIT))
        return found
    finally:
        writer.close()


def judge_answer(subject: str, asked: str, offered: Offer, command: int, data: bytes) -> Result:
    """What a milter says to the negotiation."""
    if command != Command.NEGOTIATE or len(data) < 12:
        return _no_milter(subject, asked)
    try:
        agreed = agree(offered, data)
    except MilterProtocolError as error:
        return wrong(subject, asked, str(error), f"[{subject}] version")
    return ok(subject, asked, f"version {agreed.version}")


def _no_milter(subject: str, asked: str) -> Result:
    return wrong(subject, asked, "the answer is not of a milter", f"[{subject}] address: is that a milter?")


async def _server(subject: str, address: config.Inet | config.Unix, world: World) -> Result:
    asked = f"connect to {address}"
    try:
        async with asyncio.timeout(world.seconds):
            _, writer = await _open(address)
            writer.close()
    except TimeoutError:
        return unknown(subject, asked, f"no answer within {world.seconds:g} s", f"[{subject}]")
    except OSError as error:
        return unknown(subject, asked, error.strerror or str(error), f"start it, or mend [{subject}] address")
    return ok(subject, asked, "listens")
