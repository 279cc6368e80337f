"""What policy scripts cost: nothing where there are none; and what a random script comes to."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

from hypothesis import given
from hypothesis import strategies as st

from mta import config
from mta.accounts.usersfile import UsersFile
from mta.daemon_policy import build_policy
from mta.policy.ground import Ground
from mta.policy.sieve.facts import Facts, Surroundings
from mta.policy.sieve.policy import SievePolicy, script_envelope
from sieve_ext.message import Message
from tests.unit.policy_tables import MESSAGE, decision, program, ran, session


def test_without_scripts_the_base_policy_stands_alone() -> None:
    made = build_policy(config.parse(""), {}, _never, None, lambda text: None)
    assert isinstance(made, SievePolicy)
    assert isinstance(made.inner, Ground)


def _never() -> UsersFile:
    raise AssertionError("nobody asks for the users file")


def test_tools_that_do_not_serve_load_no_word() -> None:
    code = (
        "import sys, mta.daemon, mta.config; mta.config.parse('');"
        "wanted = ('mta.policy.sieve', 'sieve_ext.extensions.e');"
        "print([name for name in sys.modules if name.startswith(wanted)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_stage_that_no_file_has_does_no_work() -> None:
    made = program('stage "rcpt" { defer; }')
    assert not made.has("data")
    facts = Facts("data", session(), "mx.test")
    running = made.run("data", {}, script_envelope(session(), None, None), Message(MESSAGE))
    assert ran(running, {}, facts).actions == []


def test_a_thousand_rules_take_milliseconds() -> None:
    rules = "".join(
        f'if header :contains "subject" "offer {number}" {{ reply "no"; }}\n' for number in range(1000)
    )
    made = program(f'stage "data" {{ {rules} }}')
    facts = Facts("data", session(), "mx.test", message=Message(MESSAGE))
    best = 1.0
    for _ in range(5):
        started = perf_counter()
        running = made.run(
            "data", Surroundings(facts), script_envelope(session(), None, None), Message(MESSAGE)
        )
        outcome = ran(running, {}, facts)
        best = min(best, perf_counter() - started)
        assert not outcome.fault
    assert best < 0.03  # 1 to 3 ms on an idle machine


COMMANDS = {
    'reply "p{}";': 5,
    "defer;": 4,
    'reply :tempfail "t{}";': 4,
    "tarpit 1;": 0,
    'rewrite_recipient "n@x.test";': 0,
    "disconnect;": 1,
    'if ip_in "::1" {{ reply "never"; }}': 0,
}


@given(st.lists(st.sampled_from(sorted(COMMANDS)), max_size=8), st.booleans())
def test_precedence_holds_for_any_order(commands: list[str], ends: bool) -> None:
    text = " ".join(command.format(number) for number, command in enumerate(commands))
    found = decision(f'stage "rcpt" {{ {text} {"accept;" if ends else ""} }}', "rcpt")
    kinds = [COMMANDS[command] for command in commands]
    wanted = 5 if 5 in kinds else 4 if 4 in kinds or 1 in kinds else 0
    assert (0 if found.reply is None else found.reply.code // 100) == wanted
    assert found.delay == commands.count("tarpit 1;")
    if found.reply is not None:
        assert found.reply.close is (1 in kinds)
        firsts = [number for number, kind in enumerate(kinds) if kind == 5]
        if firsts:
            assert found.reply.text == f"p{firsts[0]}"
