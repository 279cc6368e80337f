"""Milters and policy servers answer where they are configured.

A milter is asked to negotiate (SMFIC_OPTNEG) and told to quit: it sees no session. A policy server has no
question without an effect (a greylist remembers), so only the connection is tried.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping

from mta import config
from mta.startup.claims import Site
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World

LONGEST_ANSWER = 64 * 1024
"""Octets of an answer to the negotiation; real ones have 13, and macros."""
_ACTIONS, _STEPS = 0x1FF, 0x1FFFFF
_OFFER = struct.pack("!IcIII", 13, b"O", 6, _ACTIONS, _STEPS)
_QUIT = struct.pack("!Ic", 1, b"Q")


async def milters(site: Site, world: World) -> list[Result]:
    """Each of [milters.NAME] and [policy_servers.NAME]."""
    settings = site.settings
    looks = [_milter(f"milters.{name}", milter.address, world) for name, milter in settings.milters.items()]
    servers: Mapping[str, config.Inet | config.Unix] = {
        f"policy_servers.{name}": server.address for name, server in settings.policy_servers.items()
    }
    looks += [_server(subject, address, world) for subject, address in servers.items()]
    return await asyncio.gather(*looks) or [ok("milters", "[milters] and [policy_servers]", "there are none")]


async def _open(address: config.Inet | config.Unix) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, config.Unix):
        return await asyncio.open_unix_connection(address.path)
    return await asyncio.open_connection(address.host, address.port)


async def _milter(subject: str, address: config.Inet | config.Unix, world: World) -> Result:
    asked = f"negotiation with {address}"
    try:
        async with asyncio.timeout(world.seconds):
            reader, writer = await _open(address)
            try:
                writer.write(_OFFER)
                head = await reader.readexactly(5)
                length = int.from_bytes(head[:4])
                fits = head[4:5] == b"O" and 1 < length <= LONGEST_ANSWER
                body = await reader.readexactly(length - 1) if fits else b""
                writer.write(_QUIT)
            finally:
                writer.close()
    except asyncio.IncompleteReadError:
        return wrong(subject, asked, "it closes the connection", f"[{subject}] address: is that a milter?")
    except TimeoutError:
        return unknown(subject, asked, f"no answer within {world.seconds:g} s", f"[{subject}]")
    except OSError as error:
        return unknown(subject, asked, error.strerror or str(error), f"start it, or mend [{subject}] address")
    return judge_answer(subject, asked, head[4:5], body)


def judge_answer(subject: str, asked: str, command: bytes, body: bytes) -> Result:
    """What a milter says to the negotiation."""
    if command != b"O" or len(body) < 12:
        return wrong(
            subject, asked, "the answer is not of a milter", f"[{subject}] address: is that a milter?"
        )
    version, actions, steps = struct.unpack("!III", body[:12])
    if not 2 <= version <= 6 or actions & ~_ACTIONS or steps & ~_STEPS:
        return wrong(
            subject, asked, f"it wants what was not offered (version {version})", f"[{subject}] version"
        )
    return ok(subject, asked, f"version {version}")


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
