"""What tests of extensions about delivery share: scripts with a host, and the mails of a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sieve_ext import (
    Dialect,
    Envelope,
    MappingStore,
    Message,
    Result,
    Settings,
    all_capabilities,
    check,
    execute,
)
from sieve_ext import compile as load
from sieve_ext.outgoing import Mail, MailAction, Origin
from sieve_ext.runtime.requests import Request

ALL = Dialect(all_capabilities())
ENVELOPE = Envelope("sirius@example.org", "nico@frop.example.org")
MESSAGE = b"""From: Stephan Bosch <sirius@example.org>
To: Nico <nico@frop.example.org>, other@example.net
Subject: Frop!
Message-ID: <a@b>
References: <x@y>

body
""".replace(b"\n", b"\r\n")

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


class Answers:
    """A host that answers by functions, and remembers what it was asked."""

    def __init__(self, by_class: Mapping[type[Request], Callable[[Any], Any]] | None = None) -> None:
        self.by_class = by_class or {}
        self.asked: list[Request] = []

    def answer(self, request: Request) -> Any:
        self.asked.append(request)
        known = self.by_class.get(type(request))
        return request.unanswered() if known is None else known(request)


def requiring(names: str, script: str) -> str:
    """A script with a `require` of the names, which are separated by blanks."""
    listed = ", ".join(f'"{name}"' for name in names.split())
    return f"require [{listed}];\n{script}"


def outcome(
    names: str,
    script: str,
    *,
    message: bytes = MESSAGE,
    envelope: Envelope = ENVELOPE,
    host: Answers | None = None,
    settings: Mapping[str, str] | None = None,
    scripts: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """What became of a script; `scripts` are personal ones that it may include, "global/..." global ones."""
    values = Settings(settings or {})
    found: dict[tuple[str, str], bytes] = {}
    for name, text in (scripts or {}).items():
        location, _, rest = name.rpartition("/")
        found[location or "personal", rest] = text.encode()
    compiled = load(requiring(names, script), ALL, settings=values, store=MappingStore(found))
    return execute(compiled, message, envelope, host, settings=values, environment=environment, now=NOW)


def holds(names: str, test: str, **more: Any) -> bool:
    """Whether a test holds, in a script that runs without error."""
    result = outcome(names, f"if {test} {{ discard; }}", **more)
    assert not result.errors, result.errors
    return [one.name for one in result.actions] == ["discard"]


def complaints(names: str, script: str, **more: Any) -> list[str]:
    """What is wrong with a script, as "line:column severity text"; its first line is the second of all."""
    values = Settings(more.get("settings") or {})
    return [
        f"{one.line - 1}:{one.column} {one.severity.value} {one.text}"
        for one in check(requiring(names, script), ALL, settings=values)
    ]


def origin_of(
    message: bytes = MESSAGE, envelope: Envelope = ENVELOPE, settings: Mapping[str, str] | None = None
) -> Origin:
    """What a host says when it carries a result out."""
    return Origin(
        Message(message),
        envelope,
        Settings(settings or {}),
        NOW,
        "Postmaster <postmaster@example.com>",
        "mx.example.com",
        names={"message-id": "<id@mx>", "boundary": "=_b"},
    )


def only_action(result: Result) -> MailAction:
    """The one action of a result, which sends mail."""
    assert not result.errors, result.errors
    (action,) = result.actions
    assert isinstance(action, MailAction)
    return action


def only_mail(action: MailAction, origin: Origin) -> tuple[Mail, Message]:
    """The one mail of an action, also read back."""
    (mail,) = action.mails(origin)
    assert b"\n" not in mail.octets.replace(b"\r\n", b"")
    return mail, Message(mail.octets)
