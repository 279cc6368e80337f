"""Google's protocol on loopback: the gateway of `tests.peers.googlegateway` before a SeaweedFS of its own.

No emulator of Google Cloud Storage that can be installed from a registry speaks the XML protocol, which the
client (object_store) uses: fake-gcs-server refuses its PUT, the others know the JSON protocol alone.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mailqueue.store.options import StoreOptions
from tests.peers.objectservers import START_TIMEOUT, ObjectServer
from tests.peers.ports import free_port
from tests.peers.running import ROOT, until
from tests.peers.seaweedfs import SeaweedFS, running_seaweedfs

ALL = ["storage.objects.create", "storage.objects.get", "storage.objects.list", "storage.objects.delete"]
DOMAIN = "project.iam.gserviceaccount.com"


@dataclass
class Google(ObjectServer):
    """A gateway, and the server behind it: they die and sleep together."""

    scheme = "gs"
    missing = "there is no such bucket"
    listing = "list-type=2"
    behind: SeaweedFS | None = None

    @property
    def port(self) -> int:
        """Of the gateway."""
        return self.ports["xml"]

    def start(self) -> None:
        """Start what does not run, and wait until it answers."""
        assert self.behind is not None
        if self.behind.process is None:
            self.behind.start()
        accounts = self.folder / "accounts"
        command = ("-m", "tests.peers.googlegateway", str(self.port), str(self.behind.port), accounts)
        self.launch("/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, *command)
        until(self._ready, f"start of the gateway; log:\n{self.log()[-4000:]}", START_TIMEOUT)

    def make_bucket(self, name: str) -> None:
        """Create a bucket. Power does not fail here, so nothing waits for the disk."""
        assert self.behind is not None
        self.behind.make_bucket(name, flush=False)

    def credentials(self) -> StoreOptions:
        """Of an account that may do all that is needed."""
        return StoreOptions(credentials_file=str(self.folder / "tamis.json"))

    def wrong_credentials(self) -> Mapping[str, StoreOptions]:
        """Of an account that does not have that key, and of one that may only read."""
        return {
            "AuthenticationRequired": StoreOptions(credentials_file=str(self.folder / "forged.json")),
            "AccessDenied": StoreOptions(credentials_file=str(self.folder / "reader.json")),
        }

    def environment(self, credentials: StoreOptions | None = None) -> Mapping[str, str]:
        """As the tools of Google want it."""
        given = credentials or self.credentials()
        return {"GOOGLE_APPLICATION_CREDENTIALS": given.credentials_file}

    def configured(self, folder: Path) -> str:
        """A copy of the account's file."""
        path = folder / "account.json"
        path.touch(0o600)
        path.write_bytes((self.folder / "tamis.json").read_bytes())
        return f'credentials_file = "{path}"\n'

    def kill(self) -> None:
        """End both at once."""
        super().kill()
        if self.behind is not None:
            self.behind.kill()

    def issue(self) -> None:
        """Make the accounts: what the gateway knows of them, and the files of their owners."""
        keys = {name: generate_private_key(65537, 2048) for name in ("tamis", "reader", "forged")}
        known = {
            _address("tamis"): {"key": _public(keys["tamis"]), "permissions": ALL},
            _address("reader"): {"key": _public(keys["reader"]), "permissions": ALL[1:3]},
        }
        (self.folder / "accounts").write_text(json.dumps(known))
        for name, key in keys.items():
            path = self.folder / f"{name}.json"
            path.touch(0o600)
            path.write_text(json.dumps(_account("reader" if name == "reader" else "tamis", key)))

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the gateway ended:\n{self.log()[-4000:]}"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
        except OSError:
            return False
        return True


def _address(name: str) -> str:
    return f"{name}@{DOMAIN}"


def _public(key: RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _account(name: str, key: RSAPrivateKey) -> dict[str, str]:
    """The file that Google gives the owner of a service account."""
    return {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "client_email": _address(name),
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }


@contextlib.contextmanager
def running_google() -> Iterator[Google]:
    """A server without buckets, that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tamis-google-"))
    with running_seaweedfs(anonymous=True) as behind:
        server = Google(folder, {"xml": free_port()}, behind=behind)
        server.issue()
        try:
            server.start()
            yield server
        finally:
            server.kill()
            shutil.rmtree(folder, ignore_errors=True)
