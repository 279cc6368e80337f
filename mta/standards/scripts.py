"""Sieve and what its extensions refer to."""

from __future__ import annotations

from mta.standards.entry import Standard

S = Standard

_ENGINE = "in the engine; the server runs policies in it, no scripts of users"

# One entry, a few lines: a table is read in columns, so the formatter leaves it alone.
# fmt: off
SIEVE: tuple[Standard, ...] = (
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
    S("RFC 5804", "ManageSieve", "partial",
      "all commands; names of more than 240 octets are refused; no SASL security layers, no referrals",
      "mta.managesieve.syntax mta.managesieve.session mta.managesieve.desk mta.scripts.store"),
)
# fmt: on
