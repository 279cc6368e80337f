"""`make demo`: a whole mail server in one folder, made, started and explained in one step.

The folder (`./demo`) gets a configuration, a self-signed certificate, two users with random passwords and the
mailboxes of the embedded store. What is there already is kept, so the configuration may be played with;
`--fresh` begins anew. Everything listens on 127.0.0.1 only and needs no root.

`--check` makes a server in a temporary folder, sends a message through each port, reads the three from the
mailboxes and stops the server: exit status 0 when all of it worked. `--ports auto` takes free ports.

Failure: a line on standard error and exit status 1, with what the server said.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mta.accounts.user import User
from mta.accounts.usersfile import edit
from mta.roundtrip import RoundTripError, Site, round_trip

DOMAIN = "example.test"
"""Reserved for tests (RFC 6761), so no message of a demonstration can leave the machine."""
USERS = (f"alice@{DOMAIN}", f"bob@{DOMAIN}")
HOSTNAME = f"mx.{DOMAIN}"
STANDARD_PORTS = (2525, 2587, 2465)
PASSWORD_LENGTH = 12
"""71 bits."""
CERTIFICATE_DAYS = 365
START_TIMEOUT = 30.0
"""Seconds for the server to greet; it takes one, on a loaded test machine several."""
SOCKET_PATH_ROOM = 90
"""Octets of a folder under which Unix sockets still fit (sun_path has 108)."""

CONFIGURATION = """\
# Made by `make demo`. Change it and restart the demo; `python -m mta.demo --fresh` writes a new one.
# All options with their defaults are in conf/tamis.toml.

[identity]
hostname = "{hostname}"
postmaster = "{postmaster}"

[[listener]]                        # mail from the world; port 25 on a real server
addresses = ["127.0.0.1:{smtp}"]

[[listener]]                        # mail of our users, with STARTTLS and a password; port 587
protocol = "submission"
addresses = ["127.0.0.1:{submission}"]

[[listener]]                        # the same with TLS from the first octet; port 465
protocol = "submission"
tls = "implicit"
addresses = ["127.0.0.1:{submissions}"]

[certificates.demo]
chain = "certificate.pem"
key = "key.pem"

[auth]
backend = "users"
users_file = "users"

[domains."{domain}"]
recipients = "ask"                  # the mail store knows who exists

[policy]
trusted_networks = []               # nobody may relay without a password, not even this machine

[store]
enabled = true
path = "mail"

[process]
state_directory = "state"
runtime_directory = "{runtime}"
"""


class DemoError(Exception):
    """The demonstration cannot go on; the text says why."""


@dataclass(slots=True, frozen=True)
class Demo:
    """A folder with everything in it."""

    folder: Path
    ports: tuple[int, int, int]
    """SMTP, submission, submission with implicit TLS."""
    passwords: dict[str, str]

    @property
    def configuration(self) -> Path:
        """The configuration file."""
        return self.folder / "tamis.toml"

    @property
    def mail(self) -> Path:
        """The folder of the mailboxes."""
        return self.folder / "mail"


def make(folder: Path, ports: tuple[int, int, int]) -> Demo:
    """Make what is missing in `folder`. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    notes = folder / "demo.json"
    if notes.exists():
        known = json.loads(notes.read_text())
        ports = tuple(known["ports"])
        passwords = known["passwords"]
    else:
        passwords = {user: _password() for user in USERS}
        _write_private(notes, json.dumps({"ports": ports, "passwords": passwords}, indent=2).encode())
    demo = Demo(folder, ports, passwords)
    if not (folder / "certificate.pem").exists():  # written last of the two
        (folder / "key.pem").unlink(missing_ok=True)
        certificate, key = self_signed(datetime.datetime.now(datetime.UTC))
        _write_private(folder / "key.pem", key)
        (folder / "certificate.pem").write_bytes(certificate)
    with edit(folder / "users") as table:
        for name, password in passwords.items():
            if name not in table.users:
                table.put(User(name).with_password(password))
    if not demo.configuration.exists():
        demo.configuration.write_text(_configuration(folder, ports))
    (folder / "state").mkdir(exist_ok=True)
    return demo


def _password() -> str:
    """Letters and digits, to be pasted anywhere: one that begins with - would be taken for an option."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(PASSWORD_LENGTH))


def _configuration(folder: Path, ports: tuple[int, int, int]) -> str:
    runtime = "run"
    if len(os.fsencode(folder.resolve())) > SOCKET_PATH_ROOM:
        runtime = tempfile.mkdtemp(prefix="tamis-demo-")
    smtp, submission, submissions = ports
    return CONFIGURATION.format(
        hostname=HOSTNAME,
        postmaster=USERS[0],
        smtp=smtp,
        submission=submission,
        submissions=submissions,
        domain=DOMAIN,
        runtime=runtime,
    )


def self_signed(now: datetime.datetime) -> tuple[bytes, bytes]:
    """A certificate for this machine only and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTNAME)])
    names = [
        x509.DNSName(HOSTNAME),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _need_free(ports: tuple[int, int, int]) -> None:
    """Raise DemoError when something listens on one of the ports: it would be taken for our server."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # what lingers of connections is no harm
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                python = shlex.quote(os.path.relpath(sys.executable))
                raise DemoError(
                    f"port {port}: {error.strerror} (does another demo run, or another mail server?); "
                    f"{python} -m mta.demo --fresh --ports auto takes ports that are free"
                ) from None


def start(demo: Demo) -> subprocess.Popen[bytes]:
    """Start the server and wait until it greets. Raises DemoError."""
    _need_free(demo.ports)
    command = [sys.executable, "-m", "mta.cli", "serve", "--config", str(demo.configuration)]
    server = subprocess.Popen(command)
    deadline = time.monotonic() + START_TIMEOUT
    try:
        while time.monotonic() < deadline:
            if server.poll() is not None:
                raise DemoError(f"the server ended with status {server.returncode}")
            try:
                with socket.create_connection(("127.0.0.1", demo.ports[0]), timeout=1) as connection:
                    if connection.recv(4) == b"220 ":
                        return server
            except OSError:
                time.sleep(0.1)
        raise DemoError(f"the server did not greet on port {demo.ports[0]} within {START_TIMEOUT:g} seconds")
    except BaseException:
        stop(server)
        raise


def stop(server: subprocess.Popen[bytes]) -> int:
    """Stop the server; returns its exit status."""
    server.terminate()
    try:
        return server.wait(START_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()


def explain(demo: Demo) -> str:
    """What the newcomer may do now, to copy and paste."""
    alice, bob = USERS
    smtp, submission, submissions = demo.ports
    login = f"--auth PLAIN --auth-user {alice} --auth-password {shlex.quote(demo.passwords[alice])}"
    here = os.path.relpath(demo.configuration)
    tamis = _command()
    read = f"{tamis} mailbox {{}} --config {shlex.quote(here)}"
    return f"""
Tamis is running. Users of this demo, with their passwords:

    {alice}    {demo.passwords[alice]}
    {bob}      {demo.passwords[bob]}

Send a first message, as any server in the world would (port 25 on a real server):

    swaks --server 127.0.0.1:{smtp} --from you@example.org --to {alice}

Send one as a user, with STARTTLS and a password (port 587), or with TLS from the start (465):

    swaks --server 127.0.0.1:{submission} --tls {login} --from {alice} --to {bob}
    swaks --server 127.0.0.1:{submissions} --tls-on-connect {login} --from {alice} --to {bob}

See a refusal that comes from the mail store, while the sender still waits:

    swaks --server 127.0.0.1:{smtp} --from you@example.org --to nobody@{DOMAIN}

Read the mail, in another terminal:

    {read.format("list")}
    {read.format(f"show {alice}")}
    {read.format("watch")}

The configuration is {here}, the mail is in {os.path.relpath(demo.mail)}. Ctrl-C stops the server.
Without swaks: apt install swaks, or

    printf 'Subject: hello\\r\\n\\r\\nHello.\\r\\n' | curl smtp://127.0.0.1:{smtp} \\
        --mail-from you@example.org --mail-rcpt {alice} --upload-file -
"""


def free_ports() -> tuple[int, int, int]:
    """Three ports that were free a moment ago."""
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        for sock in (one, two, three):
            sock.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1], three.getsockname()[1]


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tamis demo", description="A mail server to play with.")
    parser.add_argument("--folder", type=Path, help="where everything lies (default: ./demo)")
    parser.add_argument("--fresh", action="store_true", help="remove an earlier demo first")
    parser.add_argument("--check", action="store_true", help="send and read messages, then stop")
    parser.add_argument(
        "--ports", default=",".join(map(str, STANDARD_PORTS)), metavar="A,B,C", help="three ports, or auto"
    )
    options = parser.parse_args(arguments)
    try:
        ports = _ports(options.ports)
        if options.check and options.folder is None:
            with tempfile.TemporaryDirectory(prefix="tamis-demo-") as folder:
                return _checked(make(Path(folder), ports))
        chosen: Path = options.folder or Path("demo")
        if options.fresh:
            _remove(chosen)
        demo = make(chosen, ports)
        return _checked(demo) if options.check else _shown(demo)
    except (DemoError, RoundTripError, OSError, ValueError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def _checked(demo: Demo) -> int:
    alice, bob = USERS
    server = start(demo)
    try:
        round_trip(
            Site(
                ports=demo.ports,
                authority=demo.folder / "certificate.pem",
                mail=demo.mail,
                user=alice,
                password=demo.passwords[alice],
                other=bob,
            )
        )
    finally:
        status = stop(server)
    if status:
        raise DemoError(f"the server ended with status {status}")
    print("ok")
    return 0


def _shown(demo: Demo) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _leave)
    server = start(demo)
    try:
        print(explain(demo), flush=True)
        while True:
            try:
                return server.wait()
            except KeyboardInterrupt:
                # The terminal sent it to the server too, which is stopping.
                continue
    finally:
        if server.poll() is None:
            stop(server)


def _leave(number: int, _: object) -> NoReturn:
    """Told to end, or the terminal is gone: the server ends, too."""
    raise SystemExit(128 + number)


def _remove(folder: Path) -> None:
    # Never anything but what `make` made.
    if folder.exists() and not (folder / "demo.json").exists():
        raise DemoError(f"{folder} was not made by this demo; it stays")
    if folder.exists():
        shutil.rmtree(folder)


def _ports(text: str) -> tuple[int, int, int]:
    if text == "auto":
        return free_ports()
    try:
        smtp, submission, submissions = (int(port) for port in text.split(","))
    except ValueError:
        raise DemoError(f"--ports wants three numbers or auto, not {text!r}") from None
    return smtp, submission, submissions


def _command() -> str:
    """How `tamis` is called here."""
    installed = Path(sys.executable).parent / "tamis"
    if shutil.which("tamis") == str(installed):
        return "tamis"
    return shlex.quote(os.path.relpath(installed))


def _write_private(path: Path, octets: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "wb") as file:
        file.write(octets)


if __name__ == "__main__":
    sys.exit(main())
