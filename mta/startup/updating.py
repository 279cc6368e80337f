"""Publishing by dynamic update (RFC 2136) with a key (TSIG)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update

from mta.startup.comparing import Compared, State, rdata
from mta.startup.publish import Record

SECONDS = 10.0
"""For the answer to an update."""


class UpdateFailed(Exception):
    """The update was not made; the text says why."""


def read_key(text: str) -> tuple[dict[dns.name.Name, dns.tsig.Key], str]:
    """The key of a file as `tsig-keygen` writes it, or of `ALGORITHM:NAME:SECRET`. Raises ValueError."""
    words = text.replace("{", " ").replace("}", " ").replace(";", " ").replace('"', " ").split()
    if len(words) >= 6 and words[0] == "key" and "algorithm" in words and "secret" in words:
        name = words[1]
        algorithm, secret = words[words.index("algorithm") + 1], words[words.index("secret") + 1]
    elif text.strip().count(":") == 2:
        algorithm, name, secret = text.strip().split(":")
    else:
        raise ValueError(
            'expected `key "NAME" { algorithm ALGORITHM; secret "BASE64"; };` as tsig-keygen writes it'
        )
    try:
        key = dns.tsig.Key(name, secret, algorithm)
    except (ValueError, dns.exception.DNSException) as error:
        raise ValueError(f"no key: {error}") from None
    return {key.name: key}, key.name.to_text()


def zone_of(name: str, zones: Sequence[str]) -> str:
    """The nearest of `zones` that holds a name, "" for none."""
    held = [zone for zone in zones if name == zone or name.endswith(f".{zone}")]
    return max(held, key=len, default="")


def build(
    zone: str,
    wanted: Mapping[tuple[str, str], list[Record]],
    compared: Sequence[Compared],
    origin_key: object,
) -> dns.update.UpdateMessage:
    """The update that makes one zone as wanted: only what differs, and nothing that is not ours."""
    message = dns.update.UpdateMessage(zone, keyring=origin_key)
    for one in compared:
        if one.state not in (State.MISSING, State.DIFFERENT):
            continue
        records = wanted[one.name, one.type]
        name = dns.name.from_text(one.name)
        if records[0].keeps_others:
            for text in one.others:
                message.delete(name, one.type, text)
            for record in records:
                message.add(name, record.ttl, rdata(record))
        else:
            message.delete(name, one.type)
            for record in records:
                message.add(name, record.ttl, rdata(record))
    return message


def send(message: dns.update.UpdateMessage, host: str, port: int) -> None:
    """Send it to the primary server of the zone. Raises UpdateFailed."""
    try:
        reply = dns.query.tcp(message, host, timeout=SECONDS, port=port)
    except dns.tsig.PeerError as error:
        raise UpdateFailed(f"the server does not take the key: {error}") from error
    except (OSError, dns.exception.DNSException) as error:
        raise UpdateFailed(str(error) or type(error).__name__) from error
    code = reply.rcode()
    if code != dns.rcode.NOERROR:
        raise UpdateFailed(f"the server says {dns.rcode.to_text(code)}")
