"""Scripts that nobody would write: loading and running them never raises."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.address import parse_address
from mta.envelope import Envelope, Recipient
from mta.policy.sieve.decision import decide
from mta.policy.sieve.dialect import policy_dialect
from mta.policy.sieve.facts import STAGES, Facts, Surroundings
from mta.policy.sieve.policy import script_envelope
from mta.policy.sieve.program import load, settings_for
from sieve_ext.message import Message
from tests.unit.policy_tables import REQUIRE, ROUTES, TABLES, ran, session

WORDS = sorted({*policy_dialect().commands, *policy_dialect().tests})
PARTS = ':to :code :tempfail :is :list :matches { } ( ) [ ] , ; "5" 3 "a@x.test" "${env.helo}" "relay:out"'
TOKENS = st.sampled_from([*WORDS, *(f'"{stage}"' for stage in STAGES), *PARTS.split(), "\n"])
COMMANDS = st.sampled_from(
    [
        'reply "${1}";', "defer;", "disconnect;", "tarpit 2;", "stop;", "accept;", "discard;", "hold;",
        'set "a" "${env.remote_ip}";', 'set "a" "${a}${a}b c";', 'rewrite_recipient "${a}";',
        'add_recipient "${a}@x.test";', 'remove_recipient "b@example.test";', 'set_sender "${a}";',
        'route :to "relay:out";', 'priority "${a}";', 'tag "${a}";', 'addheader "${a}" "${1}";',
        'deleteheader :matches "subject" "*${a}*";', 'if header :matches "subject" "*o*" { set "a" "${2}"; }',
        'if envelope :matches "from" "*@*" { defer; }',
        'if ip_in "192.0.2.0/24" { set :upper "a" "${1}"; } else { discard; }',
    ]
)  # fmt: skip


@given(st.lists(TOKENS, max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_tokens_load_or_are_refused_with_a_place(tokens: list[str]) -> None:
    made, found = load(
        [("/p", (REQUIRE + " ".join(tokens)).encode())], settings_for(ROUTES, TABLES, has_queue=True)
    )
    assert (made is None) == any(not one.is_warning for one in found)
    assert all(one.diagnostic.line >= 1 and one.diagnostic.column >= 1 for one in found)
    assert not any("internal" in one.diagnostic.code for one in found)


@given(st.sampled_from(STAGES), st.lists(COMMANDS, max_size=12), st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_commands_come_to_a_decision(stage: str, commands: list[str], octets: bytes) -> None:
    legal = [
        one
        for one in commands
        if load(
            [("/p", f'{REQUIRE}stage "{stage}" {{ {one} }}'.encode())],
            settings_for(ROUTES, TABLES, has_queue=True),
        )[0]
    ]
    text = f'{REQUIRE}stage "{stage}" {{ {" ".join(legal)} }}'
    made, found = load([("/p", text.encode())], settings_for(ROUTES, TABLES, has_queue=True))
    assert made is not None, [str(one) for one in found]
    message = Message(b"Subject: hello \xff world\r\n" + octets)
    envelope = Envelope(parse_address("a@x.test"), [Recipient(parse_address("b@example.test"))])
    facts = Facts(stage, session(), "mx.test", envelope, None, message)
    running = made.run(stage, Surroundings(facts), script_envelope(facts.session, envelope, None), message)
    outcome = ran(running, {}, facts)
    decision = decide(outcome)
    assert "internal error" not in outcome.fault
    if decision.reply is not None:
        octets_sent = decision.reply.encode()
        assert octets_sent.isascii()
        assert decision.reply.code >= 400
        assert decision.reply.cause
    if decision.message is not None:
        assert len(b"".join(decision.message.chunks())) == decision.message.size
