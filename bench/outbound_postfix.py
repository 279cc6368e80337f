"""Postfix doing what `bench.outbound` measures: 4 kB over TLS with verified DANE to 50 destinations.

Postfix takes its resolver from /etc/resolv.conf alone and connects to port 25 alone, so it runs in a mount
namespace of its own, with Unbound on port 53 and the sink on port 25 of loopback addresses that nobody else
has. Its queue is filled first, with delivery deferred; measured is the delivery from when a quarter of the
messages has come to the last one, and the processor time of all its processes meanwhile. Connections are
reused through tlsproxy as it is done by default where that is on (`smtp_tls_connection_reuse`). Needs
root.
"""

from __future__ import annotations

import contextlib
import smtplib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.outbound import message
from bench.outbound_sink import DESTINATIONS, taken
from bench.outbound_world import dane_world
from bench.processes import cpu_seconds

if TYPE_CHECKING:
    from tests.peers.postfix import Postfix

RESOLVER = "127.0.53.1"
MESSAGES = 1500
SESSIONS = 8
WARMING = 0.25
"""Share of the messages before the measurement begins: connections are open then, as many as it uses."""
PATIENCE = 90.0
"""Seconds for a drain."""
_SETTINGS = """\
default_transport = smtp
relay_transport = smtp
smtpd_recipient_restrictions = permit_mynetworks, reject
smtp_dns_support_level = dnssec
smtp_host_lookup = dns
smtp_tls_security_level = dane
smtp_tls_loglevel = 1
smtp_tls_connection_reuse = yes
default_process_limit = 200
default_destination_concurrency_limit = 20
"""
_DEFERRED = """\
queue_run_delay = 1000s
maximal_backoff_time = 1000s
minimal_backoff_time = 1000s
defer_transports = smtp
"""
_COLD = """\
smtp_tls_connection_reuse = no
smtp_connection_cache_on_demand = no
"""
_SERVICES = """\
smtp unix - - n - - smtp
tlsproxy unix - - n - 0 tlsproxy
scache unix - - n - 1 scache
pickup unix n - n 60 1 pickup
showq unix n - n - - showq
flush unix n - n 1000? 0 flush
"""


def measure_postfix(messages: int = MESSAGES, *, cold: bool = False) -> tuple[float, float]:
    """Messages a second and microseconds of processor time a message. Raises RuntimeError.

    `cold`: each message over a connection of its own.
    """
    with dane_postfix(_DEFERRED + (_COLD if cold else "")) as postfix:
        _fill(postfix.port, messages)
        return _drain(postfix.folder, messages)


@contextlib.contextmanager
def dane_postfix(more: str = "") -> Iterator[Postfix]:
    """A Postfix that sends with DANE to 50 domains, d1.bench.test and so on; `more` goes into main.cf."""
    from tests.peers.dnsworld import system_resolver
    from tests.peers.postfix import running_postfix

    with (
        dane_world(25) as (dns, chain),
        system_resolver(dns, RESOLVER) as resolv,
        running_postfix(chain, _SETTINGS + more, _SERVICES, resolv=resolv) as postfix,
    ):
        yield postfix


def _fill(port: int, messages: int) -> None:
    octets = b"".join(message().chunks())
    clients = [smtplib.SMTP("127.0.0.1", port) for _ in range(SESSIONS)]
    for number in range(messages):
        to = f"b@d{number % DESTINATIONS + 1}.bench.test"
        clients[number % SESSIONS].sendmail("a@us.test", [to], octets)
    for client in clients:
        client.quit()


def _drain(folder: Path, messages: int) -> tuple[float, float]:
    etc = str(folder / "etc")
    time.sleep(2.0)  # until all of it is in the deferred queue
    # Nothing is tried again before that: a reload amid a flood of its log does not end.
    for command in (
        ["postconf", "-c", etc, "-e", "defer_transports="],
        ["postfix", "-c", etc, "reload"],
        ["postfix", "-c", etc, "flush"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    master = int((folder / "spool/pid/master.pid").read_text())
    begun = spent = 0.0
    first = 0
    until = time.monotonic() + PATIENCE
    while True:
        count = taken("127.2.0.1", 25)
        now = time.perf_counter()
        if not begun and count >= messages * WARMING:
            begun, first, spent = now, count, cpu_seconds(master)
        if count >= messages:
            break
        if time.monotonic() > until:
            raise RuntimeError(f"{count} of {messages}: {(folder / 'mail.log').read_text()[-2000:]}")
        time.sleep(0.01)
    if "Verified TLS connection" not in (folder / "mail.log").read_text():
        raise RuntimeError("Postfix did not verify anybody")
    done = messages - first
    return done / (now - begun), (cpu_seconds(master) - spent) / done * 1e6
