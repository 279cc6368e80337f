"""The sections about who sent a message, and about signing what we send.

Each class is a section of the file, each field a key; the text under a field is what the reference pages
print. Durations are seconds in the program. Nothing here opens a file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mta.config.notation import Duration, Fqdn, Network, Path

Check = Literal["iprev", "spf", "dkim", "arc", "dmarc", "bimi"]


class Authentication(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who sent it: what is found out about mail from outside (docs/sender-authentication.md). It needs
    dns.resolvers; without them nothing is looked at. What follows from the results, the policy says."""

    checks: tuple[Check, ...] = ("iprev", "spf", "dkim", "arc", "dmarc")
    """What is looked at: the reverse name of the client, SPF, DKIM signatures, the ARC chain, DMARC. The
    results are in the header (Authentication-Results), in the log, and in the tests of
    `vnd.tamis.auth`. "bimi", which needs "dmarc", adds whether the author's domain has published a sign;
    "dmarc" needs "spf" and "dkim"."""
    authserv_id: Fqdn = ""
    """Our name in Authentication-Results. All servers that hand mail to the same store should have the same
    one. Fields of others that claim it are removed. Default: identity.hostname."""
    own_mail: bool = False
    """Look at mail of our users and of policy.trusted_networks, too."""
    results_from: tuple[Network, ...] = ()
    """Clients that may bring fields Authentication-Results in our name: a content filter that hands mail
    back to us. From everybody else, users too, they are removed."""
    received_spf: bool = False
    """Write the field Received-SPF, too, for programs that read nothing else."""
    timeout: Annotated[Duration, Meta(ge=0.1, le=20)] = 5.0
    """Time for each check. What is not known by then is "temperror", never a refusal for good. DMARC comes
    after the others, so a message waits for twice this time at the most."""
    partial_body: bool = False
    """Let DKIM signatures pass that cover only the first octets of the body (`l=`): anybody can add to such
    a message."""
    public_suffix_list: bool = False
    """DMARC as of 2015 (RFC 7489): the list of public suffixes and `pct` instead of the tree walk."""


class Signing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Signatures for mail that we send (DKIM) and seals for mail that we pass on (ARC), see docs/dkim.md.
    Nothing is signed until `keys` or `key_table` is set."""

    keys: Path = ""
    """Folder of the keys, as `tamis dkim` makes it. A domain without keys uses those of the domain above
    it."""
    key_table: Path = ""
    """In place of it: a file with a domain, a selector and a key file a line."""
    required: bool = True
    """Mail of our users and of policy.trusted_networks that leaves is signed or not sent: 451 4.7.5 when
    neither author nor sender nor `domain` has a key. false: it is sent unsigned then."""
    domain: Fqdn = ""
    """Domain whose keys sign when neither author nor sender has any (a listener may have one of its own,
    listener.signing_domain). Receivers see such a signature, but it does not count for DMARC. Default:
    none."""
    seal_domain: Fqdn = ""
    """Domain whose key seals mail from outside that goes outside again (ARC). Default: the first of our
    domains that has keys."""
    lifetime: Annotated[Duration, Meta(ge=0)] = 0.0
    """How long a signature is valid; mail that waits longer fails then. 0s: for ever."""
