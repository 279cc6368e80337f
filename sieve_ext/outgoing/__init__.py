"""Mails that a script causes: answers, refusals, notifications, reports. Pure: values in, octets out.

An action that sends mail is a `MailAction`; the host asks it for its mails when it carries the result out:

    origin = Origin(message, envelope, settings, now, "postmaster@example.org", "mx.example.org")
    for mail in action.mails(origin): ...
"""

from sieve_ext.outgoing.action import MailAction
from sieve_ext.outgoing.compose import new_message_id
from sieve_ext.outgoing.mail import Mail, Origin
from sieve_ext.outgoing.sender import source_address

__all__ = ["Mail", "MailAction", "Origin", "new_message_id", "source_address"]
