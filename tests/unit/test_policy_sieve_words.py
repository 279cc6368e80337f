"""The words of policy scripts: what does not load, one row a rule; and what tests see, one row a fact."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.policy.sieve.checking import check_policy
from mta.policy.sieve.dialect import HINTS
from mta.policy.sieve.facts import ITEMS, STAGES, Facts, Surroundings, item_name
from mta.policy.sieve.program import display_names, load, settings_for
from tests.unit.policy_tables import Case, faults, holds, program, read, session

WRONG = [
    # stages
    (["1:7 unknown-stage"], 'stage "sent" { }'),
    (["1:7 unknown-stage"], 'stage "${x}" { }'),
    (["1:1 no-block"], 'stage "rcpt";'),
    (["1:16 not-top"], 'stage "rcpt" { stage "mail" { } }'),
    (["1:1 no-stage"], "stop;"),
    (["1:1 no-stage"], 'if true { stop; } else { reply "x"; }'),
    (["1:1 no-stage"], 'set "a" "b"; stage "rcpt" { }'),
    # words of the standard
    (["1:22 wrong-stage"], 'stage "connect" { if header "subject" "x" { stop; } }'),
    (["1:19 wrong-stage"], 'stage "mail" { if address "from" "x" { stop; } }'),
    (["1:19 wrong-stage"], 'stage "rcpt" { if exists "from" { stop; } }'),
    (["1:19 wrong-stage"], 'stage "rcpt" { if size :over 1M { stop; } }'),
    (["1:19 wrong-stage"], 'stage "rcpt" { if body "x" { stop; } }'),
    (["1:23 wrong-stage"], 'stage "rcpt" { if not date "date" "year" "2026" { stop; } }'),
    (["1:16 wrong-stage"], 'stage "rcpt" { addheader "X-A" "b"; }'),
    (["1:16 wrong-stage"], 'stage "rcpt" { deleteheader "X-A"; }'),
    (["1:16 wrong-stage"], 'stage "rcpt" { discard; }'),
    (["1:16 wrong-stage"], 'stage "data" { keep; }'),
    (["1:16 wrong-stage"], 'stage "data" { redirect "a@x.test"; }'),
    (["1:22 wrong-stage"], 'stage "connect" { if envelope "from" "x" { stop; } }'),
    (["1:28 wrong-stage"], 'stage "mail" { if envelope "to" "x" { stop; } }'),
    (["1:37 wrong-stage"], 'stage "mail" { if envelope ["from", "orig_to"] "x" { stop; } }'),
    ([], 'stage "mail" { if envelope "from" "x" { stop; } if currentdate "hour" "03" { defer; } }'),
    # items
    (["1:34 wrong-stage"], 'stage "connect" { if environment "vnd.tamis.helo" "x" { stop; } }'),
    (["1:31 unknown-item"], 'stage "rcpt" { if environment "vnd.tamis.nix" "x" { stop; } }'),
    (["1:22 bad-variable"], 'stage "rcpt" { reply "${env.nix}"; }'),
    ([], 'stage "rcpt" { if environment "version" "x" { stop; } }'),
    # net
    (["1:25 bad-network"], 'stage "rcpt" { if ip_in "192.0.2.1/24" { stop; } }'),
    (["1:33 bad-network"], 'stage "rcpt" { if ip_in ["::1", "x"] { stop; } }'),
    (["1:25 bad-network"], 'stage "rcpt" { if ip_in "${env.remote_ip}" { stop; } }'),
    # reply
    (["1:22 bad-code"], 'stage "rcpt" { reply :code 250 "x"; }'),
    (["1:22 bad-code"], 'stage "rcpt" { reply :code 560 "x"; }'),
    (["1:32 bad-code"], 'stage "rcpt" { reply :enhanced "2.1.5" "x"; }'),
    (["1:32 bad-code"], 'stage "rcpt" { reply :enhanced "${env.helo}" "x"; }'),
    (["1:16 mixed-codes"], 'stage "rcpt" { reply :code 550 :tempfail "x"; }'),
    (["1:16 mixed-codes"], 'stage "rcpt" { reply :code 450 :enhanced "5.7.1" "x"; }'),
    (["1:32 duplicate-tag"], 'stage "rcpt" { reply :tempfail :permfail "x"; }'),
    (["1:22 bad-value"], 'stage "rcpt" { reply " "; }'),
    (["1:22 bad-value"], 'stage "rcpt" { reply "gr\u00fc\u00df"; }'),
    (["1:22 bad-value"], f'stage "rcpt" {{ defer "{"x" * 1001}"; }}'),
    (["1:23 bad-delay"], 'stage "rcpt" { tarpit 61; }'),
    (["1:23 bad-delay"], 'stage "rcpt" { tarpit 0; }'),
    (["1:16 wrong-stage"], 'stage "data" { tarpit 3; }'),
    (["(1:24 unreachable)"], 'stage "rcpt" { accept; reply "x"; }'),
    (["(1:26 dead-stage)"], 'stage "rcpt" { accept; } stage "rcpt" { reply "x"; }'),
    (["(1:24 dead-stage)"], 'stage "rcpt" { stop; } stage "rcpt" { reply "x"; }'),
    ([], 'stage "rcpt" { if ip_in "::1" { accept; } } stage "rcpt" { reply "x"; }'),
    # envelope
    (["1:16 wrong-stage"], 'stage "mail" { rewrite_recipient "a@x.test"; }'),
    (["1:16 wrong-stage"], 'stage "rcpt" { add_recipient "a@x.test"; }'),
    (["1:16 wrong-stage"], 'stage "rcpt" { remove_recipient "a@x.test"; }'),
    (["1:16 wrong-stage"], 'stage "rcpt" { set_sender "a@x.test"; }'),
    (["1:34 bad-value"], 'stage "rcpt" { rewrite_recipient "a"; }'),
    (["1:43 bad-value"], 'stage "data" { add_recipient ["a@x.test", "b c@x.test"]; }'),
    (["1:27 bad-value"], 'stage "mail" { set_sender "<a@x.test>"; }'),
    ([], 'stage "mail" { set_sender ""; }'),
    (["1:34 bad-value"], 'stage "rcpt" { rewrite_recipient "\u00fc@x.test"; }'),
    ([], 'stage "rcpt" { rewrite_recipient "a@\u00fc.test"; }'),
    # route
    (["1:16 wrong-stage"], 'stage "mail" { route :to "relay:out"; }'),
    (["1:26 unknown-route"], 'stage "rcpt" { route :to "relay:nix"; }'),
    (["1:26 dynamic-route"], 'stage "rcpt" { route :to "relay:${env.helo}"; }'),
    (["1:16 no-route"], 'stage "rcpt" { route; }'),
    ([], 'stage "rcpt" { route :to "mx" :tls "verify" :source "bulk" :helo "out.test"; }'),
    ([], 'stage "route" { route :to "mx:example.net" :fallback "relay:out"; }'),
    ([], 'stage "data" { route :to "smtp:[mx.example.net]:2525"; }'),
    (["1:26 bad-route"], 'stage "rcpt" { route :to "mx:a b"; }'),
    (["1:26 bad-route"], 'stage "rcpt" { route :to "smtp:mx.example.net"; }'),
    (["1:36 bad-route"], 'stage "rcpt" { route :to "mx" :tls "strong"; }'),
    (["1:39 unknown-source"], 'stage "rcpt" { route :to "mx" :source "nix"; }'),
    (["1:41 unknown-route"], 'stage "rcpt" { route :to "mx" :fallback "relay:nix"; }'),
    (["1:41 bad-route"], 'stage "rcpt" { route :to "mx" :fallback "mx"; }'),
    (["1:37 dynamic-route"], 'stage "rcpt" { route :to "mx" :helo "${env.helo}"; }'),
    (["1:43 needless-option"], 'stage "rcpt" { route :to "relay:out" :tls "may"; }'),
    # queue
    (["1:16 wrong-stage"], 'stage "rcpt" { hold; }'),
    (["1:25 bad-value"], 'stage "data" { priority "10"; }'),
    (["1:23 bad-value"], 'stage "data" { expire "30s"; }'),
    (["1:23 bad-value"], 'stage "data" { expire "60"; }'),
    (["1:23 bad-period"], 'stage "data" { expire "${env.helo}"; }'),
    (["1:20 bad-value"], 'stage "data" { tag "a b"; }'),
    (["1:22 bad-value"], 'stage "data" { delay "31d"; }'),
    (["1:22 bad-value"], 'stage "data" { delay "1s"; }'),
    (["1:22 bad-period"], 'stage "data" { delay "${env.helo}"; }'),
    (["1:16 wrong-stage"], 'stage "rcpt" { delay "10m"; }'),
    (["1:16 no-option"], 'stage "data" { dsn; }'),
    (["1:28 bad-value"], 'stage "data" { dsn :notify "sometimes"; }'),
    (["1:20 bad-notify"], 'stage "data" { dsn :notify ["never", "delay"]; }'),
    (["1:28 bad-value"], 'stage "data" { dsn :return "all"; }'),
    (["1:27 bad-value"], 'stage "data" { dsn :envid ""; }'),
    (["1:16 wrong-stage"], 'stage "rcpt" { dsn :notify "never"; }'),
    # tables
    (["1:40 unknown-table"], 'stage "rcpt" { if envelope :list "to" ["table:nix"] { stop; } }'),
    (["1:39 bad-list"], 'stage "rcpt" { if envelope :list "to" "vip" { stop; } }'),
    (["1:24 bad-list", "1:45 bad-list"], 'stage "rcpt" { expand ["hash:/etc/aliases", "vip"]; }'),
    (["1:26 bad-list"], 'stage "rcpt" { if lookup "vip" "x" { stop; } }'),
    # several at once, with their places
    (
        ["1:16 wrong-stage", "2:16 wrong-stage", "2:25 unknown-command"],
        'stage "mail" { discard; }\nstage "rcpt" { discard; nonsense; }',
    ),
]


@pytest.mark.parametrize(("found", "script"), WRONG, ids=[script[:60] for _, script in WRONG])
def test_what_does_not_load(found: list[str], script: str) -> None:
    assert faults(script) == found


@pytest.mark.parametrize("word", ["hold;", 'priority "1";', 'expire "1h";', 'tag "a";', 'delay "1m";'])
def test_the_queue_must_be_there(word: str) -> None:
    assert faults(f'stage "data" {{ {word} }}', queue=False) == ["1:16 no-queue"]
    assert faults(f'stage "data" {{ {word} }}') == []


def test_stages_that_other_files_have_ended() -> None:
    assert faults('stage "rcpt" { accept; }', 'stage "rcpt" { defer; } stage "mail" { }') == [
        "(0:1 dead-stage)"
    ]
    assert faults('stage "rcpt" { stop; }', 'stage "rcpt" { defer; }') == []


def test_a_file_that_does_nothing_and_one_that_is_too_large() -> None:
    assert faults("") == ["(0:1 no-stage)"]
    made, found = load([("/p", b"#" * (1024 * 1024 + 1))], settings_for((), has_queue=False))
    assert made is None
    assert [str(one) for one in found] == ["/p:1:1: error: the file is larger than 1 MiB"]


@pytest.mark.parametrize("name", HINTS)
def test_what_a_policy_does_not_have_is_explained(name: str) -> None:
    source = f'require ["vnd.tamis.stage", "{name}"];\nstage "rcpt" {{ }}'.encode()
    made, found = load([("/p", source)], settings_for((), has_queue=True))
    assert made is None
    assert found[0].diagnostic.code == "unknown-capability"
    assert found[0].diagnostic.hint == HINTS[name]


@pytest.mark.parametrize(
    ("script", "hint"),
    [
        ('stage "data" { fileinto "Junk"; }', HINTS["fileinto"]),
        ('stage "data" { if mailboxexists "x" { stop; } }', "that is for users' scripts in the mail store"),
        ('stage "data" { pipe "x"; }', HINTS["vnd.dovecot.pipe"]),
        ('stage "data" { fileonto "Junk"; }', ""),
        ('stage "rcpt" { if envelope "recipient" "x" { stop; } }', "there are: from, to, orig_to, auth"),
        ('stage "rcpt" { if environment "remote_ip" "x" { stop; } }', "did you mean 'remote-ip'?"),
        ('stage "rcpt" { if environment "vnd.tamis.remote-ip" "x" { stop; } }', "did you mean 'remote-ip'?"),
        ('stage "rcpt" { if environment "helo" "x" { stop; } }', "did you mean 'vnd.tamis.helo'?"),
        (
            'stage "rcpt" { if environment "tls_version" "x" { stop; } }',
            "did you mean 'vnd.tamis.tls.version'?",
        ),
    ],
)
def test_what_to_write_instead(script: str, hint: str) -> None:
    assert [one.diagnostic.hint for one in read(script)[1]] == [hint]


def test_one_broken_file_refuses_all_and_all_are_reported() -> None:
    made, found = read('stage "rcpt" { discard; }', 'stage "mail" { keep; }', 'stage "mail" { defer; }')
    assert made is None
    assert [one.path for one in found] == ["/p/a.sieve", "/p/b.sieve"]


def test_names_of_files() -> None:
    assert display_names(["/a/x.sieve", "/b/x.sieve", "/b/y.sieve"]) == [
        "/a/x.sieve",
        "/b/x.sieve",
        "y.sieve",
    ]


TRUE = [
    ("connect", 'ip_in ["192.0.2.0/24", "2001:db8::/32"]'),
    ("connect", 'not ip_in ["192.0.3.0/24", "2001:db8::/32"]'),
    ("connect", 'environment "remote-ip" "192.0.2.7"'),
    ("connect", 'environment "REMOTE-IP" "192.0.2.7"'),
    ("connect", 'environment "vnd.tamis.remote-network" "192.0.2.0/24"'),
    ("connect", 'environment "phase" "pre"'),
    ("connect", 'environment "domain" "test"'),
    ("connect", 'environment "name" "Tamis Sieve"'),
    ("connect", 'environment "vnd.tamis.trusted" "yes"'),
    ("connect", 'environment "vnd.tamis.listener" "smtp"'),
    ("connect", 'environment "vnd.tamis.server-port" "25"'),
    ("helo", 'environment :matches "vnd.tamis.helo" "*.x.test"'),
    ("helo", 'environment "vnd.tamis.esmtp" "yes"'),
    ("helo", 'environment "vnd.tamis.tls.version" "TLSv1.3"'),
    ("helo", 'environment "vnd.tamis.tls.peer" "peer.x.test"'),
    ("helo", 'environment "vnd.tamis.auth-user" ""'),
    ("mail", 'envelope :domain "from" "X.TEST"'),
    ("mail", 'environment "vnd.tamis.priority" ""'),
    ("rcpt", 'envelope "to" "b@example.test"'),
    ("rcpt", 'not envelope "to" "c@example.test"'),
    ("rcpt", 'environment "vnd.tamis.body" "7BIT"'),
    ("data", 'envelope "to" "c@example.test"'),
    ("data", 'envelope :count "eq" :comparator "i;ascii-numeric" "to" "2"'),
    ("data", 'environment :value "gt" :comparator "i;ascii-numeric" "vnd.tamis.size" "60"'),
    ("data", 'environment "vnd.tamis.8bit" "no"'),
    ("data", 'environment "vnd.tamis.mime-whole" "yes"'),
    ("data", 'environment "vnd.tamis.recipients" "2"'),
    ("data", 'address :localpart "from" "a"'),
    ("data", 'body :contains "friep"'),
    ("data", 'size :over 50'),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "test"), TRUE)
def test_what_tests_see(stage: str, test: str) -> None:
    recipients = ("b@example.test",) if stage == "rcpt" else ("b@example.test", "c@example.test")
    assert holds(test, stage, Case(recipients=recipients))


def test_the_null_sender_and_a_unix_socket() -> None:
    assert holds('envelope "from" ""', "mail", Case(sender=""))
    client = session()
    client.client_address = "unix"
    assert not holds('ip_in "0.0.0.0/0"', "connect", Case(session=client))


@pytest.mark.parametrize(
    ("client", "found"),
    [("::ffff:192.0.2.7", "192.0.2.0/24"), ("2001:db8:1:2:3::7", "2001:db8:1:2::/64"), ("unix", "unix")],
)
def test_the_network_of_a_client(client: str, found: str) -> None:
    made = session()
    made.client_address = client
    test = f'string "${{env.remote_network}}" "{found}"'
    assert holds(test, "rcpt", Case(session=made))


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "vip").write_text("# people\n\nB@Example.test \nx.test the rest is its value\n")
    assert holds('envelope :list "to" "table:vip"', "rcpt", folder=tmp_path)
    assert holds('envelope :domain :list "from" "table:vip"', "rcpt", folder=tmp_path)
    assert not holds('envelope :list "from" "table:vip"', "rcpt", folder=tmp_path)
    assert holds('valid_ext_list "table:vip"', "rcpt", folder=tmp_path)
    assert not holds('valid_ext_list "table:nix"', "rcpt", folder=tmp_path)


def test_every_item_has_a_variable_and_is_known_where_it_says() -> None:
    client = session()
    for stage in STAGES:
        known = Surroundings(Facts(stage, client, "mx.test"))
        assert set(known) == {name for name, item in ITEMS.items() if stage in item.stages}
        assert len(known) == len(set(known))
        assert all(isinstance(known[name], str) for name in known)
    variables = [
        "remote_ip", "remote_network", "helo", "tls_version", "auth_user", "is_8bit", "host", "declared_size",
    ]  # fmt: skip
    assert [item_name(name) for name in variables] == [
        "remote-ip", "vnd.tamis.remote-network", "vnd.tamis.helo", "vnd.tamis.tls.version",
        "vnd.tamis.auth-user", "vnd.tamis.8bit", "host", "vnd.tamis.declared-size",
    ]  # fmt: skip


def test_a_table_is_named_by_its_scheme_also_without_a_configuration() -> None:
    script = b"""require ["vnd.tamis.stage", "extlists", "envelope", "vnd.tamis.tables"];
stage "rcpt" { if anyof (envelope :list "to" "vip", lookup "tables:vip" "x", lookup "table:x" "y") { } }"""
    assert [str(one) for one in check_policy(script)] == [
        "2:46: error: 'vip' names no table (write \"table:vip\")",
        "2:60: error: 'tables:vip' names no table (write \"table:vip\")",
    ]


def test_a_program_knows_its_stages_and_whether_bodies_are_read() -> None:
    made = program('stage "rcpt" { defer; }', 'stage "data" { defer; }')
    assert [stage for stage in STAGES if made.has(stage)] == ["rcpt", "data"]
    assert made.reads_body
    header = b'require ["vnd.tamis.stage"]; stage "data" { if header "subject" "x" { stop; } }'
    only, _ = load([("/p", header)], settings_for((), has_queue=True))
    assert only is not None
    assert not only.reads_body
    assert [sorted(one.stages) for one in made.files] == [["rcpt"], ["data"]]
