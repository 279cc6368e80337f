"""`tamis explain`: what it takes from where, the way through the stages, and what it prints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mta.cli_director import make_app as make_director
from mta.cli_explain import explain
from mta.explain.given import Given, GivenError, address, completed, read_message, read_transcript
from mta.explain.play import header_changes

Captured = pytest.CaptureFixture[str]

SWAKS = """=== Trying mx.test:25...
=== Connected to mx.test.
<-  220 mx.test ESMTP
 -> EHLO mail.x.test
<-  250-mx.test
<-  250 PIPELINING
 -> MAIL FROM:<a@x.test> SIZE=100
<-  250 2.1.0 ok
 -> RCPT TO:<b@example.test>
<-  250 2.1.5 ok
 -> RCPT TO:<c@example.test>
<** 550 5.1.1 no
 -> DATA
<-  354 go on
 -> From: a@x.test
 -> Subject: 220 things
 ->
 -> ..hidden
 -> bye
 -> .
<-  250 2.0.0 ok
 -> QUIT
"""
BARE = "EHLO mail.x.test\nMAIL FROM:<>\nRCPT TO:<b@example.test>\nQUIT\nEHLO later\n"
STORED = (
    b"Return-Path: <a@x.test>\r\nReceived: from mail.x.test (mail.x.test [192.0.2.9])\r\n"
    b"\tby mx.test with ESMTP for <b@example.test>; Sat, 28 Nov 2026 01:00:00 +0000\r\n"
    b"Received: from inside [10.0.0.1] by mail.x.test\r\nSubject: hi\r\n\r\nhi\r\n"
)


def test_a_transcript_of_swaks() -> None:
    assert read_transcript(SWAKS) == Given(
        helo="mail.x.test",
        sender="a@x.test",
        recipients=("b@example.test", "c@example.test"),
        message=b"From: a@x.test\r\nSubject: 220 things\r\n\r\n.hidden\r\nbye\r\n",
    )


def test_addresses_of_smtputf8() -> None:
    """What the server takes can be explained; a domain alone is shown as it is looked up."""
    assert address("--from", "jörg@bücher.test").text == "jörg@bücher.test"
    assert address("--to", "jo@bücher.test").text == "jo@xn--bcher-kva.test"


def test_bare_lines_up_to_the_end_of_the_session() -> None:
    assert read_transcript(BARE) == Given(helo="mail.x.test", sender="", recipients=("b@example.test",))


def test_the_body_of_bare_lines_may_look_like_replies() -> None:
    assert read_transcript("MAIL FROM:<>\nDATA\n250 ok\n.\n").message == b"250 ok\r\n"


def test_lines_of_a_transcript_end_with_line_feeds_alone() -> None:
    text = "MAIL FROM:<>\r\nDATA\r\nSubject: a\x0cb\u2028c\r\n\r\nx\x85y\r\n.\r\n"
    assert read_transcript(text).message == "Subject: a\x0cb\u2028c\r\n\r\nx\x85y\r\n".encode()


def test_what_a_transcript_resets_does_not_count() -> None:
    reset = "MAIL FROM:<a@x.test>\nRCPT TO:<b@x.test>\nRSET\nMAIL FROM:<c@x.test>\nRCPT TO:<d@x.test>\n"
    assert read_transcript(reset) == Given(sender="c@x.test", recipients=("d@x.test",))


def test_octets_that_are_no_text_are_shown_somehow(capsys: Captured, configuration: str) -> None:
    given = Given(client="192.0.2.1")
    path = Path(configuration).with_name("transcript")
    path.write_bytes(b"EHLO h\xe4st\n")
    assert explain(configuration, given, transcript=str(path)) == 0
    assert "helo h?st\n" in capsys.readouterr().out


def test_a_transcript_that_is_none_names_the_line() -> None:
    with pytest.raises(GivenError, match="line 2 of the transcript"):
        read_transcript("EHLO x\nMAIL FROM a@x.test\n")


def test_a_stored_message_tells_how_it_came() -> None:
    assert read_message(STORED) == Given(
        "192.0.2.9", "mail.x.test", "", "a@x.test", ("b@example.test",), STORED
    )
    assert read_message(b"Subject: hi\r\n\r\n") == Given(message=b"Subject: hi\r\n\r\n")


def test_what_a_stored_message_has_wrong_tells_nothing() -> None:
    fields = (
        b"Return-Path: <root>\r\nDelivered-To: bob\r\n"
        b"Received: from [BAD] ([192.0.2.9]) by mx.test for <b@example.test>; today\r\n\r\n"
    )
    assert read_message(fields) == Given("192.0.2.9", "[BAD]", "", None, ("b@example.test",), fields)


def test_what_is_said_counts_more() -> None:
    said = Given(client="192.0.2.1", sender="")
    assert completed(said, Given("192.0.2.2", "h", "u", "a@x.test", ("b@x.test",), b"m")) == Given(
        "192.0.2.1", "h", "u", "", ("b@x.test",), b"m"
    )


def test_changes_of_the_header() -> None:
    assert header_changes(b"A: 1\r\nB: 2\r\nB: 2\r\n", b"C: 3\r\nA: 1\r\nB: 2\r\n") == [
        "header - B: 2",
        "header + C: 3",
    ]
    assert header_changes(b"A: 1\r\n", b"A: 1\r\n") == []


CONFIG = """
[identity]
hostname = "mx.example.test"
[[listener]]
name = "smtp"
protocol = "smtp"
addresses = ["127.0.0.1:25"]
[[listener]]
name = "submission"
protocol = "submission"
addresses = ["127.0.0.1:587"]
auth = "required"
tls = "none"
[auth]
require_tls = false
backend = "users"
users_file = "users"
[domains."example.test"]
recipients = "table:people"
[backends.store]
addresses = ["127.0.0.1:1"]
[queue]
enabled = true
[policy]
scripts = ["mine.sieve"]
"""
SCRIPT = """require ["vnd.tamis.stage", "vnd.tamis.reply", "vnd.tamis.queue", "vnd.tamis.envelope",
    "editheader", "envelope", "environment"];
stage "helo" { if environment "vnd.tamis.helo" "localhost" { reply "not you"; } }
stage "rcpt" { if envelope "to" "old@example.test" { rewrite_recipient "bob@example.test"; } }
stage "data" {
    if header :contains "subject" "ad" { addheader "X-Ad" "yes"; priority "low"; hold "ads"; }
    if header "x-drop" "yes" { discard; }
}
"""


@pytest.fixture
def configuration(tmp_path: Path) -> str:
    (tmp_path / "tamis.toml").write_text(CONFIG)
    (tmp_path / "mine.sieve").write_text(SCRIPT)
    (tmp_path / "people").write_text("bob\n")
    (tmp_path / "users").write_text("alice@example.test:{PLAIN}secret:\n")
    (tmp_path / "users").chmod(0o600)
    return str(tmp_path / "tamis.toml")


def told(
    capsys: Captured,
    configuration: str,
    given: Given,
    message: bytes = b"",
    listener: str = "",
) -> tuple[int, dict[str, list[Any]]]:
    path = Path(configuration).with_name("message")
    path.write_bytes(message)
    status = explain(
        configuration, given, message=str(path) if message else "", listener=listener, as_machine=True
    )
    captured = capsys.readouterr()
    return status, json.loads(captured.out) if captured.out else {"error": [{"text": captured.err}]}


def replies(found: dict[str, list[Any]]) -> list[tuple[object, object]]:
    return [(one["stage"], one["reply"]) for one in found["stages"] if one["reply"]]


@pytest.mark.parametrize(
    "user", ["ANN@Bücher.example", "ann@xn--bcher-kva.example", "bu\u0308ro@example.test"]
)
def test_a_user_is_the_one_who_logs_in_by_that_name(capsys: Captured, configuration: str, user: str) -> None:
    lines = "ann@bücher.example:{PLAIN}secret:\nbüro@example.test:{PLAIN}secret:\n"
    Path(configuration).with_name("users").write_text(lines)
    given = Given("192.0.2.1", "", user, user, ("bob@example.test",))
    status, found = told(capsys, configuration, given, listener="submission")
    assert (status, replies(found)) == (0, [])


def test_a_message_that_is_accepted(capsys: Captured, configuration: str) -> None:
    given = Given("192.0.2.1", "mail.x.test", "", "a@x.test", ("old@example.test", "eve@example.test"))
    status, found = told(capsys, configuration, given, b"Subject: an ad\r\n\r\nhi\r\n")
    assert status == 0
    assert [one["stage"] for one in found["stages"]] == [
        "connect", "helo", "mail", "rcpt", "rcpt", "data", "route and sign",
    ]  # fmt: skip
    assert replies(found) == [("rcpt", "550 5.1.1 no such user")]
    assert found["stages"][3]["orders"] == ["the recipient is <bob@example.test> now"]
    assert found["stages"][5]["orders"] == [
        "held in the queue: mine.sieve:6: ads", "priority -4", "header + X-Ad: yes",
    ]  # fmt: skip
    lines = found["stages"][5]["lines"]
    assert ["mine.sieve:6", "test header ['an ad'] against ['ad']: yes"] in lines
    assert found["routes"] == [{"recipient": "bob@example.test", "next_hop": "backend:store", "cause": ""}]


@pytest.mark.parametrize("message", [b"", b"Subject: hi\r\n\r\nhi\r\n"])
def test_everybody_behind_an_alias_has_a_route(capsys: Captured, configuration: str, message: bytes) -> None:
    path = Path(configuration)
    path.write_text(f'{CONFIG}[tables.aliases]\nfile = "aliases"\n')
    path.with_name("aliases").write_text("staff@example.test  bob, carol\n")
    path.with_name("people").write_text("bob\ncarol\n")
    path.with_name("mine.sieve").write_text(
        'require ["vnd.tamis.stage", "vnd.tamis.envelope"];\nstage "rcpt" { expand "table:aliases"; }\n'
    )
    given = Given("192.0.2.1", "mail.x.test", "", "a@x.test", ("staff@example.test", "bob@example.test"))
    status, found = told(capsys, configuration, given, message)
    assert status == 0
    assert [one["recipient"] for one in found["routes"]] == ["bob@example.test", "carol@example.test"]


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ('file = "people"', True),
        ('type = "aliases"\nfile = "aliases"', True),
        ('type = "pattern"\nfile = "patterns"', False),
    ],
)
def test_recipients_by_local_part(capsys: Captured, configuration: str, table: str, found: bool) -> None:
    """A file says the same with a section [tables.NAME] and without one."""
    path = Path(configuration)
    path.with_name("aliases").write_text("bob: carol\n")
    path.with_name("patterns").write_text("/^bob$/ x\n")
    given = Given("192.0.2.1", "h", "", "", ("BOB@example.test",))
    assert told(capsys, configuration, given)[0] == 0
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n[tables.people]\n{table}\n")
    assert (told(capsys, configuration, given)[0] == 0) is found
    nobody = replace(given, recipients=("carol@example.test",))
    assert told(capsys, configuration, nobody)[0] == 1


@pytest.mark.parametrize(
    ("given", "listener", "refused"),
    [
        (Given("192.0.2.1", "localhost"), "", [("helo", "550 5.7.1 not you")]),
        (
            Given("192.0.2.1", "h", "", "a@x.test", ("x@else.test",)),
            "",
            [("rcpt", "550 5.7.1 relaying denied")],
        ),
        (
            Given("192.0.2.1", "h", "", "a@x.test"),
            "submission",
            [("mail", "530 5.7.0 authentication required")],
        ),
        (
            Given("192.0.2.1", "h", "alice@example.test", "bob@example.test"),
            "submission",
            [("mail", "553 5.7.1 sender address does not belong to you")],
        ),
        (Given("192.0.2.1", "h", "alice@example.test", "alice@example.test"), "submission", []),
    ],
)
def test_refusals(
    capsys: Captured,
    configuration: str,
    given: Given,
    listener: str,
    refused: list[tuple[str, str]],
) -> None:
    status, found = told(capsys, configuration, given, listener=listener)
    assert replies(found) == refused
    assert status == (1 if refused else 0)


def test_a_discarded_message(capsys: Captured, configuration: str) -> None:
    given = Given("192.0.2.1", "h", "", "a@x.test", ("bob@example.test",))
    status, found = told(capsys, configuration, given, b"X-Drop: yes\r\n\r\n")
    assert status == 0
    assert found["stages"][-1]["orders"] == ["discarded: mine.sieve:7"]
    assert found["routes"] == []


LEAVING = """require ["vnd.tamis.stage", "vnd.tamis.reply", "vnd.tamis.envelope", "envelope"];
stage "data" { journal "archive@example.test"; }
stage "route" {
    if envelope "to" "bob@example.test" { reply "not today"; }
}
"""


def test_what_stage_route_refuses_is_refused(capsys: Captured, configuration: str) -> None:
    """With its place, and with the lines that led there also where only those are wanted."""
    Path(configuration).with_name("mine.sieve").write_text(LEAVING)
    given = Given("192.0.2.1", "h", "", "a@x.test", ("bob@example.test",), b"Subject: hi\r\n\r\nhi\r\n")
    assert explain(configuration, given, quiet=True) == 1
    said = capsys.readouterr().out
    assert "  = a report goes to <archive@example.test>\n  = goes on\n" in said
    assert "    mine.sieve:4 (route)  action reply 550 5.7.1 not today\n" in said
    assert said.endswith(
        "  = <bob@example.test> is refused\n  = goes on\n"
        "<bob@example.test> -> 550 5.7.1 not today  [mine.sieve:4]\n"
    )
    both = replace(given, recipients=("bob@example.test", "abuse@example.test"))
    status, found = told(capsys, configuration, both)
    assert status == 0
    assert found["routes"] == [
        {"recipient": "bob@example.test", "next_hop": "550 5.7.1 not today", "cause": "mine.sieve:4"},
        {"recipient": "postmaster@example.test", "next_hop": "backend:store", "cause": ""},
    ]


def test_without_a_message_it_is_said_what_is_left_out(capsys: Captured, configuration: str) -> None:
    Path(configuration).with_name("mine.sieve").write_text(LEAVING)
    given = Given("192.0.2.1", "h", "", "a@x.test", ("bob@example.test",))
    assert explain(configuration, given, quiet=True) == 0
    assert capsys.readouterr().out.endswith(
        "<bob@example.test> -> backend:store\n"
        "no message was given: stages data, route and sign, which may say otherwise, were not gone through\n"
    )


@pytest.mark.parametrize(
    ("given", "listener", "message"),
    [
        (Given(), "", "--client is missing"),
        (Given("here"), "", "--client: 'here' is no IP address"),
        (Given("192.0.2.1", sender="a b"), "", "--from: 'a b' is no address"),
        (Given("192.0.2.1", recipients=("@",)), "", "--to: '@' is no address"),
        (Given("192.0.2.1", user="eve"), "", "--user: there is no user 'eve'"),
        (Given("192.0.2.1"), "x", "--listener: there is no listener 'x'; there are: smtp, submission"),
    ],
)
def test_mistakes_are_told(
    capsys: Captured, configuration: str, given: Given, listener: str, message: str
) -> None:
    assert explain(configuration, given, listener=listener) == 2
    assert message in capsys.readouterr().err


def test_a_broken_script_is_told_with_its_place(capsys: Captured, configuration: str) -> None:
    Path(configuration).with_name("mine.sieve").write_text("stage {")
    assert explain(configuration, Given("192.0.2.1")) == 78
    assert "mine.sieve:1:" in capsys.readouterr().err


def test_text_for_people(capsys: Captured, configuration: str) -> None:
    given = Given("192.0.2.1", "localhost")
    assert explain(configuration, given) == 1
    assert capsys.readouterr().out == (
        "connect 192.0.2.1\n  = goes on\nhelo localhost\n"
        "    mine.sieve:3  test environment: yes\n    mine.sieve:3  command reply\n"
        "    mine.sieve:3  action reply 550 5.7.1 not you\n  = 550 5.7.1 not you  [mine.sieve:3]\n"
    )
    assert explain(configuration, Given("192.0.2.1", "h"), quiet=True) == 0
    assert capsys.readouterr().out == (
        "connect 192.0.2.1\n  = goes on\nhelo h\n  = goes on\nno message was given\n"
    )


COUNTING = """require ["vnd.tamis.stage", "vnd.tamis.rate", "vnd.tamis.greylist", "vnd.tamis.reply"];
stage "mail" {
    if rate :limit 1 :per "1h" "mails" "all" { reply :tempfail "slowly"; }
}
stage "rcpt" {
    greylist;
    if allof(not greylist :delay "1m", not rate :window :limit 1 :per "1h" "rcpt" "all") { reply "behind"; }
}
"""


def test_counters_are_in_nobodys_way(capsys: Captured, configuration: str) -> None:
    Path(configuration).with_name("mine.sieve").write_text(COUNTING.replace('reply "behind";', ""))
    given = Given("192.0.2.1", "h", "", "a@x.test", ("bob@example.test", "eve@example.test"))
    status, found = told(capsys, configuration, given)
    assert (status, replies(found)) == (0, [("rcpt", "550 5.1.1 no such user")])
    assert found["routes"] == [{"recipient": "bob@example.test", "next_hop": "backend:store", "cause": ""}]
    assert found["stages"][2]["lines"][0] == ["mine.sieve:3", "test rate: no (no counter was looked at)"]
    assert [line for line in found["stages"][3]["lines"] if line[0].startswith("mine")][:3] == [
        ["mine.sieve:6", "command greylist (no counter was looked at)"],
        ["mine.sieve:7", "test greylist: no (no counter was looked at)"],
        ["mine.sieve:7", "test not: yes"],
    ]


PROGRAMS = """require ["vnd.tamis.stage", "vnd.tamis.milter", "vnd.tamis.policy_server", "vnd.tamis.scan"];
stage "rcpt" { policy_server "grey"; }
stage "data" { milter "av"; scan "rspamd"; }
"""
SECTIONS = """
[milters.av]
address = "inet:127.0.0.1:1"
[milters.first]
address = "inet:127.0.0.1:1"
listeners = ["*"]
[policy_servers.grey]
address = "inet:127.0.0.1:1"
[scanners.rspamd]
kind = "rspamd"
address = "inet:127.0.0.1:1"
[filters.amavis]
addresses = ["127.0.0.1:1"]
listeners = ["smtp"]
returns_to = "back"
[[listener]]
name = "back"
addresses = ["127.0.0.1:2"]
"""


def test_programs_are_not_asked_and_that_is_said(capsys: Captured, configuration: str) -> None:
    with open(configuration, "a", encoding="utf-8") as file:
        file.write(SECTIONS)
    Path(configuration).with_name("mine.sieve").write_text(PROGRAMS)
    given = Given("192.0.2.1", "h", "", "a@x.test", ("bob@example.test",), b"Subject: hi\r\n\r\nhi\r\n")
    assert explain(configuration, given, quiet=True) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "milter first takes part (it was not asked)\n"
        "content filter amavis gets the message (it was not asked)\nconnect 192.0.2.1\n"
    )
    for line in ("2  command policy_server", "3  command milter", "3  command scan"):
        assert f"    mine.sieve:{line} (it was not asked)\n" in said
    status, found = told(capsys, configuration, given, listener="back")
    assert status == 0
    assert found["programs"] == [
        "milter first takes part (it was not asked)",
        "mail of this listener comes back from a content filter: the server asks the base policy alone",
    ]


def test_what_stands_behind_a_counter_is_explained(capsys: Captured, configuration: str) -> None:
    Path(configuration).with_name("mine.sieve").write_text(COUNTING)
    given = Given("192.0.2.1", "h", "", "a@x.test", ("bob@example.test",))
    assert explain(configuration, given, quiet=True) == 1
    said = capsys.readouterr().out
    mark = "(no counter was looked at)"
    assert f"mail <a@x.test>\n    mine.sieve:3  test rate: no {mark}\n  = goes on\nrcpt" in said
    assert said.endswith("  = 550 5.7.1 behind  [mine.sieve:7]\n")
    assert not list(Path(configuration).parent.rglob("*.sqlite3"))


def test_a_message_does_nothing_to_the_terminal(tmp_path: Path, capsys: Captured, configuration: str) -> None:
    script = Path(configuration).parent / "mine.sieve"
    script.write_text(
        'require ["vnd.tamis.stage", "editheader"];\nstage "data" { deleteheader "Subject"; }\n'
    )
    message = b"Subject: \x1b]0;owned\x07\r\nFrom: a@x.test\r\n\r\nhi\r\n"
    given = Given("192.0.2.1", "mail.x.test", "", "a@x.test", ("bob@example.test",))
    file = tmp_path / "message.eml"
    file.write_bytes(message)
    explain(configuration, given, message=str(file))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "  = header - Subject: \u241b]0;owned\u2407\n" in shown


DIRECTED = """
[identity]
hostname = "mx.example.test"
[domains."example.test"]
backend = "stores"
recipients = "{recipients}"
[director.stores]
backends = ["a", "b"]
{director}
[backends.a]
addresses = ["127.0.0.1:1"]
[backends.b]
addresses = ["127.0.0.1:1"]
[process]
state_directory = "state"
runtime_directory = "run"
"""


def routes(capsys: Captured, path: Path, *users: str) -> tuple[dict[str, str], str]:
    given = Given("192.0.2.1", "mail.x.test", "", "a@x.test", tuple(f"{user}@example.test" for user in users))
    explain(str(path), given, as_machine=True)
    captured = capsys.readouterr()
    return {one["recipient"]: one["next_hop"] for one in json.loads(captured.out)["routes"]}, captured.err


def test_a_director_says_which_mail_store_gets_it(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "tamis.toml"
    path.write_text(DIRECTED.format(recipients="all", director=""))
    users = [f"user{number}" for number in range(12)]
    found, told = routes(capsys, path, *users)
    assert {found[f"{user}@example.test"] for user in users} == {"backend:a", "backend:b"}
    assert "what was changed by `tamis director` is not known" in told  # there is no queue yet
    (tmp_path / "state").mkdir()
    other = {"backend:a": "b", "backend:b": "a"}[found["user1@example.test"]]
    moved = CliRunner().invoke(make_director(lambda: str(path)), ["move", "user1@example.test", other])
    assert moved.exit_code == 0
    after, told = routes(capsys, path, *users, "user1+x")
    assert told == ""
    assert after.pop("user1+x@example.test") == f"backend:{other}"
    assert after == {**found, "user1@example.test": f"backend:{other}"}


def test_a_table_of_users_is_asked_before_a_route_is_found(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "places").write_text("ann@example.test b\nbob@example.test a\n")
    path = tmp_path / "tamis.toml"
    more = 'users = "places"\n[tables.places]\nfile = "places"\n'
    path.write_text(DIRECTED.format(recipients="all", director=more))
    found, _ = routes(capsys, path, "ann", "bob")
    assert found == {"ann@example.test": "backend:b", "bob@example.test": "backend:a"}


def test_a_director_finds_who_is_asked_about_a_recipient(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "tamis.toml"
    path.write_text(DIRECTED.format(recipients="ask", director=""))
    given = Given("192.0.2.1", "mail.x.test", "", "a@x.test", ("ann@example.test",))
    assert explain(str(path), given, as_machine=True) == 1
    (step,) = [one for one in json.loads(capsys.readouterr().out)["stages"] if one["stage"] == "rcpt"]
    assert step["reply"].startswith("451 4.4.1 ")  # nobody listens there
