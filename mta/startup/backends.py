"""Back ends and relays answer, speak what they should, and are as secure as they should be."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from mta import assembly, config
from mta.delivery.fixed import FixedSettings
from mta.net.connect import ConnectFailure, Endpoint, connect
from mta.net.tls import CertificateError
from mta.reply import Reply
from mta.smtp.client import Phase
from mta.smtp.opening import is_put_off
from mta.startup.claims import Site
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World

UNREACHED = "4.4."
"""Begins the status of a connection that did not come to stand or was lost (`mta.net.connect`)."""
PARTING = 1.0
"""Seconds for the answer to QUIT."""
_DONE = Reply(451, "4.4.2", "closed", "the check is done")
_KEYS = {
    "backends": "protocol, tls, implicit_tls, tls_name, tls_ca",
    "relays": "tls, implicit_tls, tls_name, tls_ca, user, password_file",
}
"""What to look at when a server is there and will not do."""


async def backends(site: Site, world: World) -> list[Result]:
    """Each address of each back end that a domain uses and of each relay, and Dovecot's auth service."""
    settings, hostname = site.settings, site.settings.identity.hostname
    results: list[Result] = []
    looks = []
    for name, backend in settings.backends.items():
        if settings.store.enabled and name == "store":
            continue  # the embedded store starts with us
        subject = f"backends.{name}"
        try:
            looks.append((subject, assembly.backend(name, backend, hostname, 1)))
        except CertificateError as error:
            results.append(wrong(subject, "its settings", str(error), f"[{subject}] tls_ca"))
    for name, relay in settings.relays.items():
        subject = f"relays.{name}"
        try:
            looks.append((subject, assembly.relay(name, relay, hostname, 1, config.read_secret)))
        except (CertificateError, OSError, ValueError) as error:
            results.append(wrong(subject, "its settings", str(error), f"[{subject}]"))
    found = await asyncio.gather(*(_look(subject, hop, world) for subject, hop in looks))
    results += [result for several in found for result in several]
    results += await _dovecot_auth(settings.auth, world)
    return results or [ok("backends", "[backends] and [relays]", "none but the embedded store")]


async def _dovecot_auth(auth: config.Auth, world: World) -> list[Result]:
    where = auth.dovecot_socket
    if auth.backend != "dovecot":
        return []
    from mta.accounts.dovecotclient import DovecotClient

    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    client = DovecotClient(
        assembly.dovecot_address(auth),
        on_change=lambda there, text: None if told.done() else told.set_result(text),
        connect_timeout=world.seconds,
    )
    start = asyncio.create_task(client.start())
    await asyncio.wait((start, told), return_when=asyncio.FIRST_COMPLETED)  # the client itself tries on
    there = client.connection is not None
    start.cancel()
    await client.close()
    asked = f"Dovecot's auth protocol with {where}"
    if there:
        return [ok("auth", asked, "ready for logins")]
    found = told.result() if told.done() else f"no answer within {world.seconds:g} s"
    return [unknown("auth", asked, found, "start it, let process.user open it, or mend auth.dovecot_socket")]


async def _look(subject: str, hop: FixedSettings, world: World) -> Iterable[Result]:
    return await asyncio.gather(*(_connect(subject, endpoint, hop, world) for endpoint in hop.endpoints))


async def _connect(subject: str, endpoint: Endpoint, hop: FixedSettings, world: World) -> Result:
    protocol = "LMTP" if hop.client.lmtp else "SMTP"
    reply: Reply | None = None
    try:
        connection = await connect(endpoint, hop.client, hop.tls, hop.timeouts, world.deadline)
    except ConnectFailure as failure:
        reply = failure.reply
    else:
        connection.quit()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PARTING):
                while connection.session.phase is Phase.QUITTING:  # noqa: ASYNC110 - its end tells nobody
                    await asyncio.sleep(0.01)
        connection.abort(_DONE)
    return judge_backend(subject, str(endpoint), protocol, reply)


def judge_backend(subject: str, endpoint: str, protocol: str, refusal: Reply | None) -> Result:
    """`refusal` is why no session came to stand, None when one did."""
    asked = f"{protocol} session with {endpoint}"
    if refusal is None:
        return ok(subject, asked, "ready for mail")
    found = (refusal.cause or str(refusal)).removeprefix(f"{endpoint}: ")
    if refusal.enhanced.startswith(UNREACHED) or is_put_off(refusal):
        return unknown(subject, asked, found, f"start it, or mend the addresses in [{subject}]")
    return wrong(subject, asked, found, f"[{subject}]: {_KEYS[subject.partition('.')[0]]}")
