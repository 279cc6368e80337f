"""Hands a message to the server of this machine: one session over loopback, one answer, one exit status.

The server answers when the message is delivered or safe in its queue. Exit statuses are those of sysexits.h,
by which callers decide whether to try again: 75 when that may help, all others when it does not.
"""

from __future__ import annotations

import contextlib
import os
import re
import smtplib
import socket
import ssl
from dataclasses import dataclass

from mta import config
from mta.address import Address, AddressError
from mta.sendmail_message import Outgoing
from mta.sendmail_wait import Patience
from mta.smtp.xtext import encode_xtext

EX_OK, EX_USAGE, EX_DATAERR, EX_NOUSER = 0, 64, 65, 67
EX_UNAVAILABLE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 69, 75, 77, 78

TIMEOUT = 600.0
"""Seconds for one reply; the server's own deadline is far below it (RFC 5321 section 4.5.3.2.6)."""
CONNECT_TIMEOUT = 10.0
"""Seconds until it is clear that the server does not run."""

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3}) ")


@dataclass(slots=True, frozen=True)
class Wishes:
    """What is asked for beside sender and recipients; where the server does not offer it, it is left out."""

    envid: str = ""
    ret: str = ""
    notify: tuple[str, ...] = ()
    body: str = ""


@dataclass(slots=True, frozen=True)
class Result:
    """How it ended."""

    status: int
    problems: tuple[str, ...] = ()
    """Lines for standard error."""
    answer: str = ""
    """What the server said when it took the message."""


def submit(
    where: config.Inet | config.Unix,
    needs_tls: bool,
    helo: str,
    sender: Address,
    message: Outgoing,
    wishes: Wishes,
    patience: Patience,
) -> Result:
    """Send it. Nothing is sent unless all temporary refusals are out of the way: a retry makes no copies.

    More recipients than the server takes in one transaction are named in several, a connection for each, for
    none is ended before all of them have been named.
    """
    with contextlib.ExitStack() as clients:
        transactions: list[_Transaction] = []
        try:
            left = message.recipients
            while left:
                client = smtplib.SMTP(local_hostname=helo, timeout=TIMEOUT)
                clients.enter_context(contextlib.closing(client))
                client.sock = connect(where, patience)
                if refusal := _begin(client, needs_tls, sender, message, wishes):
                    return refusal
                transaction, left = _name_recipients(client, left, wishes)
                transactions.append(transaction)
        except AddressError:
            return Result(
                EX_UNAVAILABLE, ("the server takes no addresses outside of ASCII: SMTPUTF8 is off",)
            )
        except (OSError, smtplib.SMTPException) as error:
            return _broken(error, where)
        return _send(transactions, where, message)


@dataclass(slots=True, frozen=True)
class _Transaction:
    """One whose recipients have been named."""

    client: smtplib.SMTP
    has_recipients: bool
    refused: tuple[tuple[int, Result], ...]
    """The code and the outcome for each recipient that is not among them."""


def _begin(
    client: smtplib.SMTP,
    needs_tls: bool,
    sender: Address,
    message: Outgoing,
    wishes: Wishes,
) -> Result | None:
    """Everything up to MAIL; what the server has against it."""
    code, text = client.getreply()
    if code != 220:
        return _refused(code, text, "the server turns us away")
    client.ehlo_or_helo_if_needed()
    if needs_tls:
        # Over loopback: who could be in between is root here.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client.starttls(context=context)
        client.ehlo()
    code, text = client.mail(_shown(sender, client), _mail_options(client, sender, message, wishes))
    return None if code == 250 else _refused(code, text, f"sender {sender.text or '<>'}")


def _name_recipients(
    client: smtplib.SMTP, recipients: tuple[Address, ...], wishes: Wishes
) -> tuple[_Transaction, tuple[Address, ...]]:
    """RCPT for as many as the server takes in one transaction, and those that are for another one."""
    options = _rcpt_options(client, wishes)
    refused: list[tuple[int, Result]] = []
    for number, recipient in enumerate(recipients):
        code, text = client.rcpt(_shown(recipient, client), options)
        has_recipients = number > len(refused)
        if code == 452 and text.startswith(b"4.5.3 ") and has_recipients:
            return _Transaction(client, True, tuple(refused)), recipients[number:]
        if code not in (250, 251):
            refused.append((code, _refused(code, text, recipient.text)))
    return _Transaction(client, len(recipients) > len(refused), tuple(refused)), ()


def _send(transactions: list[_Transaction], where: config.Inet | config.Unix, message: Outgoing) -> Result:
    """DATA in all of them, unless somebody's refusal is a temporary one."""
    refused = [each for transaction in transactions for each in transaction.refused]
    problems = [problem for _, result in refused for problem in result.problems]
    status = refused[0][1].status if refused else EX_OK
    answers: list[str] = []
    ready = [transaction for transaction in transactions if transaction.has_recipients]
    if any(code // 100 == 4 for code, _ in refused):
        status = EX_TEMPFAIL
        ready.clear()
    for transaction in ready:
        result = _data(transaction.client, where, message)
        problems += result.problems
        if result.status == EX_OK:
            answers.append(result.answer)
        elif result.status != EX_TEMPFAIL:
            status = result.status
        elif answers:
            # Some have it: a retry would bring them a copy.
            status = EX_UNAVAILABLE
            problems.append("other recipients have the message: do not send it to all of them again")
        else:
            status = EX_TEMPFAIL
            break
    for transaction in transactions:
        with contextlib.suppress(OSError, smtplib.SMTPException):  # all is said by then
            transaction.client.docmd("QUIT")
    return Result(status, tuple(problems), "\n".join(answers))


def _data(client: smtplib.SMTP, where: config.Inet | config.Unix, message: Outgoing) -> Result:
    try:
        code, text = client.data(message.octets)
    except (OSError, smtplib.SMTPException) as error:
        return _broken(error, where)
    return Result(EX_OK, answer=_decoded(text)) if code == 250 else _refused(code, text, "the message")


def _broken(error: Exception, where: config.Inet | config.Unix) -> Result:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error if isinstance(error.smtp_error, bytes) else str(error.smtp_error).encode()
        return _refused(error.smtp_code, text, "the server refuses")
    return Result(EX_TEMPFAIL, (_away(error, where),))


def connect(where: config.Inet | config.Unix, patience: Patience) -> socket.socket:
    """A connection to the server, which may come back meanwhile. Raises OSError."""
    while True:
        try:
            return _connect(where)
        except (ConnectionRefusedError, FileNotFoundError) as error:
            if not patience.lasts(_away(error, where)):
                raise


def _away(error: Exception, where: config.Inet | config.Unix) -> str:
    return f"the server at {where} does not answer: {_text(error)}"


def _connect(where: config.Inet | config.Unix) -> socket.socket:
    if isinstance(where, config.Unix):
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(CONNECT_TIMEOUT)
            sock.connect(where.path)
        except OSError:
            sock.close()
            raise
    else:
        sock = socket.create_connection((where.host, where.port), CONNECT_TIMEOUT)
    sock.settimeout(TIMEOUT)
    return sock


def _mail_options(client: smtplib.SMTP, sender: Address, message: Outgoing, wishes: Wishes) -> list[str]:
    options = []
    if client.has_extn("size"):
        options.append(f"SIZE={len(message.octets)}")
    if client.has_extn("8bitmime") and (wishes.body or message.has_8bit):
        options.append(f"BODY={'8BITMIME' if message.has_8bit else wishes.body}")
    is_utf8 = message.utf8_header or any(a.is_utf8 for a in (sender, *message.recipients))
    if is_utf8 and client.has_extn("smtputf8"):
        client.command_encoding = "utf-8"
        options.append("SMTPUTF8")
    if client.has_extn("dsn"):
        if wishes.ret:
            options.append(f"RET={wishes.ret}")
        if wishes.envid:
            options.append(f"ENVID={encode_xtext(wishes.envid)}")
    return options


def _rcpt_options(client: smtplib.SMTP, wishes: Wishes) -> list[str]:
    return [f"NOTIFY={','.join(wishes.notify)}"] if wishes.notify and client.has_extn("dsn") else []


def _shown(address: Address, client: smtplib.SMTP) -> str:
    """The address as it is sent: where the server takes no UTF-8, with the domain in A-labels."""
    if address.is_utf8 and not client.has_extn("smtputf8"):
        return address.to_ascii().text
    return address.text


def _refused(code: int, text: bytes, what: str) -> Result:
    reply = f"{code} {_decoded(text)}"
    return Result(status_of(code, _decoded(text)), (f"{what}: {reply}",))


def status_of(code: int, text: str) -> int:
    """The exit status for a refusal (sysexits.h)."""
    if code // 100 != 5:
        return EX_TEMPFAIL
    match = _ENHANCED.match(text)
    enhanced = match[1] if match else ""
    if enhanced.startswith("5.1.") or (not enhanced and code in (550, 551, 553)):
        return EX_NOUSER
    if enhanced.startswith("5.7."):
        return EX_NOPERM
    if enhanced.startswith("5.6."):
        return EX_DATAERR
    return EX_UNAVAILABLE


def _decoded(text: bytes) -> str:
    shown = text.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in shown)


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
