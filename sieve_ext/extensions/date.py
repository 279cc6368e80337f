"""date (RFC 5260 sections 4 and 5): the tests date and currentdate. Status: complete.

Of several fields of the name the first counts, unless :index says otherwise, as in Pigeonhole. A date stands
behind the last ";" of the value, so that Received can be tested. Without :zone or :originalzone dates are
compared in the zone of the host. A part or a zone that is none is warned of; nothing matches such a part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING

from sieve_ext.extend import (
    MATCHING,
    STRING,
    Capability,
    Checker,
    Compiler,
    Run,
    Step,
    Test,
    header_name,
    string,
    strings,
    suggest,
    tag,
)

if TYPE_CHECKING:
    from sieve_ext.message import Field

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

DATE_CHARACTERS = 256
"""What may stand behind the last ";"; with comments a date has hardly a hundred."""

ZONES = {
    "ut": 0, "utc": 0, "gmt": 0, "z": 0,
    "est": -300, "edt": -240, "cst": -360, "cdt": -300, "mst": -420, "mdt": -360, "pst": -480, "pdt": -420,
}  # fmt: skip
"""Minutes east of Greenwich of the zones with names (RFC 5322 section 4.3); others are taken as +0000."""

_comment = re.compile(r"\([^()]*\)")
_date = re.compile(
    r"\s*(?:[A-Za-z]+\s*[,.]?\s*)?(\d{1,2})[\s-]+([A-Za-z]{3})[A-Za-z]*\.?[\s-]+(\d{2,4})\s+"
    r"(\d{1,2})\s*:\s*(\d{1,2})(?:\s*:\s*(\d{1,2}))?(?:\s*([+-]\d{4})|\s+\"?([A-Za-z]+))?"
).match
_zone = re.compile(r"([+-])(\d\d)(\d\d)").fullmatch


def read_date(text: str) -> datetime | None:
    """The date-time of a field (RFC 5322 sections 3.3 and 4.3), with its zone; None if there is none."""
    text = text.rpartition(";")[2][:DATE_CHARACTERS]
    while "(" in text and (shorter := _comment.sub(" ", text)) != text:
        text = shorter
    match = _date(text)
    if match is None:
        return None
    day, month, year, hour, minute, second, offset, name = match.groups()
    if month.lower() not in MONTHS:
        return None
    number = int(year)
    if len(year) < 4:  # RFC 5322 section 4.3
        number += 2000 if len(year) == 2 and number < 50 else 1900
    minutes = _offset(offset) if offset else ZONES.get((name or "").lower(), 0)
    try:
        return datetime(
            number,
            MONTHS.index(month.lower()) + 1,
            int(day),
            int(hour),
            int(minute),
            min(int(second or 0), 59) if int(second or 0) < 61 else 99,
            tzinfo=timezone(timedelta(minutes=minutes or 0)),
        )
    except ValueError:
        return None


def _offset(text: str) -> int | None:
    match = _zone(text)
    if match is None or int(match[2]) > 23 or int(match[3]) > 59:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    return -minutes if match[1] == "-" else minutes


def zone_warning(text: str) -> str | None:
    """What is wrong with the argument of :zone."""
    return None if _offset(text) is not None else f"specified :zone argument '{text}' is not a valid timezone"


def written_zone(moment: datetime, separator: str = "") -> str:
    """The zone of a time as "+hhmm"."""
    minutes = int((moment.utcoffset() or timedelta()).total_seconds()) // 60
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    return f"{sign}{minutes // 60:02d}{separator}{minutes % 60:02d}"


PARTS: dict[str, Callable[[datetime], str]] = {
    "year": lambda at: f"{at.year:04d}",
    "month": lambda at: f"{at.month:02d}",
    "day": lambda at: f"{at.day:02d}",
    "date": lambda at: f"{at.year:04d}-{at.month:02d}-{at.day:02d}",
    "julian": lambda at: str((at.date() - date(1858, 11, 17)).days),
    "hour": lambda at: f"{at.hour:02d}",
    "minute": lambda at: f"{at.minute:02d}",
    "second": lambda at: f"{at.second:02d}",
    "time": lambda at: f"{at.hour:02d}:{at.minute:02d}:{at.second:02d}",
    "iso8601": lambda at: (
        at.replace(tzinfo=None, microsecond=0).isoformat()
        + (written_zone(at, ":") if at.utcoffset() else "Z")
    ),
    "std11": lambda at: (
        f"{DAYS[at.weekday()]}, {at.day:02d} {MONTHS[at.month - 1].capitalize()} {at.year:04d}"
        f" {at.hour:02d}:{at.minute:02d}:{at.second:02d} {written_zone(at)}"
    ),
    "zone": written_zone,
    "weekday": lambda at: str(at.isoweekday() % 7),
}
"""Date parts (section 4.2), by lower-case name."""

FIXED = ("year", "month", "day", "date", "hour", "minute", "second", "time", "weekday")
"""Parts that have one form only."""
EXAMPLE = datetime(2026, 1, 5, 8, 0, 0)


def _form(text: str) -> str:
    return re.sub(r"[0-9]", "0", text)


class _DateWord(Test):
    """What date and currentdate have in common."""

    orders_text = True

    def check(self, checker: Checker) -> None:
        """The part is one."""
        part = checker.constant(self.given["date-part"])
        if part is not None and part.lower() not in PARTS:
            checker.warn(
                self.given["date-part"], "unknown-part",
                f"specified date part '{part}' is not known", suggest(part, PARTS),
            )  # fmt: skip
        elif part is not None and part.lower() in FIXED:
            self._check_keys(part.lower(), checker)

    def _check_keys(self, part: str, checker: Checker) -> None:
        """The keys have the form of the part: "8" comes behind "18" in the order of texts."""
        match_type, comparator = self.tags.get("match-type"), self.text("comparator")
        if match_type is not None and match_type.tag not in (":is", ":value"):
            return
        if comparator is not None and comparator.value not in ("i;octet", "i;ascii-casemap"):
            return
        example = PARTS[part](EXAMPLE)
        for text in checker.constants(self.given["keys"]):
            if _form(text.value) != _form(example):
                checker.warn(
                    text,
                    "odd-date",
                    f"'{text.value}' is compared as text with date part '{part}',"
                    f" which has the form '{example}'",
                )

    def reader(self, compiler: Compiler) -> Callable[[Run, Sequence[datetime]], list[str]]:
        """A function that gives the part of moments, in the zone asked for."""
        part = compiler.text(self.given["date-part"])
        given = self.tags.get("zone")
        keeps_zone = given is not None and given.tag == ":originalzone"
        zone = compiler.text(given.value) if given is not None and given.value is not None else None

        def read(run: Run, moments: Sequence[datetime]) -> list[str]:
            of = PARTS.get(part.expand(run).lower())
            if of is None:
                return []
            wanted: tzinfo | None = None
            if zone is not None:
                wanted = timezone(timedelta(minutes=_offset(zone.expand(run)) or 0))
            found: list[str] = []
            for moment in moments:
                try:
                    found.append(of(moment if keeps_zone else moment.astimezone(wanted)))
                except (OverflowError, ValueError, OSError):  # at the ends of the calendar
                    continue
            return found

        return read


class DateTest(_DateWord):
    """date [:zone <zone> | :originalzone] [COMPARATOR] [MATCH-TYPE] <header> <date-part> <keys>."""

    word = "date"
    args_definition = (
        tag("zone", ":zone", value=STRING, warn=zone_warning),
        tag("zone", ":originalzone"),
        *MATCHING,
        string("header-name", warn=header_name),
        string("date-part"),
        strings("keys"),
    )

    def compile(self, compiler: Compiler) -> Step:
        """Compare a part of the date of the field."""
        name = compiler.text(self.given["header-name"])
        find = compiler.fields(self)
        read = self.reader(compiler)

        def values(run: Run) -> list[str]:
            fields: list[Field] = find(run, name.expand(run).lower())
            found = read_date(fields[0].text) if fields else None
            return [] if found is None else read(run, [found])

        return compiler.match(self, values)


class CurrentDateTest(_DateWord):
    """currentdate [:zone <zone>] [COMPARATOR] [MATCH-TYPE] <date-part> <keys>."""

    word = "currentdate"
    args_definition = (
        tag("zone", ":zone", value=STRING, warn=zone_warning),
        *MATCHING,
        string("date-part"),
        strings("keys"),
    )

    def compile(self, compiler: Compiler) -> Step:
        """Compare a part of the time of the run."""
        read = self.reader(compiler)
        return compiler.match(self, lambda run: read(run, [run.now]))


CAPABILITIES = (
    Capability("date", words=(DateTest, CurrentDateTest), specification="RFC 5260 sections 4 and 5"),
)
