"""What a callback knows of the session, and what it may ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mailmilter.constants import CHUNK, Action, Command, Response
from mailmilter.message import Field
from mailmilter.negotiation import Agreement
from mailmilter.packets import packet, strings
from mailmilter.requests import Client

_SESSION = frozenset({Command.CONNECT, Command.HELO})


class NotNegotiated(RuntimeError):
    """The edit is none that MTA and filter agreed on; `Milter.actions` limits it, or the MTA cannot do it."""


@dataclass(slots=True)
class Context:
    """One SMTP session as its filter sees it; each session has its own, and its own `Milter` object.

    Edits may be asked for at any time in a message; they go out, in order, at its end. They are dropped when
    the message is aborted or refused.
    """

    agreement: Agreement
    client: Client | None = None
    helo: str = ""
    sender: bytes = b""
    """Without brackets; empty for the null sender."""
    sender_parameters: tuple[bytes, ...] = ()
    recipients: list[bytes] = field(default_factory=list)
    """Those that neither this filter nor the MTA has refused."""
    fields: list[Field] = field(default_factory=list)
    """The header fields so far, when the filter hears of headers."""
    stage_macros: dict[int, dict[str, str]] = field(default_factory=dict)
    """Macros by the command that they came with, by name without braces."""
    edits: list[bytes] = field(default_factory=list)
    """Packets that wait for the end of the message."""
    write: Callable[[bytes], None] = field(default=lambda _data: None, repr=False)

    def macro(self, name: str, default: str = "") -> str:
        """A macro by its name, with or without braces; the latest stage that has it counts."""
        name = name.strip("{}")
        for values in reversed(self.stage_macros.values()):
            if name in values:
                return values[name]
        return default

    def header(self, name: str) -> str | None:
        """The first field of that name, unfolded and without outer blanks; None when there is none."""
        wanted = name.lower().encode()
        for one in self.fields:
            if one.name.lower() == wanted:
                return one.value.replace(b"\r\n", b"").decode("utf-8", "replace").strip()
        return None

    def progress(self) -> None:
        """Tell the MTA that the answer takes longer; ask for it before its time-out ends."""
        self.write(packet(Response.PROGRESS))

    def add_header(self, name: str, value: str) -> None:
        """Append a header; fold with "\\n" and a blank. Raises NotNegotiated."""
        self._edit(Action.ADD_HEADERS, Response.ADD_HEADER, strings(self._header(name, value)))

    def insert_header(self, index: int, name: str, value: str) -> None:
        """Insert a header: 0 on top, 1 below the MTA's own "Received:". Raises NotNegotiated, ValueError."""
        words = _index(index) + strings(self._header(name, value))
        self._edit(Action.ADD_HEADERS, Response.INSERT_HEADER, words)

    def change_header(self, name: str, value: str, index: int = 1) -> None:
        """Replace the `index`-th (from 1) header of that name. Raises NotNegotiated, ValueError."""
        words = _index(index) + strings(self._header(name, value))
        self._edit(Action.CHANGE_HEADERS, Response.CHANGE_HEADER, words)

    def delete_header(self, name: str, index: int = 1) -> None:
        """Delete the `index`-th (from 1) header of that name. Raises NotNegotiated, ValueError."""
        words = _index(index) + strings((name.encode(), b""))
        self._edit(Action.CHANGE_HEADERS, Response.CHANGE_HEADER, words)

    def add_recipient(self, address: bytes, parameters: bytes = b"") -> None:
        """Add a recipient, with ESMTP parameters as one string. Raises NotNegotiated."""
        if parameters:
            words = strings((b"<" + address + b">", parameters))
            self._edit(Action.ADD_RECIPIENTS_PARAMETERS, Response.ADD_RECIPIENT_PARAMETERS, words)
        else:
            words = strings((b"<" + address + b">",))
            self._edit(Action.ADD_RECIPIENTS, Response.ADD_RECIPIENT, words)

    def delete_recipient(self, address: bytes) -> None:
        """Remove a recipient. Raises NotNegotiated."""
        self._edit(Action.DELETE_RECIPIENTS, Response.DELETE_RECIPIENT, strings((b"<" + address + b">",)))

    def change_sender(self, address: bytes, parameters: bytes = b"") -> None:
        """Replace the envelope sender. Raises NotNegotiated."""
        words = strings((b"<" + address + b">", *((parameters,) if parameters else ())))
        self._edit(Action.CHANGE_SENDER, Response.CHANGE_SENDER, words)

    def replace_body(self, body: bytes) -> None:
        """Replace the body, CRLF line ends; may be called several times in a row. Raises NotNegotiated."""
        for start in range(0, max(len(body), 1), CHUNK):
            self._edit(Action.CHANGE_BODY, Response.REPLACE_BODY, body[start : start + CHUNK])

    def quarantine(self, reason: str) -> None:
        """Have the MTA hold the message. Raises NotNegotiated."""
        self._edit(Action.QUARANTINE, Response.QUARANTINE, strings((reason.encode(),)))

    def set_macros(self, command: int, values: dict[str, str]) -> None:
        """The macros that go with a command; called by the server."""
        self.stage_macros.pop(command, None)
        self.stage_macros[command] = values

    def end_message(self) -> None:
        """Forget the message; called by the server."""
        for command in [one for one in self.stage_macros if one not in _SESSION]:
            del self.stage_macros[command]
        self.begin_message(b"", ())

    def begin_message(self, sender: bytes, parameters: tuple[bytes, ...]) -> None:
        """MAIL, also where the MTA has not told of the end of the message before; called by the server."""
        self.sender = sender
        self.sender_parameters = parameters
        self.recipients = []
        self.fields = []
        self.edits = []

    def _header(self, name: str, value: str) -> tuple[bytes, bytes]:
        return name.encode(), value.encode("utf-8", "surrogateescape")

    def _edit(self, needed: Action, code: Response, data: bytes) -> None:
        if not self.agreement.actions & needed:
            raise NotNegotiated(f"{needed.name} was not negotiated")
        self.edits.append(packet(code, data))


def _index(index: int) -> bytes:
    if not 0 <= index < 0x80000000:
        raise ValueError(f"header index {index}")
    return index.to_bytes(4, "big")
