"""Certificates of listeners, and when a renewed one is served: the part of `mta.daemon` about them.

Those who know DANE deliver to a host with TLSA records only if one of them matches. A certificate that none
matches would stop mail, so it is refused and the old one stays (docs/checks.md). A worker that is started in
the place of another begins with what the others of its generation serve, which the supervisor keeps in memory
for it, and not with what the files have by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from mta import assembly, config
from mta.lastgood import KeptFiles
from mta.net.certificates import Certificate, CertificateError, read_file
from mta.net.tls import Judge, Reload, ServerTls
from mta.startup.claims import is_local, public_ports
from mta.supervisor.link import WorkerLink

if TYPE_CHECKING:
    from mta.net.resolver.base import Resolver

REFUSED = "certificate refused, keeping the old one"
TOPIC = "certificate refused"


class Logger(Protocol):
    """Where it is told (`mta.log`)."""

    def info(self, event: str, **facts: Any) -> None:
        """To be known."""

    def warning(self, event: str, **facts: Any) -> None:
        """To be looked at."""

    def error(self, event: str, **facts: Any) -> None:
        """To be mended."""


class Refusals:
    """Logs once on the node why a certificate is refused: each listener of each worker finds out by itself.

    Workers tell each other; all of them look within one `tls.poll_interval`. Two that look in the same
    moment may both log it.
    """

    def __init__(
        self,
        link: WorkerLink,
        logger: Logger,
        poll_interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`poll_interval` in seconds, 0 for none; `clock` gives seconds that never go back."""
        self._link = link
        self._logger = logger
        self._seconds = 2 * (poll_interval or 60.0)
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}
        link.subscribe(TOPIC, self._heard)

    def tell(self, refused: Mapping[str, str]) -> None:
        """Log the reasons, by the names of certificates, that nobody has logged of late."""
        for name, reason in refused.items():
            if self._is_news(name, reason):
                self._logger.error(REFUSED, name=name, reason=reason)
                self._link.publish(TOPIC, {"name": name, "reason": reason})

    def _heard(self, data: dict[str, Any]) -> None:
        self._is_news(data["name"], data["reason"])

    def _is_news(self, name: str, reason: str) -> bool:
        """Whether it was not known; it is from now on."""
        now = self._clock()
        self._told = {known: until for known, until in self._told.items() if now < until}
        known = (name, reason) in self._told
        self._told[name, reason] = now + self._seconds
        return not known


def build_tls(
    settings: config.Config,
    listener: config.Listener,
    resolver: Resolver | None,
    logger: Logger,
    link: WorkerLink,
    refusals: Refusals,
) -> tuple[ServerTls, Coroutine[Any, Any, None] | None]:
    """The certificates of a listener, and what watches their files, to be run as a task (None: nothing does).

    Raises CertificateError.
    """
    files = assembly.certificates(settings, listener)
    kept = {one.name: found for one in files if (found := _kept(link, listener.name, one.name)) is not None}
    tls = _server_tls(settings, listener, kept, link, logger)
    served, refused = tls.state()
    refusals.tell(refused)
    _keep(link, listener.name, {name: one for name, one in served.items() if one != kept.get(name)})
    for warning in tls.warnings:
        logger.warning("certificate", listener=listener.name, reason=warning)

    def changed(reload: Reload) -> None:
        if reload.taken:
            if "client_ca" in reload.taken:
                KeptFiles(link).note(listener.client_ca, tls.client_ca.encode())
            logger.info("certificates renewed", listener=listener.name, names=reload.taken)
            now = tls.state()[0]
            _keep(link, listener.name, {name: now[name] for name in reload.taken if name in now})
        refusals.tell(reload.refused)

    interval = settings.tls.poll_interval
    if not interval:
        return tls, None
    return tls, tls.watch(interval, changed, build_judge(settings, listener, resolver))


def _server_tls(
    settings: config.Config,
    listener: config.Listener,
    kept: Mapping[str, Certificate],
    link: WorkerLink,
    logger: Logger,
) -> ServerTls:
    """With the authorities for clients that others read before, where their file is wrong by now."""
    files, good, path = assembly.certificates(settings, listener), KeptFiles(link), listener.client_ca
    before: dict[str, bytes] = {}
    make = partial(
        ServerTls, files, assembly.tls_settings(settings, listener), kept=kept,
        read=lambda name: before.get(name) or read_file(name),
    )  # fmt: skip
    try:
        tls = make()
    except CertificateError as error:
        octets = good.content(path) if path else None
        if octets is None:
            raise
        before[path] = octets
        tls = make()
        before.clear()
        logger.error(REFUSED, name="client_ca", reason=str(error))
    else:
        if path:
            good.note(path, tls.client_ca.encode())
    return tls


def _key(listener: str, name: str) -> str:
    return f"certificate {name} of listener {listener}"


def _keep(link: WorkerLink, listener: str, certificates: Mapping[str, Certificate]) -> None:
    for name, one in certificates.items():
        facts = {"pem": one.pem, "der": one.der, "names": one.names, "not_after": one.not_after.timestamp()}
        link.keep(_key(listener, name), facts)


def _kept(link: WorkerLink, listener: str, name: str) -> Certificate | None:
    facts = link.kept(_key(listener, name))
    if facts is None:
        return None
    not_after = datetime.fromtimestamp(facts["not_after"], UTC)
    return Certificate(name, facts["pem"], facts["der"], tuple(facts["names"]), not_after)


def build_judge(
    settings: config.Config, listener: config.Listener, resolver: Resolver | None
) -> Judge | None:
    """Who says whether a listener's new certificate may be served; None: nobody has to be asked."""
    if is_local(settings) or settings.checks.tlsa != "refuse" or resolver is None:
        return None
    ports = sorted(set(public_ports(listener).values()))
    if not ports:
        return None
    hostname, asked = settings.identity.hostname.lower(), resolver

    async def judge(new: Certificate, old: Certificate) -> str:
        # Here, for it happens at a renewal only.
        from mta.net.certificates import covers
        from mta.startup.result import Outcome
        from mta.startup.tlsa import ders, judge_tlsa, tlsa_name
        from mta.startup.verdict import explain
        from mta.startup.world import World

        if not covers(new.names, hostname):
            return ""  # other names have no TLSA records that we know of
        world = World(asked)
        for port in ports:
            name = tlsa_name(port, hostname)
            answer = await world.ask(name, "TLSA")
            result = judge_tlsa(name, ders(new), answer)
            if result.outcome is Outcome.OK:
                continue
            if (
                result.outcome is Outcome.WRONG
                and judge_tlsa(name, ders(old), answer).outcome is not Outcome.OK
            ):
                continue  # the old one is no better: no record is there, or for neither
            if result.outcome is Outcome.UNKNOWN and old.not_after.timestamp() <= time.time():
                continue  # nothing is proved against the new one, and the old one is over
            # Without the time that a cache has left: the same trouble is to be told once.
            return explain(replace(result, check="tlsa", passing=0.0))
        return ""

    return judge
