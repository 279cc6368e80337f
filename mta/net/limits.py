"""What one client, one network and all of them together may use.

`Limits` answers at connect, at MAIL and at RCPT with the reply that refuses, or None. Counts are
those of the whole node (`mta.net.counters`); replies are temporary, so a real client that is refused by
mistake comes back. Refused attempts are not counted as sessions: many clients behind one address keep
getting their rate instead of being shut out by their own retries.

Addresses of `exempt` networks and Unix sockets have no limits of clients; the limit of all sessions holds for
everybody. A client's counters are found once, at connect (`client`, remembered for recent addresses). A
connect costs 3 to 4 microseconds, and 5 more for an address that was not seen lately (eight slots, 2 GHz).

Whoever lets a session in with `enter` owes one `leave`. Numbers of a dead worker are cleared with its slot.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from mta.net.counters import Cells, Counters
from mta.net.overload import Level, Overload, OverloadSettings
from mta.reply import Reply

REMEMBERED = 4096
"""Addresses whose counters' places are remembered, about 1 MB; when full, all are forgotten."""

OVERLOADED = Reply(421, "4.3.2", "The system is busy, try again later", "overloaded", close=True)
TOO_MANY_SESSIONS = Reply(
    421, "4.7.0", "Too many sessions from your address", "sessions per client", close=True
)
TOO_MANY_IN_NETWORK = Reply(
    421, "4.7.0", "Too many sessions from your network", "sessions per prefix", close=True
)
TOO_FAST = Reply(
    421, "4.7.0", "Too many new sessions from your address", "session rate per client", close=True
)
TOO_FAST_IN_NETWORK = Reply(
    421, "4.7.0", "Too many new sessions from your network", "session rate per prefix", close=True
)
TOO_MANY_MESSAGES = Reply(450, "4.7.1", "Too many messages, try again later", "messages per client")
TOO_MANY_RECIPIENTS = Reply(450, "4.7.1", "Too many recipients, try again later", "recipients per client")

_OVERLOADED = Level.OVERLOADED  # asked at each connect


@dataclass(slots=True, frozen=True)
class ClientLimits:
    """Limits at connect; a listener may have its own. 0 means no limit."""

    sessions_per_client: int = 50
    sessions_per_prefix: int = 200
    session_rate_per_client: int = 120
    """New sessions per minute."""
    session_rate_per_prefix: int = 600
    """New sessions per minute."""

    least_sessions: float = field(init=False, repr=False)
    """The lower of the two limits of open sessions, infinite without any."""
    least_rate: float = field(init=False, repr=False)
    """The lower of the two limits of new sessions, infinite without any."""

    def __post_init__(self) -> None:
        sessions = min(self.sessions_per_client or inf, self.sessions_per_prefix or inf)
        rate = min(self.session_rate_per_client or inf, self.session_rate_per_prefix or inf)
        object.__setattr__(self, "least_sessions", sessions)
        object.__setattr__(self, "least_rate", rate)


@dataclass(slots=True, frozen=True)
class LimitSettings:
    """The limits of a node. 0 means no limit. A changed window counts loosely until old workers are gone."""

    clients: ClientLimits = ClientLimits()
    ipv4_prefix: int = 24
    ipv6_prefix: int = 64
    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks without limits of clients."""
    auth_window: float = 600.0
    """Seconds in which failed logins of one address are counted (`mta.accounts.limiter` refuses)."""
    messages: int = 0
    """Messages of one address in `message_window`."""
    recipients: int = 0
    """Recipients named by one address in `message_window`."""
    message_window: float = 3600.0
    """Seconds."""


class Client:
    """Where the counters of one address are."""

    __slots__ = ("address", "all_cells", "cells", "exempt", "prefix_cells")

    def __init__(self, address: str, cells: Cells, prefix_cells: Cells, exempt: bool) -> None:
        """`address` in canonical text; the cells of the address and of its prefix."""
        self.address = address
        self.cells = cells
        self.prefix_cells = prefix_cells
        self.all_cells = cells + prefix_cells
        self.exempt = exempt


class Limits:
    """The limits as one worker applies them."""

    __slots__ = (
        "_auth",
        "_clients",
        "_exempt",
        "_messages",
        "_rate",
        "_recipients",
        "_sessions",
        "_tell",
        "_total",
        "counters",
        "overload",
        "settings",
    )

    def __init__(
        self,
        settings: LimitSettings,
        overload: OverloadSettings,
        fd: int,
        slot: int,
        *,
        tell: Callable[[str], object] = lambda limit: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take `slot` of the shared memory behind `fd`; `tell` hears which limit each refusal is because of.

        Raises ValueError for a wrong descriptor, slot or network, OSError when the memory cannot be mapped.
        """
        seconds = {
            "sessions": 60.0,
            "auth_failures": settings.auth_window,
            "messages": settings.message_window,
            "recipients": settings.message_window,
        }
        self.settings = settings
        self._exempt = Networks(settings.exempt)
        self.counters = Counters(fd, slot, clock=clock, seconds=seconds)
        self._sessions = self.counters.open_sessions
        self._rate = self.counters.windows["sessions"]
        self._auth = self.counters.windows["auth_failures"]
        self._messages = self.counters.windows["messages"]
        self._recipients = self.counters.windows["recipients"]
        self._clients: dict[str, Client] = {}
        self._tell = tell
        self._total = overload.sessions
        self.overload = Overload(overload, self.counters.total_sessions, clock)

    @property
    def sessions(self) -> int:
        """Open sessions of the node."""
        return self.counters.total_sessions()

    def client(self, address: str) -> Client:
        """The counters of an address in canonical text ("unix" for a Unix socket)."""
        client = self._clients.get(address)
        if client is None:
            if len(self._clients) >= REMEMBERED:
                self._clients.clear()
            client = self._clients[address] = self._locate(address)
        return client

    def enter(self, client: Client, limits: ClientLimits | None = None) -> Reply | None:
        """A client has connected: None lets it in and counts it, a 421 refuses it.

        `limits` are those of the listener, if it has its own.
        """
        counters = self.counters
        if self.overload.level is _OVERLOADED or counters.total_sessions() >= self._total:
            return self._refused(OVERLOADED)
        if client.exempt:
            counters.add_session()
            return None
        if limits is None:
            limits = self.settings.clients
        # One read bounds both counts: an address has no more sessions than its network.
        if self._sessions.bound(client.prefix_cells) >= limits.least_sessions:
            limit = limits.sessions_per_client
            if limit and self._sessions.count(client.cells) >= limit:
                return self._refused(TOO_MANY_SESSIONS)
            limit = limits.sessions_per_prefix
            if limit and self._sessions.count(client.prefix_cells) >= limit:
                return self._refused(TOO_MANY_IN_NETWORK)
        if self._rate.bound(client.prefix_cells) >= limits.least_rate:
            limit = limits.session_rate_per_client
            if limit and self._rate.count(client.cells) >= limit:
                return self._refused(TOO_FAST)
            limit = limits.session_rate_per_prefix
            if limit and self._rate.count(client.prefix_cells) >= limit:
                return self._refused(TOO_FAST_IN_NETWORK)
        # All are counted whatever this listener's limits are: another one may have others.
        self._sessions.add(client.all_cells)
        self._rate.add(client.all_cells)
        counters.add_session()
        return None

    def leave(self, client: Client) -> None:
        """The session of a client that was let in is over."""
        self.counters.remove_session()
        if not client.exempt:
            self._sessions.remove(client.all_cells)

    def auth_failed(self, client: Client) -> None:
        """A login was refused: wrong user or password (not: the back end is away)."""
        if not client.exempt:
            self._auth.add(client.cells)

    def auth_failures(self, client: Client) -> int:
        """Logins refused to this client within the window; 0 for an exempt one."""
        return 0 if client.exempt else int(self._auth.count(client.cells))

    def refuse_message(self, client: Client) -> Reply | None:
        """At MAIL: 450 when the address has sent too many messages, else None and the message is counted."""
        limit = self.settings.messages
        if not limit or client.exempt:
            return None
        if self._messages.count(client.cells) >= limit:
            return self._refused(TOO_MANY_MESSAGES)
        self._messages.add(client.cells)
        return None

    def refuse_recipient(self, client: Client) -> Reply | None:
        """At RCPT: 450 when the address has named too many recipients, else None and this one is counted."""
        limit = self.settings.recipients
        if not limit or client.exempt:
            return None
        if self._recipients.count(client.cells) >= limit:
            return self._refused(TOO_MANY_RECIPIENTS)
        self._recipients.add(client.cells)
        return None

    def close(self) -> None:
        """Give the slot back in order: no session of this worker is counted any more."""
        self.overload.stop()
        self.counters.close()

    def _refused(self, reply: Reply) -> Reply:
        self._tell(reply.cause.replace(" ", "_"))
        return reply

    def _locate(self, address: str) -> Client:
        packed = pack(address)
        if packed is None:
            return Client(address, (0, 0), (0, 0), exempt=True)
        bits = self.settings.ipv4_prefix if len(packed) == 4 else self.settings.ipv6_prefix
        prefix = mask(packed, bits)
        locate = self.counters.locate
        return Client(address, locate(packed), locate(prefix, 1), exempt=self._exempt.contain(packed))


MAPPED = bytes(10) + b"\xff\xff"
"""What IPv4 addresses begin with in the form of IPv6."""


class Networks:
    """A set of networks, asked for addresses."""

    __slots__ = ("_by_length",)

    def __init__(self, networks: Sequence[str]) -> None:
        """`networks` are addresses with or without prefix length. Raises ValueError."""
        by_length: dict[tuple[int, int], set[bytes]] = {}
        for text in networks:
            network = ipaddress.ip_network(text, strict=False)
            packed, bits = network.network_address.packed, network.prefixlen
            if packed.startswith(MAPPED) and bits >= len(MAPPED) * 8:
                packed, bits = packed[len(MAPPED) :], bits - len(MAPPED) * 8
            by_length.setdefault((len(packed), bits), set()).add(packed)
        self._by_length = tuple((size, bits, frozenset(found)) for (size, bits), found in by_length.items())

    def __bool__(self) -> bool:
        return bool(self._by_length)

    def contain(self, packed: bytes) -> bool:
        """True when the address (4 or 16 octets) is in one of them."""
        size = len(packed)
        return any(size == length and mask(packed, bits) in found for length, bits, found in self._by_length)

    def contain_text(self, address: str) -> bool:
        """True when the address in text form is in one of them; False for what is no address."""
        packed = pack(address)
        return packed is not None and self.contain(packed)


def pack(address: str) -> bytes | None:
    """The octets of an address in text form, None for anything else. Four for an IPv4 address in the form of
    IPv6 (RFC 4291 2.5.5.2): the kernel connects to the IPv4 address behind it."""
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):
        return None
    return packed.removeprefix(MAPPED) if len(packed) == 16 else packed


def mask(packed: bytes, bits: int) -> bytes:
    """The first `bits` of an address, the others zero."""
    size = len(packed)
    rest = size * 8 - bits
    if rest <= 0:
        return packed
    return (int.from_bytes(packed, "big") >> rest << rest).to_bytes(size, "big")
