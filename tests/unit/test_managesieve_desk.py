"""Requests at the desk: what is answered, and that a change which cannot take effect leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.daemon_managesieve import judge_user
from mta.managesieve.answers import Answer, no, ok
from mta.managesieve.desk import MAX_SHOWN, Desk, Judgement, NotApplied, Owner
from mta.managesieve.session import Request
from mta.scripts import store
from mta.scripts.store import FolderLimits, ScriptFolder

LIMITS = FolderLimits(scripts=3, script_octets=100, octets=200)


class Site:
    """A folder whose changes are put into force, or not, as the test says."""

    def __init__(self, path: Path) -> None:
        self.folder = ScriptFolder(str(path / "sieve" / ".site"), LIMITS)
        self.failures: list[NotApplied] = []
        self.applied: list[tuple[str, bytes]] = []
        """What was in force whenever it was asked for: name and text."""
        self.desk = Desk(Owner(self.folder, self.judge, self.apply))

    def judge(self, name: str, text: bytes) -> Judgement:
        if text.startswith(b"bad"):
            return Judgement((f"{name}:1:1: error: bad",))
        return Judgement(warnings=("1:1: warning: odd",) if text.startswith(b"odd") else ())

    def apply(self) -> None:
        active = self.folder.active()
        self.applied.append((active, self.folder.get(active) if active else b""))
        if self.failures:
            raise self.failures.pop(0)

    def do(self, command: str, name: str = "", other: str = "", text: bytes = b"") -> Answer:
        answer, octets = self.desk.do(Request(command, name, other, text))
        assert octets == b"" or command in ("LISTSCRIPTS", "GETSCRIPT")
        return answer


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    assert made.do("PUTSCRIPT", "a", text=b"one") == ok()
    assert made.do("PUTSCRIPT", "b", text=b"two") == ok()
    assert made.do("SETACTIVE", "a") == ok()
    assert made.applied == [("a", b"one")]
    made.applied.clear()
    return made


def state(site: Site) -> tuple[list[tuple[str, bool]], bytes]:
    return site.folder.list(), site.folder.get("a")


CHANGES = [
    Request("SETACTIVE", "b"),
    Request("SETACTIVE", ""),
    Request("PUTSCRIPT", "a", text=b"new"),
    Request("RENAMESCRIPT", "a", "c"),
]


@pytest.mark.parametrize("request_", CHANGES)
@pytest.mark.parametrize("unsure", [False, True])
def test_what_cannot_be_put_into_force_leaves_no_trace(site: Site, request_: Request, unsure: bool) -> None:
    before = state(site)
    site.failures = [NotApplied("the reload failed", unsure=unsure)]
    assert site.desk.do(request_) == (no("the reload failed"), b"")
    assert state(site) == before
    # Where nobody knows what is in force, the old state is put into force again.
    assert len(site.applied) == 2 if unsure else 1
    assert not unsure or site.applied[-1] == ("a", b"one")
    site.applied.clear()
    assert site.desk.do(request_)[0].kind == "OK"
    assert len(site.applied) == 1


def test_other_scripts_do_not_matter(site: Site) -> None:
    assert site.do("PUTSCRIPT", "b", text=b"odd") == Answer("OK", "1:1: warning: odd", "WARNINGS")
    assert site.do("RENAMESCRIPT", "b", "c") == ok()
    assert site.do("SETACTIVE", "a") == ok()
    assert site.do("DELETESCRIPT", "c") == ok()
    assert site.applied == []


def test_a_broken_script_is_neither_kept_nor_activated(site: Site) -> None:
    before = state(site)
    refused = no("a:1:1: error: bad")
    assert site.do("PUTSCRIPT", "a", text=b"bad") == refused
    assert state(site) == before
    # What was right when it was put may have become wrong.
    Path(site.folder.file("b")).write_bytes(b"bad now")
    assert site.do("SETACTIVE", "b") == no("b:1:1: error: bad")
    assert state(site) == before
    assert site.applied == []


def test_answers_have_codes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.do("DELETESCRIPT", "a").code == "ACTIVE"
    assert site.do("GETSCRIPT", "x").code == "NONEXISTENT"
    assert site.do("RENAMESCRIPT", "a", "b").code == "ALREADYEXISTS"
    assert site.do("CHECKSCRIPT", text=b"x" * 101).code == "QUOTA/MAXSIZE"
    assert site.do("PUTSCRIPT", "c", text=b"three") == ok()
    assert site.do("PUTSCRIPT", "d", text=b"four").code == "QUOTA/MAXSCRIPTS"
    # What is only checked takes no room.
    assert site.do("CHECKSCRIPT", text=b"four") == ok()
    monkeypatch.setattr(store, "LOCK_WAIT", 0.1)
    with site.folder.locked():
        assert site.do("SETACTIVE", "b").code == "TRYLATER"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    answer = site.do("PUTSCRIPT", "b", text=b"three")
    assert (answer.kind, answer.code) == ("NO", "TRYLATER")
    assert "No space left" in answer.text
    assert site.folder.get("b") == b"two"


def test_not_more_mistakes_are_told_than_people_read() -> None:
    errors = tuple(f"{n}:1: error" for n in range(MAX_SHOWN + 7))
    desk = Desk(Owner(ScriptFolder("/nonexistent", LIMITS), lambda name, text: Judgement(errors)))
    answer, _ = desk.do(Request("CHECKSCRIPT", text=b"x"))
    assert answer.text.splitlines()[-1] == "and 7 more"
    assert len(answer.text.splitlines()) == MAX_SHOWN + 1


def test_scripts_of_users_include_each_other(tmp_path: Path) -> None:
    (tmp_path / "other.sieve").write_bytes(b"keep;\r\n")
    script = b'require "include";\r\ninclude :personal "other";\r\n'
    assert judge_user(str(tmp_path), "x", script) == Judgement()
    (tmp_path / "other.sieve").write_bytes(b"nonsense;\r\n")
    assert "other" in judge_user(str(tmp_path), "x", script).errors[0]


def test_a_script_cannot_come_to_include_itself(tmp_path: Path) -> None:
    """It is judged as it is going to be, not with what is still there under its name."""
    (tmp_path / "a.sieve").write_bytes(b'require "include";\r\ninclude "b";\r\n')
    (tmp_path / "b.sieve").write_bytes(b"keep;\r\n")
    for name, other in (("b", "b"), ("b", "a")):
        script = f'require "include";\r\ninclude "{other}";\r\n'.encode()
        assert any("circular include" in error for error in judge_user(str(tmp_path), name, script).errors)
        assert judge_user(str(tmp_path), "c", script) == Judgement()


def test_a_new_name_that_cannot_be_put_into_force_is_taken_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(site)

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.symlink", full)
    assert site.do("RENAMESCRIPT", "a", "c").code == "TRYLATER"
    assert state(site) == before


def test_scripts_may_be_put_in_any_order(tmp_path: Path) -> None:
    """A script that is not there yet is a mistake from when on the one that includes it is to be in force."""
    folder = ScriptFolder(str(tmp_path / "sieve" / "a"), FolderLimits())
    desk = Desk(Owner(folder, lambda name, text: judge_user(folder.path, name, text)))
    script = b'require "include";\r\ninclude "other";\r\n'

    def do(command: str, name: str, text: bytes = b"") -> Answer:
        return desk.do(Request(command, name, text=text))[0]

    for answer in (do("CHECKSCRIPT", "", script), do("PUTSCRIPT", "main", script)):
        assert (answer.kind, answer.code) == ("OK", "WARNINGS")
        assert answer.text == "2:9: warning: included personal script 'other' does not exist"
    answer = do("SETACTIVE", "main")
    assert (answer.kind, answer.text) == ("NO", "2:9: error: included personal script 'other' does not exist")
    assert do("PUTSCRIPT", "main", script + b"nonsense;").kind == "NO"
    assert do("PUTSCRIPT", "other", b"keep;") == ok()
    assert do("SETACTIVE", "main") == ok()
    assert do("PUTSCRIPT", "main", script.replace(b"other", b"third")).kind == "NO"
    assert folder.get("main") == script
