"""`:user` and `:detail` in policy files: at each stage, with what separates them in each domain."""

from __future__ import annotations

import pytest

from mta.address import parse_address
from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, Recipient
from mta.policy.ground import DomainRule, Ground, PolicySettings
from mta.policy.recipients import Everybody
from mta.policy.sieve.decision import decide
from mta.policy.sieve.facts import FROM_MAIL, STAGES, Facts, Surroundings
from mta.policy.sieve.policy import script_envelope
from mta.policy.sieve.sandbox import load_sandboxed
from mta.policy.verdict import Tried
from mta.reply import Reply
from sieve_ext.message import Message
from tests.unit.policy_tables import program, ran, session

GROUND = Ground(
    PolicySettings(
        {
            domain: DomainRule(NextHop("backend:a"), Everybody(), delimiters)
            for domain, delimiters in {"plus.test": "+", "both.test": "+-", "none.test": ""}.items()
        },
        parse_address("postmaster@plus.test"),
    )
)
MESSAGE = Message(b"Subject: x\r\n\r\n")


def facts_at(stage: str, recipient: str, sender: str) -> Facts:
    """What is known at a stage."""
    envelope = Envelope(parse_address(sender), [Recipient(parse_address(recipient))])
    return Facts(
        stage, session(), "mx.test", envelope, envelope.recipients[0], MESSAGE,
        Tried(Reply(451, "4.2.0", "busy"), 1, 1.0, "backend:a", b""), GROUND,
    )  # fmt: skip


@pytest.mark.parametrize("stage", [one for one in STAGES if one in FROM_MAIL])
@pytest.mark.parametrize(
    ("recipient", "user", "found"),
    [
        ("ann+lists@plus.test", "ann", "lists"),
        ("ann-lists@plus.test", "ann-lists", None),
        ("ann-lists+x@both.test", "ann", "lists+x"),
        ("ann+lists-x@BOTH.test", "ann", "lists-x"),
        ("owner-ann@both.test", "owner-ann", None),
        ("ann+@plus.test", "ann", ""),
        ("ann+lists@none.test", "ann+lists", None),
        ("ann+lists@far.test", "ann", "lists"),
        ("ann-lists@far.test", "ann-lists", None),
    ],
)
def test_recipient(stage: str, recipient: str, user: str, found: str | None) -> None:
    part = "from" if stage == "mail" else "to"
    tests = [f'envelope :user "{part}" "{user}"']
    if found is None:
        tests.append(f'not envelope :detail :matches "{part}" "*"')
    else:
        tests.append(f'envelope :detail :is "{part}" "{found}"')
    act = "discard;" if stage == "bounce" else 'reply "yes";'
    made = program(f'stage "{stage}" {{ if allof ({", ".join(tests)}) {{ {act} }} }}')
    facts = facts_at(stage, recipient, recipient)
    assert facts.envelope is not None
    seen = script_envelope(facts.session, facts.envelope, facts.recipient)
    decision = decide(ran(made.run(stage, Surroundings(facts), seen, MESSAGE), {}, facts))
    assert decision.discarded if stage == "bounce" else decision.reply is not None


def test_header() -> None:
    made = program(
        'stage "data" { if address :detail "to" "lists" { reply "yes"; } }',
    )
    facts = facts_at("data", "ann@both.test", "a@x.test")
    message = Message(b"To: <ann-lists@both.test>\r\n\r\n")
    assert facts.envelope is not None
    seen = script_envelope(facts.session, facts.envelope, None)
    assert decide(ran(made.run("data", Surroundings(facts), seen, message), {}, facts)).reply is not None


def test_in_scripts_of_users() -> None:
    text = (
        'require ["vnd.tamis.stage", "vnd.tamis.reply", "envelope", "subaddress"];\n'
        'stage "rcpt" { if envelope :detail "to" "spam" { reply "no"; } }'
    )
    made, problems = load_sandboxed("u.sieve", text.encode())
    assert made is not None, problems
    facts = facts_at("rcpt", "ann-spam@both.test", "a@x.test")
    assert facts.envelope is not None
    seen = script_envelope(facts.session, facts.envelope, facts.recipient)
    assert decide(ran(made.run("rcpt", Surroundings(facts), seen), {}, facts)).reply is not None
