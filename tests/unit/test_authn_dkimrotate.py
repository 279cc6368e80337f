"""Keys for signatures and their records: comparisons, each step of a rotation, and a whole one."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.authn.dkimfolder import STATE_FILE, KeyFolder, check_domain
from mta.authn.dkimkeys import KeyFileError, SigningKey, make_key
from mta.authn.dkimrecord import Comparison, Published, compare, record_text, strings, zone_line
from mta.authn.dkimrotate import KEEP, SETTLE, KeyEntry, KeyState, Step, advance, is_resting, types_to_renew
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.fake import FakeResolver
from tests.unit.dkim_kit import DOMAIN, ED25519, NOW, RSA, record

SHORT = SigningKey(DOMAIN, "x", make_key("rsa", 1024))
OK, ABSENT, WRONG = (
    Comparison(Published.OK),
    Comparison(Published.ABSENT),
    Comparison(Published.WRONG, "other"),
)
UNKNOWN, REVOKED = Comparison(Published.UNKNOWN, "timeout"), Comparison(Published.REVOKED)


def answer(*texts: str | bytes) -> Answer:
    dns = FakeResolver()
    if texts:
        dns.text("x.example", *texts)
    return asyncio.run(dns.query("x.example", "TXT", 1e9))


COMPARISONS: list[tuple[str, SigningKey, Answer, Published, str]] = [
    ("ours", RSA, answer(record(RSA)), Published.OK, ""),
    ("ours, of the other type", ED25519, answer(record(ED25519)), Published.OK, ""),
    ("as we print it", RSA, answer(record_text(RSA)), Published.OK, ""),
    ("with blanks", RSA, answer(record_text(RSA).replace(";", " ; ").replace("p=", "p= ")), Published.OK, ""),
    ("nothing", RSA, answer(), Published.ABSENT, "no record"),
    ("no answer", RSA, Answer(Status.FAIL, reason="timeout"), Published.UNKNOWN, "timeout"),
    ("bogus", RSA, Answer(Status.BOGUS), Published.UNKNOWN, "no answer"),
    ("two", RSA, answer(record(RSA), record(RSA, "n=1; ")), Published.WRONG, "2 records"),
    ("revoked", RSA, answer("v=DKIM1; p="), Published.REVOKED, "revoked"),
    ("another key", RSA, answer(record(SHORT)), Published.WRONG, "another key"),
    ("another type", RSA, answer(record(ED25519)), Published.WRONG, "for ed25519"),
    ("for sha1", RSA, answer(record(RSA, "h=sha1; ")), Published.WRONG, "SHA-256"),
    ("not for mail", RSA, answer(record(RSA, "s=other; ")), Published.WRONG, "not for mail"),
    ("cut", RSA, answer(record(RSA)[:-20]), Published.WRONG, ""),
    ("something else", RSA, answer("v=spf1 -all"), Published.WRONG, "version"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "found", "state", "reason"), [r[1:] for r in COMPARISONS], ids=[r[0] for r in COMPARISONS]
)
def test_comparisons(key: SigningKey, found: Answer, state: Published, reason: str) -> None:
    comparison = compare(key, found)
    assert comparison.state is state, comparison.reason
    assert reason in comparison.reason


def test_warnings() -> None:
    found = compare(RSA, answer(record(RSA, "t=y; ").removeprefix("v=DKIM1; ")))
    assert found.state is Published.OK
    assert len(found.warnings) == 2


@pytest.mark.parametrize(
    "key", [RSA, ED25519, SigningKey(DOMAIN, "big", make_key("rsa", 4096))], ids=["rsa", "ed", "4096"]
)
def test_the_line_of_a_zone_file_is_read_back(key: SigningKey) -> None:
    line = zone_line(key)
    name, _, rest = line.partition(". 3600 IN TXT ")
    assert name == f"{key.selector}._domainkey.{DOMAIN}"
    dns = FakeResolver()
    dns.add(name, "TXT", rest.strip("() "))
    assert all(len(string) <= 255 for string in strings(record_text(key)))
    assert compare(key, asyncio.run(dns.query(name, "TXT", 1e9))).state is Published.OK


def entry(state: KeyState, age: int = 0, selector: str = "a", kind: str = "rsa") -> KeyEntry:
    return KeyEntry(selector, kind, NOW - age, state, NOW - age)


NEW, PUBLISHED, ACTIVE, RETIRED = KeyState
STEPS: list[tuple[str, KeyEntry, Comparison, bool, KeyState | None, str, bool]] = [
    # what, key, DNS, whether another key signs, state afterwards, words, problem
    ("not yet there", entry(NEW), ABSENT, False, NEW, "publish", False),
    ("there is another", entry(NEW), WRONG, False, NEW, "other", True),
    ("seen, the first", entry(NEW), OK, False, ACTIVE, "signs from now on", False),
    ("seen, to replace", entry(NEW), OK, True, PUBLISHED, "60 minutes", False),
    ("no answer", entry(NEW), UNKNOWN, False, NEW, "timeout", True),
    ("not long enough", entry(PUBLISHED, 600), OK, True, PUBLISHED, "50 minutes", False),
    ("long enough", entry(PUBLISHED, SETTLE), OK, True, ACTIVE, "signs from now on", False),
    ("gone again", entry(PUBLISHED, SETTLE), ABSENT, True, NEW, "no longer", True),
    ("no answer either", entry(PUBLISHED, SETTLE), UNKNOWN, True, PUBLISHED, "timeout", True),
    ("signs", entry(ACTIVE, 10**6), OK, False, ACTIVE, "", False),
    ("signs for nothing", entry(ACTIVE, 10**6), ABSENT, False, ACTIVE, "not right", True),
    ("must stay", entry(RETIRED, KEEP - 1), OK, True, RETIRED, "", False),
    ("went too early", entry(RETIRED, KEEP - 1), ABSENT, True, RETIRED, "too early", True),
    ("may go", entry(RETIRED, KEEP), OK, True, RETIRED, "remove its record, a._domainkey.example.org", False),
    ("has gone", entry(RETIRED, KEEP), ABSENT, True, None, "deleted", False),
    ("is revoked", entry(RETIRED, KEEP), REVOKED, True, None, "deleted", False),
    ("who knows", entry(RETIRED, KEEP), UNKNOWN, True, RETIRED, "timeout", True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "seen", "other", "state", "words", "problem"),
    [row[1:] for row in STEPS],
    ids=[row[0] for row in STEPS],
)
def test_steps(
    key: KeyEntry, seen: Comparison, other: bool, state: KeyState | None, words: str, problem: bool
) -> None:
    entries = [key]
    if other:
        entries.append(entry(ACTIVE, 10**7, "old"))
    step = advance(DOMAIN, entries, {"a": seen, "old": OK}, NOW)
    after = {each.selector: each for each in step.entries}
    assert (after["a"].state if "a" in after else None) is state
    assert words in "".join(step.events)
    assert step.problem is problem
    assert step.gone == (() if state else (key,))
    if other:
        assert after["old"].state is (KeyState.RETIRED if state is ACTIVE else KeyState.ACTIVE)


def test_a_whole_rotation() -> None:
    entries: tuple[KeyEntry, ...] = (entry(ACTIVE, 10**6, "old"), entry(ACTIVE, 10**6, "olded", "ed25519"))
    assert is_resting(entries)
    assert types_to_renew(entries) == ("rsa", "ed25519")
    entries = (*entries, entry(NEW, 0, "new"))
    said = []
    dns = {"old": OK, "olded": OK, "new": ABSENT}
    for passed, change in (
        (0, {}),
        (60, {"new": OK}),
        (60 + SETTLE, {}),
        (KEEP + 9000, {}),
        (KEEP + 9001, {"old": ABSENT}),
    ):
        dns |= change
        step = advance(DOMAIN, entries, dns, NOW + passed)
        entries = step.entries
        said.append({each.selector: each.state.value for each in entries})
        assert not step.problem
    assert said == [
        {"old": "active", "olded": "active", "new": "new"},
        {"old": "active", "olded": "active", "new": "published"},
        {"old": "retired", "olded": "active", "new": "active"},
        {"old": "retired", "olded": "active", "new": "active"},
        {"olded": "active", "new": "active"},
    ]
    assert is_resting(entries)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2 * KEEP)), max_size=30), st.integers(0, 2**32))
def test_a_type_never_loses_its_last_active_key(moves: list[tuple[int, int]], seed: int) -> None:
    """Whatever the DNS does: who signs goes on signing, with one key of a type, until another one does."""
    chance = random.Random(seed)
    entries: tuple[KeyEntry, ...] = (entry(ACTIVE, 5, "0"), entry(ACTIVE, 5, "1", "ed25519"))
    now = NOW
    for count, (kind, wait) in enumerate(moves):
        now += wait
        if kind == 0:
            entries = (*entries, KeyEntry(f"n{count}", chance.choice(["rsa", "ed25519"]), now, NEW, now))
        dns = {each.selector: chance.choice([OK, ABSENT, WRONG, UNKNOWN, REVOKED]) for each in entries}
        step: Step = advance(DOMAIN, entries, dns, now)
        assert set(entries) >= set(step.gone)
        assert all(each.state is RETIRED for each in step.gone)
        entries = step.entries
        active = sorted(each.type for each in entries if each.state is ACTIVE)
        assert active == ["ed25519", "rsa"]


def test_names_are_on_the_disk_before_a_key_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    flush, rename, unlink = os.fsync, os.replace, os.unlink

    def flushed(fd: int) -> None:
        done.append(f"flush {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}")
        flush(fd)

    def renamed(old: str, new: str, **places: int) -> None:
        done.append(f"rename {new}")
        rename(old, new, **places)

    def deleted(name: str, **place: int) -> None:
        done.append(f"delete {name}")
        unlink(name, **place)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(os, "unlink", deleted)
    folder = KeyFolder(tmp_path / "dkim")
    (old,) = folder.create(DOMAIN, ["ed25519"], "old", 2048, NOW)
    assert done[:2] == [f"flush {tmp_path.name}", "flush dkim"]  # the two new folders
    assert done[-2:] == [f"rename {STATE_FILE}", f"flush {DOMAIN}"]
    done.clear()
    with folder.locked(DOMAIN):
        folder.write(DOMAIN, [], gone=[old])
    assert done[1:] == [f"rename {STATE_FILE}", f"flush {DOMAIN}", "delete old.pem"]


def test_a_state_that_cannot_be_written_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = KeyFolder(tmp_path)
    (old,) = folder.create(DOMAIN, ["ed25519"], "old", 2048, NOW)
    before = sorted(os.listdir(tmp_path / DOMAIN))

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with folder.locked(DOMAIN), pytest.raises(KeyFileError, match="No space left"):
        folder.write(DOMAIN, [], gone=[old])
    assert sorted(os.listdir(tmp_path / DOMAIN)) == before
    assert folder.entries(DOMAIN) == (old,)


def test_the_folder(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "dkim")
    assert folder.domains() == []
    assert folder.signing_keys(DOMAIN) == ()
    with pytest.raises(KeyFileError, match="has no keys"), folder.locked(DOMAIN):
        pass
    made = folder.create(DOMAIN, ("rsa", "ed25519"), "", 2048, NOW)
    assert [each.selector for each in made] == ["20261127-rsa", "20261127-ed25519"]
    assert folder.create(DOMAIN, ("ed25519",), "", 2048, NOW)[0].selector == "20261127-ed25519-2"
    assert folder.domains() == [DOMAIN]
    for path in (tmp_path / "dkim", tmp_path / "dkim" / DOMAIN):
        assert path.stat().st_mode & 0o777 == 0o700
    assert folder.signing_keys(DOMAIN) == ()
    entries = tuple(
        KeyEntry(each.selector, each.type, each.created, ACTIVE, NOW) for each in folder.entries(DOMAIN)
    )
    with folder.locked(DOMAIN):
        folder.write(DOMAIN, entries[:2][::-1], gone=entries[2:])
    assert [(key.selector, key.type) for key in folder.signing_keys(DOMAIN)] == [
        ("20261127-rsa", "rsa"), ("20261127-ed25519", "ed25519"),
    ]  # fmt: skip
    first, again = folder.signing_keys(DOMAIN), folder.signing_keys(DOMAIN)
    assert [key.key for key in first] == [key.key for key in again]
    assert not folder.key_path(DOMAIN, "20261127-ed25519-2").exists()
    with pytest.raises(KeyFileError, match="has a key"):
        folder.create(DOMAIN, ("rsa",), "20261127-rsa", 2048, NOW)


def test_root_makes_and_deletes_no_keys_behind_a_link_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's user owns the folder and makes the folder of a domain a link to one of root's."""
    keys, target = tmp_path / "dkim", tmp_path / "target"
    keys.mkdir()
    made = KeyFolder(target)
    (old,) = made.create(DOMAIN, ["ed25519"], "old", 2048, NOW)
    before = sorted(path.name for path in (target / DOMAIN).iterdir())
    (keys / DOMAIN).symlink_to(target / DOMAIN)
    if os.geteuid() == 0:
        os.chown(keys, 65534, 65534)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    folder = KeyFolder(keys, (65534, 65534))
    with pytest.raises(KeyFileError, match=f"{keys / DOMAIN} is a link that others"):
        folder.create(DOMAIN, ["ed25519"], "new", 2048, NOW)
    with pytest.raises(KeyFileError, match="is a link that others"):
        folder.write(DOMAIN, [], gone=[old])
    assert sorted(path.name for path in (target / DOMAIN).iterdir()) == before


def test_root_makes_no_keys_of_the_server_in_the_folder_of_a_third_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = 4242
    (tmp_path / DOMAIN).mkdir()
    if os.geteuid() == 0:
        os.chown(tmp_path / DOMAIN, owner, owner)
    else:
        owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(
        KeyFileError, match=f"belongs to user {owner}, neither to root nor to the server's user"
    ):
        KeyFolder(tmp_path, (54321, 54321)).create(DOMAIN, ["ed25519"], "new", 2048, NOW)
    assert list((tmp_path / DOMAIN).iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Input data was truncated"),
        ("{}x", "trailing"),
        ('{"keys": 5}', "Expected `array`"),
        ('{"kyes": []}', "unknown field"),
        ('{"keys": [{"selector": "../../x", "type": "rsa", "created": 1}]}', "cannot be a selector"),
        ('{"keys": [{"selector": "x", "type": "dsa", "created": 1}]}', "none of rsa, ed25519"),
        ('{"keys": [], "version": 2}', "later Tamis"),
    ],
)
def test_broken_state_files(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / DOMAIN).mkdir()
    (tmp_path / DOMAIN / STATE_FILE).write_text(text)
    with pytest.raises(KeyFileError, match=words):
        KeyFolder(tmp_path).entries(DOMAIN)


@pytest.mark.parametrize("text", ["", "..", "../x", "a/b", "[192.0.2.1]", "a b", "127.1"])
def test_no_domains(text: str) -> None:
    with pytest.raises(ValueError, match="domain"):
        check_domain(text)
