"""What a policy server is told: the attributes of Postfix 3.9 in its order, and ours after them."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

_XTEXT = frozenset({"ccert_subject", "ccert_issuer"})
"""Attributes that Postfix encodes as xtext (RFC 3461 section 4), for they may hold anything."""
_COUNTER = itertools.count(1)


def instance_id() -> str:
    """A new value for `instance`: the caller keeps one for a message, from MAIL (or CONNECT) to its end.

    Unique over processes and time on one machine, as Postfix's: process, seconds, nanoseconds, a counter.
    """
    now = time.time_ns()
    return f"{os.getpid():x}.{now // 10**9:x}.{now % 10**9:x}.{next(_COUNTER):x}"


@dataclass(slots=True, frozen=True)
class PolicyRequest:
    """One question. Names are the attributes; empty means "not known" and is sent so, as by Postfix."""

    protocol_state: str
    """CONNECT, EHLO, HELO, MAIL, RCPT, DATA, END-OF-MESSAGE, VRFY or ETRN."""
    protocol_name: str = "ESMTP"
    """SMTP or ESMTP."""
    client_address: str = ""
    """Without brackets and prefix."""
    client_name: str = "unknown"
    """The verified name."""
    client_port: str = ""
    reverse_client_name: str = "unknown"
    """What the reverse zone says, verified or not."""
    server_address: str = ""
    server_port: str = ""
    helo_name: str = ""
    sender: str = ""
    recipient: str = ""
    """Of this RCPT; at DATA and END-OF-MESSAGE only when there is just one."""
    recipient_count: str = "0"
    """At DATA and END-OF-MESSAGE the number of recipients, before "0"."""
    queue_id: str = ""
    instance: str = ""
    """From `instance_id`; the same for all questions about one message."""
    size: str = "0"
    """At END-OF-MESSAGE the octets of the message, before what SIZE= says."""
    etrn_domain: str = ""
    stress: str = ""
    sasl_method: str = ""
    sasl_username: str = ""
    sasl_sender: str = ""
    ccert_subject: str = ""
    """Of the client's certificate, if it is verified."""
    ccert_issuer: str = ""
    ccert_fingerprint: str = ""
    ccert_pubkey_fingerprint: str = ""
    encryption_protocol: str = ""
    encryption_cipher: str = ""
    encryption_keysize: str = "0"
    policy_context: str = ""
    """Names the place in the policy that asks."""
    compatibility_level: str = "3.9"
    mail_version: str = "3.9.0"
    """The version of Postfix whose protocol this is; policy servers compare it."""
    results: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """More attributes, such as those of authentication: spf_result, dkim_result, dmarc_result, tls_sni ..."""

    def encode(self) -> bytes:
        """The octets: a line an attribute and an empty line.

        Control characters, which would end a line, become "?". Raises ValueError for a name in `results` that
        is empty, has "=" in it or is one of Postfix's.
        """
        lines = ["request=smtpd_access_policy"]
        for name in NAMES:
            value = getattr(self, name)
            lines.append(f"{name}={_xtext(value) if name in _XTEXT else value}")
        for name, value in self.results.items():
            if not name or "=" in name or name in NAMES or name == "request" or not name.isprintable():
                raise ValueError(f"{name!r} is no name for an attribute of one's own")
            lines.append(f"{name}={value}")
        text = "".join(_printable(line) + "\n" for line in lines)
        return text.encode("utf-8", "surrogateescape") + b"\n"


NAMES = tuple(one.name for one in fields(PolicyRequest) if one.name != "results")
"""The attributes after `request`, in Postfix's order."""


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    return "".join("?" if ord(one) < 32 or ord(one) == 127 else one for one in line)


def _xtext(text: str) -> str:
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(chr(one) if 33 <= one <= 126 and one not in b"+=" else f"+{one:02X}" for one in octets)
