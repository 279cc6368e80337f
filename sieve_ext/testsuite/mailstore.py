"""A mail store in memory, as an IMAP server would have it: mailboxes, flags, annotations, special uses.

The hierarchy separator is "."; there is one namespace; INBOX is always there and has no case.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SEPARATOR = "."
"""Between the levels of a mailbox name."""


@dataclass(slots=True, frozen=True)
class StoredMessage:
    """A message in a mailbox."""

    octets: bytes
    flags: tuple[str, ...] = ()
    """Flags and keywords."""


@dataclass(slots=True)
class Folder:
    """A mailbox."""

    name: str
    identity: str
    """What RFC 8474 calls MAILBOXID: stays when the mailbox gets another name."""
    messages: list[StoredMessage] = field(default_factory=list)
    """In the order in which they came."""
    annotations: dict[str, str] = field(default_factory=dict)
    """RFC 5464, by lower-case name."""
    special_uses: set[str] = field(default_factory=set)
    """RFC 6154: "\\\\Junk" and so on, lower case."""

    @property
    def uses(self) -> set[str]:
        """The special uses, those too that an annotation says (RFC 6154 section 4)."""
        return self.special_uses | set(self.annotations.get("/private/specialuse", "").lower().split())


class MailStore:
    """All mailboxes of one user."""

    def __init__(self) -> None:
        """INBOX and nothing else."""
        self._folders: dict[str, Folder] = {}
        self.annotations: dict[str, str] = {}
        """Of the server as a whole, by lower-case name."""
        self.create("INBOX")

    def create(self, name: str) -> Folder:
        """Make a mailbox; the one that is there if it is. Raises ValueError for a name that is none."""
        problem = bad_name(name)
        if problem is not None:
            raise ValueError(problem)
        key = _key(name)
        if key not in self._folders:
            self._folders[key] = Folder(key, f"F{len(self._folders) + 1:04d}")
        return self._folders[key]

    def find(self, name: str) -> Folder | None:
        """The mailbox of this name, None if there is none."""
        return self._folders.get(_key(name))

    def by_identity(self, identity: str) -> Folder | None:
        """The mailbox with this MAILBOXID, None if there is none."""
        return next((one for one in self._folders.values() if one.identity == identity), None)

    def by_special_use(self, flag: str) -> Folder | None:
        """The first mailbox that has the special use, None if none has."""
        return next((one for one in self._folders.values() if flag.lower() in one.uses), None)

    def has_special_use(self, name: str, flag: str) -> bool:
        """True when the mailbox has the special use; for no name, when any has."""
        if not name:
            return self.by_special_use(flag) is not None
        folder = self.find(name)
        return folder is not None and flag.lower() in folder.uses

    def delete(self, name: str) -> None:
        """Remove a mailbox with its messages; INBOX is emptied."""
        if self._folders.pop(_key(name), None) is not None and _key(name) == "INBOX":
            self.create("INBOX")


def bad_name(name: str) -> str | None:
    """What is wrong with a mailbox name, None if nothing is."""
    if not name or any(character < " " or character == "\x7f" for character in name):
        return f"invalid mailbox name '{name}'"
    if name.startswith(SEPARATOR) or name.endswith(SEPARATOR) or SEPARATOR * 2 in name:
        return f"invalid mailbox name '{name}': a level of it is empty"
    return None


def bad_annotation(name: str) -> str | None:
    """What is wrong with the name of an annotation (RFC 5464 section 3), None if nothing is."""
    if not name.lower().startswith(("/private/", "/shared/")):
        return f"invalid annotation name '{name}': it does not begin with /private/ or /shared/"
    if name.endswith("/") or "//" in name or any(one in "*%" or not " " < one < "\x7f" for one in name):
        return f"invalid annotation name '{name}'"
    return None


def _key(name: str) -> str:
    first, dot, rest = name.partition(SEPARATOR)
    return f"INBOX{dot}{rest}" if first.upper() == "INBOX" else name
