"""Scripts of domains and users: what they may say, where they are found, what becomes of bad ones."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter

import pytest

from mta import config
from mta.address import Address, parse_address
from mta.policy.sieve import sandbox
from mta.policy.sieve.loading import load_domains
from mta.policy.sieve.sandbox import UserScripts, load_sandboxed, path_of

REQUIRE = 'require ["vnd.tamis.stage", "vnd.tamis.reply", "envelope", "environment"];\n'
GOOD = 'stage "rcpt" { reply "no"; }'


def faults(text: str, require: str = REQUIRE) -> list[str]:
    _, found = load_sandboxed("/p/u.sieve", (require + text).encode())
    return [one.diagnostic.code for one in found if not one.is_warning]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        'stage "data" { if header "subject" "x" { discard; } }',
        'stage "data" { if allof (size :over 1M, exists "list-id") { reply :code 552 "no"; } }',
        'stage "rcpt" { if environment "vnd.tamis.tls.version" "" { defer "with TLS only"; } }',
        'stage "rcpt" { if envelope "from" "a@x.test" { accept; } }',
    ],
)
def test_what_they_may_say(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('stage "connect" { reply "no"; }', "not-yours"),
        ('stage "mail" { reply "no"; }', "not-yours"),
        ('stage "route" { reply "no"; }', "not-yours"),
        ('stage "retry" { reply "no"; }', "not-yours"),
        ('stage "data" { defer; }', "not-temporary"),
        ('stage "data" { reply :tempfail "no"; }', "not-temporary"),
        ('stage "data" { reply :code 451 "no"; }', "not-temporary"),
        ('stage "rcpt" { reply :code 421 "no"; }', "not-yours"),
        ('stage "data" { addheader "A" "b"; }', "unknown-command"),
        ('stage "rcpt" { disconnect; }', "unknown-command"),
        ('stage "rcpt" { tarpit 5; }', "unknown-command"),
        ('stage "rcpt" { hold; }', "unknown-command"),
        ('stage "rcpt" { rewrite_recipient "a@x.test"; }', "unknown-command"),
        ('stage "rcpt" { check_recipient; }', "unknown-command"),
    ],
)
def test_what_they_may_not_say(text: str, code: str) -> None:
    assert faults(text) == [code]


@pytest.mark.parametrize(
    "capability",
    [
        *("vnd.tamis.net", "vnd.tamis.route", "vnd.tamis.queue", "vnd.tamis.envelope", "vnd.tamis.site"),
        *(
            "vnd.tamis.milter",
            "extlists",
            "body",
            "editheader",
            "mime",
            "foreverypart",
            "fileinto",
            "include",
        ),
    ],
)
def test_what_they_may_not_require(capability: str) -> None:
    assert faults(GOOD, f'require ["vnd.tamis.stage", "vnd.tamis.reply", "{capability}"];\n') == [
        "unknown-capability"
    ]


@pytest.mark.parametrize(
    ("pattern", "address", "path"),
    [
        ("/u/%d/%u.sieve", parse_address("Bob@Example.test"), "/u/example.test/bob.sieve"),
        ("/u/%u@%d", parse_address("bob@example.test"), "/u/bob@example.test"),
        ("/u/100%%/%u", parse_address("bob@example.test"), "/u/100%/bob"),
        ("/u/%u", parse_address('"%d"@example.test'), "/u/%d"),
        ("/u/%d/%u", parse_address("Ju\u0308rgen@Bücher.test"), "/u/xn--bcher-kva.test/j\u00fcrgen"),
        ("/u/%u", parse_address('"../../etc/passwd"@example.test'), None),
        ("/u/%u", parse_address('"..@"@example.test'), None),
        ("/u/%u", parse_address(f"{'x' * 64}@example.test"), f"/u/{'x' * 64}"),
        ("/u/%u", Address("postmaster", "", "postmaster"), None),
        ("/u/%u", parse_address("bob@[192.0.2.1]"), "/u/bob"),
    ],
)
def test_paths(pattern: str, address: Address, path: str | None) -> None:
    assert path_of(pattern, address) == path


def test_a_users_script_is_read_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    scripts = UserScripts(f"{tmp_path}/%u", told.append)
    bob, ann = parse_address("bob@example.test"), parse_address("ann@example.test")
    path = tmp_path / "bob"
    assert scripts.of(bob) is None
    path.write_text(REQUIRE + GOOD)
    first = scripts.of(bob)
    assert first is not None
    assert first.has("rcpt")
    assert scripts.of(bob) is first
    path.write_text(REQUIRE + 'stage "data" { discard; }')
    os.utime(path, ns=(1, 1))
    second = scripts.of(bob)
    assert second is not None
    assert not second.has("rcpt")
    assert told == []
    path.write_text("stage {")
    assert scripts.of(bob) is None
    assert scripts.of(bob) is None
    assert len(told) == 1
    assert f"{path}:1:" in told[0]
    path.unlink()
    assert scripts.of(bob) is None
    path.mkdir()
    assert scripts.of(bob) is None
    assert len(told) == 2
    monkeypatch.setattr(sandbox, "USERS_MOST", 1)
    (tmp_path / "ann").write_text(REQUIRE + GOOD)
    assert scripts.of(ann) is not None
    assert list(scripts._kept) == [str(tmp_path / "ann")]


def test_domains_share_a_script(tmp_path: Path) -> None:
    domains = "".join(f'[domains."{name}.test"]\nrecipients = "all"\nscript = "s"\n' for name in "abc")
    path = tmp_path / "tamis.toml"
    path.write_text(f'identity.hostname = "mx.a.test"\n{domains}[backends.x]\naddresses = ["192.0.2.7:24"]\n')
    (tmp_path / "s").write_text(REQUIRE + GOOD)
    programs = load_domains(config.parse(path.read_text(), str(path)))
    assert set(programs) == {"a.test", "b.test", "c.test"}
    assert len({id(program) for program in programs.values()}) == 1
    (tmp_path / "s").write_text("keep;")
    (mistake,) = config.examine(str(path)).errors
    assert str(mistake).startswith(f"{tmp_path}/s:1:")


def test_a_script_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "bob").write_text(REQUIRE + GOOD + "#" * sandbox.USER_OCTETS)
    assert UserScripts(f"{tmp_path}/%u", told.append).of(parse_address("bob@example.test")) is None
    assert told == [f"{tmp_path}/bob: the script is larger than 64 KiB and not used"]


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_nobody_waits_for_what_is_no_file(kind: str, tmp_path: Path) -> None:
    """In a folder of its own a user may put anything; the worker serves everybody else meanwhile."""
    told: list[str] = []
    if kind == "pipe":
        os.mkfifo(tmp_path / "bob")
    else:
        (tmp_path / "bob").symlink_to("/dev/zero")
    assert UserScripts(f"{tmp_path}/%u", told.append).of(parse_address("bob@example.test")) is None
    assert told == [f"{tmp_path}/bob: this is no file, and not used"]


def test_many_blocks_are_looked_at_once() -> None:
    """A user's script is compiled while sessions wait; each block is not held against all before it."""
    began = perf_counter()
    assert faults('stage "data" {}\n' * 20_000) == []
    assert perf_counter() - began < 20  # half a second; a minute when it was quadratic


def test_a_block_behind_accept_is_dead() -> None:
    text = (
        'stage "data" { accept; }\nstage "data" { discard; }\nstage "rcpt" { defer; }\nstage "data" { stop; }'
    )
    _, found = load_sandboxed("/p/u.sieve", (REQUIRE + text).encode())
    assert [(one.diagnostic.code, one.diagnostic.line) for one in found] == [
        ("dead-stage", 3),
        ("dead-stage", 5),
    ]
