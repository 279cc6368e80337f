"""Queued messages as files: for each `ID.eml`, its octets, and `ID.json`, its envelope and what was tried.

    {"format": 1, "id": ..., "sender": ..., "created": ..., "expires": ..., "priority": 0, "tags": [],
     "recipients": [{"address": ..., "status": "deferred", "due": ..., "attempts": 2, "reply": "451 ...",
                     "last": ..., "notify": null, "original": null, "route": "relay:smart", "sender": ...,
                     "owners": [...]}],
     "envelope": {...}}

Times are seconds since 1970. "envelope" is `mta.spool.record.Record`; members with their default may be
missing. The .json is written last, so that its presence says that both are whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mta.folders import heir, opened_folder, replacing

FORMAT = 1
"""Version of the .json; a reader refuses higher ones."""


class Source(Protocol):
    """Where messages come from (`mta.cli_queue_common.Access`)."""

    def show(self, name: str) -> dict[str, Any]:
        """Everything about a message (`mta.spool.facts.message_facts`)."""

    def octets(self, name: str) -> Iterator[bytes]:
        """Header and body of a message."""


class ExportedRecipient(msgspec.Struct, omit_defaults=True):
    """A recipient in the .json."""

    address: str
    status: str = "queued"
    due: float = 0.0
    """The next try; 0: at once."""
    attempts: int = 0
    reply: str = ""
    last: float = 0.0
    notify: list[str] | None = None
    original: tuple[str, str] | None = None
    route: str = ""
    """The next hop that a policy has chosen, and what is demanded of it; "" for the usual one."""
    sender: str | None = None
    """The sender that its next hop is told, if it is not that of the message."""
    owners: list[str] = []
    """Who reports about it go to, if not to the sender of the message."""


class Exported(msgspec.Struct, omit_defaults=True):
    """The .json."""

    format: int
    sender: str
    recipients: list[ExportedRecipient]
    id: str = ""
    created: float = 0.0
    expires: float = 0.0
    priority: int = 0
    tags: list[str] = []
    envelope: dict[str, Any] = {}


class ExportError(Exception):
    """It could not be written; the text is for the administrator."""


def export(source: Source, name: str, folder: Path) -> None:
    """Write one message. Raises ExportError, and what the source raises."""
    facts = source.show(name)
    if "problem" in facts:
        raise ExportError(f"message {name}: {facts['problem']}")
    name = facts["row"]["id"]
    try:
        document = msgspec.json.format(msgspec.json.encode(exported(facts)), indent=2)
    except KeyError as error:
        raise ExportError(
            f"message {name}: the worker that has it is of an older version and does not tell its {error}:"
            " reload the server first"
        ) from error
    path = folder
    try:
        with opened_folder(folder) as place:
            path = folder / f"{name}.eml"
            _write(place, path, source.octets(name))
            path = folder / f"{name}.json"
            _write(place, path, iter((document, b"\n")))
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from error


def exported(facts: dict[str, Any]) -> Exported:
    """The .json from what is known of a message."""
    row = facts["row"]
    recipients = [
        ExportedRecipient(
            shown["address"],
            shown["status"],
            shown["next_try"] or 0.0,
            more["attempts"],
            shown["reply"],
            more["last"],
            more["notify"],
            None if more["original"] is None else (more["original"][0], more["original"][1]),
            more["route"],
            more["sender"],
            more["owners"],
        )
        for shown, more in zip(row["recipients"], facts["recipients"], strict=True)
    ]
    return Exported(
        FORMAT,
        row["sender"],
        recipients,
        id=row["id"],
        created=row["arrived"],
        expires=facts["expires"],
        priority=facts["priority"],
        tags=facts["tags"],
        envelope=facts["envelope"],
    )


def _write(folder: int, path: Path, chunks: Iterator[bytes]) -> None:
    """Write it whole or not at all, so that the queue may forget it; mail is nobody else's business."""
    with replacing(path, folder=folder, owner=heir(folder)) as file:
        file.writelines(chunks)
