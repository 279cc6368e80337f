"""How values are written in the configuration and what they become in the program.

A field of the schema whose text form differs from its value carries a `Notation` in its annotation:
`Duration` is a float in the program and "5s" in the file. The reader uses it to parse and to say what was
expected; the reference pages use it to write defaults. msgspec ignores it, so the JSON that goes to the
workers holds plain numbers and texts.

Parsing is pure: no file is opened and no name is looked up here.
"""

from __future__ import annotations

import ipaddress
import os.path
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import idna
from msgspec import Struct

from mta.config import suggest
from mta.config.units import format_duration, format_size, parse_duration, parse_size
from mta.hostport import host_port, split_host_port


def near(host: str) -> str:
    """The address by which this machine reaches one that it listens on: all addresses by the loopback."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


class Inet(Struct, frozen=True, tag="inet"):
    """An IP address or host name with a port; the address is in its canonical form, without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_port(self.host, self.port)


class Unix(Struct, frozen=True, tag="unix"):
    """A Unix socket by its absolute path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class Inherited(Struct, frozen=True, tag="fd"):
    """A listening socket handed over by systemd, by its name (FileDescriptorName= of the socket unit)."""

    name: str

    def __str__(self) -> str:
        return f"fd:{self.name}"


class RecipientSource(Struct, frozen=True):
    """Who knows the valid recipients of a domain; `file` or `name` is set for kind "table" only."""

    kind: Literal["users", "table", "ask", "all"]
    file: str = ""
    name: str = ""
    """Of a [tables.NAME]; once settled, only one of the two is set."""

    def __str__(self) -> str:
        return f"table:{self.file or self.name}" if self.kind == "table" else self.kind


@dataclass(slots=True, frozen=True)
class Notation:
    """The text form of a value.

    `kind` names it on the reference page, `expected` in messages.

    `parse(text, folder)` raises ValueError with a reason that follows "found ..."; `folder` is the
    configuration file's. `format` is its inverse.
    """

    kind: str
    expected: str
    parse: Callable[[str, str], Any]
    format: Callable[[Any], str] = str
    suggest: Callable[[object], str] = lambda found: ""
    """A guess at what was meant, for any value of TOML; "" for none."""


def parse_listen(text: str, folder: str) -> Inet | Unix | Inherited:
    """An address to listen on; host names are refused, for their addresses may change. Raises ValueError."""
    if text.startswith("fd:"):
        name = text[3:]
        if not name or not name.isprintable() or ":" in name:
            raise ValueError("the name of the inherited socket is empty or has a colon")
        return Inherited(name)
    if text.startswith("unix:"):
        return _unix(text, folder)
    host, port = split_host_port(text)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is no IP address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(f"it is the IPv4 address {address.ipv4_mapped}")
    return Inet(str(address), port)


def parse_connect(text: str, folder: str) -> Inet | Unix:
    """An address to connect to; host names are allowed. Raises ValueError."""
    if text.startswith("unix:"):
        return _unix(text, folder)
    host, port = split_host_port(text)
    if port == 0:
        raise ValueError("port 0 cannot be connected to")
    try:
        return Inet(str(ipaddress.ip_address(host)), port)
    except ValueError:
        return Inet(parse_hostname(host, folder), port)


def parse_network(text: str, folder: str) -> str:
    """A network in CIDR notation, or one address, in canonical form. Raises ValueError."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("it is no IP address and no network") from None
    raise ValueError(f"it has host bits set; the network is {network}")


def parse_path(text: str, folder: str) -> str:
    """An absolute path; a relative one begins in the folder of the configuration file. Raises ValueError."""
    if not text:
        return ""
    if "\0" in text:
        raise ValueError("a path holds no NUL")
    return os.path.normpath(os.path.join(folder, os.path.expanduser(text)))


def parse_hostname(text: str, folder: str) -> str:
    """A host name in lower-case A-labels (RFC 1123 2.1, RFC 5891). Raises ValueError."""
    name = text.removesuffix(".").lower()
    if not name:
        raise ValueError("the name is empty")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise ValueError(f"it is no valid international name: {error}") from None
    if len(name) > 253:
        raise ValueError("a name has at most 253 characters")
    for label in name.split("."):
        if not label or len(label) > 63:
            raise ValueError("each label has 1 to 63 characters")
        if label[0] == "-" or label[-1] == "-" or not label.replace("-", "").isalnum():
            raise ValueError(f"label {label!r} may hold letters, digits and inner hyphens only")
    if name.rpartition(".")[2].isdigit():
        raise ValueError("an address is no name")
    return name


def parse_host(text: str, folder: str) -> str:
    """A host name or an IP address (without brackets). Raises ValueError."""
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        if text.rpartition(":")[2].isdigit():
            raise ValueError("the port has a key of its own") from None
        return parse_hostname(text, folder)


def parse_fqdn(text: str, folder: str) -> str:
    """A fully qualified host name, "" for none. Raises ValueError."""
    if not text:
        return ""
    name = parse_hostname(text, folder)
    if "." not in name:
        raise ValueError("the name has no domain")
    return name


def parse_mail_address(text: str, folder: str) -> str:
    """local@domain with the domain in A-labels, "" for none. Raises ValueError."""
    if not text:
        return ""
    local, at, domain = text.rpartition("@")
    if not at or not local:
        raise ValueError("the local part or the domain is missing")
    parse_local_part(local, folder)
    return f"{local}@{parse_hostname(domain, folder)}"


def parse_local_part(text: str, folder: str) -> str:
    """A local part in lower case, without quotes (RFC 5321 4.1.2). Raises ValueError."""
    if not text:
        raise ValueError("the local part is empty")
    if len(text.encode()) > 64:
        raise ValueError("a local part has at most 64 octets")
    if any(c in ' \t"(),:;<>@[\\]' or not c.isprintable() for c in text) or ".." in f".{text}.":
        raise ValueError(f"local part {text!r} would need quotes")
    return text.lower()


def parse_login(text: str, folder: str) -> str:
    """A login name as the back ends report it. Raises ValueError."""
    # Here, for the passwords that it brings along take 15 ms of every start and hardly anybody needs it.
    from mta.accounts.user import user_key

    return user_key(text)


def parse_mode(text: str, folder: str) -> int:
    """File permissions in octal digits. Raises ValueError."""
    if not 3 <= len(text) <= 4 or not all(c in "01234567" for c in text):
        raise ValueError("it is no number of three or four octal digits")
    mode = int(text, 8)
    if mode > 0o777:
        raise ValueError("a socket has no set-id or sticky bit")
    return mode


def parse_banner(text: str, folder: str) -> str:
    """Text of a greeting: it must fit a reply line (RFC 5321 4.5.3.1.5). Raises ValueError."""
    if len(text) > 200:
        raise ValueError(f"it has {len(text)} characters")
    if not text.isascii() or not text.isprintable():
        raise ValueError("it has other characters")
    return text


def parse_name(text: str, folder: str) -> str:
    """The name of a section. Raises ValueError."""
    if not text or len(text) > 64 or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in text):
        raise ValueError("it is empty, longer than 64 or has other characters")
    return text


def parse_recipients(text: str, folder: str) -> RecipientSource:
    """ "users", "ask", "all", "table:NAME" or "table:FILE". Raises ValueError."""
    if text.startswith("table:"):
        path = parse_path(text[6:], folder)
        if not path:
            raise ValueError("the file of the table is missing")
        try:
            return RecipientSource("table", path, parse_name(text[6:], folder))
        except ValueError:
            return RecipientSource("table", path)
    match text:
        case "users" | "ask" | "all":
            return RecipientSource(text)
    raise ValueError("it names no source of recipients")


def _unix(text: str, folder: str) -> Unix:
    path = parse_path(text[5:], folder)
    if not path:
        raise ValueError("the path of the socket is empty")
    if len(os.fsencode(path)) > 107:
        raise ValueError("the path of a Unix socket has at most 107 octets")
    return Unix(path)


Duration = Annotated[
    float,
    Notation(
        "duration",
        'a duration with its unit, such as "250ms", "5s", "2m" or "1h"',
        lambda text, folder: parse_duration(text),
        format_duration,
        suggest.duration,
    ),
]
"""Seconds; written "5s"."""

Size = Annotated[
    int,
    Notation(
        "size",
        'a size with its unit, such as "512KiB" or "50MiB"',
        lambda text, folder: parse_size(text),
        format_size,
        suggest.size,
    ),
]
"""Octets; written "50MiB"."""

Network = Annotated[
    str,
    Notation(
        "network",
        'a network such as "192.0.2.0/24" or "2001:db8::/32"',
        parse_network,
        suggest=suggest.network,
    ),
]
"""A network in CIDR notation."""

Path = Annotated[str, Notation("path", "a path, relative to the folder of this file", parse_path)]
"""An absolute path, "" when not set."""

Fqdn = Annotated[
    str, Notation("host name", 'a fully qualified host name such as "mail.example.org"', parse_fqdn)
]
"""A host name with a domain in lower-case A-labels, "" when not set."""

Hostname = Annotated[str, Notation("host name", "a host name", parse_hostname)]
"""A host name in lower-case A-labels."""

Host = Annotated[str, Notation("host", "a host name or an IP address", parse_host, suggest=suggest.host)]
"""A host name in lower-case A-labels, or an IP address in canonical form."""

MailAddress = Annotated[
    str, Notation("mail address", 'an address such as "postmaster@example.org"', parse_mail_address)
]
"""local@domain, "" when not set."""

Listen = Annotated[
    Inet | Unix | Inherited,
    Notation(
        "listen address",
        '"192.0.2.1:25", "[2001:db8::1]:25", "unix:PATH" or "fd:NAME"',
        parse_listen,
        suggest=suggest.listen,
    ),
]
"""An address to listen on."""

Connect = Annotated[
    Inet | Unix,
    Notation(
        "address",
        '"host.example:24", "192.0.2.1:24", "[2001:db8::1]:24" or "unix:PATH"',
        parse_connect,
        suggest=suggest.connect,
    ),
]
"""An address to connect to."""

Recipients = Annotated[
    RecipientSource,
    Notation(
        "source",
        '"users", "ask", "all", "table:NAME" or "table:FILE"',
        parse_recipients,
        suggest=suggest.recipients,
    ),
]
"""Who knows the valid recipients."""

Banner = Annotated[str, Notation("text", "printable ASCII, at most 200 characters", parse_banner)]
"""Text of a greeting."""

LocalPart = Annotated[str, Notation("local part", 'a local part such as "postmaster"', parse_local_part)]
"""A local part in lower case."""

Login = Annotated[str, Notation("login name", 'a login name such as "scanner@example.org"', parse_login)]
"""A login name in its canonical form."""

Mode = Annotated[
    int,
    Notation(
        "mode",
        'permissions in octal digits such as "0660"',
        parse_mode,
        lambda mode: f"{mode:04o}",
        suggest.mode,
    ),
]
"""Permissions of a file; written "0660"."""

DomainName = Annotated[str, Notation("domain", 'a domain such as "example.org"', parse_hostname)]
"""A mail domain in lower-case A-labels."""

Name = Annotated[
    str, Notation("name", "a name of letters, digits, hyphens, dots and underscores", parse_name)
]
"""The name of a section, for other sections, logs and metrics."""

NameOrEmpty = Annotated[
    str,
    Notation(
        "name",
        "a name of letters, digits, hyphens, dots and underscores",
        lambda text, folder: parse_name(text, folder) if text else "",
    ),
]
"""The name of a section, or "" for the default."""
