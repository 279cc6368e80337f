"""Rules about programs that look at mail: which listeners they serve, and what contradicts itself.

Pure, as `mta.config.rules`, which calls it.
"""

from __future__ import annotations

from mta.config.filtering import ContentFilter, Milter
from mta.config.locate import KeyPath
from mta.config.problems import Findings, closest
from mta.config.programs import EVERYWHERE
from mta.config.references import check_connect_timeout
from mta.config.schema import Config
from mta.config.units import format_duration


def check_filters(config: Config, findings: Findings) -> None:
    """Note every violated rule in `findings`."""
    for name, milter in config.milters.items():
        _milter(config, ("milters", name), milter, findings)
    for name, content in config.filters.items():
        _content_filter(config, ("filters", name), content, findings)
    for name, scanner in config.scanners.items():
        path: KeyPath = ("scanners", name)
        if scanner.password_file and scanner.kind != "rspamd" and findings.is_sound((*path, "kind")):
            findings.add(
                (*path, "password_file"), f'found "{scanner.password_file}"', 'kind = "rspamd"',
                reason=f"{scanner.kind} has no password",
            )  # fmt: skip
        if scanner.user and scanner.kind == "clamav" and findings.is_sound((*path, "kind")):
            findings.add(
                (*path, "user"), f'found "{scanner.user}"', "no user",
                reason="clamav has no settings of users",
            )  # fmt: skip


def _milter(config: Config, path: KeyPath, milter: Milter, findings: Findings) -> None:
    _listeners(config, path, milter.listeners, findings)
    if milter.default_action == "quarantine" and not config.queue.enabled and findings.is_sound(("queue",)):
        findings.add(
            (*path, "default_action"), 'found "quarantine"', "queue.enabled = true",
            reason="there is nowhere to hold a message",
        )  # fmt: skip
    for key in ("command_timeout", "content_timeout"):
        seconds = getattr(milter, key)
        if seconds > milter.total_timeout and findings.is_sound((*path, key), (*path, "total_timeout")):
            findings.add(
                (*path, key), f'found "{format_duration(seconds)}"',
                f"at most total_timeout ({format_duration(milter.total_timeout)})",
            )  # fmt: skip


def _content_filter(config: Config, path: KeyPath, content: ContentFilter, findings: Findings) -> None:
    _listeners(config, path, content.listeners, findings)
    if not content.addresses and findings.is_sound((*path, "addresses")):
        findings.add((*path, "addresses"), "found an empty list", "at least one address")
    if len(set(content.addresses)) < len(content.addresses):
        findings.add((*path, "addresses"), "found an address twice", "each once")
    check_connect_timeout(config, path, content.connect_timeout, findings)
    where = (*path, "returns_to")
    if not findings.is_sound(where) or not _is_listener(config, where, content.returns_to, findings):
        return
    if content.returns_to in content.listeners:
        findings.add(
            (*path, "listeners", content.listeners.index(content.returns_to)),
            f'found "{content.returns_to}"', "other listeners than returns_to",
            reason="mail would go round and round",
        )  # fmt: skip
    index = [listener.name for listener in config.listener].index(content.returns_to)
    listener = config.listener[index]
    if listener.auth == "required" and findings.is_sound(("listener", index)):
        findings.add(
            where, f'found "{content.returns_to}"', 'a listener without auth = "required"',
            reason="a content filter does not log in",
        )  # fmt: skip
    if listener.greet_delay and findings.is_sound(("listener", index)):
        findings.add(
            where, f'found "{content.returns_to}"', "a listener without greet_delay",
            reason="each message would wait for it twice",
        )  # fmt: skip


def _listeners(config: Config, path: KeyPath, names: tuple[str, ...], findings: Findings) -> None:
    for number, name in enumerate(names):
        where = (*path, "listeners", number)
        if name in names[:number] and findings.is_sound(where):
            findings.add(where, f'found "{name}" again', "each listener once")
        elif name == EVERYWHERE and len(names) > 1 and findings.is_sound(where):
            findings.add(where, 'found "*" beside names', '["*"] alone', reason="it is all of them")
        elif name != EVERYWHERE:
            _is_listener(config, where, name, findings)


def _is_listener(config: Config, path: KeyPath, name: str, findings: Findings) -> bool:
    """Note it unless there is a listener of that name; True where there is."""
    names = [listener.name for listener in config.listener]
    if name in names:
        return True
    if findings.is_sound(path, ("listener",)):
        near = closest(name, names)
        findings.add(
            path, f'found "{name}"', "the name of a listener: " + ", ".join(sorted(set(names))),
            suggestion=f'"{near}"' if near else "",
        )  # fmt: skip
    return False
