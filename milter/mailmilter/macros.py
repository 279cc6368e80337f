"""Macros: which ones go with which stage, and their wire form.

The lists are those that Postfix 3.7 to 3.9 sends by default (milter_connect_macros and the rest). A filter
may replace the list of a stage in the negotiation; a macro without a value is not sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from mailmilter.constants import Command, Stage
from mailmilter.packets import packet, strings

DEFAULT: Mapping[Stage, tuple[str, ...]] = MappingProxyType(
    {
        Stage.CONNECT: ("j", "{daemon_name}", "{daemon_addr}", "v", "_"),
        Stage.HELO: ("{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}"),
        Stage.MAIL: (
            "i",
            "{auth_type}",
            "{auth_authen}",
            "{auth_author}",
            "{mail_addr}",
            "{mail_host}",
            "{mail_mailer}",
        ),
        Stage.RCPT: ("i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"),
        Stage.DATA: ("i",),
        Stage.END_OF_HEADERS: ("i",),
        Stage.END_OF_MESSAGE: ("i",),
    }
)

Values = Mapping[str, str]
"""Macros that have a value, by bare name: `i`, `mail_addr`, without braces."""


def braced(name: str) -> str:
    """The name as it is sent: single letters bare, all others in braces."""
    name = bare(name)
    return name if len(name) == 1 else f"{{{name}}}"


def bare(name: str) -> str:
    """The name without braces."""
    return name[1:-1] if name.startswith("{") and name.endswith("}") else name


@lru_cache(maxsize=256)
def _prepared(names: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
    """Names to look up, and as they are sent: the lists are few, and used for every command."""
    return tuple((bare(name), braced(name).encode()) for name in names)


def encode(command: Command, names: tuple[str, ...], values: Values) -> bytes:
    """The macro packet that goes before `command`; empty when no macro has a value, as with Postfix.

    Text that is not ASCII goes out as UTF-8.
    """
    words: list[bytes] = []
    for name, sent in _prepared(names):
        value = values.get(name)
        if value is not None:
            words += (sent, value.encode("utf-8", "surrogateescape"))
    return packet(Command.MACRO, bytes((command,)) + strings(words)) if words else b""
