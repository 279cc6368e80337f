"""Folders of scripts: names that lead nowhere, quotas, and changes that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.scripts import store
from mta.scripts.names import (
    SUFFIX,
    active_script,
    file_stem,
    name_of,
    parse_script_name,
    site_folder,
    user_folder,
)
from mta.scripts.store import (
    FolderBusy,
    FolderLimits,
    NoSuchScript,
    QuotaExceeded,
    ScriptExists,
    ScriptFolder,
    ScriptIsActive,
)

LIMITS = FolderLimits(scripts=3, script_octets=100, octets=200)


@pytest.fixture
def folder(tmp_path: Path) -> ScriptFolder:
    return ScriptFolder(str(tmp_path / "sieve" / "user"), LIMITS)


@given(st.text(min_size=1, max_size=130))
def test_file_names_are_plain_and_lead_back(text: str) -> None:
    try:
        name = parse_script_name(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        return
    file = file_stem(name) + SUFFIX
    assert name_of(file) == name
    assert not file.startswith(".")
    assert os.path.basename(file) == file
    assert len(file.encode()) <= 255


@pytest.mark.parametrize(
    "octets", [b"", b"a/b", b"/", b"a\0", b"a\x7f", "\u2028".encode(), b"\xff", b"x" * 129]
)
def test_names_that_are_refused(octets: bytes) -> None:
    with pytest.raises(ValueError, match="name"):
        parse_script_name(octets)


def test_users_are_never_the_site() -> None:
    assert site_folder("/s") == "/s/sieve/.site"
    assert user_folder("/s", ".site") == "/s/sieve/%2Esite"
    assert user_folder("/s", "a@example.test") == "/s/sieve/a@example.test"
    assert user_folder("/s", "..") == "/s/sieve/%2E."
    for user in ("", "a/b", "a\0", "x" * 300):
        with pytest.raises(ValueError, match="user"):
            user_folder("/s", user)


def test_scripts_come_and_go(folder: ScriptFolder) -> None:
    assert folder.list() == []
    assert folder.active() == ""
    with folder.locked():
        folder.put("b", b"keep;")
        folder.put(".a", b"stop;")
        folder.activate(".a")
        assert folder.list() == [(".a", True), ("b", False)]
        assert active_script(folder.path) == f"{folder.path}/%2Ea.sieve"
        with pytest.raises(ScriptIsActive):
            folder.delete(".a")
        with pytest.raises(ScriptExists):
            folder.rename(".a", "b")
        folder.rename(".a", "c")
        assert folder.list() == [("b", False), ("c", True)]
        assert folder.get("c") == b"stop;"
        folder.put("c", b"discard;")
        assert Path(folder.path, ".active").read_bytes() == b"discard;"
        folder.activate("")
        folder.activate("")
        folder.delete("c")
        with pytest.raises(NoSuchScript):
            folder.delete("c")
        with pytest.raises(NoSuchScript):
            folder.activate("c")
        with pytest.raises(NoSuchScript):
            folder.rename("c", "d")
    with pytest.raises(NoSuchScript):
        folder.get("c")
    left = [entry for entry in os.listdir(folder.path) if entry.startswith(store.TEMPORARY)]
    assert left == []
    assert os.stat(folder.path).st_mode & 0o777 == 0o700
    assert os.stat(folder.file("b")).st_mode & 0o777 == 0o600


def test_quotas(folder: ScriptFolder) -> None:
    def refused(name: str, octets: int) -> str:
        with pytest.raises(QuotaExceeded) as caught:
            folder.check_space(name, octets)
        return caught.value.kind

    assert refused("a", 101) == "MAXSIZE"
    with folder.locked():
        for name in "abc":
            folder.put(name, b"x" * 60)
    assert refused("d", 1) == "MAXSCRIPTS"
    assert refused("c", 90) == ""
    folder.check_space("c", 80)


def test_a_full_disk_changes_nothing(folder: ScriptFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder.locked():
        folder.put("a", b"keep;")
        folder.activate("a")

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            folder.put("a", b"stop;")
    assert folder.get("a") == b"keep;"
    assert sorted(os.listdir(folder.path)) == [".active", ".lock", "a.sieve"]


def test_one_at_a_time(folder: ScriptFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_WAIT", 0.1)
    with folder.locked(), pytest.raises(FolderBusy), folder.locked():
        pass
    with folder.locked():
        pass


def test_leftovers_of_the_dead_do_no_harm(folder: ScriptFolder) -> None:
    with folder.locked():
        folder.put("a", b"keep;")
        Path(folder.path, f"{store.TEMPORARY}{os.getpid()}").write_bytes(b"half a scr")
        folder.put("a", b"stop;")
        os.symlink("gone.sieve", Path(folder.path, ".active"))
        assert folder.active() == ""
        assert folder.list() == [("a", False)]
        folder.activate("a")
        assert folder.active() == "a"


def test_files_that_hold_no_script(folder: ScriptFolder) -> None:
    """Put there by hand: in another charset, another form of Unicode, with a name that would be another's."""
    with folder.locked():
        folder.put("ok", b"keep;")
    names = (b"caf\xe9", "cafe\u0301".encode(), b"a%2Eb", b"a%b", b"x" * 140, b"tab\t")
    for name in names:
        Path(os.fsdecode(folder.path.encode() + b"/" + name + b".sieve")).write_bytes(b"keep;")
    assert folder.list() == [("ok", False)]
