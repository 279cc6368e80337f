"""How programs beside us are written in the configuration: addresses of filters, macros, access actions.

As `mta.config.notation`, on which it builds.
"""

from __future__ import annotations

import re
from typing import Annotated

from mailmilter.endpoint import parse_endpoint
from mta.config.notation import Inet, Notation, Unix, parse_connect, parse_name

EVERYWHERE = "*"
"""In place of the name of a listener: all of them."""

_is_macro = re.compile(r"[A-Za-z_]|\{[A-Za-z_][A-Za-z0-9_]*\}").fullmatch


def parse_filter_address(text: str, folder: str) -> Inet | Unix:
    """An address in the spelling of Postfix (inet:host:port) or in ours (host:port). Raises ValueError."""
    kind, _, rest = text.partition(":")
    if kind == "local":
        return parse_connect(f"unix:{rest}", folder)
    if kind not in ("inet", "inet6"):
        return parse_connect(text, folder)
    try:
        endpoint = parse_endpoint(text)
    except ValueError as error:
        raise ValueError(str(error).partition(": ")[2]) from None
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return parse_connect(f"{host}:{endpoint.port}", folder)


def parse_macro_name(text: str, folder: str) -> str:
    """The name of a macro: one letter, or a word in braces. Raises ValueError."""
    if not _is_macro(text):
        raise ValueError("it is not one letter and no word in braces")
    return text


def parse_listener_name(text: str, folder: str) -> str:
    """The name of a listener, or "*". Raises ValueError."""
    return text if text == EVERYWHERE else parse_name(text, folder)


def parse_access(text: str, folder: str) -> str:
    """An action as policy servers answer it. Raises ValueError."""
    from mailmilter.policy.actions import Kind, parse_action

    if parse_action(text).kind is Kind.UNKNOWN:
        raise ValueError("it is no action, or lacks what belongs to it")
    return text


FilterAddress = Annotated[
    Inet | Unix,
    Notation(
        "address",
        '"unix:PATH", "inet:127.0.0.1:8891" or "inet:[2001:db8::1]:8891"',
        parse_filter_address,
    ),
]
"""Where a filter listens."""

MacroName = Annotated[
    str, Notation("macro", 'the name of a macro such as "j" or "{client_addr}"', parse_macro_name)
]
"""The name of a macro, in braces unless it is one letter."""

ListenerName = Annotated[str, Notation("name", 'the name of a listener, or "*"', parse_listener_name)]
"""The name of a listener, or "*" for all."""

Access = Annotated[
    str, Notation("action", 'an action such as "DUNNO" or "451 4.3.5 try again later"', parse_access)
]
"""An action of Postfix's access(5)."""
