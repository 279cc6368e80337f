"""`tamis dkim` against a DNS server on loopback."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from typer.testing import CliRunner, Result

from mta.authn import dkimrotate
from mta.authn.dkimfolder import KeyFolder
from mta.authn.dkimrotate import KeyState
from mta.cli_dkim import make_app
from mta.cli_exit import EXIT_CONFIG
from mta.net.resolver.server import Address
from mta.net.resolver.system import system_resolvers

DOMAIN = "example.org"


class Zone:
    """A DNS server with the lines of a zone file."""

    def __init__(self) -> None:
        self.records: dict[str, dns.rrset.RRset] = {}
        self.broken = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def publish(self, output: str) -> None:
        """Add all lines of a zone file that a command printed."""
        for name, ttl, text in re.findall(r"^(\S+)\. (\d+) IN TXT (.*)$", output, re.MULTILINE):
            self.records[name] = dns.rrset.from_text(f"{name}.", int(ttl), "IN", "TXT", text.strip("() "))

    def close(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while octets := self._socket.recvfrom(4096):
            if not octets[0]:
                return
            query = dns.message.from_wire(octets[0])
            reply = dns.message.make_response(query)
            reply.flags |= dns.flags.RA | dns.flags.AD
            found = self.records.get(query.question[0].name.to_text(omit_final_dot=True).lower())
            if self.broken:
                reply.set_rcode(dns.rcode.SERVFAIL)
            elif found is None:
                reply.set_rcode(dns.rcode.NXDOMAIN)
            else:
                reply.answer.append(found)
            self._socket.sendto(reply.to_wire(), octets[1])


@pytest.fixture
def zone() -> Iterator[Zone]:
    zone = Zone()
    yield zone
    zone.close()


class Terminal:
    """Runs commands on a folder of keys."""

    def __init__(self, path: Path) -> None:
        self.folder = KeyFolder(path)
        self._app = make_app(lambda: path, lambda: None)

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(self._app, list(words))

    @property
    def states(self) -> dict[str, str]:
        return {entry.selector: entry.state.value for entry in self.folder.entries(DOMAIN)}


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path / "dkim")


def test_more_keys_beside_those_there_are(terminal: Terminal) -> None:
    terminal.run("new", DOMAIN, "--type", "ed25519", "--selector", "one")
    more = terminal.run("new", DOMAIN, "--type", "ed25519", "--selector", "two")
    assert more.exit_code == 0
    replace = f"to replace keys: tamis dkim rotate {DOMAIN} --begin\n"
    assert f"note: {DOMAIN} had one before; {replace}" in more.stderr
    assert "note:" not in terminal.run("new", DOMAIN, "--type", "rsa", "--selector", "three").stderr


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_list_of_a_domain_without_keys(terminal: Terminal, option: tuple[str, ...]) -> None:
    def listed(domain: str) -> tuple[int, str, str]:
        done = terminal.run("list", domain, *option)
        return done.exit_code, done.stdout, done.stderr

    none = "error: there are no keys for nosuch.org; there are some for "
    assert listed("NoSuch.org") == (1, "", f"{none}no domain\n")
    for domain in ("example.net", DOMAIN, "past.example"):
        terminal.run("new", domain, "--type", "ed25519", "--selector", "one")
    terminal.run("delete", "past.example", "one", "--force")
    assert listed("nosuch.org") == (1, "", f"{none}example.net, {DOMAIN}\n")
    assert listed("past.example")[0] == 1
    assert listed(DOMAIN)[0] == 0
    assert terminal.run("list").exit_code == 0


def test_a_key_made_by_mistake_is_deleted_unless_it_is_in_use(terminal: Terminal, zone: Zone) -> None:
    def delete(name: str, *words: str) -> tuple[int, str, str]:
        done = terminal.run("delete", DOMAIN, name, "--resolver", zone.address, *words)
        return done.exit_code, done.stdout, done.stderr

    assert delete("one") == (EXIT_CONFIG, "", f"error: {DOMAIN} has no keys in {terminal.folder._path}\n")
    for name in ("one", "two", "three", "four"):
        made = terminal.run("new", DOMAIN, "--type", "ed25519", "--selector", name)
        if name in ("one", "two"):
            zone.publish(made.stdout)
        if name == "one":
            first = made.stdout
            terminal.run("rotate", DOMAIN, "--resolver", zone.address)
    assert terminal.states["one"] == "active"

    status, output, error = delete("one")
    assert (status, output) == (1, "")
    assert error.startswith("error: one signs; to replace it: tamis dkim rotate example.org --begin")
    assert delete("two")[0] == 1
    assert delete("three", "--keys", str(terminal.folder._path)) == (0, "three is deleted\n", "")
    zone.broken = True
    assert "four._domainkey.example.org: " in delete("four")[2]
    assert set(terminal.states) == {"one", "two", "four"}
    for name in ("one", "four"):
        assert delete(name.upper(), "--force") == (0, f"{name} is deleted\n", "")
    zone.broken = False
    zone.publish(first.replace("one._domainkey", "two._domainkey"))  # a record with another key
    assert "remove the record first, or add --force" in delete("two")[2]
    zone.records.clear()
    assert delete("two")[0] == 0
    assert not list(terminal.folder._path.rglob("*.pem"))
    assert delete("two") == (1, "", f"error: {DOMAIN} has no key two\n")


def test_from_the_first_key_to_a_rotation(terminal: Terminal, zone: Zone) -> None:
    made = terminal.run("new", "Example.ORG")
    assert made.exit_code == 0
    assert made.stdout.count("._domainkey.example.org. 3600 IN TXT ") == 2
    assert "note:" not in made.stderr
    assert set(terminal.states.values()) == {"new"}
    waiting = terminal.run("rotate", DOMAIN, "--resolver", zone.address)
    assert (waiting.exit_code, waiting.stdout.count("publish its record")) == (0, 2)
    zone.publish(waiting.stdout)
    done = terminal.run("rotate", DOMAIN, "--resolver", zone.address)
    assert done.stdout.count("signs from now on") == 2
    old = dict(terminal.states)
    assert set(old.values()) == {"active"}
    tested = terminal.run("test", "--resolver", zone.address)
    assert tested.exit_code == 0, tested.output
    assert tested.stdout.count("(active): ok; its signature: pass, secure") == 2

    assert "nothing to do" in terminal.run("rotate", DOMAIN, "--resolver", zone.address).stdout
    assert terminal.states == old
    zone.publish(terminal.run("rotate", DOMAIN, "--begin").stdout)
    assert len(terminal.states) == 4
    again = terminal.run("rotate", DOMAIN, "--begin")
    assert (again.exit_code, "already" in again.stderr) == (1, True)
    assert "60 minutes" in terminal.run("rotate", DOMAIN, "--resolver", zone.address).stdout
    terminal.run("rotate", DOMAIN, "--resolver", zone.address, "--at-once")
    assert {name: terminal.states[name] for name in old} == dict.fromkeys(old, "retired")
    assert sorted(terminal.states.values()) == ["active", "active", "retired", "retired"]
    assert terminal.run("rotate", DOMAIN, "--resolver", zone.address).stdout == "nothing to do now\n"

    # A week later.
    later = [
        dkimrotate.KeyEntry(
            entry.selector, entry.type, entry.created, entry.state, entry.since - dkimrotate.KEEP
        )
        for entry in terminal.folder.entries(DOMAIN)
    ]
    with terminal.folder.locked(DOMAIN):
        terminal.folder.write(DOMAIN, later)
    asked = terminal.run("rotate", DOMAIN, "--resolver", zone.address)
    assert asked.stdout.count("remove its record") == 2
    for name in old:
        del zone.records[f"{name}._domainkey.{DOMAIN}"]
    assert terminal.run("rotate", DOMAIN, "--resolver", zone.address).stdout.count("deleted") == 2
    assert set(terminal.states.values()) == {"active"}
    assert not set(old) & set(terminal.states)
    assert all(not terminal.folder.key_path(DOMAIN, name).exists() for name in old)


def test_the_dns_does_not_answer(terminal: Terminal, zone: Zone) -> None:
    zone.publish(terminal.run("new", DOMAIN, "--type", "ed25519").stdout)
    terminal.run("rotate", DOMAIN, "--resolver", zone.address)
    assert set(terminal.states.values()) == {"active"}
    zone.broken = True
    assert terminal.run("rotate", DOMAIN, "--begin").exit_code == 0  # asks nobody
    for command in ("rotate", "test"):
        result = terminal.run(command, DOMAIN, "--resolver", zone.address)
        assert result.exit_code == 1
        assert "SERVFAIL" in result.stdout or "unknown" in result.stdout
    assert sorted(terminal.states.values()) == ["active", "new"]


def test_another_key_is_published(terminal: Terminal, zone: Zone) -> None:
    made = terminal.run("new", DOMAIN, "--type", "ed25519", "--selector", "mail").stdout
    zone.publish(made)
    terminal.run("rotate", DOMAIN, "--resolver", zone.address)
    zone.publish(re.sub(r"p=[^\"]*", "p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", made))
    found = terminal.run("test", "--resolver", zone.address, "--json")
    assert found.exit_code == 1
    (one,) = json.loads(found.stdout)
    assert (one["published"], one["reason"], one["signature"]) == (
        "wrong",
        "the record has another key",
        "fail",
    )


def test_list_and_record(terminal: Terminal) -> None:
    assert terminal.run("list").exit_code == 0
    terminal.run("new", DOMAIN)
    rows = json.loads(terminal.run("list", "--json").stdout)
    assert [(row["domain"], row["type"], row["state"]) for row in rows] == [
        (DOMAIN, "rsa", "new"), (DOMAIN, "ed25519", "new"),
    ]  # fmt: skip
    assert DOMAIN in terminal.run("list", DOMAIN).stdout
    records = json.loads(terminal.run("record", DOMAIN, "--json").stdout)
    assert records[0]["name"] == f"{rows[0]['selector']}._domainkey.{DOMAIN}"
    assert records[0]["text"].startswith("v=DKIM1; k=rsa; p=")
    line = terminal.run("record", DOMAIN, rows[1]["selector"]).stdout
    assert line.count("\n") == 1
    assert records[1]["text"] in line


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("new", "a b"), 2, "is no domain"),
        (("new", DOMAIN, "--type", "dsa"), 2, "neither rsa nor ed25519"),
        (("new", DOMAIN, "--selector", "x"), 2, "give --type too"),
        (("new", DOMAIN, "--type", "rsa", "--selector", "a b"), 2, "cannot be a selector"),
        (("new", DOMAIN, "--bits", "1024"), 2, "from 2048 to 4096"),
        (("rotate", DOMAIN), 1, "has no keys"),
        (("record", DOMAIN), 1, "has no keys"),
        (("record", DOMAIN, "x"), 1, "has no key x"),
        (("test", DOMAIN), 1, f"there are no keys for {DOMAIN} in /"),
        (("test",), 1, "there are no keys in /"),
    ],
)
def test_mistakes(terminal: Terminal, words: tuple[str, ...], code: int, text: str) -> None:
    result = terminal.run(*words)
    assert result.exit_code == code
    assert text in result.stderr
    assert result.stdout == ""


def test_without_keys_there_is_json_all_the_same(terminal: Terminal) -> None:
    found = terminal.run("test", "--json")
    assert (found.exit_code, found.stdout) == (1, "[]\n")
    assert "there are no keys in /" in found.stderr


def test_one_domain_of_several_without_keys(terminal: Terminal, zone: Zone) -> None:
    """What is found of the others is told, and the status is that of something wrong."""
    terminal.run("new", DOMAIN)
    found = terminal.run("test", DOMAIN, "other.example", "--resolver", zone.address, "--json")
    assert (found.exit_code, len(json.loads(found.stdout))) == (1, 2)
    assert "there are no keys for other.example in /" in found.stderr


@pytest.mark.parametrize(
    ("resolver", "text"),
    [("resolver.example", "IPv4"), ("127.0.0.1:x", "no port"), ("[::1]:99999", "no port")],
)
def test_no_resolvers(terminal: Terminal, resolver: str, text: str) -> None:
    terminal.run("new", DOMAIN, "--type", "ed25519")
    result = terminal.run("rotate", DOMAIN, "--resolver", resolver)
    assert result.exit_code == 2
    assert text in result.stderr
    assert KeyState.NEW in terminal.states.values()


def test_files_that_cannot_be_used(terminal: Terminal) -> None:
    terminal.run("new", DOMAIN, "--type", "ed25519", "--selector", "mail")
    again = terminal.run("new", DOMAIN, "--type", "rsa", "--selector", "mail")
    assert (again.exit_code, "has a key mail" in again.stderr) == (EXIT_CONFIG, True)
    path = terminal.folder.key_path(DOMAIN, "mail")
    path.chmod(0o644)
    result = terminal.run("record", DOMAIN)
    assert (result.exit_code, "mode 0644" in result.stderr) == (EXIT_CONFIG, True)
    path.unlink()
    assert terminal.run("test").exit_code == EXIT_CONFIG
    (path.parent / "keys.json").write_text("{")
    assert terminal.run("list").exit_code == EXIT_CONFIG


def test_the_resolvers_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    assert system_resolvers(str(path)) == [Address("127.0.0.1")]
    path.write_text("# nameserver 1.1.1.1\nsearch x\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\n")
    assert system_resolvers(str(path)) == [Address("127.0.0.53"), Address("fe80::1%eth0")]
    path.write_text("nameserver my.router\nnameserver 127.0.0.53#53\nnameserver\nnameserver ::1\n")
    assert system_resolvers(str(path)) == [Address("::1")]
    path.write_text("nameserver my.router\n")
    assert system_resolvers(str(path)) == [Address("127.0.0.1")]
