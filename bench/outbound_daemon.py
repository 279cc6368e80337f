"""Delivery to any domain by the whole daemon, from its queue, beside Postfix from its own.

Both servers hold the same messages first, each of 4 kB to one of 50 destinations; then they may go: over TLS
with verified TLSA records to the same kind of sink, in the same kind of DNS. Measured is what
`bench.outbound_postfix` measures: the time from when a quarter of the messages has come to the last one, and
the processor time of all processes of the server meanwhile. `outbound_daemon` is with connections that are
used again, `outbound_daemon_cold` with a new one for each message.

`outbound_daemon_mixed` lets 10,000 messages go at once, each to a domain of its own, 30 % of them bad as
in `bench.outbound_mixed`. The figure is the time until the last live domain has its mail, over that time in a
run in which the domains that were bad are live, too.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import smtplib
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import workplace
from bench.command import Options, run
from bench.figures import Figure
from bench.outbound import message
from bench.outbound_mixed import DOMAINS, kinds_of
from bench.outbound_postfix import WARMING, measure_postfix
from bench.outbound_sink import DESTINATIONS, KINDS, running_sink, taken
from bench.outbound_world import dane_world
from bench.processes import cpu_seconds
from bench.sink import Nowhere
from bench.system import SENDER, Failure, last_lines
from bench.tamis import Tamis
from bench.workplace import free_port
from mta.accounts.user import User
from mta.accounts.usersfile import edit

MESSAGES = {"": 4000, "_cold": 1000}
SESSIONS = 8
SESSION_MESSAGES = 90
"""Under the limit of messages of one session."""
PATIENCE = 120.0
"""Seconds for a queue to become empty."""
PASSWORD = "secret of the bench"
FILLS = 100
"""Messages a second that the queue is filled with, at least."""
_CONFIGURATION = """
[[listener]]
name = "submission"
protocol = "submission"
tls = "implicit"
addresses = ["127.0.0.1:{submission}"]
[certificates.main]
chain = "{place}/chain.pem"
key = "{place}/chain.pem"
[auth]
backend = "users"
users_file = "{place}/users"
[limits]
sessions_per_client = 0
session_rate_per_client = 0
session_rate_per_prefix = 0
[dns]
resolvers = ["{resolver}"]
[outbound]
enabled = true
ipv6 = false
port = {port}
refused_networks = []
{outbound}
[security]
signed_names = ["good.test"]
broken_names = ["expired.test"]
[checks]
mode = "local"
"""


def measure(options: Options) -> list[Figure]:
    """Everything."""
    return measure_dane(options) + measure_mixed(options)


def measure_dane(options: Options) -> list[Figure]:
    """Warm and cold connections, of Postfix and of ours."""
    figures = []
    for name in MESSAGES:
        peers = [measure_postfix(cold=bool(name)) for _ in range(1 if options.quick else 3)]
        ours = [_dane(options, name) for _ in range(1 if options.quick else 3)]
        rate, cpu = sorted(ours)[len(ours) // 2]
        peer_rate, peer_cpu = sorted(peers)[len(peers) // 2]
        figures += [
            Figure(f"outbound_daemon{name}", rate, "messages/s", peer_rate, rate=True),
            Figure(f"outbound_daemon{name}_cpu", cpu, "us", peer_cpu),
        ]
    return figures


def _dane(options: Options, name: str) -> tuple[float, float]:
    """Messages a second, and microseconds of processor time a message."""
    port = free_port()
    count = MESSAGES[name] // (4 if options.quick else 1)
    outbound = "messages_per_connection = 1" if name else ""
    with (
        workplace.folder(options.folder) as place,
        dane_world(port) as (dns, _),
        serving(place / "tamis", str(dns.resolver), port, outbound) as (tamis, submission),
    ):
        _fill(submission, [f"b@d{n % DESTINATIONS + 1}.bench.test" for n in range(count)])
        found = drained(tamis.process, count, "127.2.0.1", port)
        log = place / "tamis/tamis.log"
        if set(re.findall(r"site=\S+ tls=(\w+)", log.read_text())) != {"dane"}:
            raise Failure(f"not all of it went by DANE:{last_lines(log)}")
    return found


@contextlib.contextmanager
def serving(place: Path, resolver: str, port: int, outbound: str) -> Iterator[tuple[Tamis, int]]:
    """A server, and its port for submission."""
    import trustme

    submission = free_port()
    leaf = trustme.CA().issue_cert("bench.test")
    (place.parent / "chain.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    (place.parent / "chain.pem").chmod(0o600)
    with edit(place.parent / "users") as table:
        table.put(User(SENDER).with_password(PASSWORD))
    more = _CONFIGURATION.format(
        place=place.parent, submission=submission, resolver=resolver, port=port, outbound=outbound
    )
    tamis = Tamis(place, Nowhere(free_port()), more)
    tamis.start()
    try:
        tamis.wait()
        yield tamis, submission
    finally:
        tamis.stop()
        shutil.rmtree(place, ignore_errors=True)


def _fill(port: int, recipients: Sequence[str]) -> float:
    """Queue messages that all may go at the same moment (RFC 4865); return when, a little before it."""
    octets = b"".join(message().chunks())
    due = int(time.time() + 2 + len(recipients) / FILLS)
    until = f"HOLDUNTIL={time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(due))}"
    for start in range(0, len(recipients), SESSION_MESSAGES * SESSIONS):
        some = recipients[start : start + SESSION_MESSAGES * SESSIONS]
        with ThreadPoolExecutor(SESSIONS) as pool:
            for done in [pool.submit(_send, port, some[n::SESSIONS], octets, until) for n in range(SESSIONS)]:
                done.result()
    if time.time() > due - 0.5:
        raise Failure(f"{len(recipients)} messages were not in the queue in time")
    time.sleep(due - 0.2 - time.time())
    return due


def _send(port: int, recipients: Sequence[str], octets: bytes, until: str) -> None:
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP_SSL("127.0.0.1", port, context=unverified) as client:
        client.login(SENDER, PASSWORD)
        for recipient in recipients:
            client.sendmail(SENDER, [recipient], octets, [until])


def drained(process: int, count: int, address: str, port: int) -> tuple[float, float]:
    """Messages a second and microseconds of a server, as `bench.outbound_postfix` measures it."""
    begun = spent = 0.0
    first = 0
    until = time.monotonic() + PATIENCE
    while True:
        there = taken(address, port)
        now = time.perf_counter()
        if not begun and there >= count * WARMING:
            begun, first, spent = now, there, cpu_seconds(process)
        if there >= count:
            done = there - first
            return done / (now - begun), (cpu_seconds(process) - spent) / done * 1e6
        if time.monotonic() > until:
            raise Failure(f"{there} of {count} messages have come")
        time.sleep(0.01)


# Many, of which some are bad.


def measure_mixed(options: Options) -> list[Figure]:
    """All at once."""
    kinds = kinds_of(DOMAINS // (10 if options.quick else 1))
    live = [domain for domain, kind in kinds.items() if kind == "live"]
    bad = _mixed(options, kinds, len(live))
    good = _mixed(options, dict.fromkeys(kinds, "live"), len(kinds))
    alone = _mixed(options, dict.fromkeys(live, "live"), len(live))
    others = len(kinds) - len(live)
    print(
        f"until {len(live)} live domains have their mail: {bad:.1f} s beside {others} bad ones, "
        f"{good:.1f} s beside as many good ones, {alone:.1f} s alone"
    )
    return [Figure("outbound_daemon_mixed", bad / good, "times")]


def _mixed(options: Options, kinds: Mapping[str, str], live: int) -> float:
    """The seconds until so many live domains have their mail."""
    from tests.peers.dnsworld import Zone, running_dnsworld

    port = free_port()
    text = "".join(_records(kinds.items()))
    zones = {"many.test": Zone(text, signed=False, delegated=False)}
    with (
        workplace.folder(options.folder) as place,
        running_dnsworld(zones) as world,
        running_sink(str(port)),
        serving(place / "tamis", str(world.resolver), port, "") as (_, submission),
    ):
        due = _fill(submission, [f"b@{domain}" for domain in kinds])
        while taken(KINDS["live"], port) < live:
            if time.time() > due + PATIENCE:
                raise Failure("the live domains do not get their mail")
            time.sleep(0.05)
        return time.time() - due


def _records(kinds: Iterable[tuple[str, str]]) -> Iterator[str]:
    for domain, kind in kinds:
        name = domain.removesuffix(".many.test")
        yield f"{name} 300 MX 10 mx.{name}\nmx.{name} 300 A {KINDS[kind]}\n"


if __name__ == "__main__":
    run("outbound_daemon", measure)
