"""The replies of a delivery that may not happen now, for client, queue and DSN: each says what, of whom, why.

All but one are temporary: what is wrong with proofs is mended by their owner, or it is an attack that ends.
Texts are ASCII and name domains, hosts and the resolver's words, nothing of ours.
"""

from __future__ import annotations

from mta.delivery.security.pins import Held
from mta.reply import Reply

CODE = "4.7.5"
"""RFC 3463: cryptographic failure."""
LOOKUP = "4.4.3"
"""RFC 3463: directory server failure."""
REQUIRETLS = "5.7.30"
"""RFC 8689 section 7: REQUIRETLS support required."""


def bogus(what: str, reason: str) -> Reply:
    """DNSSEC validation of something fails."""
    return _reply(
        CODE, f"DNSSEC validation fails for {what}{_because(reason)}; mail waits until it is mended"
    )


def no_answer(what: str, reason: str) -> Reply:
    """The DNS does not answer."""
    return _reply(LOOKUP, f"The DNS gives no answer for {what}{_because(reason)}")


def no_tlsa(host: str, reason: str) -> Reply:
    """A TLSA lookup failed (RFC 7672 section 2.1.2: the host may not be used)."""
    text = f"The DNS gives no answer for the TLSA records of {host}, whose addresses are signed"
    return _reply(CODE, text + _because(reason))


def unsigned(what: str, held: Held, resolver: str = "") -> Reply:
    """A name that was signed is not any more."""
    own = f"; our resolver: {resolver}" if resolver else ""
    return _reply(CODE, f"{what} was signed with DNSSEC and is not any more ({held}){own}")


def lost(what: str, held: Held) -> Reply:
    """Another proof is missing."""
    return _reply(CODE, f"{what} is missing ({held})")


def not_in_policy(host: str, domain: str) -> Reply:
    """A host that the MTA-STS policy does not name."""
    return _reply(CODE, f"The MTA-STS policy of {domain} does not name its mail host {host}")


def demanded(host: str, level: str) -> Reply:
    """Our own policy wants more than the host proves."""
    return _reply(CODE, f"{host} does not prove itself by {level}, which our policy demands for this mail")


def unproven(domain: str) -> Reply:
    """REQUIRETLS, and nothing says which hosts are the domain's own."""
    text = f"REQUIRETLS: {domain} proves its mail hosts neither by DNSSEC nor by an MTA-STS policy"
    return Reply(550, REQUIRETLS, _ascii(text))


def doubted(domain: str, reason: str) -> Reply:
    """REQUIRETLS, and what says which hosts are the domain's own cannot be had at the moment."""
    return _reply(
        CODE, f"REQUIRETLS: it is not known now whether {domain} proves its mail hosts{_because(reason)}"
    )


def _reply(enhanced: str, text: str) -> Reply:
    text = _ascii(text)
    return Reply(451, enhanced, text, text)


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _ascii(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)[:400]
