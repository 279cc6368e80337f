"""What is done for a request: the scripts of one owner, checked, kept, put into force (RFC 5804).

A script is checked when it is put and again when it is activated, for what it refers to may have changed.
What follows from another script in force is the owner's `apply`: a reload for the site, nothing for a user.
When that fails everything is as it was before, and the client hears why.

Everything waits for the disk or for a reload: call `do` in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mta.managesieve.answers import Answer, literal, no, ok, string
from mta.managesieve.session import Request
from mta.scripts.store import (
    FolderBusy,
    NoSuchScript,
    QuotaExceeded,
    ScriptError,
    ScriptExists,
    ScriptFolder,
    ScriptIsActive,
)

MAX_SHOWN = 200
"""Mistakes that are told of one script."""


@dataclass(slots=True, frozen=True)
class Judgement:
    """What is wrong with a script, a line each with its place."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Mistakes only as long as scripts that it includes are not there: who puts several puts one first."""


class NotApplied(Exception):
    """A change could not be put into force; the text says why."""

    def __init__(self, text: str, *, unsure: bool = False) -> None:
        """`unsure`: nobody knows whether it is in force, for there was no answer."""
        self.unsure = unsure
        super().__init__(text)


@dataclass(slots=True, frozen=True)
class Owner:
    """Whose scripts they are, and what they mean."""

    folder: ScriptFolder
    judge: Callable[[str, bytes], Judgement]
    """Everything that is wrong with a script, given with its name ("" for none)."""
    apply: Callable[[], None] = lambda: None
    """Put into force what the folder says now. Raises NotApplied."""


class Desk:
    """Answers the requests of one session."""

    def __init__(self, owner: Owner) -> None:
        """`owner` is who has logged in."""
        self._folder = owner.folder
        self._owner = owner

    def do(self, request: Request) -> tuple[Answer, bytes]:
        """The answer to a request, and what stands before it."""
        try:
            return _DEEDS[request.command](self, request)
        except QuotaExceeded as error:
            return no(str(error), f"QUOTA/{error.kind}" if error.kind else "QUOTA"), b""
        except NoSuchScript as error:
            return no(str(error), "NONEXISTENT"), b""
        except ScriptExists as error:
            return no(str(error), "ALREADYEXISTS"), b""
        except ScriptIsActive as error:
            return no(str(error), "ACTIVE"), b""
        except FolderBusy as error:
            return no(str(error), "TRYLATER"), b""
        except (ScriptError, NotApplied) as error:
            return no(str(error)), b""
        except OSError as error:
            return no(f"the disk does not allow it: {error.strerror or error}", "TRYLATER"), b""

    def _have_space(self, request: Request) -> tuple[Answer, bytes]:
        self._folder.check_space(request.name, request.size)
        return ok(), b""

    def _list(self, request: Request) -> tuple[Answer, bytes]:
        lines = [
            string(name.encode()) + (b" ACTIVE" if active else b"") + b"\r\n"
            for name, active in self._folder.list()
        ]
        return ok(), b"".join(lines)

    def _get(self, request: Request) -> tuple[Answer, bytes]:
        return ok(), literal(self._folder.get(request.name)) + b"\r\n"

    def _check(self, request: Request) -> tuple[Answer, bytes]:
        self._folder.check_size(len(request.text))
        return _verdict(self._owner.judge("", request.text), in_force=False), b""

    def _put(self, request: Request) -> tuple[Answer, bytes]:
        name, folder = request.name, self._folder
        folder.check_space(name, len(request.text))
        found = self._owner.judge(name, request.text)
        if found.errors:
            return _verdict(found), b""
        with folder.locked():
            if folder.active() != name:
                folder.put(name, request.text)
                return _verdict(found, in_force=False), b""
            answer = _verdict(found)
            if answer.kind != "OK":
                return answer, b""
            before = folder.get(name)
            folder.put(name, request.text)
            self._apply(lambda: folder.put(name, before))
        return answer, b""

    def _activate(self, request: Request) -> tuple[Answer, bytes]:
        name, folder = request.name, self._folder
        answer = ok()
        with folder.locked():
            before = folder.active()
            if name:
                answer = _verdict(self._owner.judge(name, folder.get(name)))
                if answer.kind != "OK":
                    return answer, b""
            if name == before:
                return answer, b""
            folder.activate(name)
            self._apply(lambda: folder.activate(before))
        return answer, b""

    def _delete(self, request: Request) -> tuple[Answer, bytes]:
        with self._folder.locked():
            self._folder.delete(request.name)
        return ok(), b""

    def _rename(self, request: Request) -> tuple[Answer, bytes]:
        old, new, folder = request.name, request.other, self._folder
        with folder.locked():
            if folder.active() != old:
                folder.rename(old, new)
                return ok(), b""
            # The running policy has the path of the old name, so that stays until the new one is in force.
            folder.copy(old, new)
            try:
                folder.activate(new)
            except OSError:
                folder.delete(new)
                raise
            self._apply(lambda: _undo_rename(folder, old, new))
            folder.delete(old)
        return ok(), b""

    def _apply(self, undo: Callable[[], None]) -> None:
        try:
            self._owner.apply()
        except NotApplied as error:
            undo()
            if error.unsure:
                self._owner.apply()  # what is in force must be what the folder says
            raise


def _undo_rename(folder: ScriptFolder, old: str, new: str) -> None:
    folder.activate(old)
    folder.delete(new)


def _verdict(found: Judgement, *, in_force: bool = True) -> Answer:
    """`in_force`: the script is, or is to be."""
    errors, warnings = found.errors, found.warnings
    if in_force or errors:
        errors += found.missing
    else:
        warnings += tuple(line.replace(": error: ", ": warning: ", 1) for line in found.missing)
    if errors:
        return no(_text(errors))
    return ok(_text(warnings), "WARNINGS") if warnings else ok()


def _text(lines: tuple[str, ...]) -> str:
    more = len(lines) - MAX_SHOWN
    return "\r\n".join([*lines[:MAX_SHOWN], *([f"and {more} more"] if more > 0 else [])])


_DEEDS: dict[str, Callable[[Desk, Request], tuple[Answer, bytes]]] = {
    "HAVESPACE": Desk._have_space,
    "LISTSCRIPTS": Desk._list,
    "GETSCRIPT": Desk._get,
    "CHECKSCRIPT": Desk._check,
    "PUTSCRIPT": Desk._put,
    "SETACTIVE": Desk._activate,
    "DELETESCRIPT": Desk._delete,
    "RENAMESCRIPT": Desk._rename,
}
