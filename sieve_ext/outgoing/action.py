"""What actions that send mail have in common."""

from __future__ import annotations

from sieve_ext.outgoing.mail import Mail, Origin
from sieve_ext.runtime.actions import Action


class MailAction(Action):
    """An action that sends mail.

    The host first asks `withheld`; then, where the action has `reply_key`, whether that was answered lately;
    then sends `mails`, and puts a copy of the first into the mailbox `options["fcc"]` if that is there.
    """

    def withheld(self, origin: Origin) -> str | None:
        """Why nothing is to be sent, for the log; None if it is."""
        return None

    def reply_key(self, origin: Origin) -> tuple[bytes, int] | None:
        """What identifies an answer that is only to be given once, with the seconds for which that holds.

        None for mail that is sent every time. The host keeps the keys of each user apart.
        """
        return None

    def mails(self, origin: Origin) -> list[Mail]:
        """The mails, none where there is nobody to send to."""
        raise NotImplementedError(self.name)
