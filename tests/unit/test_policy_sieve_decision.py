"""What scripts of a stage come to: precedence, codes, orders, failures."""

from __future__ import annotations

import pytest

from mta.policy.sieve.decision import decide
from mta.policy.sieve.facts import Facts, Surroundings
from mta.policy.sieve.outcome import Outcome
from mta.policy.sieve.policy import script_envelope
from mta.policy.sieve.program import CPU_SECONDS, Program
from mta.policy.sieve.reply import Answer
from mta.reply import Reply
from sieve_ext.message import Message
from tests.unit.policy_tables import decision, program, ran, session

REPLIES = [
    ('reply "no";', "550 5.7.1 no", False),
    ('reply :tempfail "no";', "451 4.7.1 no", False),
    ('reply :permfail "no";', "550 5.7.1 no", False),
    ('reply :code 554 "no";', "554 5.7.1 no", False),
    ('reply :code 450 "no";', "450 4.7.1 no", False),
    ('reply :enhanced "4.2.0" "no";', "451 4.2.0 no", False),
    ('reply :code 552 :enhanced "5.2.2" "full";', "552 5.2.2 full", False),
    ('reply :code 421 "later";', "421 4.7.1 later", True),
    ("defer;", "451 4.7.1 try again later", False),
    ('defer "soon";', "451 4.7.1 soon", False),
    ('reject "no";', "550 5.7.1 no", False),
    ('ereject "no";', "550 5.7.1 no", False),
    ("disconnect;", "421 4.7.0 closing the connection", True),
    ('reply "${env.helo} is\nbad";', "550 5.7.1 client.x.test is / bad", False),
    # precedence, whatever the order
    ('defer; reply "no"; defer;', "550 5.7.1 no", False),
    ('reply "first"; reply "second";', "550 5.7.1 first", False),
    ('defer "first"; defer "second";', "451 4.7.1 first", False),
    ('disconnect; reply "no";', "550 5.7.1 no", True),
    ("defer; disconnect;", "451 4.7.1 try again later", True),
    ('reply "no"; accept;', "550 5.7.1 no", False),
    ('set "a" "no\u00df"; reply "${a}";', "550 5.7.1 no?", False),
    ('set "a" ""; reply "${a}";', "550 5.7.1 refused", False),
]


@pytest.mark.parametrize(("commands", "reply", "close"), REPLIES, ids=[row[0] for row in REPLIES])
def test_replies(commands: str, reply: str, close: bool) -> None:
    found = decision(f'stage "rcpt" {{ {commands} }}')
    assert found.reply is not None
    assert (str(found.reply), found.reply.close) == (reply, close)
    assert found.reply.cause.startswith("a.sieve:2")


@pytest.mark.parametrize(
    "commands", ["", "accept;", "stop;", 'accept; reply "never";', 'if ip_in "::1" { defer; }']
)
def test_what_goes_on(commands: str) -> None:
    found = decision(f'stage "rcpt" {{ {commands} }}', "rcpt")
    assert found.reply is None
    assert not found.discarded


def test_the_place_of_the_refusal_is_that_of_its_command() -> None:
    found = decision('stage "rcpt" {\n  defer;\n  if ip_in "192.0.2.7" {\n    reply "no";\n  }\n}')
    assert found.reply is not None
    assert found.reply.cause == "a.sieve:5"


def test_the_cause_of_a_refusal_tells_why_behind_where() -> None:
    away = Reply(451, "4.4.1", "not now", "/run/dovecot/lmtp: Permission denied")
    found = decide(Outcome([("a.sieve:2", Answer(away))]))
    assert found.reply is not None
    assert found.reply.cause == "a.sieve:2: /run/dovecot/lmtp: Permission denied"


def test_delays_add_up_to_the_most() -> None:
    assert decision('stage "rcpt" { tarpit 2; tarpit 3; }').delay == 5
    assert decision('stage "rcpt" { tarpit 50; tarpit 50; defer; }').delay == 60


def test_orders() -> None:
    found = decision("""stage "data" {
        add_recipient ["c@x.test", "d@x.test"]; add_recipient "e@x.test"; remove_recipient "b@example.test";
        set_sender "one@x.test"; set_sender "two@x.test";
        route :to "relay:out"; route :to "backend:store";
        priority "low"; priority "-9"; expire "1h"; expire "90m"; tag ["a", "b"]; tag ["b", "c"];
        hold "why"; hold; discard; discard;
    }""")
    assert [address.text for _, address in found.added] == ["c@x.test", "d@x.test", "e@x.test"]
    assert [(place, address.text) for place, address in found.removed] == [("a.sieve:3", "b@example.test")]
    assert found.sender is not None
    assert found.sender.text == "two@x.test"
    assert (found.route, found.priority, found.lifetime) == ("backend:store", -9, 5400)
    assert found.tags == ("a", "b", "c")
    assert found.held == "a.sieve:7: why"
    assert found.discarded == "a.sieve:7"


def test_what_is_reported_and_when_it_is_tried() -> None:
    found = decision("""stage "data" {
        delay "5m"; delay "10m";
        dsn :notify ["Success", "delay"] :return "Headers"; dsn :envid "x-1"; dsn :return "full";
    }""")
    assert found.postponed == 600
    assert (found.notify, found.ret, found.envid) == (frozenset({"SUCCESS", "DELAY"}), "FULL", "x-1")
    found = decision('stage "data" { dsn :notify "never"; }')
    assert (found.notify, found.ret, found.envid) == (frozenset({"NEVER"}), None, None)


def test_domains_are_sent_as_a_labels() -> None:
    found = decision('stage "rcpt" { rewrite_recipient "a@b\u00fccher.test"; }')
    assert found.rewritten is not None
    assert found.rewritten.text == "a@xn--bcher-kva.test"


def test_the_null_sender() -> None:
    found = decision('stage "mail" { set_sender ""; }')
    assert found.sender is not None
    assert found.sender.is_null


def test_recipients_that_are_added_have_a_limit() -> None:
    many = ", ".join(f'"r{number}@x.test"' for number in range(150))
    assert len(decision(f'stage "data" {{ add_recipient [{many}]; }}').added) == 100


FAILURES = [
    'set "a" "nobody"; rewrite_recipient "${a}";',
    'set "a" "no tag"; tag "${a}";',
    'set "a" "11"; priority "${a}";',
    'set "a" "often"; dsn :notify "${a}";',
    'set "a" "some"; dsn :return "${a}";',
    'dsn :envid "${none}";',
    'set "a" "x y@z.test"; add_recipient "${a}";',
    'set "a" "x y@z.test"; remove_recipient "${a}";',
    'set "a" "x y@z.test"; set_sender "${a}";',
    'addheader "X-${env.remote_ip}:" "x";',
]


@pytest.mark.parametrize("commands", FAILURES)
def test_what_fails_when_it_runs(commands: str) -> None:
    stage = "rcpt" if "rewrite" in commands else "data"
    found = decision(f'stage "{stage}" {{ {commands} }}')
    assert found.reply is not None
    assert str(found.reply) == "451 4.3.5 policy error, try again later"
    assert found.reply.cause.startswith("a.sieve:2:")


def test_a_permanent_refusal_is_stronger_than_a_failure() -> None:
    found = run(
        program('stage "rcpt" { reply "no"; }', 'stage "rcpt" { set "a" "x"; rewrite_recipient "${a}"; }')
    )
    assert found == "550 5.7.1 no"


def test_files_see_the_edits_of_those_before() -> None:
    made = program('stage "data" { addheader "X-A" "b"; }', 'stage "data" { if exists "x-a" { defer; } }')
    assert run(made, "data") == "451 4.7.1 try again later"


def test_time_is_bounded() -> None:
    assert CPU_SECONDS <= 0.05
    tests = 'if header :matches "x-a" "*a*b*a*b*c*" { stop; }' * 300
    message = b"X-A: " + b"ab" * 400 + b"\r\n"
    made = program(f'stage "data" {{ {tests} }}')
    assert run(made, "data", message * 900) == "451 4.3.5 policy error, try again later"


def run(made: Program, stage: str = "rcpt", octets: bytes = b"Subject: x\r\n\r\n") -> str:
    """The reply of a stage without an envelope."""
    message = Message(octets) if stage == "data" else None
    client = session()
    facts = Facts(stage, client, "mx.test", message=message)
    running = made.run(stage, Surroundings(facts), script_envelope(client, None, None), message)
    return str(decide(ran(running, {}, facts)).reply)
