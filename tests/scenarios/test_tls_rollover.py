"""`tamis tls rollover` from end to end: records by updates, a signed zone, a running server, and a watcher.

All the time `openssl s_client -dane` looks at the server as a sender would, with the TLSA records of each
moment, and with those that a resolver may still remember. No look may fail.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from mta.startup.table import NAMES
from mta.startup.tlsa import tlsa_value
from tests.peers.certificates import Authority, authority
from tests.peers.checkedsite import certificate
from tests.peers.named import Named, running_named, running_validator
from tests.peers.needs import needs, program
from tests.peers.ports import free_port
from tests.peers.running import until

pytestmark = pytest.mark.scenario
ROOT = Path(__file__).resolve().parents[2]
ZONE, HOST = "ours.test", "mx.ours.test"
MADE = ("tlsa", "certificates", "starttls")
"""Checks that are made, before the start and before a certificate is taken."""
CONFIGURATION = """\
[identity]
hostname = "mx.ours.test"
postmaster = "boss@ours.test"
[[listener]]
addresses = ["127.0.0.1:{smtp}"]
[certificates.main]
chain = "main.pem"
key = "main.key"
[tls]
poll_interval = "0.1s"
[dns]
resolvers = ["127.0.0.1:{dns}"]
[security]
signed_names = ["ours.test"]
broken_names = []
[domains."ours.test"]
recipients = "all"
[backends.store]
addresses = ["127.0.0.1:9"]
[process]
workers = 1
state_directory = "state"
runtime_directory = "{folder}/run"
[checks]
mode = "production"
patience = "10s"
"""


class Site:
    """The server, its DNS, and what is known of its certificates."""

    def __init__(self, folder: Path, named: Named, smtp: int, text: str) -> None:
        self.text = text
        self.folder = folder
        self.named = named
        self.smtp = smtp
        self.owner = f"_{smtp}._tcp.{HOST}"
        self.remembered: list[list[str]] = []
        """Sets of records that resolvers may have, beside the present one."""
        self.looks = 0
        self.failures: list[str] = []

    def ask(self, port: int) -> None:
        """Use this server for the DNS from now on, by commands and by the next start."""
        (self.folder / "tamis.toml").write_text(self.text.replace("{dns}", str(port)))

    def tamis(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "mta.cli",
            words[0],
            "-c",
            str(self.folder / "tamis.toml"),
            *words[1:],
        ]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    def update(self, *words: str) -> None:
        server = ("--update", f"127.0.0.1:{self.named.port}", "--key", str(self.named.key))
        done = self.tamis("dns", *words, *server)
        assert done.returncode == 0, done.stdout + done.stderr

    def published(self) -> list[str]:
        return self.named.ask(self.owner, "TLSA")

    def look(self) -> None:
        """Verify as a sender does, with each set of records that somebody may go by."""
        for records in (self.published(), *self.remembered):
            said = verify(self.smtp, records)
            self.looks += 1
            if "Verification: OK" not in said:
                self.failures.append(f"{records}\n{said}")

    @contextmanager
    def watched(self) -> Iterator[None]:
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                self.look()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        assert not self.failures, self.failures[0]


def verify(port: int, records: list[str]) -> str:
    command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-starttls", "smtp"]
    command += ["-dane_tlsa_domain", HOST]
    for record in records:
        command += ["-dane_tlsa_rrdata", record]
    done = subprocess.run(command, input="QUIT\n", capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def served(site: Site) -> str:
    """The record of the certificate that the server has."""
    with smtplib.SMTP("127.0.0.1", site.smtp) as client:
        client.starttls(context=ssl._create_unverified_context())
        assert isinstance(client.sock, ssl.SSLSocket)
        der = client.sock.getpeercert(binary_form=True)
    assert der is not None
    return tlsa_value(der)


def certificate_of(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text().strip().partition("-----END CERTIFICATE-----")[0]
                                    + "-----END CERTIFICATE-----\n")  # fmt: skip


def test_a_new_key_without_a_moment_that_does_not_verify(tmp_path: Path) -> None:
    needs("bind9", "unbound")
    ca = Authority(tmp_path, authority(tmp_path).ca)
    ca.issue("main", HOST)
    ca.issue("next", HOST)
    smtp = free_port()
    for name in ("named", "validator", "state", "run"):
        (tmp_path / name).mkdir()
    old, new = tlsa_value(certificate(tmp_path)), tlsa_value(certificate_of(tmp_path / "next.pem"))
    with running_named(tmp_path / "named", [ZONE], "mx 300 IN A 127.0.0.1\n", signed=True) as named:
        off = "".join(f'{name} = "off"\n' for name in NAMES if name not in MADE)
        text = CONFIGURATION.format(smtp=smtp, dns="{dns}", folder=tmp_path) + off
        site = Site(tmp_path, named, smtp, text)
        site.ask(named.port)
        site.update()
        assert site.published() == [old]
        resolver = free_port()
        site.ask(resolver)
        with serving(site) as wait:
            with running_validator(tmp_path / "validator", named, ZONE, resolver):
                wait()
                publish(site, old, new)
            # Two TTLs later no resolver has the old set any more, ours neither.
            with running_validator(tmp_path / "validator", named, ZONE, resolver):
                switch(site, old, new)
    assert site.looks > 10


@contextmanager
def serving(site: Site) -> Iterator[Callable[[], None]]:
    """A server that starts as soon as it has its DNS; gives what waits for it."""
    with (site.folder / "log").open("w") as log:
        command = [sys.executable, "-m", "mta.cli", "serve", "-c", str(site.folder / "tamis.toml")]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def wait() -> None:
        until(lambda: "supervisor: ready" in log_of(site), partial(log_of, site))

    try:
        yield wait
    finally:
        process.terminate()
        process.wait(30)


def log_of(site: Site) -> str:
    return (site.folder / "log").read_text()


def step(site: Site) -> subprocess.CompletedProcess[str]:
    place = site.folder
    return site.tamis("tls", "rollover", "--next", f"{place}/next.pem", "--next-key", f"{place}/next.key")


def publish(site: Site, old: str, new: str) -> None:
    """The record of the next key comes beside the present one; the certificate stays."""
    with site.watched():
        first = step(site)
        assert first.returncode == 1, first.stdout + first.stderr
        assert f"{site.owner}. 3600 IN TLSA {new}" in first.stdout
        site.remembered = [[old]]  # for as long as a TTL
        site.update("--next", str(site.folder / "next.pem"))
        assert site.published() == sorted([old, new])
        # Our resolver is one of those that remember the old set.
        assert f"TLSA {new}" in step(site).stdout
        assert served(site) == old


def switch(site: Site, old: str, new: str) -> None:
    """The time is waited for, then the certificate changes, then the old record goes."""
    with site.watched():
        waiting = step(site)
        assert waiting.returncode == 1, waiting.stdout + waiting.stderr
        assert "resolvers may remember the old records for 120 minutes more" in waiting.stdout
        assert served(site) == old
    state = site.folder / "state/rollover.json"
    seen = json.loads(state.read_text())
    assert seen["record"] == new
    state.write_text(json.dumps({**seen, "since": seen["since"] - 7300}))
    site.remembered = []
    with site.watched():
        done = step(site)
        assert done.returncode == 0, done.stdout + done.stderr
        until(lambda: served(site) == new, partial(log_of, site))
        site.remembered = [sorted([old, new])]
        site.update()
        assert site.published() == [new]
        assert (site.folder / "main.pem.old").exists()
