"""What a script asks of whoever delivers a redirected message (RFC 6009), as parameters of MAIL and RCPT."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BY_MOST = 999_999_999
"""Seconds that BY= can say, before now and after (RFC 2852 section 4)."""


@dataclass(slots=True, frozen=True)
class Wishes:
    """Parameters, each beside the keyword of EHLO without which it is not said."""

    mail: tuple[tuple[str, str], ...] = ()
    rcpt: tuple[tuple[str, str], ...] = ()


NONE = Wishes()


def wishes_of(options: Mapping[str, Any], now: datetime.datetime) -> Wishes:
    """Those of a `redirect`, by the options of its action (`sieve_ext.extensions.redirect_dsn` and
    `redirect_deliverby`).

    BY= must be more than zero with mode "return": a time that is over is said as one second there, so that it
    is the server that returns the message.
    """
    mail: list[tuple[str, str]] = []
    if "ret" in options:
        mail.append(("dsn", f"RET={options['ret']}"))
    seconds = options.get("bytimerelative")
    if "bytimeabsolute" in options:
        seconds = math.floor((options["bytimeabsolute"] - now).total_seconds())
    if seconds is not None:
        mode = "R" if options.get("bymode") == "return" else "N"
        least = 1 if mode == "R" else -BY_MOST
        trace = "T" if options.get("bytrace") else ""
        mail.append(("deliverby", f"BY={min(max(seconds, least), BY_MOST)};{mode}{trace}"))
    rcpt = (("dsn", f"NOTIFY={','.join(options['notify'])}"),) if "notify" in options else ()
    return Wishes(tuple(mail), rcpt)
