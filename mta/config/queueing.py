"""The sections about mail that waits: the queue, and the stores that it is kept in.

Each class is a section of the file, each field a key; the text under a field is what the reference pages
print. Durations are seconds and sizes octets in the program. Nothing here opens a file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mta.config.inbound import Count, CountOrNone
from mta.config.notation import Duration, Name, NameOrEmpty, Path, Size
from mta.config.places import StoreUrl


class QueueStore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A place where the queue is kept, by its name. Without such a section it is a folder of this machine."""

    url: StoreUrl
    """`file:PATH` for a folder, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`. All
    nodes that name the same place are one cluster: when one dies, another goes on with its mail."""
    endpoints: tuple[str, ...] = ()
    """Addresses of a server that is not the provider's usual one, such as "https://s3.example.net"; for Azure
    with the account in it, "https://ACCOUNT.blob.core.example.net". Several, for S3 only, must lead to the
    same data; the first that works is used. At the start all that answer are tried against each other, and
    a server that breaks the rules the queue depends on is refused; one that does not answer is not used
    until it does and was tried."""
    region: str = ""
    """Region of the bucket. Default: what the environment says (AWS_REGION)."""
    credentials_file: Path = ""
    """S3: a file as ~/.aws/credentials; Google: the JSON file of a service account. It must not be readable
    by everybody. Default: the environment and the machine's role, as for the provider's own tools."""
    access_key: str = ""
    """In place of it, S3: the access key id; Azure: the name of the storage account."""
    secret_file: Path = ""
    """File with the secret that belongs to access_key. It must not be readable by everybody."""
    path_style: bool = True
    """With endpoints: the bucket is in the path of the URL. Off: in front of the host name, where it is put
    unless it is there."""
    allow_http: bool = False
    """Endpoints may begin with http://: mail goes over the network as it is."""
    ca_file: Path = ""
    """File with certificates of authorities (PEM) to trust beside the system's."""
    request_timeout: Annotated[Duration, Meta(ge=0.5, le=60)] = 8.0
    """For one request to an object store."""


class Queue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What cannot be delivered while the client waits is kept and tried again. It is durable before the
    client reads 250."""

    enabled: bool = True
    """Keep it. Off: what is not delivered now is answered 4xx and stays with the client."""
    accept: Literal["all", "vouched"] = "all"
    """Whose mail is kept: everybody's, or only that of users and trusted networks (`vouched`), so that every
    failure can be reported to its sender; the others keep their mail themselves (4xx), but for what the
    policy orders to wait (`hold`, `delay`)."""
    stores: tuple[Name, ...] = ()
    """Names of the [queue_stores.NAME] to keep it in. The first one that is no folder also decides who owns
    what. Default: the folder `queue` in process.state_directory."""
    copies: CountOrNone = 0
    """Stores that must have a message before it is accepted. 0: all of them. Fewer go on while one is
    down; 1 of several can lose mail with a machine."""
    node: NameOrEmpty = ""
    """Name of this machine among those that share the stores. Default: identity.hostname."""
    retry: tuple[Duration, ...] = (120.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0)
    """Time from one try to the next; the last one is repeated. A tenth of it is left to chance, so that
    what failed together does not come back together."""
    expire: Annotated[Duration, Meta(ge=60)] = 5 * 86400.0
    """How long a message is tried before it is returned (RFC 5321 4.5.4.1: 4 to 5 days)."""
    expire_reports: Annotated[Duration, Meta(ge=60)] = 2 * 86400.0
    """The same for reports, whose sender is <>: nobody waits for them."""
    delay_warning: Annotated[Duration, Meta(ge=0)] = 4 * 3600.0
    """When the sender is told that its message is late. 0s: never, unless it asked for it (NOTIFY=DELAY)."""
    report_size: Annotated[Size, Meta(ge=0)] = 50 * 1024
    """Octets of a message that come back in the report of its failure; of a larger one only the header."""
    double_bounces: Literal["postmaster", "drop"] = "postmaster"
    """What becomes of a message that can be neither delivered nor returned, and has a sender that we may
    not write to: identity.postmaster gets the report, or it is logged and counted only."""
    max_messages: CountOrNone = 1_000_000
    """Messages in the queue of this machine above which no more are accepted into it (452 4.3.1). 0: no
    limit."""
    max_size: Annotated[Size, Meta(ge=0)] = 0
    """Octets in the queue of this machine above which no more are accepted into it. 0B: no limit but the
    store's own."""
    max_latency: Annotated[Duration, Meta(ge=0.1)] = 5.0
    """Time that the stores take to keep a message above which no more are accepted into the queue: the
    clients would wait too long."""
    concurrency_initial: Count = 5
    """Deliveries from the queue to one next hop at once as long as nothing is known of it. Successes raise
    the number, up to max_connections of the next hop; failures lower it."""
    rate: CountOrNone = 0
    """Messages a minute from the queue to one next hop. 0: no limit."""
    takeover: Annotated[Duration, Meta(ge=3)] = 10.0
    """How long another node must show no sign of life before its mail is taken over. Must be the same on all
    nodes."""
