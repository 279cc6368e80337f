"""What the servers of object stores have in common, whatever protocol they speak.

`SCHEMES` names the protocols; `running` starts the server of one: SeaweedFS for S3's, Azurite for Azure's,
and for Google's the gateway of `tests.peers.googlegateway` before a SeaweedFS.
"""

from __future__ import annotations

import abc
import signal
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from mailqueue.store.options import Limits, StoreOptions

CLOUDS = ("gs", "az")
SCHEMES = ("s3", *CLOUDS)
START_TIMEOUT = 60.0
"""Seconds for a start that takes four on an idle machine."""


@dataclass
class ObjectServer(abc.ABC):
    """A server that may be running."""

    scheme: ClassVar[str]
    """Of the URLs of its stores."""
    missing: ClassVar[str]
    """What is said of a bucket that is not there."""
    listing: ClassVar[str] = ""
    """What its log has for each page of a listing that was asked for; empty: nothing."""
    folder: Path
    """For it alone."""
    ports: dict[str, int] = field(default_factory=dict)
    """By what is spoken there; the store's protocol on the one that `port` names."""
    process: subprocess.Popen[bytes] | None = None

    @property
    @abc.abstractmethod
    def port(self) -> int:
        """Where the store's protocol is spoken."""

    @property
    def endpoint(self) -> str:
        """URL for the client."""
        return self.at(self.port)

    def at(self, port: int) -> str:
        """The same through another port."""
        return f"http://127.0.0.1:{port}"

    @abc.abstractmethod
    def start(self) -> None:
        """Start it, again with what it had, and wait until it takes objects."""

    @abc.abstractmethod
    def make_bucket(self, name: str) -> None:
        """Create a bucket, or a container."""

    @abc.abstractmethod
    def credentials(self) -> StoreOptions:
        """Good ones, as options of a store and nothing else."""

    @abc.abstractmethod
    def wrong_credentials(self) -> Mapping[str, StoreOptions]:
        """Those that are refused, by a word that the refusal has."""

    @abc.abstractmethod
    def environment(self, credentials: StoreOptions | None = None) -> Mapping[str, str]:
        """Credentials, the good ones by default, as variables of a process."""

    @abc.abstractmethod
    def configured(self, folder: Path) -> str:
        """The good credentials as lines of [queue_stores.NAME]; files that they name are made in `folder`."""

    def options(self, *, port: int = 0, limits: Limits | None = None) -> StoreOptions:
        """For a store on it, through `port` if one is given."""
        endpoint = self.at(port) if port else self.endpoint
        return self.reached(self.credentials(), endpoint, limits)

    def reached(
        self, credentials: StoreOptions, endpoint: str = "", limits: Limits | None = None
    ) -> StoreOptions:
        """For a store on it with other credentials."""
        where = (endpoint or self.endpoint,)
        return replace(credentials, endpoints=where, allow_http=True, limits=limits or Limits())

    def kill(self) -> None:
        """End it at once, as a machine that burns."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Let it answer nothing until `resume`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def pages(self) -> int:
        """Pages of listings that it was asked for."""
        return self.log().count(self.listing)

    def log(self) -> str:
        """What it has logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def launch(self, *command: str | Path) -> None:
        """Run its program, whose output is the log."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )


def running(scheme: str) -> AbstractContextManager[ObjectServer]:
    """A server without buckets, that is gone afterwards."""
    match scheme:  # each needs another program; who runs one server need not have them all
        case "s3":
            from tests.peers.seaweedfs import running_seaweedfs

            return running_seaweedfs()
        case "az":
            from tests.peers.azurite import running_azurite

            return running_azurite()
        case "gs":
            from tests.peers.google import running_google

            return running_google()
        case _:
            raise ValueError(scheme)


def secret_file(folder: Path, secret: str) -> Path:
    """A file as `secret_file` wants it."""
    path = folder / "secret"
    path.write_text(secret + "\n")
    path.chmod(0o600)
    return path
