"""The server session of ManageSieve (RFC 5804): octets in, events out, answers in, octets out. No I/O.

It is driven as an SMTP session is (`mta.net.dialogue.Dialogue`). What only concerns the session it answers
itself; what asks for somebody else's answer is an event: the login and TLS as in SMTP (`mta.smtp.events`),
everything about scripts as a `Request`. While one waits, nothing more is read.

SCRAM's last word of the server travels in the OK (SASL "..."), so the client has nothing to answer to it.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass

from mta.managesieve.answers import Answer, bye, capabilities, no, ok, string, translated
from mta.managesieve.syntax import Command, CommandReader, Mistake, Number, String, Token, Word
from mta.reply import Reply
from mta.scripts.names import parse_script_name
from mta.smtp import events as ev
from mta.smtp.auth import MAX_RESPONSE
from mta.smtp.state import State

NEED_LOGIN = no("log in first")
NEED_TLS = no("STARTTLS comes first", "ENCRYPT-NEEDED")
UNKNOWN = no("there is no such command")
ARGUMENTS = no("these are not the arguments of the command")
TOO_MANY_ERRORS = bye("too many errors")
GOODBYE = bye("goodbye")
IMPLEMENTATION = "Tamis"


@dataclass(slots=True, frozen=True)
class SessionSettings:
    """What a session offers and bears."""

    script_octets: int = 128 * 1024
    """Largest script."""
    starttls: bool = False
    require_tls: bool = False
    max_errors: int = 20
    """Wrong commands after which the session ends."""


@dataclass(slots=True, frozen=True)
class Request:
    """Asks: something about the scripts of the user who has logged in."""

    command: str
    """HAVESPACE, PUTSCRIPT, LISTSCRIPTS, SETACTIVE, GETSCRIPT, DELETESCRIPT, RENAMESCRIPT, CHECKSCRIPT."""
    name: str = ""
    """The script; "" for SETACTIVE puts none into force."""
    other: str = ""
    """Its new name."""
    text: bytes = b""
    size: int = 0


@dataclass(slots=True, frozen=True)
class LoggedOut:
    """Asks: UNAUTHENTICATE; whoever answers forgets the user."""


SessionEvent = (
    ev.StartTls | ev.AuthStart | ev.AuthResponse | ev.AuthCancelled | ev.Closed | Request | LoggedOut
)


class ManageSieveSession:
    """One session, from the greeting on."""

    def __init__(self, settings: SessionSettings, *, tls: bool) -> None:
        """`tls` says that the connection began with it. Call `greet` when `mechanisms` is set."""
        self._settings = settings
        self._tls = tls
        self._reader = CommandReader(MAX_RESPONSE)
        self._out = bytearray()
        self._pending: object = None
        self._event: SessionEvent | None = None
        self._authenticating = False
        self._final = b""
        self._closed = False
        self._told = False
        self.mechanisms: tuple[str, ...] = ()
        """SASL mechanisms that are offered now."""
        self.extensions: tuple[str, ...] = ()
        """What scripts may require here."""
        self.user = ""
        """Who has logged in."""
        self.errors = 0
        """Wrong commands so far."""

    # --- what the connection sees ------------------------------------------------------------------

    @property
    def state(self) -> State:
        """CLOSED, DATA while a script comes in, AUTH in an exchange, or READY."""
        if self._closed:
            return State.CLOSED
        if self._reader.in_literal:
            return State.DATA
        return State.AUTH if self._authenticating else State.READY

    @property
    def message(self) -> object | None:
        """Not None while a script comes in: each of its octets counts as a sign of life."""
        return self._reader if self._reader.in_literal else None

    @property
    def takes_leave(self) -> bool:
        """False: nobody is known to send LOGOUT ahead and to close its side."""
        return False

    @property
    def is_waiting(self) -> bool:
        """True while an event waits for its answer."""
        return self._pending is not None

    @property
    def more(self) -> bool:
        """True: whether another event follows is known when it is asked for."""
        return True

    @property
    def buffered(self) -> int:
        """Octets that wait to be read."""
        return self._reader.buffered

    def receive_data(self, data: bytes) -> None:
        """Octets of the client."""
        if not self._closed:
            self._reader.feed(data)

    def data_to_send(self) -> bytes:
        """Octets for the client."""
        octets = bytes(self._out)
        self._out.clear()
        return octets

    def next_event(self) -> SessionEvent | None:
        """What happens next, None when octets or an answer are missing."""
        while self._pending is None:
            if self._event is not None:
                event, self._event = self._event, None
                return self._ask(event)
            if self._closed:
                if self._told:
                    return None
                self._told = True
                return ev.Closed()
            found = self._reader.next()
            if found is None:
                return None
            answer = self._take(found)
            if isinstance(answer, Answer):
                self.put(answer)
            elif answer is not None:
                return self._ask(answer)
        return None

    def close(self) -> None:
        """Nothing more is read."""
        self._closed = True
        self._told = True
        self._reader.clear()

    def tls_started(self) -> None:
        """TLS stands: nothing counts that came before; tell what is offered now (RFC 5804 section 2.2)."""
        self._reader.clear()
        self._tls = True

    # --- answers -----------------------------------------------------------------------------------

    def greet(self, text: str) -> None:
        """Tell what is offered, as after the connection and after STARTTLS."""
        self._out += capabilities(self._capabilities())
        self.put(ok(text))

    def answer(self, reply: Reply | None = None) -> None:
        """Answer what waits as SMTP would; None is success."""
        pending, self._pending = self._pending, None
        if isinstance(pending, ev.AuthStart | ev.AuthResponse):
            self._authenticating = False
        answer = ok() if reply is None else translated(reply)
        if self._final and answer.kind == "OK":
            answer = ok(code=f'SASL "{b64encode(self._final).decode()}"')
        self._final = b""
        self.put(answer)

    def challenge(self, data: bytes) -> None:
        """The exchange goes on."""
        self._pending = None
        if data.startswith(b"v="):  # RFC 5802: the server's last word, to which an empty response is due
            self._final = data
            self._event = ev.AuthResponse(b"")
            return
        self._out += string(b64encode(data)) + b"\r\n"

    def finish(self, answer: Answer, octets: bytes = b"") -> None:
        """Answer a `Request`, with what stands before the OK."""
        self._pending = None
        self._out += octets
        self.put(answer)

    def logged_in(self, user: str) -> None:
        """Somebody has logged in, or, for "", out."""
        self.user = user
        self._reader.literal_octets = self._settings.script_octets if user else MAX_RESPONSE

    def put(self, answer: Answer) -> None:
        """Write an answer."""
        self._out += answer.encode()
        if answer.close:
            self._closed = True
            self._told = answer.kind != "OK"
            self._reader.clear()

    # --- commands ----------------------------------------------------------------------------------

    def _ask(self, event: SessionEvent) -> SessionEvent:
        if not isinstance(event, ev.AuthCancelled | ev.Closed):
            self._pending = event
        return event

    def _take(self, found: Command | Mistake) -> Answer | SessionEvent | None:
        if self._authenticating:
            return self._respond(found)
        if isinstance(found, Mistake):
            if found.fatal:
                return bye(found.text)
            return self._wrong(no(found.text, "QUOTA/MAXSIZE" if found.too_large and self.user else ""))
        if not found.tokens:
            return self._wrong(no("the line is empty"))
        first, *rest = found.tokens
        if not isinstance(first, Word):
            return self._wrong(no("a command begins with its name"))
        handler = _COMMANDS.get(first.text.upper())
        if handler is None:
            return self._wrong(UNKNOWN)
        kinds, needs_login, method = handler
        if needs_login and not self.user:
            return self._wrong(NEED_LOGIN)
        if not _fit(rest, kinds):
            return self._wrong(ARGUMENTS)
        try:
            answer = method(self, *rest)
        except ValueError as error:
            return self._wrong(no(str(error)))
        return answer

    def _wrong(self, answer: Answer) -> Answer:
        self.errors += 1
        return TOO_MANY_ERRORS if self.errors > self._settings.max_errors else answer

    def _respond(self, found: Command | Mistake) -> Answer | SessionEvent:
        """A response to a challenge: one string in base64, "*" to give up."""
        if isinstance(found, Command) and len(found.tokens) == 1 and isinstance(found.tokens[0], String):
            octets = found.tokens[0].octets
            text = "the client gave up"
            if octets != b"*":
                try:
                    return ev.AuthResponse(b64decode(octets, validate=True))
                except binascii.Error:
                    text = "the response is no base64"
        elif isinstance(found, Mistake) and found.fatal:
            self._authenticating = False
            self._event = ev.AuthCancelled()
            return bye(found.text)
        else:
            text = "a response is one string"
        self._authenticating = False
        self._event = ev.AuthCancelled()
        return self._wrong(no(text))

    def _authenticate(self, mechanism: Token, initial: Token | None = None) -> Answer | SessionEvent:
        assert isinstance(mechanism, String)
        if self.user:
            return self._wrong(no("there is a login already"))
        if self._settings.require_tls and not self._tls:
            return self._wrong(NEED_TLS)
        name = mechanism.octets.decode("ascii", "replace").upper()
        data = None
        if isinstance(initial, String):
            try:
                data = b64decode(initial.octets, validate=True)
            except binascii.Error:
                raise ValueError("the initial response is no base64") from None
        if len(name) > 20 or not name.isprintable():
            raise ValueError("there is no such mechanism")
        self._authenticating = True
        return ev.AuthStart(name, data)

    def _starttls(self) -> Answer | SessionEvent:
        if self._tls:
            return self._wrong(no("there is TLS already"))
        if not self._settings.starttls:
            return self._wrong(no("TLS is not available"))
        if self.user:
            return self._wrong(no("STARTTLS comes before the login"))
        return ev.StartTls()

    def _capability(self) -> Answer:
        self._out += capabilities(self._capabilities())
        return ok()

    def _capabilities(self) -> list[tuple[str, str | None]]:
        no_login = self.user or (self._settings.require_tls and not self._tls)
        pairs: list[tuple[str, str | None]] = [
            ("IMPLEMENTATION", IMPLEMENTATION),
            ("SASL", " ".join(() if no_login else self.mechanisms)),
            ("SIEVE", " ".join(self.extensions)),
        ]
        if "enotify" in self.extensions:
            pairs.append(("NOTIFY", "mailto"))
        if self._settings.starttls and not self._tls:
            pairs.append(("STARTTLS", None))
        if self.user:
            pairs.append(("OWNER", self.user))
        return [*pairs, ("UNAUTHENTICATE", None), ("VERSION", "1.0")]

    def _logout(self) -> Answer:
        return Answer("OK", "goodbye", close=True)

    def _noop(self, tag: Token | None = None) -> Answer:
        if not isinstance(tag, String):
            return ok()
        try:
            text = string(tag.octets).decode()
        except UnicodeDecodeError:
            raise ValueError("the tag is no UTF-8") from None
        return ok("done", f"TAG {text}")

    def _unauthenticate(self) -> SessionEvent:
        return LoggedOut()

    def _havespace(self, name: Token, size: Token) -> SessionEvent:
        assert isinstance(size, Number)
        return Request("HAVESPACE", _name(name), size=size.value)

    def _putscript(self, name: Token, text: Token) -> SessionEvent:
        return Request("PUTSCRIPT", _name(name), text=_octets(text))

    def _checkscript(self, text: Token) -> SessionEvent:
        return Request("CHECKSCRIPT", text=_octets(text))

    def _listscripts(self) -> SessionEvent:
        return Request("LISTSCRIPTS")

    def _setactive(self, name: Token) -> SessionEvent:
        return Request("SETACTIVE", _name(name) if _octets(name) else "")

    def _getscript(self, name: Token) -> SessionEvent:
        return Request("GETSCRIPT", _name(name))

    def _deletescript(self, name: Token) -> SessionEvent:
        return Request("DELETESCRIPT", _name(name))

    def _renamescript(self, old: Token, new: Token) -> SessionEvent:
        return Request("RENAMESCRIPT", _name(old), _name(new))


def _octets(token: Token) -> bytes:
    assert isinstance(token, String)
    return token.octets


def _name(token: Token) -> str:
    return parse_script_name(_octets(token))


def _fit(arguments: list[Token], kinds: str) -> bool:
    """True when the arguments are of these kinds: "s" a string, "n" a number, "o" a string or nothing."""
    needed = len(kinds.rstrip("o"))
    if not needed <= len(arguments) <= len(kinds):
        return False
    return all(
        isinstance(one, Number if kind == "n" else String)
        for one, kind in zip(arguments, kinds, strict=False)
    )


_M = ManageSieveSession
_COMMANDS: dict[str, tuple[str, bool, Callable[..., Answer | SessionEvent]]] = {
    "AUTHENTICATE": ("so", False, _M._authenticate),
    "STARTTLS": ("", False, _M._starttls),
    "LOGOUT": ("", False, _M._logout),
    "CAPABILITY": ("", False, _M._capability),
    "NOOP": ("o", False, _M._noop),
    "UNAUTHENTICATE": ("", True, _M._unauthenticate),
    "HAVESPACE": ("sn", True, _M._havespace),
    "PUTSCRIPT": ("ss", True, _M._putscript),
    "LISTSCRIPTS": ("", True, _M._listscripts),
    "SETACTIVE": ("s", True, _M._setactive),
    "GETSCRIPT": ("s", True, _M._getscript),
    "DELETESCRIPT": ("s", True, _M._deletescript),
    "RENAMESCRIPT": ("ss", True, _M._renamescript),
    "CHECKSCRIPT": ("s", True, _M._checkscript),
}
"""Arguments, whether a login is needed, and what is done."""
