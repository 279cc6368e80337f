"""Which standards are kept, how far, and where: the table behind `docs/rfcs.md`.

    python -m mta.standards        # in the root of the source tree: writes the page

`yes`: what the standard asks of a server in our place is done. `partial`: some of it, and the note says what
is missing. `no`: none of it; a note that begins with "planned" says that it will come. The modules are where
to look; each of them names the standard in its text.

Tests keep the table honest: the page is what this module writes, the modules exist and name the standard,
every RFC that the code or the pages speak of stands here, and so does that of every keyword of EHLO.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Status = Literal["yes", "partial", "no"]

PAGE = "docs/rfcs.md"


@dataclass(slots=True, frozen=True)
class Standard:
    """One document: its name as the code writes it, and what has become of it."""

    name: str
    """ "RFC 5321", or the name of a document that is no RFC."""
    title: str
    status: Status
    note: str
    """What is done or missing, in Markdown."""
    where: str = ""
    """Modules, separated by blanks."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules where it is done."""
        return tuple(self.where.split())


S = Standard

_ENGINE = "in the engine; the server runs no scripts yet"
_AUTHN = "the code is there, the server does not use it yet"
_RESOLVER = "the resolver is there, the server asks it nothing yet"

# One entry, a few lines: a table is read in columns, so the formatter leaves it alone.
# fmt: off
TABLE: dict[str, tuple[Standard, ...]] = {
    "SMTP, submission, LMTP": (
        S("RFC 5321", "Simple Mail Transfer Protocol", "partial",
          "both sides, with queue (4.5.4) and notices of non-delivery (6.1). Missing: MX lookup (5), so mail "
          "to other domains needs a relay",
          "mta.smtp.server mta.smtp.state mta.smtp.syntax mta.smtp.wire mta.smtp.mailing mta.trace"),
        S("RFC 2821", "Simple Mail Transfer Protocol (2001)", "no",
          "superseded by RFC 5321; what its clients still do is borne: source routes, blanks after the "
          "colon, a path without angle brackets"),
        S("RFC 821", "Simple Mail Transfer Protocol (1982)", "no",
          "superseded; SEND, SOML, SAML and TURN are answered 502", "mta.smtp.state"),
        S("RFC 1123", "Requirements for Internet Hosts", "partial",
          "the syntax of host names (2.1); its chapter on mail is superseded", "mta.config.notation"),
        S("RFC 5598", "Internet Mail Architecture", "yes", "its words are used throughout"),
        S("RFC 6409", "Message Submission for Mail", "partial",
          "login, sender check, Date and Message-ID added, From required. Missing: domains in the envelope "
          "that are not fully qualified are passed on (4.2)", "mta.trace mta.transaction mta.config.inbound"),
        S("RFC 2033", "Local Mail Transfer Protocol", "yes",
          "as a server, as a client, and in the embedded store",
          "mta.smtp.server mta.smtp.mailing mta.store.lmtp"),
        S("RFC 2142", "Mailbox Names for Common Services", "partial",
          "postmaster and abuse are always accepted; others by configuration", "mta.config.outbound"),
        S("RFC 7504", "SMTP 521 and 556 Reply Codes", "no", "never sent; understood as permanent refusals"),
        S("RFC 7505", "A Null MX Resource Record", "no", "planned, with MX lookup"),
        S("RFC 2645", "On-Demand Mail Relay (ATRN)", "no", "answered 502"),
        S("RFC 1845", "Checkpoint/Restart", "no", "in use nowhere"),
        S("RFC 4468", "Message Submission BURL Extension", "no", "in use nowhere"),
        S("RFC 3865", "No Soliciting", "no", "in use nowhere"),
    ),
    "Extensions of SMTP": (
        S("RFC 1870", "Message Size Declaration (SIZE)", "yes",
          "", "mta.smtp.parameters mta.smtp.capabilities mta.smtp.relaying"),
        S("RFC 2034", "Enhanced Error Codes", "yes",
          "in every reply but those that must not have one; a next hop's reply without one gets x.0.0",
          "mta.smtp.replies mta.delivery.fixed mta.store.lmtp"),
        S("RFC 3463", "Enhanced Mail System Status Codes", "yes", "", "mta.reply mta.smtp.server_replies"),
        S("RFC 5248", "Registry of Enhanced Status Codes", "yes", "only registered codes are used"),
        S("RFC 2920", "Command Pipelining", "yes",
          "enforced: a client that pipelines what it may not is sent away (554 5.5.0)",
          "mta.smtp.server mta.smtp.state mta.smtp.mailing"),
        S("RFC 3030", "Large and Binary Messages (CHUNKING, BINARYMIME)", "partial",
          "CHUNKING on both sides. The engine reads BINARYMIME and passes it on, but it is not offered yet "
          "(555 5.5.4)", "mta.smtp.inbound_message mta.smtp.mailing mta.smtp.extensions"),
        S("RFC 6152", "8-bit MIME Transport (8BITMIME)", "partial",
          "offered and declared to next hops. Missing: nothing is converted; a next hop without it gets "
          "8-bit content as it is", "mta.smtp.parameters mta.smtp.relaying"),
        S("RFC 3207", "SMTP over TLS (STARTTLS)", "yes",
          "on both sides; nothing said before TLS counts after it",
          "mta.smtp.server mta.smtp.state mta.smtp.opening mta.receiver"),
        S("RFC 3461", "Delivery Status Notifications (DSN)", "yes",
          "offered where the queue is on; passed on to next hops that offer it too",
          "mta.smtp.parameters mta.smtp.xtext mta.envelope mta.dsn.decide mta.dsn.render"),
        S("RFC 8689", "REQUIRETLS", "partial",
          "offered inside TLS; passed on over verified TLS to servers that offer it too, and to no others "
          "(550 5.7.30). Missing: the header field TLS-Required", "mta.smtp.parameters mta.smtp.relaying"),
        S("RFC 2852", "Deliver By (DELIVERBY)", "yes",
          "offered where the queue is on; mode R goes to no server without it",
          "mta.smtp.parameters mta.smtp.relaying"),
        S("RFC 4865", "Future Message Release (FUTURERELEASE)", "yes",
          "offered to users, on submission, where the queue is on: up to 30 days, or a year by HOLDUNTIL",
          "mta.smtp.parameters mta.smtp.extensions mta.spool.record mta.assembly_queue"),
        S("RFC 6710", "Message Transfer Priorities (MT-PRIORITY)", "partial",
          "offered to users, on submission, where the queue is on; it orders the queue and is passed on. "
          "Missing: the clause PRIORITY in Received",
          "mta.smtp.parameters mta.assembly_queue"),
        S("RFC 1985", "Remote Message Queue Starting (ETRN)", "partial",
          "the engine reads it, but it is not offered (502): `tamis queue flush` does it for administrators",
          "mta.smtp.syntax mta.smtp.extensions"),
        S("RFC 9422", "LIMITS", "yes",
          "RCPTMAX and MAILMAX are announced; a next hop's, and its RCPTDOMAINMAX, are kept",
          "mta.smtp.extensions mta.smtp.capabilities mta.delivery.fixed mta.net.pool"),
        S("RFC 3848", "ESMTP and LMTP Transmission Types", "yes", "in Received", "mta.trace"),
        S("draft-hall-prdr", "Per-Recipient Data Responses (PRDR)", "yes",
          "on both sides", "mta.smtp.extensions mta.smtp.mailing"),
        S("XCLIENT_README", "XCLIENT, an extension of Postfix", "partial",
          "from trusted clients: ADDR, NAME, PORT, DESTADDR, DESTPORT and LOGIN count, PROTO and HELO are "
          "accepted without effect. To a back end where `xclient` says so",
          "mta.smtp.xclient mta.smtp.extensions mta.introduction"),
        S("XFORWARD_README", "XFORWARD, an extension of Postfix", "partial",
          "from trusted clients about the next message: for the log, and a back end where `xforward` says so",
          "mta.smtp.xclient mta.smtp.extensions mta.introduction"),
        S("PROXY protocol", "Header of load balancers, versions 1 and 2 (HAProxy)", "yes",
          "required where configured, refused elsewhere", "mta.net.proxyproto"),
    ),
    "Login": (
        S("RFC 4954", "SMTP Service Extension for Authentication (AUTH)", "yes",
          "on both sides, LOGIN and XOAUTH2 included, which have no RFC",
          "mta.smtp.auth mta.smtp.verbs mta.smtp.opening mta.accounts.authenticator"),
        S("RFC 2554", "AUTH (1999)", "no",
          "superseded by RFC 4954; a server's `AUTH=` line is understood", "mta.smtp.capabilities"),
        S("RFC 4422", "Simple Authentication and Security Layer (SASL), EXTERNAL", "yes",
          "", "mta.smtp.auth mta.smtp.authserver mta.smtp.authclient"),
        S("RFC 4616", "PLAIN", "yes", "inside TLS", "mta.smtp.authserver mta.smtp.authclient"),
        S("RFC 5802", "SCRAM-SHA-1", "yes", "", "mta.smtp.scram mta.smtp.authclient"),
        S("RFC 7677", "SCRAM-SHA-256", "yes", "", "mta.smtp.scram mta.smtp.authclient"),
        S("RFC 5929", "Channel Bindings for TLS", "yes",
          "`tls-unique` (TLS 1.2), `tls-server-end-point`", "mta.net.tlsinfo mta.smtp.auth"),
        S("RFC 9266", "Channel Bindings for TLS 1.3", "partial",
          "SCRAM can; Python does not give `tls-exporter` out yet, so -PLUS is not offered under TLS 1.3 by "
          "itself", "mta.net.tlsinfo mta.smtp.scram"),
        S("RFC 7628", "OAUTHBEARER", "partial",
          "passed to Dovecot, which verifies the token; a relay's token cannot be configured yet",
          "mta.smtp.authserver mta.smtp.authclient"),
        S("RFC 6750", "OAuth 2.0 Bearer Token Usage", "partial",
          "the token is passed on as it is", "mta.smtp.auth"),
        S("RFC 4013", "SASLprep", "yes", "", "mta.smtp.saslprep mta.accounts.passwords"),
        S("RFC 3454", "Stringprep", "yes", "as far as SASLprep needs it", "mta.smtp.saslprep"),
        S("RFC 8265", "Usernames and Passwords (PRECIS)", "no", "SASLprep is what clients of SCRAM use"),
        S("RFC 2195", "CRAM-MD5", "no", "it needs passwords in clear on the server"),
    ),
    "TLS": (
        S("RFC 8314", "Cleartext Considered Obsolete", "yes",
          "implicit TLS on port 465; passwords inside TLS only", "mta.net.reception mta.config.inbound"),
        S("RFC 8996", "Deprecating TLS 1.0 and TLS 1.1", "yes", "TLS 1.2 is the least", "mta.net.tls"),
        S("RFC 6066", "TLS Extensions", "partial",
          "the server name (SNI) selects the certificate", "mta.net.tls mta.net.certificates"),
        S("RFC 6125", "Service Identity in TLS", "yes",
          "names of certificates, ours and those of next hops",
          "mta.net.certificates mta.config.certificates"),
        S("RFC 7817", "TLS Server Identity Check for Email", "no",
          "a relay's certificate must have its host name; SRV names are not looked for"),
        S("RFC 7435", "Opportunistic Security", "yes",
          'the level `tls = "may"` towards next hops', "mta.net.connect"),
        S("RFC 7672", "SMTP Security via Opportunistic DANE", "no", "planned, with MX lookup"),
        S("RFC 7671", "Updates to DANE", "no", "planned, with MX lookup"),
        S("RFC 6698", "DANE TLSA", "no", "planned, with MX lookup"),
        S("RFC 8461", "MTA-STS", "no", "planned, with MX lookup"),
        S("RFC 8460", "SMTP TLS Reporting", "no", "planned, with MX lookup"),
    ),
    "DNS": (
        S("RFC 1035", "Domain Names", "partial", f"the limits of names; questions and replies: {_RESOLVER}",
          "mta.address mta.trace mta.net.resolver.names mta.net.resolver.wire"),
        S("RFC 2181", "Clarifications to the DNS", "partial", f"times to live; {_RESOLVER}",
          "mta.net.resolver.wire"),
        S("RFC 2308", "Negative Caching", "partial", _RESOLVER, "mta.net.resolver.wire"),
        S("RFC 8020", "NXDOMAIN: There Really Is Nothing Underneath", "partial",
          f"no such name is told from no such record, what is below it is asked all the same; {_RESOLVER}",
          "mta.net.resolver.base"),
        S("RFC 9520", "Negative Caching of Resolution Failures", "partial", _RESOLVER,
          "mta.net.resolver.cache"),
        S("RFC 6891", "Extension Mechanisms for DNS (EDNS(0))", "partial", _RESOLVER,
          "mta.net.resolver.wire"),
        S("RFC 7766", "DNS over TCP", "partial", f"for what does not fit, a connection each; {_RESOLVER}",
          "mta.net.resolver.server"),
        S("RFC 5452", "Resilience against Forged Answers", "partial",
          f"random ids and changing ports; {_RESOLVER}", "mta.net.resolver.server"),
        S("RFC 8914", "Extended DNS Errors", "partial", f"for the log; {_RESOLVER}", "mta.net.resolver.wire"),
        S("RFC 4033", "DNS Security (with RFC 4034 and RFC 4035)", "no",
          "a validating resolver on this machine does it"),
        S("RFC 4034", "Resource Records for DNSSEC", "no", "as above"),
        S("RFC 4035", "Protocol Modifications for DNSSEC", "partial",
          f"as a stub: AD counts over loopback, CD tells what does not validate; {_RESOLVER}",
          "mta.net.resolver.base mta.net.resolver.wire"),
        S("RFC 6840", "Clarifications for DNSSEC", "partial", f"AD is asked for; {_RESOLVER}",
          "mta.net.resolver.wire"),
    ),
    "Addresses and names": (
        S("RFC 6531", "Internationalised Email (SMTPUTF8)", "yes",
          "to a next hop without it, domains go as A-labels; what has no such form is refused (553 5.6.7, "
          "554 5.6.9)", "mta.address mta.smtp.syntax mta.smtp.parameters mta.smtp.relaying"),
        S("RFC 6532", "Internationalised Email Headers", "yes",
          "", "sieve_ext.message.field sieve_ext.message.words mta.smtp.relaying"),
        S("RFC 6533", "Internationalised Status and Disposition Notifications", "partial",
          "ORCPT of type utf-8; reports in UTF-8 where the way back takes them. Missing: notifications of "
          "disposition, which are made by mail programs",
          "mta.smtp.xtext mta.smtp.parameters mta.smtp.parameter_encoding mta.dsn.render mta.dsn.fields"),
        S("RFC 5891", "Internationalised Domain Names: Protocol", "yes",
          "with the mapping of UTS #46", "mta.address mta.config.notation"),
        S("RFC 5233", "Sieve: Subaddress Extension", "partial",
          "`user+detail` in tables, sender check and store; the Sieve test in the engine",
          "sieve_ext.extensions.subaddress mta.address mta.store.mailboxes mta.accounts.senderlogin"),
        S("RFC 4291", "IP Version 6 Addressing Architecture", "partial",
          "IPv4-mapped addresses count as IPv4", "mta.net.arrival"),
        S("RFC 5952", "IPv6 Address Text Representation", "yes",
          "in address literals and logs", "mta.address"),
        S("RFC 6761", "Special-Use Domain Names", "partial", "the demonstration uses `.test`", "mta.demo"),
        S("RFC 6186", "SRV Records for Email Services", "no",
          "records for mail programs: [install.md](install.md) shows them; planned: `tamis dns` will"),
    ),
    "Message format": (
        S("RFC 5322", "Internet Message Format", "partial",
          "header fields and addresses are read, leniently; Date and Message-ID are written. Dates are not "
          "read", "sieve_ext.message.message sieve_ext.message.index sieve_ext.message.addresses mta.trace"),
        S("RFC 2045", "MIME Part One: Format of Message Bodies", "partial",
          "read; nothing is converted",
          "sieve_ext.message.mime sieve_ext.message.transfer sieve_ext.message.parameters"),
        S("RFC 2046", "MIME Part Two: Media Types", "partial",
          "the structure is read", "sieve_ext.message.boundary sieve_ext.message.mime"),
        S("RFC 2047", "MIME Part Three: Encoded Words", "yes",
          "read and written", "sieve_ext.message.words sieve_ext.message.field"),
        S("RFC 2049", "MIME Part Five: Conformance", "partial", "reading", "sieve_ext.message.mime"),
        S("RFC 2183", "Content-Disposition", "yes", "", "sieve_ext.message.mime"),
        S("RFC 2231", "MIME Parameter Value and Encoded Word Extensions", "yes",
          "read", "sieve_ext.message.parameters sieve_ext.message.words"),
        S("RFC 6522", "multipart/report", "yes", "in reports to senders", "mta.dsn.render mta.dsn.returned"),
        S("RFC 3462", "multipart/report (2003)", "no", "superseded by RFC 6522"),
        S("RFC 3464", "Format of Delivery Status Notifications", "yes",
          "written; those of others are relayed like all mail",
          "mta.dsn.render mta.dsn.fields mta.dsn.status"),
        S("RFC 8098", "Message Disposition Notification", "no",
          "none are made; users may send with the null sender, which theirs need",
          "mta.accounts.senderlogin"),
        S("RFC 3834", "Automatic Responses", "partial",
          "reports to senders are marked as automatic", "mta.dsn.render"),
    ),
    "Who sent this": (
        S("RFC 7208", "Sender Policy Framework (SPF)", "partial",
          f"pyspf knows the language, what it does otherwise is replaced; {_AUTHN}",
          "mta.authn.spf mta.authn.spfengine"),
        S("RFC 8616", "Email Authentication for Internationalised Mail", "partial",
          f"local parts beyond ASCII in SPF; {_AUTHN}", "mta.authn.spfengine"),
        S("RFC 6376", "DomainKeys Identified Mail (DKIM)", "partial", f"verifying and signing: {_AUTHN}",
          "mta.authn.dkim mta.authn.dkimsign mta.authn.dkimkey"),
        S("RFC 8301", "DKIM: Algorithms and Key Usage", "partial",
          f"no rsa-sha1, no RSA key under 1024 bits; {_AUTHN}", "mta.authn.dkim mta.authn.dkimkey"),
        S("RFC 8463", "DKIM: Ed25519", "partial", _AUTHN, "mta.authn.dkim"),
        S("RFC 9989", "DMARC", "no", "planned"),
        S("RFC 7489", "DMARC (2015)", "no", "planned, as an option"),
        S("RFC 8617", "Authenticated Received Chain (ARC)", "partial", f"validating and sealing: {_AUTHN}",
          "mta.authn.arc mta.authn.arcset mta.authn.arcseal"),
        S("RFC 8601", "Authentication-Results", "partial", f"the results and their properties; {_AUTHN}",
          "mta.authn.results mta.authn.dkim"),
        S("RFC 6008", "Authentication-Results for Differentiating among Signatures", "partial", _AUTHN,
          "mta.authn.dkim"),
        S("RFC 7372", "Status Codes for Email Authentication", "no", "planned"),
        S("RFC 5782", "DNS Blacklists and Whitelists", "no", "planned, as a Sieve test"),
        S("RFC 6647", "Email Greylisting", "no", "planned, as a Sieve test"),
    ),
    "Sieve": (
        S("RFC 5228", "Sieve", "partial", f"with envelope, fileinto and encoded-character; {_ENGINE}",
          "sieve_ext.core.conditional sieve_ext.syntax.lexer sieve_ext.syntax.parser "
          "sieve_ext.core.redirect sieve_ext.extensions.fileinto sieve_ext.extensions.envelope "
          "sieve_ext.extensions.encoded_character"),
        S("RFC 3894", "Sieve: Copying Without Side Effects", "partial", _ENGINE,
          "sieve_ext.extensions.copy"),
        S("RFC 5173", "Sieve: Body", "partial", _ENGINE,
          "sieve_ext.extensions.body"),
        S("RFC 5183", "Sieve: Environment", "partial", _ENGINE,
          "sieve_ext.extensions.environment"),
        S("RFC 5229", "Sieve: Variables", "partial", _ENGINE,
          "sieve_ext.extensions.variables sieve_ext.closures.variables"),
        S("RFC 5230", "Sieve: Vacation", "partial", _ENGINE,
          "sieve_ext.extensions.vacation sieve_ext.outgoing.vacation"),
        S("RFC 5231", "Sieve: Relational Tests", "partial", _ENGINE,
          "sieve_ext.extensions.relational"),
        S("RFC 5232", "Sieve: Imap4flags", "partial", _ENGINE,
          "sieve_ext.extensions.imap4flags"),
        S("RFC 5235", "Sieve: Spamtest and Virustest", "partial", _ENGINE,
          "sieve_ext.extensions.spamtest sieve_ext.extensions.virustest"),
        S("RFC 5260", "Sieve: Date and Index", "partial", _ENGINE,
          "sieve_ext.extensions.date sieve_ext.extensions.index"),
        S("RFC 5293", "Sieve: Editheader", "partial", _ENGINE,
          "sieve_ext.extensions.editheader sieve_ext.message.edits sieve_ext.message.message"),
        S("RFC 5429", "Sieve: Reject and Ereject", "partial", _ENGINE,
          "sieve_ext.extensions.reject sieve_ext.extensions.ereject"),
        S("RFC 5435", "Sieve: Notifications", "partial", _ENGINE,
          "sieve_ext.extensions.enotify"),
        S("RFC 5436", "Sieve: Notifications by mail", "partial", f"mailto is the only method; {_ENGINE}",
          "sieve_ext.extensions.enotify sieve_ext.outgoing.mailto"),
        S("RFC 6068", "The mailto URI", "partial", f"in notifications; {_ENGINE}",
          "sieve_ext.outgoing.mailto"),
        S("RFC 5463", "Sieve: Ihave", "partial", _ENGINE,
          "sieve_ext.extensions.ihave"),
        S("RFC 5490", "Sieve: Mailbox Status and Metadata", "partial", f"asked of the host; {_ENGINE}",
          "sieve_ext.extensions.mailbox sieve_ext.extensions.mboxmetadata "
          "sieve_ext.extensions.servermetadata"),
        S("RFC 5464", "IMAP METADATA", "partial", f"names of annotations; {_ENGINE}",
          "sieve_ext.extensions.mboxmetadata"),
        S("RFC 5703", "Sieve: MIME Part Tests, Iteration, Extraction, Replacement, Enclosure", "partial",
          _ENGINE,
          "sieve_ext.extensions.mime sieve_ext.extensions.foreverypart "
          "sieve_ext.extensions.extracttext sieve_ext.extensions.replace sieve_ext.extensions.enclose"),
        S("RFC 5965", "Abuse Reporting Format", "partial", f"written by vnd.dovecot.report; {_ENGINE}",
          "sieve_ext.extensions.vnd_dovecot_report sieve_ext.outgoing.report"),
        S("RFC 6009", "Sieve: Delivery Status Notifications and Deliver-By", "partial", _ENGINE,
          "sieve_ext.extensions.envelope_dsn sieve_ext.extensions.redirect_dsn "
          "sieve_ext.extensions.envelope_deliverby sieve_ext.extensions.redirect_deliverby"),
        S("RFC 6131", "Sieve: Vacation Seconds", "partial", _ENGINE,
          "sieve_ext.extensions.vacation_seconds"),
        S("RFC 6134", "Sieve: Externally Stored Lists", "partial", _ENGINE,
          "sieve_ext.extensions.extlists"),
        S("RFC 6154", "IMAP LIST: Special-Use Mailboxes", "partial", f"names of the uses; {_ENGINE}",
          "sieve_ext.extensions.special_use"),
        S("RFC 6609", "Sieve: Include", "partial", _ENGINE,
          "sieve_ext.extensions.include"),
        S("RFC 5259", "IMAP CONVERT", "no", "only the parameters that the Sieve command has of it",
          "sieve_ext.extensions.convert"),
        S("RFC 6558", "Sieve: Converting Messages", "partial", f"text only; {_ENGINE}",
          "sieve_ext.extensions.convert"),
        S("RFC 7352", "Sieve: Detecting Duplicate Deliveries", "partial", _ENGINE,
          "sieve_ext.extensions.duplicate"),
        S("RFC 8474", "IMAP: Object Identifiers", "partial", f"what an identifier is; {_ENGINE}",
          "sieve_ext.extensions.mailboxid"),
        S("RFC 8579", "Sieve: Special-Use Mailboxes", "partial", _ENGINE,
          "sieve_ext.extensions.special_use"),
        S("RFC 8580", "Sieve: File Carbon Copy", "partial", _ENGINE,
          "sieve_ext.extensions.fcc"),
        S("RFC 9042", "Sieve: Delivery by MAILBOXID", "partial", _ENGINE,
          "sieve_ext.extensions.mailboxid"),
        S("RFC 4790", "Application Protocol Collation Registry", "partial", f"three comparators; {_ENGINE}",
          "sieve_ext.extensions.comparators sieve_ext.core.comparators"),
        S("RFC 5051", "i;unicode-casemap", "partial", _ENGINE,
          "sieve_ext.extensions.comparators"),
        S("RFC 3501", "IMAP4rev1", "partial", f"names of flags and of INBOX; {_ENGINE}",
          "sieve_ext.extensions.imap4flags sieve_ext.runtime.actions"),
        S("RFC 5804", "ManageSieve", "no", "planned"),
    ),
    "Used in passing": (
        S("RFC 3339", "Date and Time on the Internet", "yes", "HOLDUNTIL", "mta.smtp.parameters"),
        S("RFC 9112", "HTTP/1.1", "partial", "GET and HEAD, for metrics and health", "mta.admin.http"),
        S("RFC 9110", "HTTP Semantics", "partial", "ranges of objects in the queue's stores",
          "mailqueue.store.answers"),
        S("RFC 8878", "Zstandard", "no", "used by way of a library, for what the queue stores"),
        S("RFC 2369", "List header fields", "partial", "mail with them gets no vacation",
          "sieve_ext.outgoing.vacation"),
        S("RFC 2919", "List-Id", "partial", "mail with it gets no vacation", "sieve_ext.outgoing.vacation"),
        S("RFC 9260", "SCTP", "partial", "its CRC-32C, in PROXY headers", "mta.net.proxyproto"),
    ),
}
# fmt: on

INTRODUCTION = """\
# Standards

What Tamis keeps of each document that matters to a mail server. **yes**: what it asks of a server in our
place is done. **partial**: some of it; the note says what is missing. **no**: none of it; *planned* where it
will come ([roadmap.md](roadmap.md)).

This page is written from `mta/standards.py` by `python -m mta.standards`; tests check both against the code.
"""


def standards() -> Iterator[Standard]:
    """All entries in the order of the page."""
    for entries in TABLE.values():
        yield from entries


def page() -> str:
    """The text of `docs/rfcs.md`."""
    counts = {status: sum(entry.status == status for entry in standards()) for status in get_args(Status)}
    lines = [INTRODUCTION, ", ".join(f"{status}: {count}" for status, count in counts.items()) + "."]
    for heading, entries in TABLE.items():
        lines += ["", f"## {heading}", "", "| document | title | status | | where |", "|---|---|---|---|---|"]
        lines += [_row(entry) for entry in entries]
    return "\n".join(lines) + "\n"


def module_path(module: str) -> str:
    """The file of a module of ours, from the root of the source tree."""
    folder = {"mailqueue": "queue", "mailmilter": "milter"}.get(module.partition(".")[0], "")
    path = Path(folder, *module.split("."))
    return str(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


def _row(entry: Standard) -> str:
    name = entry.name
    if name.startswith("RFC "):
        name = f"[{name}](https://www.rfc-editor.org/rfc/rfc{name.removeprefix('RFC ')})"
    status = f"**{entry.status}**" if entry.status != "no" else "no"
    where = ", ".join(f"[{module}](../{module_path(module)})" for module in entry.modules)
    return f"| {name} | {entry.title} | {status} | {entry.note} | {where} |"


def main() -> None:
    """Write the page in the current folder."""
    Path(PAGE).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
