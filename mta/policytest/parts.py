"""What `test_decision` may look at: the parts of a decision, as texts."""

from __future__ import annotations

from collections.abc import Callable

from mta.policy.sieve.decision import Decision


def _reply(make: Callable[[Decision], str]) -> Callable[[Decision], list[str]]:
    return lambda decision: [] if decision.reply is None else [make(decision)]


def _one(name: str) -> Callable[[Decision], list[str]]:
    def values(decision: Decision) -> list[str]:
        found = getattr(decision, name)
        return [] if found is None or found == "" or found == 0.0 else [_text(found)]

    return values


def _placed(name: str) -> Callable[[Decision], list[str]]:
    return lambda decision: [str(address) for _, address in getattr(decision, name)]


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _priority(decision: Decision) -> list[str]:
    return [] if decision.priority is None else [str(decision.priority)]


def _expanded(decision: Decision) -> list[str]:
    found = decision.expansion.found if decision.expansion is not None else {}
    return [str(target) for targets in found.values() for target in targets]


def _sender(decision: Decision) -> list[str]:
    return [] if decision.sender is None else [str(decision.sender)]


def _header(decision: Decision) -> list[str]:
    message = decision.message
    return [] if message is None else message.render_header().decode("utf-8", "replace").splitlines()


PARTS: dict[str, Callable[[Decision], list[str]]] = {
    "reply": _reply(lambda decision: f"{_code(decision)} {_enhanced(decision)} {_words(decision)}"),
    "code": _reply(lambda decision: _code(decision)),
    "enhanced": _reply(lambda decision: _enhanced(decision)),
    "text": _reply(lambda decision: _words(decision)),
    "disconnect": _reply(lambda decision: "yes" if decision.reply and decision.reply.close else "no"),
    "place": _reply(lambda decision: decision.reply.cause if decision.reply else ""),
    "delay": _one("delay"),
    "discarded": _one("discarded"),
    "held": _one("held"),
    "header": _header,
    "rewritten": _one("rewritten"),
    "expanded": _expanded,
    "sender": _sender,
    "told_sender": _one("told"),
    "route": _one("route"),
    "added": _placed("added"),
    "copies": _placed("copies"),
    "journal": lambda decision: [str(one) for one in decision.journal],
    "removed": _placed("removed"),
    "priority": _priority,
    "lifetime": _one("lifetime"),
    "retry_after": _one("retry_after"),
    "postponed": _one("postponed"),
    "notify": lambda decision: sorted(decision.notify or ()),
    "return": lambda decision: [] if decision.ret is None else [decision.ret],
    "envid": lambda decision: [] if decision.envid is None else [decision.envid],
    "tags": lambda decision: list(decision.tags),
    "signing": lambda decision: [one.describe() for one in decision.signing],
}
"""By name; a part that the decision does not have has no values."""


def _code(decision: Decision) -> str:
    return "" if decision.reply is None else str(decision.reply.code)


def _enhanced(decision: Decision) -> str:
    return "" if decision.reply is None else decision.reply.enhanced


def _words(decision: Decision) -> str:
    return "" if decision.reply is None else decision.reply.text
