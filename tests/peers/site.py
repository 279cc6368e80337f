"""A site on loopback: a real `tamis serve` with SMTP, submission and submissions, users and certificates.

Mail for `example.test` goes to the embedded store, or to the back end that the test names. Users are
`ALICE` and `BOB` with `PASSWORD`; the certificate is that of `HOSTNAME` by an authority of the test.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from mta.accounts.user import User
from mta.accounts.usersfile import edit
from tests.peers.certificates import authority
from tests.peers.ports import free_port
from tests.peers.running import ROOT, Tamis, until

DOMAIN = "example.test"
HOSTNAME = "mx.example.test"
ALICE = f"alice@{DOMAIN}"
BOB = f"bob@{DOMAIN}"
PASSWORD = "correct horse"
FAULTS = ("internal error", "Traceback", "task failed", "unhandled exception", "worker fault", "worker hangs")
"""What the log of a server must never hold, whatever its peers do."""

_CONFIGURATION = """
[identity]
hostname = "{hostname}"
[[listener]]
addresses = ["127.0.0.1:{smtp}"]
{smtp_options}
[[listener]]
protocol = "submission"
addresses = ["127.0.0.1:{submission}"]
[[listener]]
protocol = "submission"
tls = "implicit"
addresses = ["127.0.0.1:{submissions}"]
[certificates.main]
chain = "main.pem"
key = "main.key"
[auth]
{auth}
[domains."{domain}"]
recipients = "{recipients}"
{backend}
[policy]
trusted_networks = {trusted}
{policy}
[process]
workers = {workers}
state_directory = "state"
runtime_directory = "run"
spill_directory = "{directory}"
restart_delay_max = "1s"
{process}
[queue]
{queue}
{more}
"""
NO_QUEUE = "enabled = false"
"""What is not delivered at once is answered 4xx and stays with the client."""
_STORE = '[store]\nenabled = true\npath = "mail"\n'
_USERS = 'backend = "users"\nusers_file = "users"\n'


class Site(Tamis):
    """One site; use `site`."""

    def __init__(self, directory: Path) -> None:
        """Make the certificate; users are made when the configuration wants them."""
        super().__init__(directory)
        self.options = {}
        self.submission = free_port()
        self.submissions = free_port()
        self.authority = authority(directory)
        self.ca_file = self.authority.file
        self.authority.issue("main", HOSTNAME, "localhost", "127.0.0.1")

    @property
    def smtp(self) -> int:
        """The port for mail from outside."""
        return self.port

    def set_up(
        self,
        *,
        backend: str = _STORE,
        recipients: str = "ask",
        auth: str = _USERS,
        workers: int = 2,
        smtp_options: str = "",
        policy: str = "",
        trusted: str = "[]",
        process: str = "",
        queue: str = "",
        more: str = "",
    ) -> None:
        """Write the configuration (again); every argument is the text of a part of it."""
        if auth == _USERS and not (self.directory / "users").exists():
            with edit(self.directory / "users") as table:
                for name, addresses in ((ALICE, (f"sales@{DOMAIN}",)), (BOB, ())):
                    table.put(User(name, addresses=addresses).with_password(PASSWORD))
        self.path.write_text(
            _CONFIGURATION.format(
                hostname=HOSTNAME,
                domain=DOMAIN,
                directory=self.directory,
                smtp=self.smtp,
                submission=self.submission,
                submissions=self.submissions,
                backend=backend,
                recipients=recipients,
                auth=auth,
                workers=workers,
                smtp_options=smtp_options,
                policy=policy,
                trusted=trusted,
                process=process,
                queue=queue,
                more=more,
            )
        )

    def trust(self) -> ssl.SSLContext:
        """How a client verifies the server."""
        return ssl.create_default_context(cafile=self.ca_file)

    def messages(self, user: str = ALICE, containing: str = "") -> list[bytes]:
        """The messages of a user in the embedded store that contain a text."""
        local, _, domain = user.partition("@")
        box = self.directory / "mail" / domain / local
        octets = [path.read_bytes() for path in (*box.glob("new/*"), *box.glob("cur/*"))]
        return [message for message in octets if containing.encode() in message]

    def message(self, user: str, containing: str) -> bytes:
        """The one message of a user that contains a text; there must not be two."""
        found = self.messages(user, containing)
        assert len(found) == 1, f"{len(found)} copies; log: {self.log()[-2000:]}"
        return found[0]

    def command(self, *words: str) -> str:
        """Run `tamis` with this configuration, which must succeed; what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "mta.cli", *words],
            cwd=ROOT,
            env={**os.environ, "TAMIS_CONFIG": str(self.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def reload(self) -> None:
        """`tamis reload`, which must succeed."""
        self.command("reload")

    def stop(self) -> None:
        """`tamis stop`, and see that nothing went wrong in the server's life."""
        self.command("stop")
        assert self.wait() == 0
        self.check_log()

    def check_log(self) -> None:
        """No line of the log tells of a fault of ours."""
        faults = [line for line in self.log().splitlines() if any(fault in line for fault in FAULTS)]
        assert not faults, "\n".join(faults)

    def wait_ready(self, workers: int = 2) -> dict[str, int]:
        """Wait until so many workers are ready; their process ids by name."""

        def ready() -> dict[str, int] | None:
            found = {name: pid for name, pid in self.workers().items() if name.startswith("worker")}
            return found if len(found) == workers else None

        return until(ready, lambda: f"{workers} workers; log: {self.log()}")


@contextlib.contextmanager
def site(
    directory: Path, environment: Mapping[str, str] | None = None, /, **settings: str | int
) -> Iterator[Site]:
    """A site that serves; `settings` are those of `Site.set_up`. Its log must be clean at the end."""
    server = Site(directory)
    server.environment |= environment or {}
    try:
        server.set_up(**settings)  # type: ignore[arg-type]
        server.start()
        yield server
        server.check_log()
    finally:
        server.end()
