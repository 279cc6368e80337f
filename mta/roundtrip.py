"""One message through each port of a server with the embedded store, found again in the mailboxes.

What `make demo` tells a newcomer to do, done by a program: mail from outside, submission with STARTTLS, with
TLS from the first octet, an unknown recipient, an attempt to relay. A message that was answered 250 must be
in its mailbox at once, for that is the promise.

Failure: `RoundTripError`, whose text says which step it was.
"""

from __future__ import annotations

import secrets
import smtplib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from mta.store import readable, reader

TIMEOUT = 30.0
"""Seconds for an answer."""
OUTSIDER = "you@example.org"


class RoundTripError(Exception):
    """A step did not do what it should."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Site:
    """A server on this machine and what is needed to use it."""

    ports: tuple[int, int, int]
    """SMTP, submission, submission with implicit TLS."""
    authority: Path
    """The certificate to trust, PEM."""
    mail: Path
    """The folder of the mailboxes."""
    user: str
    password: str
    other: str
    """A second user, in the same domain."""


def round_trip(site: Site) -> None:
    """Go through all steps; prints a line for each. Raises RoundTripError."""
    token = secrets.token_hex(8)
    trust = ssl.create_default_context(cafile=str(site.authority))
    smtp, submission, submissions = site.ports

    def plain() -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", smtp, timeout=TIMEOUT)

    def starttls() -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", submission, timeout=TIMEOUT)
        client.starttls(context=trust)
        client.login(site.user, site.password)
        return client

    def implicit() -> smtplib.SMTP:
        client = smtplib.SMTP_SSL("127.0.0.1", submissions, timeout=TIMEOUT, context=trust)
        client.login(site.user, site.password)
        return client

    ways: list[tuple[str, int, Callable[[], smtplib.SMTP], str, str]] = [
        ("SMTP", smtp, plain, OUTSIDER, site.user),
        ("submission with STARTTLS", submission, starttls, site.user, site.other),
        ("submission with TLS", submissions, implicit, site.user, site.other),
    ]
    for name, port, connect, sender, recipient in ways:
        subject = f"demo {token} {port}"
        begun = time.monotonic()
        try:
            with connect() as client:
                client.send_message(_message(sender, recipient, subject))
        except (OSError, smtplib.SMTPException) as error:
            raise RoundTripError(f"{name} on port {port}: {error}") from error
        print(f"sent      {name}, port {port}: answered after {(time.monotonic() - begun) * 1000:.0f} ms")
        _find(site.mail, sender, recipient, subject)
    domain = site.user.rpartition("@")[2]
    for refused in (f"nobody-{token}@{domain}", "somebody@example.org"):
        _expect_refusal(plain, refused)


def _message(sender: str, recipient: str, subject: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = subject
    message.set_content("Grüße from the demonstration.\n")
    return message


def _find(mail: Path, sender: str, recipient: str, subject: str) -> None:
    """The message must be there: it was answered 250."""
    try:
        messages = reader.messages(reader.mailbox(mail, recipient))
    except reader.NoMailbox:
        messages = []
    for stored in messages:
        message = reader.read(stored)
        if message.text("subject") == subject:
            trace = (message.text("return-path"), message.text("delivered-to"), message.count("received"))
            if trace != (f"<{sender}>", recipient, 1):
                raise RoundTripError(f"Return-Path, Delivered-To and Received of {stored.path} are {trace}")
            text, _ = readable.body(message)
            print(f"stored    {recipient}: {text.strip()!r} in {stored.path.name}")
            return
    raise RoundTripError(f'"{subject}" was accepted but is not in the mailbox of {recipient}')


def _expect_refusal(connect: Callable[[], smtplib.SMTP], recipient: str) -> None:
    try:
        with connect() as client:
            client.ehlo()
            client.mail(OUTSIDER)
            code, text = client.rcpt(recipient)
    except (OSError, smtplib.SMTPException) as error:
        raise RoundTripError(f"{recipient}: {error}") from error
    if code != 550:
        raise RoundTripError(f"{recipient} was answered {code}, expected 550")
    print(f"refused   {recipient}: {code} {text.decode('utf-8', 'replace')}")
