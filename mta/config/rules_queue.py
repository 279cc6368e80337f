"""Rules for [queue] and [queue_stores.NAME]. Pure, as `mta.config.rules`, which calls it."""

from __future__ import annotations

from urllib.parse import urlsplit

from mta.config.locate import KeyPath
from mta.config.problems import Findings
from mta.config.references import check_reference
from mta.config.schema import Config
from mta.config.units import format_duration

GOOGLE_TAKEOVER = 5.0
"""Seconds of queue.takeover, at least, in which Google takes as many heartbeats as are sent."""
LEAST_RETRY = 1.0
"""Seconds between two tries: less would be an attack on a next hop that is in trouble."""


def check_queue(config: Config, findings: Findings) -> None:
    """Note every violated rule in `findings`."""
    queue = config.queue
    for index, name in enumerate(queue.stores):
        path: KeyPath = ("queue", "stores", index)
        check_reference(findings, path, name, config.queue_stores, "queue_stores")
        if name in queue.stores[:index] and findings.is_sound(path):
            findings.add(path, f'found "{name}" again', "each store once")
    if queue.copies > len(queue.stores) and findings.is_sound(("queue", "copies"), ("queue", "stores")):
        there = "there is 1 store" if len(queue.stores) == 1 else f"there are {len(queue.stores)} stores"
        findings.add(("queue", "copies"), f"found {queue.copies}", "at most one in each store", reason=there)
    if queue.copies == 1 < len(queue.stores) and findings.is_sound(("queue", "copies")):
        findings.add(
            ("queue", "copies"), "found 1 with several stores", "2 or more",
            reason="mail that one store alone has is lost with it", warning=True,
        )  # fmt: skip
    if not queue.retry and findings.is_sound(("queue", "retry")):
        findings.add(("queue", "retry"), "found an empty list", "at least one duration")
    for index, delay in enumerate(queue.retry):
        where: KeyPath = ("queue", "retry", index)
        if delay < LEAST_RETRY and findings.is_sound(where):
            findings.add(
                where, f'found "{format_duration(delay)}"', f"at least {format_duration(LEAST_RETRY)}"
            )
    if queue.delay_warning >= queue.expire and findings.is_sound(("queue", "delay_warning")):
        findings.add(
            ("queue", "delay_warning"), f'found "{format_duration(queue.delay_warning)}"',
            f"less than queue.expire ({format_duration(queue.expire)})",
        )  # fmt: skip
    google = [name for name in queue.stores if _url(config, name).startswith("gs:")]
    if google and queue.takeover < GOOGLE_TAKEOVER and findings.is_sound(("queue", "takeover")):
        findings.add(
            ("queue", "takeover"), f'found "{format_duration(queue.takeover)}"',
            f"at least {format_duration(GOOGLE_TAKEOVER)}",
            reason=f"five heartbeats fit into it, and in {google[0]} Google takes one a second",
        )  # fmt: skip
    _places(config, findings)
    _stores(config, findings)


def _url(config: Config, name: str) -> str:
    store = config.queue_stores.get(name)
    return store.url if store else ""


def _places(config: Config, findings: Findings) -> None:
    """Two names for one place are one copy, not two."""
    seen: dict[str, str] = {}
    for name in config.queue.stores:
        store = config.queue_stores.get(name)
        if store is None or store.endpoints or not findings.is_sound(("queue_stores", name)):
            continue
        other = seen.setdefault(store.url, name)
        if other != name:
            findings.add(
                ("queue_stores", name, "url"), f'found "{store.url}" again', "a place of its own",
                reason=f"{other} has it",
            )  # fmt: skip


def _stores(config: Config, findings: Findings) -> None:
    for name, store in config.queue_stores.items():
        if store.endpoints and store.url.startswith("file:"):
            findings.add(
                ("queue_stores", name, "endpoints"), "found endpoints", 'an url that begins with "s3://"'
            )
        elif len(store.endpoints) > 1 and not store.url.startswith("s3:"):
            findings.add(
                ("queue_stores", name, "endpoints"), f"found {len(store.endpoints)}",
                'one, or an url that begins with "s3://"',
            )  # fmt: skip
        for index, endpoint in enumerate(store.endpoints):
            if not _is_url(endpoint):
                findings.add(
                    ("queue_stores", name, "endpoints", index), f'found "{endpoint}"',
                    'an URL such as "https://s3.example.net"',
                )  # fmt: skip
            elif endpoint.startswith("http://") and not store.allow_http:
                findings.add(
                    ("queue_stores", name, "endpoints", index), f'found "{endpoint}"',
                    'an URL that begins with "https://", or allow_http = true',
                )  # fmt: skip
        if store.access_key and not store.secret_file:
            findings.add(("queue_stores", name, "secret_file"), "missing", "it, for access_key is set")
        if store.access_key and store.credentials_file:
            findings.add(
                ("queue_stores", name, "access_key"), "found access_key and credentials_file", "one of them"
            )
        elif store.access_key and store.url.startswith("gs:"):
            findings.add(
                ("queue_stores", name, "access_key"), "found access_key",
                "credentials_file, the JSON file of a service account",
            )  # fmt: skip
        elif store.credentials_file and store.url.startswith("az:"):
            findings.add(
                ("queue_stores", name, "credentials_file"), "found credentials_file",
                "access_key (the name of the account) and secret_file (its key)",
            )  # fmt: skip


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            text.isprintable()
            and " " not in text
            and parts.scheme in ("https", "http")
            and bool(parts.hostname)
            and (parts.port or 1) > 0
        )
    except ValueError:
        return False
