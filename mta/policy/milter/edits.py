"""The message as milters edit it: from our message and envelope to theirs, and from their edits to orders.

Milters see the message as the policy has left it so far, without the trace field that we put on top
(`mailmilter.message` explains positions). A new body goes to a buffer that leaves memory as any message does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mailmilter.message import Field, split_fields
from mailmilter.message import Message as Edited
from mailmilter.values import AddRecipient, ChangeSender, DeleteRecipient, Edit
from mta.address import NULL, Address, AddressError, parse_address
from mta.content import MessageBuffer, SpillError
from mta.envelope import Envelope, Recipient, joint_notify
from mta.policy.milter.macros import octets
from mta.smtp.parameters import apply_mail_parameters, apply_rcpt_parameters
from mta.smtp.syntax import Parameters, SyntaxProblem, split_parameters
from sieve_ext.message import Message

OWN = Field(b"Received", b" from the client by us", own=True)
"""Stands for the trace field that we put on top: filters do not see it, insertions count it."""
DSN = frozenset(("DSN", "SMTPUTF8"))
"""Extensions whose parameters a milter may give with an address."""
NO_REPORTS = frozenset(("NEVER",))


class EditError(ValueError):
    """A milter asked for something that cannot be done; the message must not go on without it."""


class BodyBuffer:
    """Where a new body is kept (`mailmilter.message.BodyStore`)."""

    def __init__(self, spill_directory: str | None) -> None:
        """`spill_directory` as for `MessageBuffer`."""
        self._buffer = MessageBuffer(spill_directory)

    def write(self, piece: bytes, /) -> None:
        """Take the next piece. Raises OSError."""
        try:
            self._buffer.append(piece)
        except SpillError as error:
            raise OSError(str(error)) from error

    def chunks(self) -> Iterable[bytes]:
        """All pieces."""
        return self._buffer.chunks()


@dataclass(slots=True)
class Changes:
    """What milters have made of a message."""

    message: Message | None = None
    """The message as edited; None when it is as it was."""
    above: bytes = b""
    """Header fields that stand above our trace field."""
    new_body: bool = False
    sender: Address | None = None
    ret: str | None = None
    envid: str | None = None
    added: list[Recipient] = field(default_factory=list)
    removed: list[Recipient] = field(default_factory=list)


def shown_to_milters(
    message: Message,
    recipients: Sequence[Recipient],
    above: bytes,
    missing: bytes,
    shown: Field | None = None,
) -> Edited:
    """The message as milters see it; `above` and `missing` are fields before and behind all others.

    `shown` is a field of ours below the trace field, which is there only for them to see.
    """
    own = [OWN] if shown is None else [OWN, shown]
    fields = [*split_fields(above), *own, *split_fields(message.render_header()), *split_fields(missing)]

    def body() -> Iterator[bytes]:
        try:
            yield from message.body_chunks()
        except SpillError as error:
            raise OSError(5, str(error)) from error

    return Edited(fields, body, recipients=[AddRecipient(octets(one.address)) for one in recipients])


def changes_of(
    edits: Sequence[Edit],
    edited: Edited,
    fields: Sequence[Field],
    message: Message,
    recipients: Sequence[Recipient],
    given: Sequence[str],
    hostname: str,
) -> Changes:
    """What `edits` have made of `message`: `edited` after them, `fields` as received. Raises EditError.

    `given` are the addresses of `recipients` as milters heard of them, before policy has rewritten them.
    """
    changes = Changes()
    if edited.fields != fields or edited.body_replaced:
        own = edited.fields.index(OWN)
        changes.above = b"".join([one.render() for one in edited.fields[:own]])
        changes.new_body = edited.body_replaced
        changes.message = _rebuilt(edited.fields[own + 1 :], edited, message)
    gone: set[bytes] = set()
    back: set[bytes] = set()
    for edit in edits:
        if isinstance(edit, DeleteRecipient):
            gone.add(_key(edit.address))
            back.discard(_key(edit.address))
        elif isinstance(edit, AddRecipient):
            gone.discard(_key(edit.address))
            back.add(_key(edit.address))
    for one, name in zip(recipients, given, strict=True):
        names = {_key(octets(one.address)), _key(name.encode("utf-8", "surrogateescape"))}
        if names & gone and not names & back:
            changes.removed.append(one)
    known = {_key(octets(one.address)) for one in recipients}
    for wanted in edited.recipients:
        if _key(wanted.address) not in known:
            notify = joint_notify(changes.removed) if changes.removed else NO_REPORTS
            changes.added.append(_recipient(wanted, notify, hostname))
    for edit in edits:
        if isinstance(edit, ChangeSender):
            _change_sender(changes, edit, hostname)
    return changes


def _rebuilt(fields: Sequence[Field], edited: Edited, message: Message) -> Message:
    head = b"".join([one.render() for one in fields]) + b"\r\n"
    if edited.body_replaced:
        body = edited.body
        size, is_8bit = 0, not head.isascii()
        for piece in body():
            size += len(piece)
            is_8bit = is_8bit or not piece.isascii()
    else:
        body, size = message.body_chunks, message.body_size
        is_8bit = message.has_8bit or not head.isascii()

    def chunks() -> Iterator[bytes]:
        yield head
        yield from body()

    if not size:
        return Message(head, has_8bit=is_8bit)
    return Message(head, len(head) + size, chunks, has_8bit=is_8bit)


def _recipient(wanted: AddRecipient, notify: frozenset[str] | None, hostname: str) -> Recipient:
    """A recipient that a milter adds. One in another's place is reported on to the sender as that one."""
    recipient = Recipient(_address(wanted.address, hostname), notify)
    parameters = _parameters(wanted.parameters)
    if parameters:
        try:
            apply_rcpt_parameters(recipient, parameters, DSN)
        except SyntaxProblem as problem:
            raise EditError(f"parameters of a recipient: {problem.reply}") from problem
    return recipient


def _change_sender(changes: Changes, edit: ChangeSender, hostname: str) -> None:
    changes.sender = _address(edit.address, hostname) if edit.address else NULL
    parameters = _parameters(edit.parameters)
    if not parameters:
        return
    scratch = Envelope(changes.sender)
    try:
        apply_mail_parameters(scratch, parameters, DSN)
    except SyntaxProblem as problem:
        raise EditError(f"parameters of the sender: {problem.reply}") from problem
    changes.ret, changes.envid = scratch.ret, scratch.envid


def _address(text: bytes, hostname: str) -> Address:
    written = text.decode("utf-8", "surrogateescape")
    if "@" not in written:
        written = f"{written}@{hostname}"
    try:
        return parse_address(written)
    except AddressError as error:
        raise EditError(f"an address that cannot be used: {error}") from error


def _parameters(text: bytes) -> Parameters:
    try:
        return split_parameters(text.decode("ascii")) if text else []
    except (SyntaxProblem, UnicodeDecodeError) as error:
        raise EditError("ESMTP parameters that cannot be read") from error


def _key(address: bytes) -> bytes:
    local, at, domain = address.rpartition(b"@")
    return local + at + domain.lower()
