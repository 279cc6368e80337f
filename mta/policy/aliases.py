"""Aliases: from an address to all that tables put in its place. Pure: lookups are yielded and answered.

An address is looked for as Postfix's virtual(5) does it: user+ext@domain, user@domain, in our own domains
also user+ext and user without a domain, as in /etc/aliases, at last @domain. The first that is there counts.
A value has one or more addresses:

    ann@example.net, "two words"@example.net, <bob@example.org>
    ann                 in the domain of the address that is looked for
    \\ann                the mailbox itself: it is not looked for again
    @example.net        the same local part in another domain

Each is looked for in turn. An address that leads to itself is the mailbox of that name. One that leads back
to an address before it is a loop, unless that is such a mailbox: two may give each other copies. Limits:
`DEPTH_MOST`, `ADDRESSES_MOST`. Pipes, files and lists of files, which /etc/aliases may have elsewhere, are
refused with their name.

An alias of ours has an owner where the tables know owner-NAME beside NAME: whoever is behind the alias is
sent its mail from that address, as sendmail and Postfix do it (aliases(5)), so that reports go there. Of
aliases in a row the last one that has an owner counts. Neither owner-NAME itself nor @domain has one. Our own
reports are not looked up again, so who is behind owner-NAME is found out with it (`OWNERS_MOST`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from mta.address import Address, AddressError, domain_key, parse_address, quote_local, split_subaddress
from mta.reply import Reply

OWNER = "owner-"
DEPTH_MOST = 20
"""Aliases that may lead to each other in a row."""
ADDRESSES_MOST = 1000
"""Addresses that may be looked for on the way from one recipient to all who get its mail."""
OWNERS_MOST = 10
"""Addresses behind the owner of an alias that get a report of ours; the others get none."""

LOOP = Reply(451, "4.4.6", "the aliases of this address lead in a circle, try again later")
NOT_IN_ORDER = Reply(451, "4.3.5", "the aliases of this address are not in order, try again later")


class AliasError(ValueError):
    """Aliases that lead nowhere; the text is for the administrator."""

    reply = NOT_IN_ORDER


class AliasLoop(AliasError):
    """Aliases that lead back to where they came from."""

    reply = LOOP


DelimitersOf = Callable[[str], str | None]
"""What begins a subaddress in a domain of ours; None for other domains."""


@dataclass(slots=True, frozen=True)
class Target:
    """One address of a value."""

    text: str
    """With its domain, or "user", or "@domain"."""
    is_final: bool = False
    """It stood behind a backslash."""


@dataclass(slots=True, frozen=True)
class Owner:
    """Who owns an alias."""

    address: Address
    """owner-NAME: the sender for its members."""
    people: tuple[Address, ...]
    """Who is behind that."""


@dataclass(slots=True, frozen=True)
class Member:
    """Somebody who gets the mail of an alias."""

    address: Address
    owner: Owner | None = None
    """Of the alias that leads here; None when nobody owns it."""

    def __str__(self) -> str:
        """The address."""
        return str(self.address)


def read_targets(value: str) -> list[Target]:
    """The addresses of a value, in order. Raises AliasError with what is wrong."""
    found: list[Target] = []
    for item, follows in _items(value):
        # Else Ann and Smith would get the mail in "Ann Smith <ann@example.org>".
        if follows and item.startswith("<") and not _has_domain(found[-1].text):
            raise AliasError(f"{_shown(item)} has a name before it: write the address alone")
        found.append(_read_target(item))
    if not found:
        raise AliasError("there is no address behind it")
    return found


def _items(value: str) -> Iterator[tuple[str, bool]]:
    """Cut at commas and blanks, but not within quotes; with each whether no comma stands before it."""
    item: list[str] = []
    quoted = escaped = follows = False
    for character in value:
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character in ", \t\r\n":
            if item:
                yield "".join(item), follows
                follows = True
            if character == ",":
                follows = False
            item = []
            continue
        item.append(character)
    if quoted:
        raise AliasError("a quote is not closed")
    if item:
        yield "".join(item), follows


def _read_target(item: str) -> Target:
    bare = item.lstrip('"')
    if bare.startswith("|"):
        raise AliasError(f"{_shown(item)} is a program: mail is given to back ends, not to programs")
    if bare.startswith(("/", "~")):
        raise AliasError(f"{_shown(item)} is a file: mail is given to back ends, not to files")
    if bare.lower().startswith(":include:"):
        raise AliasError(f"{_shown(item)} is a list in another file: write its addresses here")
    is_final = item.startswith("\\")
    text = item.removeprefix("\\")
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    try:
        if text.startswith("@"):
            domain_key(text[1:])
        else:
            parse_address(text if _has_domain(text) else f"{text}@a.invalid").to_ascii()
    except AddressError as error:
        raise AliasError(f"{_shown(item)} is no address: {error}") from None
    return Target(text, is_final)


def _has_domain(text: str) -> bool:
    return "@" in (text.rpartition('"')[2] if text.startswith('"') else text)


def _shown(item: str) -> str:
    return repr(item[:100])


def alias_keys(address: Address, delimiters: str | None) -> list[tuple[str, str]]:
    """What is looked for, in order, each with the extension that it leaves out (its delimiter in front).

    `delimiters` are those of the domain; None when it is none of ours.
    """
    local, _, domain = address.key.rpartition("@")
    user, detail = split_subaddress(local, delimiters if delimiters is not None else "+")
    cut = detail is not None
    extension = local[len(user) :] if cut else ""
    keys = [(f"{local}@{domain}", "")]
    if cut:
        keys.append((f"{user}@{domain}", extension))
    if delimiters is not None:
        keys.append((local, ""))
        if cut:
            keys.append((user, extension))
    keys.append((f"@{domain}", ""))
    return keys


@dataclass(slots=True, frozen=True)
class _Step:
    """An address on the way."""

    address: Address
    is_final: bool = False
    before: _Step | None = None
    depth: int = 0
    owner: Owner | None = None
    """Of the aliases on the way here."""

    def leads_back(self, key: str) -> bool:
        """Whether an address before this one has the key."""
        step = self.before
        while step is not None:
            if step.address.key == key:
                return True
            step = step.before
        return False

    def way(self) -> str:
        """The way here, for the log."""
        return str(self.address) if self.before is None else f"{self.before.way()} -> {self.address}"


def expand(
    start: Address, delimiters_of: DelimitersOf, *, keep_extension: bool = True, owners: bool = True
) -> Generator[str, str | None, tuple[Member, ...] | None]:
    """Who gets the mail of `start`; None when no table has it. Yields keys, is sent values.

    `owners` says that those of aliases are wanted. Raises AliasError.
    """
    found: dict[tuple[str, str], Member] = {}
    seen = {start.key}
    mailboxes: set[str] = set()
    waiting = [_Step(start)]
    is_alias = False
    while waiting:
        step = waiting.pop()
        address, delimiters = step.address, delimiters_of(step.address.domain)
        entry = None
        if not step.is_final:
            entry = yield from _look(address, delimiters)
        if entry is None:
            found.setdefault((address.local, address.domain), Member(address, step.owner))
            continue
        is_alias = True
        value, key, extension = entry
        if step.depth >= DEPTH_MOST:
            raise AliasError(f"more than {DEPTH_MOST} aliases in a row: {step.way()}")
        steps = []
        try:
            targets = read_targets(value)
        except AliasError as error:
            raise AliasError(f"{key}: {error}") from None
        owner = step.owner
        if owners and delimiters is not None:
            owner = (yield from _owner(key, address.domain, delimiters_of)) or owner
        for target in targets:
            led = _address(target, address, extension if keep_extension else "", delimiters_of, key)
            if led.key in (address.key, key):  # it leads to itself
                found.setdefault((led.local, led.domain), Member(led, owner))
                mailboxes |= {led.key, address.key}
                continue
            if led.key not in mailboxes and step.leads_back(led.key) and not target.is_final:
                raise AliasLoop(f"aliases lead in a circle: {step.way()} -> {led}")
            if led.key in seen and not target.is_final:
                continue
            seen.add(led.key)
            if len(seen) > ADDRESSES_MOST:
                raise AliasError(f"{start} leads to more than {ADDRESSES_MOST} addresses")
            steps.append(_Step(led, target.is_final, step, step.depth + 1, owner))
        waiting += reversed(steps)
    if not is_alias:
        return None
    for member in found.values():
        _check_way(start, member.address, delimiters_of)
    return tuple(found.values())


def _owner(key: str, domain: str, delimiters_of: DelimitersOf) -> Generator[str, str | None, Owner | None]:
    """Who owns the alias with this key in a domain of ours; None when the tables know nobody."""
    local = key.removesuffix(f"@{domain}")
    if not local or local.startswith(OWNER):
        return None
    owner = OWNER + local
    try:
        address = parse_address(f"{quote_local(owner)}@{domain}").to_ascii()
    except AddressError:  # too long
        return None
    for one in (f"{owner}@{domain}", owner):
        if (yield one) is not None:
            try:
                found = yield from expand(address, delimiters_of, owners=False)
            except AliasError:  # whoever writes to it hears of that
                found = None
            people = tuple(member.address for member in found[:OWNERS_MOST]) if found else (address,)
            return Owner(address, people)
    return None


def _look(
    address: Address, delimiters: str | None
) -> Generator[str, str | None, tuple[str, str, str] | None]:
    """Value, key and unmatched extension of the first key that is there."""
    for key, extension in alias_keys(address, delimiters):
        value = yield key
        if value is not None:
            return value, key, extension
    return None


def _address(
    target: Target, behind: Address, extension: str, delimiters_of: DelimitersOf, key: str
) -> Address:
    """The address that a target of an entry for `behind` stands for. Raises AliasError."""
    text = target.text
    try:
        if text.startswith("@"):
            return _plain(parse_address(f"{quote_local(behind.local)}{text}"))
        address = _plain(parse_address(text if _has_domain(text) else f"{text}@{behind.domain}"))
        if extension and not target.is_final:
            delimiters = delimiters_of(address.domain)
            split = split_subaddress(address.local, extension[0] if delimiters is None else delimiters)
            if split[1] is None:
                address = address.with_local(address.local + extension)
    except AddressError as error:
        raise AliasError(f"{key}: {_shown(text)} is no address: {error}") from None
    return address


def _plain(address: Address) -> Address:
    """The address in ASCII, unless its local part comes from a client, who has said SMTPUTF8 with it."""
    return address.to_ascii() if address.local.isascii() else address


def _check_way(start: Address, address: Address, delimiters_of: DelimitersOf) -> None:
    """Refuse what the client itself has named, as user%example.net@ours: a pattern that does that makes an
    open relay. Raises AliasError."""
    if delimiters_of(address.domain) is not None:
        return
    said = start.local.lower()
    if address.domain in said and address.local.lower() in said.replace(address.domain, ""):
        raise AliasError(
            f"{start} leads to {address}, which the client has chosen: that would be an open relay"
        )
