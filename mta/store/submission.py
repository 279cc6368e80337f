"""Mail that users' scripts send, given to the mail server: it signs it, queues it and reports about it.

Blocks for `TIMEOUT` and the server's deadline at the most in each step; runs in the store's threads. Who
gave up before the deadline would keep mail that is delivered at its end, and miss that it can be queued.
"""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from contextlib import closing, suppress

from mta.net.limits import Networks
from mta.store.wishes import NONE, Wishes

TIMEOUT = 10.0
"""Seconds for each answer of the server, beyond its deadline: the client of the message waits for ours. It
listens long enough: the server is the same, and has the same deadline."""


class NotSent(Exception):
    """The server did not take a mail; the text is for the log."""


class Submission:
    """Gives mail to the server at an address of this machine."""

    def __init__(
        self, address: str, hostname: str, deadline: float = 0.0, trusted: Sequence[str] = ()
    ) -> None:
        """`address` is "host:port", "" when there is no server that takes mail.

        `deadline` is in seconds: so long the server may try to deliver before it answers. `trusted` are the
        networks that it trusts: where the address is not in them, we come from the loopback all the same, not
        from the address itself.
        """
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), port
        self._source: tuple[str, int] | None = None
        if trusted and not Networks(trusted).contain_text(self._host):
            self._source = ("::1" if ":" in self._host else "127.0.0.1", 0)
        self._hostname = hostname
        self._timeout = deadline + TIMEOUT

    def send(self, sender: str, recipients: Sequence[str], octets: bytes, wishes: Wishes = NONE) -> None:
        """Send one mail to all recipients, or raise NotSent. What the server does not offer is not asked."""
        if not self._host:
            raise NotSent("no listener takes mail from this machine")
        try:
            with closing(
                smtplib.SMTP(self._host, int(self._port), self._hostname, self._timeout, self._source)
            ) as client:
                client.ehlo_or_helo_if_needed()
                mail = [said for keyword, said in wishes.mail if client.has_extn(keyword)]
                rcpt = [said for keyword, said in wishes.rcpt if client.has_extn(keyword)]
                if not octets.isascii() and client.has_extn("8bitmime"):
                    mail.append("BODY=8BITMIME")
                if not "".join((sender, *recipients)).isascii() and client.has_extn("smtputf8"):
                    mail.append("SMTPUTF8")
                refused = client.sendmail(sender, list(recipients), octets, mail, rcpt)
                with suppress(OSError, smtplib.SMTPException):  # it has the mail, whatever it says now
                    client.quit()
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise NotSent(str(error)) from error
        if refused:
            raise NotSent(", ".join(f"{name}: {code} {text!r}" for name, (code, text) in refused.items()))
