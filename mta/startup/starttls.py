"""TLS on each port: offered, with the certificate of the configuration."""

from __future__ import annotations

import asyncio

from mta.config import Inet, near
from mta.net.certificates import CertificateError
from mta.net.tls import ServerTls, client_context
from mta.startup.certificates import listener_tls
from mta.startup.claims import Service, Site
from mta.startup.probe import Opening, Seen, handshake, probe
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World


async def starttls(site: Site, world: World) -> list[Result]:
    """Each port, in memory; where the server runs, also as clients see it."""
    served = {listener.name: tls for listener, tls in listener_tls(site)}
    return await asyncio.gather(
        *(_service(site, world, service, served.get(service.listener)) for service in site.services)
    )


async def _service(
    site: Site, world: World, service: Service, tls: ServerTls | CertificateError | None
) -> Result:
    context = client_context("encrypt")
    if tls is None or isinstance(tls, CertificateError):
        return judge_service(service, Seen(error="" if tls is None else str(tls)), None)
    inside = handshake(tls, context, site.hostname)
    outside = None
    if world.live and not inside.error and service.direct and isinstance(service.address, Inet):
        opening: Opening = "implicit" if service.tls == "implicit" else "smtp"
        host = near(service.address.host)
        outside = await probe(host, service.port, opening, site.hostname, context, world.seconds)
    return judge_service(service, inside, outside)


def judge_service(service: Service, inside: Seen, outside: Seen | None) -> Result:
    """`inside` is what the configuration would serve, `outside` what is served, None if nobody looked."""
    if service.tls == "none":
        return wrong(
            service.title, "tls of the listener", "none: mail comes in clear",
            f'[[listener]] {service.listener}: tls = "starttls", with a [certificates.NAME]',
        )  # fmt: skip
    if inside.error or not inside.certificate:
        return wrong(
            service.title, "handshake in memory", inside.error or "no certificate", "[certificates.NAME]"
        )
    if outside is None or not outside.reached:
        reason = (
            "the configuration serves it"
            if outside is None
            else f"in memory; nobody listens ({outside.error})"
        )
        return ok(service.title, "handshake", reason)
    asked = f"{'TLS' if service.tls == 'implicit' else 'STARTTLS'} at port {service.port}"
    if outside.error:
        if outside.error.startswith("greeting: 4"):
            return unknown(service.title, asked, outside.error)
        return wrong(service.title, asked, outside.error, "what else listens there? `ss -tlnp`")
    if outside.certificate != inside.certificate:
        return wrong(service.title, asked, "another certificate than the configuration's", "tamis reload")
    return ok(service.title, asked, "the certificate of the configuration")
