"""ManageSieve with real processes: users' scripts, and the site's policy put into force by a reload."""

from __future__ import annotations

import re
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.smtp.auth import Credentials
from mta.smtp.authclient import client_mechanism
from tests.peers.managesieve import ADMIN, ALICE, NO_FOLDER, PASSWORD, Client, Site, managesieve_site

POLICY = 'require ["vnd.tamis.stage", "vnd.tamis.reply"];\nstage "helo" {{ reply "{}"; }}\n'
BROKEN = 'require ["vnd.tamis.stage", "vnd.tamis.reply"];\nstage "helo" { header; }\nstage "sent" { }\n'
KEEP = 'require "fileinto";\r\nfileinto "INBOX";\r\n'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with managesieve_site(tmp_path_factory.mktemp("managesieve")) as running:
        yield running


def test_what_is_offered(site: Site) -> None:
    with Client(site.sieve) as client:
        assert '"IMPLEMENTATION" "Tamis"\r\n' in client.greeting
        assert '"SASL" ""\r\n' in client.greeting
        assert '"STARTTLS"\r\n' in client.greeting
        assert client.login(ALICE).startswith("NO (ENCRYPT-NEEDED)")
        offered = client.starttls(site.authority)
        assert '"SASL" "SCRAM-SHA-256 ' in offered.replace("SCRAM-SHA-256-PLUS ", "")
        assert '"STARTTLS"' not in offered
        assert '"fileinto' not in offered
        assert " fileinto " in offered
        assert client.say("LISTSCRIPTS").startswith("NO")
        assert client.login(ALICE, "wrong").startswith("NO")
        assert client.login(ALICE).startswith("OK")
        assert f'"OWNER" "{ALICE}"' in client.say("CAPABILITY")
        assert client.say('NOOP "x"') == 'OK (TAG "x") "done"\r\n'
        assert client.say("UNAUTHENTICATE").startswith("OK")
        assert client.say("LISTSCRIPTS").startswith("NO")
        assert client.login(ADMIN).startswith("OK")
        assert "vnd.tamis.stage" in client.say("CAPABILITY")
        assert client.say("LOGOUT").startswith("OK")
        assert client.read() == ""


def test_a_user_keeps_scripts(site: Site) -> None:
    folder = Path(f"{site.directory}/state/sieve/{ALICE}")
    with site.editor(ALICE) as client:
        assert client.say("LISTSCRIPTS") == "OK\r\n"
        assert client.put("one", KEEP) == "OK\r\n"
        assert client.put("zwei ü", "keep;\r\n") == "OK\r\n"
        assert client.say('SETACTIVE "one"') == "OK\r\n"
        assert client.say("LISTSCRIPTS") == '"one" ACTIVE\r\n"zwei ü"\r\nOK\r\n'
        assert client.say('GETSCRIPT "one"') == f"{{{len(KEEP)}}}\r\n{KEEP}\r\nOK\r\n"
        assert (folder / ".active").read_text() == KEEP.replace("\r\n", "\n")
        assert client.say('DELETESCRIPT "one"').startswith("NO (ACTIVE)")
        assert client.say('RENAMESCRIPT "one" "zwei ü"').startswith("NO (ALREADYEXISTS)")
        assert client.say('RENAMESCRIPT "none" "two"').startswith("NO (NONEXISTENT)")
        assert client.say('RENAMESCRIPT "one" ".hidden"') == "OK\r\n"
        assert client.say("LISTSCRIPTS") == '".hidden" ACTIVE\r\n"zwei ü"\r\nOK\r\n'
        assert client.say('SETACTIVE "none"').startswith("NO (NONEXISTENT)")
        assert client.say('GETSCRIPT "none"').startswith("NO (NONEXISTENT)")
        assert client.say('DELETESCRIPT "none"').startswith("NO (NONEXISTENT)")
        assert client.say('SETACTIVE ""') == "OK\r\n"
        assert client.say('DELETESCRIPT ".hidden"') == "OK\r\n"
        assert client.say('DELETESCRIPT "zwei ü"') == "OK\r\n"
        assert client.say('PUTSCRIPT "../x" "keep;"').startswith("NO")
        assert client.say("LISTSCRIPTS") == "OK\r\n"


def test_a_user_without_a_domain_keeps_those_of_its_address(site: Site) -> None:
    with site.editor("ann") as client:
        assert client.put("one", KEEP) == "OK\r\n"
    assert Path(f"{site.directory}/state/sieve/ann@example.test/one.sieve").exists()


def test_quotas(site: Site) -> None:
    with site.editor(ALICE) as client:
        assert client.say('HAVESPACE "a" 2049').startswith("NO (QUOTA/MAXSIZE)")
        assert client.say('HAVESPACE "a" 2048') == "OK\r\n"
        assert client.put("a", "#" * 3000).startswith("NO (QUOTA/MAXSIZE)")
        for name in "abc":
            assert client.put(name, "keep;\r\n" + "#" * 1300 + "\r\n") == "OK\r\n"
        assert client.say('HAVESPACE "d" 1').startswith("NO (QUOTA/MAXSCRIPTS)")
        assert client.say('HAVESPACE "c" 1800').startswith("NO (QUOTA)")
        assert client.put("c", "#" * 1800).startswith("NO (QUOTA)")
        assert client.say('HAVESPACE "c" 1000') == "OK\r\n"
        for name in "abc":
            assert client.say(f'DELETESCRIPT "{name}"') == "OK\r\n"


def test_all_mistakes_are_told(site: Site) -> None:
    with site.editor(ALICE) as client:
        for answer in (client.check("kep;\r\nfoo;\r\n"), client.put("x", "kep;\r\nfoo;\r\n")):
            assert answer.startswith("NO {")
            assert "1:1: error: " in answer
            assert "2:" in answer
        assert client.check("keep;\r\n") == "OK\r\n"
        assert client.check('require "vnd.tamis.stage";\r\n').startswith("NO")
        assert client.say("LISTSCRIPTS") == "OK\r\n"


def test_the_policy_is_put_into_force(site: Site) -> None:
    assert site.hello().startswith("250")
    with site.editor(ADMIN) as client:
        refused = client.put("main", BROKEN)
        assert "main.sieve:2:16: error" in refused
        assert "main.sieve:3:7: error: there is no stage 'sent'" in refused
        assert client.put("main", POLICY.format("first")) == "OK\r\n"
        assert client.put("other", POLICY.format("other")) == "OK\r\n"
        assert site.hello().startswith("250")
        assert client.say('SETACTIVE "main"') == "OK\r\n"
        assert all(site.hello() == "550 5.7.1 first" for _ in range(6))
    with site.editor(ADMIN) as client:
        assert client.put("main", POLICY.format("second")) == "OK\r\n"
        assert all(site.hello() == "550 5.7.1 second" for _ in range(6))
    with site.editor(ADMIN) as client:
        assert client.say('RENAMESCRIPT "main" "new"') == "OK\r\n"
        assert client.say("LISTSCRIPTS") == '"new" ACTIVE\r\n"other"\r\nOK\r\n'
    assert site.hello() == "550 5.7.1 second"
    # A configuration that does not load refuses the reload: the old script stays in force.
    good = site.path.read_text()
    site.path.write_text(good + "[nonsense]\n")
    with site.editor(ADMIN) as client:
        refused = client.say('SETACTIVE "other"')
        assert refused.startswith("NO ")
        assert "nonsense" in refused
        assert client.put("new", POLICY.format("third")).startswith("NO ")
        assert client.say('RENAMESCRIPT "new" "old"').startswith("NO ")
        assert client.say("LISTSCRIPTS") == '"new" ACTIVE\r\n"other"\r\nOK\r\n'
        assert "second" in client.say('GETSCRIPT "new"')
        site.path.write_text(good)
        assert client.say('SETACTIVE ""') == "OK\r\n"
    assert site.hello().startswith("250")
    with site.editor(ADMIN) as client:
        for name in ("new", "other"):
            assert client.say(f'DELETESCRIPT "{name}"') == "OK\r\n"


def test_a_draining_worker_says_bye(site: Site) -> None:
    with site.editor(ALICE) as client:
        assert site.run("reload").returncode == 0
        assert client.read().startswith("BYE (TRYLATER)")
        assert client.read() == ""
    with site.editor(ALICE) as client:
        assert client.say("LOGOUT").startswith("OK")


def scram(client: Client, user: str, password: str) -> tuple[str, bool]:
    """AUTHENTICATE SCRAM-SHA-256: the response, and whether the server has proved itself."""
    exchange = client_mechanism(["SCRAM-SHA-256"], Credentials(user, password=password), {}, encrypted=True)
    first = b64encode(exchange.initial() or b"").decode()
    challenge = client.line(f'AUTHENTICATE "SCRAM-SHA-256" "{first}"')
    assert challenge.startswith('"')
    answer = client.say(f'"{b64encode(exchange.respond(b64decode(challenge.strip()[1:-1]))).decode()}"')
    if found := re.match(r'OK \(SASL "([^"]+)"\)', answer):
        exchange.respond(b64decode(found[1]))
    return answer, exchange.complete


def test_scram(site: Site) -> None:
    with site.editor() as client:
        assert scram(client, ALICE, "wrong")[0].startswith("NO")
        answer, proved = scram(client, ALICE, PASSWORD)
        assert answer.startswith('OK (SASL "')
        assert proved
        assert client.say("LISTSCRIPTS") == "OK\r\n"


def test_implicit_tls_and_guessing(site: Site) -> None:
    with Client(site.implicit, site.authority) as client:
        assert '"STARTTLS"' not in client.greeting
        assert client.say("STARTTLS").startswith("NO")
        assert client.login(ALICE, "wrong").startswith("NO")
        assert client.login(ALICE, "wrong").startswith("NO")
        assert client.login(ALICE, "wrong").startswith("BYE")
        assert client.read() == ""


def test_who_cannot_have_scripts_hears_one_answer(site: Site) -> None:
    with site.editor() as client:
        assert client.login(NO_FOLDER) == 'BYE "the name of the user cannot be the name of a folder"\r\n'
        assert client.read() == ""


def test_who_does_not_log_in_is_sent_away(site: Site) -> None:
    with Client(site.sieve) as client:
        began = time.monotonic()
        assert client.read().startswith("BYE (TRYLATER)")
        assert time.monotonic() - began > 1
        assert client.read() == ""


def test_a_script_that_never_ends_does_not_hold_its_place(site: Site) -> None:
    with site.editor(ALICE) as client:
        client.sock.sendall(b'PUTSCRIPT "a" {1000+}\r\nkeep;')
        assert client.read().startswith("BYE (TRYLATER)")
        assert client.read() == ""


def test_a_user_who_has_logged_in_may_think(site: Site) -> None:
    with site.editor(ALICE) as client:
        time.sleep(3.5)  # longer than any client may be silent in SMTP here
        assert client.say("LISTSCRIPTS") == "OK\r\n"


def test_two_administrators_at_once(site: Site) -> None:
    """Each hears the truth: afterwards the policy in force is that of the script that is active."""
    editors = [site.editor(ADMIN) for _ in range(3)]
    try:
        for n, editor in enumerate(editors):
            assert editor.put(f"p{n}", POLICY.format(n)) == "OK\r\n"
        for n, editor in enumerate(editors):
            editor.sock.sendall(f'SETACTIVE "p{n}"\r\n'.encode())
        answers = [editor.read() for editor in editors]
        assert all(answer.startswith(("OK", "NO (TRYLATER)")) for answer in answers), answers
    finally:
        for editor in editors:
            editor.close()
    with site.editor(ADMIN) as client:
        (active,) = [line for line in client.say("LISTSCRIPTS").splitlines() if "ACTIVE" in line]
        assert site.hello() == f"550 5.7.1 {active[2]}"
        assert client.say('SETACTIVE ""') == "OK\r\n"
    with site.editor(ADMIN) as client:
        for n in range(3):
            assert client.say(f'DELETESCRIPT "p{n}"') == "OK\r\n"
