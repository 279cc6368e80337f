"""TLS reports (RFC 8460): the record that asks for them, and the report as JSON.

Pure. The rows come from `mta.reporting.store`, written by `mta.delivery.security.provider`: each has the
policy and, for a failure, its details; the store counts them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from mta.address import Address, AddressError, parse_address

KIND = "tlsrpt"
"""The name of these reports in the store."""
MAX_URIS = 4
"""Places that one report is sent to; the rest of a longer list is passed over."""
MAX_DETAILS = 1000
"""Failure details of one policy, the most frequent first."""
MAX_REPORT = 1024 * 1024
"""Octets of a compressed report; details are left out until it fits."""

Row = tuple[dict[str, Any], int]


@dataclass(slots=True, frozen=True)
class HttpsTarget:
    """A place that reports are posted to."""

    host: str
    port: int
    path: str


@dataclass(slots=True, frozen=True)
class Targets:
    """Where a domain wants its reports."""

    mail: tuple[Address, ...] = ()
    https: tuple[HttpsTarget, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.mail or self.https)


def read_record(texts: Iterable[bytes]) -> Targets:
    """The one record at `_smtp._tls` (section 3); empty for none, several, or nothing usable."""
    records = [
        text for text in texts if text.startswith((b"v=TLSRPTv1;", b"v=TLSRPTv1 ")) or text == b"v=TLSRPTv1"
    ]
    if len(records) != 1:
        return Targets()
    mail: list[Address] = []
    https: list[HttpsTarget] = []
    for field in records[0].decode("ascii", "replace").split(";")[1:]:
        name, equals, value = field.strip(" \t").partition("=")
        if name.strip(" \t").lower() != "rua" or not equals:
            continue
        for uri in value.split(",")[:MAX_URIS]:
            found = _target(uri.strip(" \t"))
            if isinstance(found, Address):
                mail.append(found)
            elif found is not None:
                https.append(found)
        break
    return Targets(tuple(dict.fromkeys(mail)), tuple(dict.fromkeys(https)))


def _target(uri: str) -> Address | HttpsTarget | None:
    scheme, _, rest = uri.partition(":")
    if not uri.isascii() or not uri.isprintable() or " " in uri:
        return None
    if scheme.lower() == "mailto":
        try:
            address = parse_address(unquote(rest.partition("?")[0], errors="strict"))
        except (AddressError, UnicodeDecodeError):
            return None
        return address if address.text.isascii() and address.text.isprintable() else None
    if scheme.lower() != "https":
        return None
    try:
        parts = urlsplit(uri)
        port = parts.port or 443
    except ValueError:
        return None
    if not parts.hostname or parts.username is not None:
        return None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return HttpsTarget(parts.hostname, port, path)


@dataclass(slots=True, frozen=True)
class Submitter:
    """Who reports."""

    organization: str
    contact: str
    domain: str
    """Our domain, for header fields."""
    host: str = ""
    """Which server of the domain it is: each counts its own sessions. "" is the domain itself."""


def report_id(day: str, domain: str, submitter: Submitter) -> str:
    """The same for each try of one report, so that it can be told as one; another on each server.

    With an "@", as the Subject of a report wants it (section 5.3).
    """
    return f"{day}_{domain}_{submitter.host or submitter.domain}@{submitter.domain}"


def make_report(day: str, domain: str, rows: Sequence[Row], submitter: Submitter) -> bytes:
    """The report on `domain` of one UTC day: JSON, compressed, at most `MAX_REPORT` octets."""
    most = MAX_DETAILS
    while True:
        document = _document(day, domain, rows, submitter, most)
        packed = gzip.compress(json.dumps(document, ensure_ascii=True).encode("ascii"), mtime=0)
        if len(packed) <= MAX_REPORT or not most:
            return packed
        most //= 4


def _document(day: str, domain: str, rows: Sequence[Row], submitter: Submitter, most: int) -> dict[str, Any]:
    policies: dict[str, dict[str, Any]] = {}
    for row, count in rows:
        policy = row["policy"]
        key = json.dumps(policy, sort_keys=True)
        entry = policies.setdefault(
            key,
            {
                "policy": policy,
                "summary": {"total-successful-session-count": 0, "total-failure-session-count": 0},
                "failure-details": [],
            },
        )
        summary = entry["summary"]
        if "failure" not in row:
            summary["total-successful-session-count"] += count
            continue
        summary["total-failure-session-count"] += count
        if len(entry["failure-details"]) < most:
            entry["failure-details"].append(_detail(row, count))
    for entry in policies.values():
        if not entry["failure-details"]:
            del entry["failure-details"]
    return {
        "organization-name": submitter.organization,
        "date-range": {"start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"},
        "contact-info": submitter.contact,
        "report-id": report_id(day, domain, submitter),
        "policies": list(policies.values()),
    }


_DETAILS = (
    ("local", "sending-mta-ip"),
    ("mx", "receiving-mx-hostname"),
    ("helo", "receiving-mx-helo"),
    ("ip", "receiving-ip"),
)


def _detail(row: dict[str, Any], count: int) -> dict[str, Any]:
    """Section 4.4; members without a value are left out."""
    detail: dict[str, Any] = {"result-type": row["failure"]}
    detail |= {name: row[key] for key, name in _DETAILS if row.get(key)}
    detail["failed-session-count"] = count
    if row.get("reason"):
        detail["failure-reason-code"] = row["reason"]
    return detail
