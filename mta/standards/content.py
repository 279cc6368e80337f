"""What mail is: addresses, the format of messages, who sent them."""

from __future__ import annotations

from mta.standards.entry import Standard

S = Standard


# One entry, a few lines: a table is read in columns, so the formatter leaves it alone.
# fmt: off
ADDRESSES: tuple[Standard, ...] = (
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
      "`user+detail` in tables, sender check and store; `:user` and `:detail` in policy files, where the "
      "domain says what begins a detail, and in users' scripts, where it is `+`",
      "sieve_ext.extensions.subaddress mta.address mta.store.mailboxes mta.accounts.senderlogin"),
    S("RFC 4291", "IP Version 6 Addressing Architecture", "partial",
      "IPv4-mapped addresses count as IPv4", "mta.net.arrival"),
    S("RFC 5952", "IPv6 Address Text Representation", "yes",
      "in address literals and logs", "mta.address"),
    S("RFC 6761", "Special-Use Domain Names", "partial",
      "a server of such a name is a local one (`checks.mode`); the demonstration uses `.test`",
      "mta.startup.claims mta.demo"),
    S("RFC 6186", "SRV Records for Email Services", "yes",
      "`tamis check` looks at the records of our domains, `tamis dns` writes them",
      "mta.startup.srv"),
    S("RFC 2136", "Dynamic Updates in the DNS", "partial",
      "`tamis dns --update`, with a key (TSIG); without prerequisites", "mta.startup.updating"),
)
FORMAT: tuple[Standard, ...] = (
    S("RFC 5322", "Internet Message Format", "partial",
      "header fields and addresses are read, leniently; Date and Message-ID are written. Dates are "
      "read where a Sieve script tests them, not otherwise on the way",
      "sieve_ext.message.message sieve_ext.message.index sieve_ext.message.addresses mta.trace"),
    S("RFC 2045", "MIME Part One: Format of Message Bodies", "partial",
      "read; binary parts are encoded in base64 (RFC 3030), nothing else is converted on the way",
      "sieve_ext.message.mime sieve_ext.message.transfer sieve_ext.message.parameters mta.textform"),
    S("RFC 2046", "MIME Part Two: Media Types", "partial",
      "the structure is read; reports and what Sieve scripts compose are written",
      "sieve_ext.message.boundary sieve_ext.message.mime sieve_ext.outgoing.compose mta.dsn.render"),
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
    S("RFC 8098", "Message Disposition Notification", "partial",
      "written by the engine for `reject`; none is sent, for the embedded store refuses instead. Users may "
      "send with the null sender, which theirs need", "sieve_ext.outgoing.reject mta.accounts.senderlogin"),
    S("RFC 3834", "Automatic Responses", "partial",
      "reports to senders and what users' scripts answer are marked as automatic; `vacation` answers no "
      "automatic mail", "mta.dsn.render sieve_ext.outgoing.vacation"),
)
SENDERS: tuple[Standard, ...] = (
    S("RFC 7208", "Sender Policy Framework (SPF)", "yes",
      "pyspf knows the language, what it does otherwise is replaced",
      "mta.authn.spf mta.authn.spfengine"),
    S("RFC 8616", "Email Authentication for Internationalised Mail", "partial",
      "local parts beyond ASCII in SPF; `i=` of signatures, compared with `d=` in A-labels",
      "mta.authn.spfengine mta.authn.dkimsignature"),
    S("RFC 6376", "DomainKeys Identified Mail (DKIM)", "yes", "verifying and signing",
      "mta.authn.dkim mta.authn.dkimsign mta.authn.dkimkey"),
    S("RFC 8301", "DKIM: Algorithms and Key Usage", "yes",
      "no rsa-sha1, no RSA key under 1024 bits", "mta.authn.dkim mta.authn.dkimkey"),
    S("RFC 8463", "DKIM: Ed25519", "yes", "beside RSA, or alone", "mta.authn.dkim"),
    S("RFC 9989", "DMARC", "yes", "the base policy does what the domain asks for",
      "mta.authn.dmarc mta.authn.dmarcwalk mta.authn.dmarcrecord mta.authn.dmarcauthor"),
    S("RFC 9990", "DMARC Aggregate Reporting", "yes", "sent; received ones are mail like any other",
      "mta.reporting.dmarc mta.reporting.dmarcreporter"),
    S("RFC 7489", "DMARC (2015)", "partial",
      "its public suffixes and `pct`, as an option; reports are those of RFC 9990",
      "mta.authn.dmarc mta.authn.dmarcwalk"),
    S("RFC 8617", "Authenticated Received Chain (ARC)", "yes", "validating, and sealing what is passed on",
      "mta.authn.arc mta.authn.arcset mta.authn.arcseal"),
    S("RFC 8601", "Authentication-Results", "yes",
      "written, and removed where others use our name",
      "mta.authn.authresults mta.authn.results mta.authn.dkim mta.authn.iprev"),
    S("RFC 6008", "Authentication-Results for Differentiating among Signatures", "yes", "header.b",
      "mta.authn.dkim"),
    S("RFC 7372", "Status Codes for Email Authentication", "no",
      "a policy may use them in its replies; the base policy says 5.7.1"),
    S("RFC 5782", "DNS Blacklists and Whitelists", "yes",
      "lists of addresses and of domains are asked, by the test `dnsbl` of policy files",
      "mta.policy.sieve.dnsnet"),
    S("RFC 6647", "Email Greylisting", "yes", "the word `greylist` of policy files; not by itself",
      "mta.policy.sieve.greylist"),
)
IN_PASSING: tuple[Standard, ...] = (
    S("RFC 3339", "Date and Time on the Internet", "yes", "HOLDUNTIL", "mta.smtp.parameters"),
    S("RFC 9112", "HTTP/1.1", "partial",
      "GET and HEAD, for metrics and health; one request over TLS, for policies and reports; GET, for "
      "tables", "mta.admin.http mta.net.https mta.net.httpwire mta.tables.web"),
    S("RFC 9110", "HTTP Semantics", "partial", "ranges of objects in the queue's stores",
      "mailqueue.store.answers"),
    S("RFC 8878", "Zstandard", "no", "used by way of a library, for what the queue stores"),
    S("RFC 2369", "List header fields", "partial", "mail with them gets no vacation",
      "sieve_ext.outgoing.vacation"),
    S("RFC 2919", "List-Id", "partial", "mail with it gets no vacation", "sieve_ext.outgoing.vacation"),
    S("RFC 9260", "SCTP", "partial", "its CRC-32C, in PROXY headers", "mta.net.proxyproto"),
)
# fmt: on
