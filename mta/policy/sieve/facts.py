"""What a script may know of a session: the items of the environment (RFC 5183), stage by stage.

An item that a session does not have, as the TLS version without TLS, is the empty string; what can be said
with yes or no is "yes" or "no". Items are made when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from mta.envelope import Envelope, Recipient
from mta.policy.ground import Ground
from mta.policy.sieve.networks import network
from mta.policy.verdict import Tried
from mta.session import Session
from sieve_ext.message import Message

STAGES = ("connect", "helo", "auth", "mail", "rcpt", "data", "route", "sign", "retry", "bounce")
"""In the order of a message's life; auth only where somebody logs in, those from route on for each recipient,
but for sign."""
ALWAYS = frozenset(STAGES)
FROM_HELO = ALWAYS - {"connect"}
FROM_MAIL = frozenset(("mail", "rcpt", "data", "route", "sign", "retry", "bounce"))
RCPT = frozenset(("rcpt",))
DATA = frozenset(("data",))
ROUTE = frozenset(("route",))
RCPT_AND_ROUTE = RCPT | ROUTE
SIGN = frozenset(("sign",))
FROM_DATA = DATA | ROUTE | SIGN
"""Where the message is there."""
RETRY = frozenset(("retry",))
BOUNCE = frozenset(("bounce",))
QUEUED = RETRY | BOUNCE
"""After a try, where the session is over and of the message the header is there."""
IN_SESSION = ALWAYS - QUEUED
"""Where somebody waits for an answer."""

PREFIX = "vnd.tamis."


class Facts(Struct):
    """What is known at a stage."""

    stage: str
    session: Session
    hostname: str
    envelope: Envelope | None = None
    """From stage "mail" on."""
    recipient: Recipient | None = None
    """In stage "rcpt", where it is not in the envelope yet, and in stage "route"."""
    message: Message | None = None
    """From stage "data" on."""
    tried: Tried | None = None
    """In stages "retry" and "bounce"."""
    ground: Ground | None = None
    """What the configuration says of domains and clients."""

    def is_trusted(self) -> bool:
        """The client is in a network that may relay without logging in."""
        return self.ground is not None and self.ground.settings.is_trusted(self.session.client_address)

    def may_relay(self) -> bool:
        """The client may send to any domain, or one of our aliases has led to this recipient."""
        if self.ground is None:
            return False
        led = self.recipient is not None and self.recipient.by_site
        return led or self.ground.may_relay(self.session)

    def needs_login(self) -> bool:
        """The listener takes mail from users only."""
        return self.ground is not None and self.ground.needs_login(self.session)

    def is_local(self) -> bool:
        """The recipient is in one of our domains."""
        if self.ground is None or self.recipient is None:
            return False
        return self.ground.is_local(self.session, self.recipient.address)

    def has_route(self) -> bool:
        """There is a way to the recipient's domain."""
        if self.ground is None or self.recipient is None:
            return False
        return self.ground.has_route(self.recipient.address)


@dataclass(slots=True, frozen=True)
class Item:
    """One item of the environment."""

    stages: frozenset[str]
    """Where it is known."""
    of: Callable[[Facts], str]
    meaning: str
    """For the documentation."""


def _answer(value: bool) -> str:
    return "yes" if value else "no"


def _tls(name: str) -> Callable[[Facts], str]:
    def of(facts: Facts) -> str:
        tls = facts.session.tls
        return "" if tls is None else str(getattr(tls, name))

    return of


def _session(name: str) -> Callable[[Facts], str]:
    return lambda facts: str(getattr(facts.session, name))


def _envelope(make: Callable[[Envelope], str]) -> Callable[[Facts], str]:
    return lambda facts: "" if facts.envelope is None else make(facts.envelope)


def _message(make: Callable[[Message], str]) -> Callable[[Facts], str]:
    return lambda facts: "" if facts.message is None else make(facts.message)


def _is_whole(message: Message) -> str:
    structure = message.structure
    return _answer(not structure.is_truncated and not structure.is_doubtful)


def _tried(make: Callable[[Tried], str]) -> Callable[[Facts], str]:
    return lambda facts: "" if facts.tried is None else make(facts.tried)


def _priority(envelope: Envelope) -> str:
    return "" if envelope.priority is None else str(envelope.priority)


def known(facts: Facts, method: str, what: str = "result") -> str:
    """What sender authentication has found so far, "" when nobody has asked for it."""
    found: object = facts.session.authentication
    if found is not None and method != "iprev":
        found = getattr(found, "transaction", None)
    found = getattr(found, f"known_{method}", None)
    value = getattr(found, what, "")
    return str(getattr(value, "result", value))


ITEMS: dict[str, Item] = {
    "host": Item(ALWAYS, lambda facts: facts.hostname, "name of this server (`identity.hostname`)"),
    "location": Item(ALWAYS, lambda facts: "MTA", "`MTA`"),
    "phase": Item(ALWAYS, lambda facts: "pre", "`pre`: before delivery"),
    "remote-host": Item(
        ALWAYS, _session("client_name"), "name of the client, if a trusted peer has told it by XCLIENT"
    ),
    "remote-ip": Item(ALWAYS, _session("client_address"), "address of the client; `unix` for a Unix socket"),
    "vnd.tamis.remote-network": Item(
        ALWAYS,
        lambda facts: network(facts.session.client_address),
        "its network: `192.0.2.0/24`, of IPv6 `2001:db8:1:2::/64`",
    ),
    "vnd.tamis.stage": Item(ALWAYS, lambda facts: facts.stage, "name of the stage"),
    "vnd.tamis.listener": Item(ALWAYS, _session("listener"), "name of the listener"),
    "vnd.tamis.protocol": Item(ALWAYS, _session("protocol"), "`smtp`, `submission` or `lmtp`"),
    "vnd.tamis.session": Item(ALWAYS, _session("id"), "identifier of the session, as in the log"),
    "vnd.tamis.client-port": Item(ALWAYS, _session("client_port"), "port of the client"),
    "vnd.tamis.server-address": Item(ALWAYS, _session("server_address"), "address that it connected to"),
    "vnd.tamis.server-port": Item(ALWAYS, _session("server_port"), "port that it connected to"),
    "vnd.tamis.proxied": Item(
        ALWAYS, lambda facts: _answer(facts.session.proxied), "`yes` if a proxy or XCLIENT told the address"
    ),
    "vnd.tamis.trusted": Item(
        ALWAYS,
        lambda facts: _answer(facts.is_trusted()),
        "`yes` for a client in `policy.trusted_networks`",
    ),
    "vnd.tamis.may-relay": Item(
        ALWAYS,
        lambda facts: _answer(facts.may_relay()),
        "`yes` for a client that has logged in or is in a trusted network",
    ),
    "vnd.tamis.login-required": Item(
        ALWAYS,
        lambda facts: _answer(facts.needs_login()),
        "`yes` where the listener takes mail from users only",
    ),
    "vnd.tamis.tls.version": Item(ALWAYS, _tls("version"), "`TLSv1.3`, `TLSv1.2`, empty without TLS"),
    "vnd.tamis.tls.cipher": Item(ALWAYS, _tls("cipher"), "name of the cipher"),
    "vnd.tamis.tls.bits": Item(ALWAYS, _tls("bits"), "bits of its key"),
    "vnd.tamis.tls.sni": Item(ALWAYS, _tls("sni"), "server name that the client asked for"),
    "vnd.tamis.tls.peer": Item(ALWAYS, _tls("peer_subject"), "name in a verified client certificate"),
    "vnd.tamis.tls.fingerprint": Item(
        ALWAYS, _tls("peer_fingerprint"), "SHA-256 of the client certificate in hexadecimal"
    ),
    "vnd.tamis.errors": Item(ALWAYS, _session("errors"), "commands refused in this session"),
    "vnd.tamis.transactions": Item(ALWAYS, _session("transactions"), "messages begun, this one included"),
    "vnd.tamis.helo": Item(FROM_HELO, _session("helo"), "argument of EHLO, HELO or LHLO"),
    "vnd.tamis.esmtp": Item(FROM_HELO, lambda facts: _answer(facts.session.esmtp), "`no` after HELO"),
    "vnd.tamis.auth-user": Item(FROM_HELO, _session("user"), "user who has logged in, empty if none"),
    "vnd.tamis.auth-mechanism": Item(FROM_HELO, _session("auth_mechanism"), "how the user logged in"),
    "vnd.tamis.declared-size": Item(
        FROM_MAIL, _envelope(lambda envelope: str(envelope.size)), "SIZE of MAIL in octets, `0` without"
    ),
    "vnd.tamis.body": Item(
        FROM_MAIL, _envelope(lambda envelope: envelope.body.value), "BODY of MAIL: `7BIT` or `8BITMIME`"
    ),
    "vnd.tamis.smtputf8": Item(
        FROM_MAIL, _envelope(lambda envelope: _answer(envelope.smtputf8)), "`yes` with SMTPUTF8"
    ),
    "vnd.tamis.priority": Item(FROM_MAIL, _envelope(_priority), "MT-PRIORITY of MAIL, empty without"),
    "vnd.tamis.envelope-id": Item(
        FROM_MAIL, _envelope(lambda envelope: envelope.envid or ""), "ENVID of MAIL, empty without"
    ),
    "vnd.tamis.recipients": Item(
        FROM_MAIL,
        _envelope(lambda envelope: str(len(envelope.recipients))),
        "recipients that were accepted so far",
    ),
    "vnd.tamis.local-domain": Item(
        RCPT_AND_ROUTE, lambda facts: _answer(facts.is_local()), "`yes` for a recipient in one of our domains"
    ),
    "vnd.tamis.has-route": Item(
        RCPT_AND_ROUTE, lambda facts: _answer(facts.has_route()), "`yes` if there is a way to its domain"
    ),
    "vnd.tamis.attempts": Item(QUEUED, _tried(lambda tried: str(tried.attempts)), "tries so far"),
    "vnd.tamis.age": Item(
        QUEUED, _tried(lambda tried: str(int(tried.age))), "seconds since the message was accepted"
    ),
    "vnd.tamis.next-hop": Item(
        QUEUED, _tried(lambda tried: tried.next_hop), "where it was tried, as `backend:NAME`"
    ),
    "vnd.tamis.reply.code": Item(
        QUEUED, _tried(lambda tried: str(tried.reply.code)), "code of the last reply, as `451`"
    ),
    "vnd.tamis.reply.enhanced": Item(
        QUEUED, _tried(lambda tried: tried.reply.enhanced), "its enhanced code, as `4.7.1`"
    ),
    "vnd.tamis.reply.text": Item(QUEUED, _tried(lambda tried: tried.reply.text), "its text"),
    "vnd.tamis.queue-id": Item(
        QUEUED, _tried(lambda tried: tried.queue_id), "name in the queue, empty before it is there"
    ),
    "vnd.tamis.report": Item(
        BOUNCE,
        _tried(lambda tried: tried.report),
        "what is reported: `failed`, `expired`, `delayed`, `late`, `delivered`, `relayed`",
    ),
    "vnd.tamis.auth.iprev": Item(
        ALWAYS, lambda facts: known(facts, "iprev"), "what `iprev` has found, empty until it was asked"
    ),
    "vnd.tamis.auth.spf": Item(FROM_MAIL, lambda facts: known(facts, "spf"), "the same of `spf`"),
    "vnd.tamis.auth.arc": Item(FROM_DATA, lambda facts: known(facts, "arc"), "the same of `arc`"),
    "vnd.tamis.auth.dmarc": Item(FROM_DATA, lambda facts: known(facts, "dmarc"), "the same of `dmarc`"),
    "vnd.tamis.auth.dmarc-domain": Item(
        FROM_DATA, lambda facts: known(facts, "dmarc", "domain"), "the author's domain that `dmarc` looked at"
    ),
    "vnd.tamis.auth.dmarc-policy": Item(
        FROM_DATA,
        lambda facts: known(facts, "dmarc", "disposition"),
        "what that domain wants done with this message: `none`, `quarantine`, `reject`",
    ),
    "vnd.tamis.size": Item(
        FROM_DATA, _message(lambda message: str(message.original_size)), "octets of the message as received"
    ),
    "vnd.tamis.mime-whole": Item(
        FROM_DATA,
        _message(_is_whole),
        "`no` if tests see less than mail programs may: too many parts or levels, a type that is given twice",
    ),
    "vnd.tamis.8bit": Item(
        FROM_DATA, _message(lambda message: _answer(message.has_8bit)), "`yes` if it has octets over 127"
    ),
}
"""By lower-case name."""

_VARIABLES = {
    name.removeprefix(PREFIX).replace("-", "_").replace(".", "_"): name
    for name in reversed(ITEMS)
    if not name.endswith("8bit")
} | {"is_8bit": "vnd.tamis.8bit"}
"""Names of variables may not begin with a digit."""


def item_name(variable: str) -> str | None:
    """The item that `${env.variable}` stands for: "tls_version", "remote_ip"; None if there is none."""
    return _VARIABLES.get(variable.lower())


class Surroundings(Mapping[str, str]):
    """The items of one stage of a session, made when they are asked for."""

    __slots__ = ("_facts",)

    def __init__(self, facts: Facts) -> None:
        """Of what is known."""
        self._facts = facts

    def __getitem__(self, name: str) -> str:
        item = ITEMS[name]
        if self._facts.stage not in item.stages:
            raise KeyError(name)
        return item.of(self._facts)

    def get(self, name: str, default: Any = None) -> Any:
        """The item, or `default` where it is not known: what every test asks, so without an exception."""
        item = ITEMS.get(name)
        if item is None or self._facts.stage not in item.stages:
            return default
        return item.of(self._facts)

    def delimiters(self, domain: str) -> str | None:
        """What begins a detail in a domain of ours, as it is written; None for other domains."""
        ground = self._facts.ground
        return None if ground is None else ground.delimiters(domain)

    def __iter__(self) -> Iterator[str]:
        return (name for name, item in ITEMS.items() if self._facts.stage in item.stages)

    def __len__(self) -> int:
        return sum(1 for _ in self)
