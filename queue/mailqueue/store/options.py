"""What the URL of a store does not say."""

from __future__ import annotations

from dataclasses import dataclass, field


class StoreUrlError(ValueError):
    """A URL or an option that cannot be used; the text says which, and what is expected."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait; by default well below the shortest patience of an SMTP client (60 s)."""

    connect: float = 3.0
    """Seconds to connect."""
    request: float = 8.0
    """Seconds for one request; `slowest` adds to it for large objects."""
    retries: int = 2
    """Repetitions of a request after errors of the connection or the server (5xx)."""
    call: float = 16.0
    """Seconds within which a call has to end: no attempt is begun, also not through another endpoint, that
    could take longer."""
    slowest: float = 1_000_000.0
    """Octets a second below which a store is too slow to wait for: large objects get size / slowest more."""
    single_put: int = 16 * 1024 * 1024
    """Octets of the largest object that is sent with one PUT."""

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if min(self.connect, self.request, self.call, self.slowest, self.single_put) <= 0 or self.retries < 0:
            raise ValueError("limits of an object store are positive")


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What a URL does not say. Only object stores have options."""

    endpoints: tuple[str, ...] = ()
    """URLs of the gateways to one bucket, the first preferred; empty: the provider's own. gs and az: one."""
    region: str = ""
    """Region of an S3 bucket; empty: AWS_REGION, or us-east-1."""
    path_style: bool | None = None
    """S3: the bucket is the first part of the path rather than of the host name; None: with own endpoints."""
    allow_http: bool = False
    """Endpoints may begin with http://: mail goes over the network as it is."""
    ca_file: str = ""
    """PEM file of an authority to trust beside the system's."""
    access_key: str = ""
    """S3: the access key id. Azure: the name of the storage account."""
    secret: str = field(default="", repr=False)
    """S3: the secret access key. Azure: the key of the account."""
    secret_file: str = ""
    """A file that contains `secret` and nothing else."""
    session_token: str = field(default="", repr=False)
    """S3: the token of temporary credentials."""
    credentials_file: str = ""
    """S3: a file as ~/.aws/credentials. Google: the JSON file of a service account."""
    profile: str = "default"
    """S3: the section of `credentials_file`."""
    limits: Limits = field(default_factory=Limits)
    """How long to wait."""
