"""What a server offers: its reply to EHLO or LHLO as a table (RFC 5321 section 4.1.1.1, RFC 9422).

Keywords are upper case; the value is the rest of the line, "" when there is none. A keyword that stands
twice keeps both arguments (AUTH is announced in two spellings by old servers). Lines that are no keyword
are left out: a server that says more than we understand is no reason not to deliver.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mta.reply import Reply


def parse_capabilities(reply: Reply) -> dict[str, str]:
    """The keywords after the first line, which is the server's name."""
    offered: dict[str, str] = {}
    for line in reply.text.split("\n")[1:]:
        keyword, _, argument = line.strip().partition(" ")
        keyword, equals, attached = keyword.partition("=")  # "AUTH=LOGIN PLAIN", before RFC 2554
        keyword = keyword.upper()
        if not keyword.replace("-", "").isalnum() or not keyword.isascii():
            continue
        argument = f"{attached} {argument}".strip() if equals else argument.strip()
        before = offered.get(keyword)
        offered[keyword] = f"{before} {argument}".strip() if before else argument
    return offered


def size_limit(offered: Mapping[str, str]) -> int:
    """The greatest message that SIZE announces in octets, 0 when there is no limit (RFC 1870 section 4)."""
    argument = offered.get("SIZE", "")
    return int(argument) if argument.isascii() and argument.isdigit() and len(argument) <= 20 else 0


@dataclass(slots=True, frozen=True)
class Limits:
    """The LIMITS keyword (RFC 9422); 0 where the server names none."""

    mail_max: int = 0
    """Messages in one session."""
    rcpt_max: int = 0
    """Recipients in one transaction."""
    rcpt_domain_max: int = 0
    """Different recipient domains in one session."""


NO_LIMITS = Limits()


def parse_limits(offered: Mapping[str, str]) -> Limits:
    """LIMITS of a server; a value that is not 1 to 6 digits or is zero counts as absent (section 3.2)."""
    argument = offered.get("LIMITS")
    if not argument:
        return NO_LIMITS
    values: dict[str, int] = {}
    for item in argument.split():
        name, _, value = item.partition("=")
        if value.isascii() and value.isdigit() and len(value) <= 6:
            values[name.upper()] = int(value)
    return Limits(values.get("MAILMAX", 0), values.get("RCPTMAX", 0), values.get("RCPTDOMAINMAX", 0))
