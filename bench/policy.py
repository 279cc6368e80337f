"""What policy in Sieve costs: Tamis with scripts beside Tamis with fewer.

`policy_overhead` is the processor time of a message with the base policy, conf/policy.sieve, over that with
an empty one; `policy_throughput` are the messages a second of both. `policy_everything` is the first of these
with all that the file only suggests switched on. `policy_rules` is the cost of 1,000 rules about the header
in front of the base policy, in times of the base policy alone, `policy_table` that of a table of 1,000,000
keys that is asked three times.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial
from pathlib import Path

from bench import workplace
from bench.command import Options, run
from bench.cpu import cost
from bench.figures import Figure
from bench.load import Load, rate, warm_rate
from bench.rounds import in_turns, middle
from bench.side_by_side import wait_until_idle
from bench.sink import sink
from bench.tamis import tamis

EXAMPLE = Path(__file__).parents[1] / "conf" / "policy.sieve"
LOAD = Load(4096, 20)
RULES = 1000
KEYS = 1_000_000
EMPTY = 'require "vnd.tamis.stage";\nstage "connect" { }\n'
ASKED = """require ["vnd.tamis.stage", "vnd.tamis.reply", "envelope", "extlists"];
stage "mail" { if envelope :list "from" "table:blocked" { defer; } }
stage "rcpt" { if envelope :list "to" "table:blocked" { defer; } }
stage "data" { if address :list "from" "table:blocked" { defer; } }
"""


def everything() -> str:
    """conf/policy.sieve with all that it only suggests."""
    text, require, rules = EXAMPLE.read_text(encoding="utf-8").partition("\nrequire ")
    return text + require + re.sub(r"^#(?! \S)", "", rules, flags=re.MULTILINE)


def many_rules() -> str:
    """Rules that are all looked at, none of which is met."""
    rules = "".join(
        f'if header :contains "subject" "offer {number}" {{ reply "no"; }}\n' for number in range(RULES)
    )
    return f'require ["vnd.tamis.stage", "vnd.tamis.reply"];\nstage "data" {{\n{rules}}}\n'


def measure(options: Options) -> list[Figure]:
    """Measure all policies, each in turns with none."""
    base = EXAMPLE.read_text(encoding="utf-8")
    figures = _measure("policy_overhead", "base", base, EMPTY, 1, options)
    if not options.quick:
        figures += _measure("policy_everything", "base", everything(), EMPTY, 1, options)[:1]
        figures += _measure("policy_rules", "scripts", many_rules(), "", 1, options)[:1]
        figures += _measure("policy_table", "scripts", ASKED, "", KEYS, options)[:1]
    return figures


def _measure(name: str, key: str, script: str, other: str, keys: int, options: Options) -> list[Figure]:
    """Measure `script` as [policy] `key` beside `other`, "" for none."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(workplace.folder(options.folder))
        (place / "policy.sieve").write_text(script)
        (place / "other.sieve").write_text(other)
        (place / "blocked").write_text("".join(f"nobody{number}@example.net\n" for number in range(keys)))
        (place / "aliases").write_text("nobody@example.net somebody@example.net\n")
        tables = "".join(f'[tables.{one}]\nfile = "{place}/{one}"\n' for one in ("blocked", "aliases"))
        named = f'"{place}/policy.sieve"' if key == "base" else f'["{place}/policy.sieve"]'
        more = f"[policy]\n{key} = {named}\n{tables}"
        less = f'[policy]\n{key} = "{place}/other.sieve"\n' if other else ""
        first, second = (stack.enter_context(sink(name)) for name in ("with", "without"))
        systems = (
            stack.enter_context(tamis(place / "with", first, more)),
            stack.enter_context(tamis(place / "without", second, less)),
        )
        for system in systems:
            wait_until_idle(system)
        count = LOAD.count(min(warm_rate(system, LOAD) for system in systems), options.seconds)
        ours, theirs = systems
        costs = in_turns(partial(cost, ours, LOAD, count), partial(cost, theirs, LOAD, count), options.rounds)
        rates = in_turns(partial(rate, ours, LOAD, count), partial(rate, theirs, LOAD, count), options.rounds)
    return [
        Figure(name, middle(costs).quotient, "times"),
        Figure.of_rounds(f"{name}_cpu", costs, "us"),
        Figure.of_rounds("policy_throughput", rates, "messages/s", rate=True),
    ]


measure.peer = "none"  # type: ignore[attr-defined]

if __name__ == "__main__":
    run("policy", measure)
