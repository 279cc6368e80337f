"""A server that the signed world of `dnsworld` knows as it should: keys, certificate, zones, configuration.

with running_site(folder) as site:
    site.tamis("check")             # all is well
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mta import config
from mta.accounts.user import User
from mta.accounts.usersfile import edit
from mta.authn.dkimfolder import KeyFolder
from mta.authn.dkimrecord import zone_line
from mta.authn.dkimrotate import KeyState
from mta.startup.capability import our_capabilities
from mta.startup.claims import site_of
from mta.startup.tlsa import tlsa_value
from tests.peers.certificates import Authority, authority
from tests.peers.dnsworld import DnsWorld, Zone, running_dnsworld
from tests.peers.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
DOMAIN, HOST, ADDRESS = "ours.test", "mx.ours.test", "127.0.1.1"
BOSS = "boss@ours.test"
CONFIGURATION = """\
[identity]
hostname = "mx.ours.test"
postmaster = "boss@ours.test"
[[listener]]
addresses = ["127.0.0.1:{smtp}"]
[[listener]]
protocol = "submission"
tls = "implicit"
addresses = ["127.0.0.1:{submissions}"]
[certificates.main]
chain = "main.pem"
key = "main.key"
[tls]
poll_interval = "0.1s"
[auth]
backend = "users"
users_file = "users"
[dns]
resolvers = ["{resolver}"]
timeout = "5s"
[signing]
keys = "dkim"
[security]
signed_names = ["test"]
broken_names = ["expired.test"]
[domains."ours.test"]
recipients = "users"
[store]
enabled = true
[process]
workers = 1
state_directory = "state"
runtime_directory = "{runtime}"
[metrics]
listen = "127.0.0.1:{metrics}"
[checks]
mode = "production"
tls_ca = "ca.pem"
identity = "off"
clock = "off"
mta_sts = "off"
patience = "{patience}"
"""


@dataclass
class CheckedSite:
    """The folder of the server, and the world around it."""

    folder: Path
    world: DnsWorld
    ca: Authority
    ports: dict[str, int]

    @property
    def path(self) -> Path:
        """The configuration."""
        return self.folder / "tamis.toml"

    def configure(self, more: str = "", patience: str = "0s", **replaced: str) -> None:
        """Write the configuration; `replaced` gives keys other values, `more` is put behind it."""
        resolver = f"{self.world.resolver.host}:{self.world.resolver.port}"
        text = CONFIGURATION.format(
            resolver=resolver, runtime=self.folder / "run", patience=patience, **self.ports
        )
        for old, new in replaced.items():
            text = text.replace(f"{old} = ", f"{old} = {new} # ")
        self.path.write_text(text + more)

    def tamis(self, *words: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command on the configuration."""
        return subprocess.run(
            [sys.executable, "-m", "mta.cli", *words, "-c", str(self.path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    @contextlib.contextmanager
    def serving(self) -> Iterator[subprocess.Popen[str]]:
        """`tamis serve` in the background; its log is the file `log`."""
        with (self.folder / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mta.cli", "serve", "-c", str(self.path)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                text=True,
            )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    @property
    def log(self) -> str:
        """What the server has said."""
        return (self.folder / "log").read_text()


@contextlib.contextmanager
def running_site(folder: Path, extra: str = "") -> Iterator[CheckedSite]:
    """Make it; `extra` are more lines of its zone. Raises `bench.workplace.Missing` without the programs."""
    ports = {"smtp": free_port(), "submissions": free_port(), "metrics": free_port()}
    for name in ("state", "run"):
        (folder / name).mkdir()
    ca = Authority(folder, authority(folder).ca)
    assert ca.file
    ca.issue("main", HOST)
    with edit(folder / "users") as table:
        table.put(User(BOSS).with_password("secret of the boss"))
    keys = KeyFolder(folder / "dkim")
    keys.create(DOMAIN, ("ed25519",), "one", 2048, 1.0)
    with keys.locked(DOMAIN):
        entries = keys.entries(DOMAIN)
        keys.write(DOMAIN, [msgspec.structs.replace(entry, state=KeyState.ACTIVE) for entry in entries])
    lines = [zone_line(key) for key in keys.signing_keys(DOMAIN)]
    value = tlsa_value(certificate(folder))
    lines += [f"_{ports[name]}._tcp.mx 300 TLSA {value}" for name in ("smtp", "submissions")]
    lines += [
        '@ 300 TXT "v=spf1 mx -all"',
        '_dmarc 300 TXT "v=DMARC1; p=reject; rua=mailto:postmaster@ours.test"',
        '_smtp._tls 300 TXT "v=TLSRPTv1; rua=mailto:postmaster@ours.test"',
        "_submission._tcp 300 SRV 0 0 0 .",
        f"_submissions._tcp 300 SRV 0 1 {ports['submissions']} mx",
        "_imap._tcp 300 SRV 0 0 0 .",
        "_imaps._tcp 300 SRV 0 0 0 .",
        extra,
    ]
    text = CONFIGURATION.format(resolver="127.0.0.1", runtime="run", patience="0s", **ports)
    settings = config.parse(text, str(folder / "tamis.toml"))
    lines.append(f"_25._smtp.mx 300 SVCB {our_capabilities(site_of(settings)).rdata()}")
    zones = {
        DOMAIN: Zone("\n".join(lines) + "\n"),
        "1.0.127.in-addr.arpa": Zone(f"1 300 PTR {HOST}.\n"),
    }
    with running_dnsworld(zones) as world:
        site = CheckedSite(folder, world, ca, ports)
        site.configure()
        yield site


def certificate(folder: Path) -> bytes:
    """DER of the certificate in main.pem."""
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert((folder / "main.pem").read_text().partition(end)[0] + end + "\n")


def outcomes(done: subprocess.CompletedProcess[str]) -> dict[str, set[str]]:
    """Outcomes by check, of `tamis check --json`."""
    assert done.stdout, done.stderr
    found: dict[str, set[str]] = {}
    for result in json.loads(done.stdout)["results"]:
        found.setdefault(result["check"], set()).add(result["outcome"])
    return found


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in the place of another at once, as renewals do."""
    draft = path.with_suffix(".new")
    draft.write_bytes(content)
    draft.chmod(path.stat().st_mode & 0o777)
    os.replace(draft, path)
