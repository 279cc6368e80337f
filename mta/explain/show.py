"""An explanation for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict

from mta.explain.play import Explanation, Step
from mta.explain.unasked import is_open

PASSED = "goes on"
OPEN = "no message was given: stages data, route and sign, which may say otherwise, were not gone through"


def as_text(explanation: Explanation, *, quiet: bool = False) -> str:
    """Lines for a terminal.

    `quiet` leaves out what scripts did where they came to nothing, unless others would have decided that.
    """
    lines = list(explanation.programs)
    for step in explanation.steps:
        lines += _step(step, quiet=quiet)
    for route in explanation.routes:
        lines.append(f"<{route.recipient}> -> {route.where}" + (f"  [{route.cause}]" if route.cause else ""))
    if explanation.is_open:
        lines.append(OPEN)
    if not explanation.routes and not any(step.reply for step in explanation.steps):
        lines.append(
            "nobody would get it" if explanation.steps[-1].stage == "data" else "no message was given"
        )
    return "\n".join(lines) + "\n"


def _step(step: Step, *, quiet: bool) -> list[str]:
    head = f"{step.stage} {step.about}".rstrip()
    done = step.lines
    if quiet and not step.reply and not step.orders:
        done = [line for line in done if is_open(line[1])]
    width = max((len(place) for place, _ in done), default=0)
    lines = [head, *(f"    {place:<{width}}  {what}" for place, what in done)]
    lines += [f"  = {order}" for order in step.orders]
    if step.reply:
        lines.append(f"  = {step.reply}" + (f"  [{step.cause}]" if step.cause else ""))
    else:
        lines.append(f"  = {PASSED}")
    return lines


def as_json(explanation: Explanation) -> str:
    """One object."""
    return json.dumps(
        {
            "programs": explanation.programs,
            "stages": [asdict(step) for step in explanation.steps],
            "routes": [
                {"recipient": one.recipient, "next_hop": one.where, "cause": one.cause}
                for one in explanation.routes
            ],
            "is_open": explanation.is_open,
        },
        ensure_ascii=False,
        indent=2,
    )
