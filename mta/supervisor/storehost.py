"""The embedded mail store as a process of the supervisor: the configuration mapped to `mta.store`.

One process runs whatever the number of workers: it writes with threads and waits for the disk most of the
time. At a reload the new process accepts from the same socket while the old one finishes its messages;
Maildir and the quota files are made for several writers.
"""

from __future__ import annotations

import socket
from typing import Any

from mta import config, metrics
from mta.accounts.usersfile import UsersFileError
from mta.config.inbound import STANDARD_PORTS
from mta.lastgood import KeptFiles
from mta.store.server import StoreServer, mailboxes_of
from mta.store.settings import StoreSettings
from mta.supervisor.link import WorkerLink

TRACE_ROOM = 64 * 1024
"""Octets that a message may grow on its way through the server (Received, Return-Path, header edits)."""


class StoreHost:
    """Runs the store as the supervisor's processes run (`mta.worker.Daemon`)."""

    def __init__(
        self, configuration: config.Config, sockets: dict[str, list[socket.socket]], link: WorkerLink
    ) -> None:
        """Prepare the store. Raises `ValueError` when the users file cannot be used."""
        settings = store_settings(configuration)
        try:
            mailboxes = mailboxes_of(settings, KeptFiles(link))
        except UsersFileError as error:
            raise ValueError(str(error)) from error
        self._server = StoreServer(
            settings,
            [sock for group in sockets.values() for sock in group],
            mailboxes,
            spill_directory=configuration.process.spill_directory or None,
        )

    async def prepare(self) -> None:
        """Nothing takes time (`mta.worker.Daemon`)."""

    async def start(self) -> None:
        """Accept from here on. Raises `OSError` when the folder of the mailboxes cannot be made."""
        await self._server.start()

    async def drain(self, seconds: float) -> None:
        """Finish what is being delivered (`mta.worker.Daemon`)."""
        await self._server.drain(seconds)

    def snapshot(self) -> dict[str, Any]:
        """Give the counters of the store."""
        return metrics.store_snapshot(self._server.snapshot())

    async def answer(self, topic: str, data: dict[str, Any]) -> dict[str, Any]:
        """Nothing can be asked of the store (`mta.worker.Daemon`)."""
        raise ValueError(f"the mail store knows nothing of {topic!r}")


def store_settings(configuration: config.Config) -> StoreSettings:
    """Map the configuration to the settings of the store."""
    return StoreSettings(
        root=configuration.store.path,
        users_file=configuration.auth.users_file,
        hostname=configuration.identity.hostname,
        size_limit=configuration.message.max_size + TRACE_ROOM,
        recipient_limit=configuration.message.max_recipients,
        quota_octets=configuration.store.default_quota,
        quota_messages=configuration.store.default_quota_messages,
        over_quota=configuration.store.over_quota,
        recipient_delimiters=_delimiters(configuration),
        state_directory=configuration.process.state_directory if configuration.store.scripts else "",
        submit=_submit(configuration),
        trusted=configuration.policy.trusted_networks,
        submit_deadline=configuration.delivery.deadline,
    )


def _submit(configuration: config.Config) -> str:
    """The address that takes mail from this machine without a login, on the loopback if there is one; "" when
    none does."""
    found: list[tuple[int, str]] = []
    for listener in configuration.listener:
        if (
            listener.protocol != "smtp"
            or listener.auth == "required"
            or listener.tls not in ("auto", "none", "starttls")
            or listener.proxy_protocol_from  # nobody but load balancers is let in
        ):
            continue
        for address in listener.addresses:
            if isinstance(address, config.Inet):
                host = config.near(address.host)
                far = 0 if host in ("127.0.0.1", "::1") else 1
                found.append((far, str(config.Inet(host, address.port))))
            elif isinstance(address, config.Inherited):
                # Of what systemd opens the name alone is known: most likely it is the port of the protocol.
                found.append((2, f"127.0.0.1:{STANDARD_PORTS['smtp']}"))
    return min(found, key=lambda one: one[0])[1] if found else ""


def _delimiters(configuration: config.Config) -> str:
    """What separates a subaddress in any domain.

    The store knows no domains. It looks for the whole address first, and the server has refused what is no
    recipient of its domain, so one domain's delimiter does no harm in another.
    """
    found = (domain.subaddress_delimiter for domain in configuration.domains.values())
    return "".join(dict.fromkeys("".join(found)))
