"""The ESMTP parameters of MAIL and RCPT, client side: from the envelope to what a next hop understands.

Each function writes only parameters of extensions that the next hop offers and drops the rest. What may
not be dropped (REQUIRETLS, BINARYMIME, UTF-8 local parts, BY in mode R) is the caller's to refuse before.
Values are written exactly by the grammar, so `mta.smtp.parameters` reads them back to the same envelope.

A value that is longer in its encoding than its RFC allows is left out too: ENVID and ORCPT are information.

`offered` holds the EHLO keywords of the next hop in upper case; a mapping from keyword to arguments will do.
"""

from __future__ import annotations

from collections.abc import Collection

from mta.envelope import BINARY_MIME, EIGHT_BIT_MIME, Envelope, Recipient
from mta.smtp.parameters import MAX_AUTH, MAX_ENVID, MAX_ORCPT
from mta.smtp.xtext import encode_utf8_address, encode_xtext

_NOTIFY_ORDER = ("NEVER", "SUCCESS", "FAILURE", "DELAY")


def encode_mail_parameters(envelope: Envelope, offered: Collection[str], *, size: int | None = None) -> str:
    """The parameters of MAIL, each with a blank in front; "" when there are none.

    `size` is the octets that will be sent, None when unknown. Times of BY and HOLDFOR are written as the
    envelope has them: the caller subtracts what has passed.
    """
    out = ""
    if size is not None and "SIZE" in offered:
        out = f" SIZE={size}"
    if envelope.body is EIGHT_BIT_MIME and "8BITMIME" in offered:
        out += " BODY=8BITMIME"
    elif envelope.body is BINARY_MIME and "BINARYMIME" in offered and "CHUNKING" in offered:
        out += " BODY=BINARYMIME"
    if envelope.smtputf8 and "SMTPUTF8" in offered:
        out += " SMTPUTF8"
    if envelope.auth is not None and "AUTH" in offered:
        encoded = encode_xtext(envelope.auth)
        # "<>" says that the submitter is not known, which is all that can be said of one that does not fit.
        out += " AUTH=" + (encoded if len(encoded) <= MAX_AUTH else "<>")
    if "DSN" in offered:
        if envelope.ret is not None:
            out += f" RET={envelope.ret}"
        if envelope.envid is not None:
            encoded = encode_xtext(envelope.envid)
            if len(encoded) <= MAX_ENVID:
                out += f" ENVID={encoded}"
    if envelope.require_tls and "REQUIRETLS" in offered:
        out += " REQUIRETLS"
    by = envelope.deliver_by
    if by is not None and "DELIVERBY" in offered:
        out += f" BY={by.seconds};{by.mode}{'T' if by.trace else ''}"
    if "FUTURERELEASE" in offered:
        if envelope.hold_for is not None:
            out += f" HOLDFOR={envelope.hold_for}"
        elif envelope.hold_until is not None:
            out += f" HOLDUNTIL={envelope.hold_until}"
    if envelope.priority is not None and "MT-PRIORITY" in offered:
        out += f" MT-PRIORITY={envelope.priority}"
    if envelope.prdr and "PRDR" in offered:
        out += " PRDR"
    return out


def encode_rcpt_parameters(recipient: Recipient, offered: Collection[str], *, smtputf8: bool = False) -> str:
    """The parameters of RCPT, each with a blank in front; "" when there are none.

    `smtputf8` says that MAIL of this transaction carries SMTPUTF8: ORCPT may then have UTF-8 in it
    (RFC 6533 section 3).
    """
    if "DSN" not in offered:
        return ""
    out = ""
    if recipient.notify is not None:
        out = " NOTIFY=" + ",".join(word for word in _NOTIFY_ORDER if word in recipient.notify)
    original = recipient.original
    if original is not None:
        if original.address_type == "utf-8":
            encoded = encode_utf8_address(original.address, unitext=smtputf8)
        else:
            encoded = encode_xtext(original.address)
        if len(original.address_type) + 1 + len(encoded) <= MAX_ORCPT:
            out += f" ORCPT={original.address_type};{encoded}"
    return out
