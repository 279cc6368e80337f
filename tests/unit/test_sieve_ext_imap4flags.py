"""imap4flags (RFC 5232)."""

from __future__ import annotations

import pytest

from sieve_ext import Dialect, FileInto, Message, all_capabilities, execute
from sieve_ext import compile as load
from tests.unit.sieve_delivery import MESSAGE, complaints, holds, outcome

NAMES = "imap4flags fileinto variables relational"

STORED = [
    # sections 3.1 to 3.3, and the implicit keep of section 5
    ("keep;", [()]),
    ('setflag "\\\\Seen"; keep;', [("\\Seen",)]),
    ('setflag "a"; setflag "b"; keep;', [("b",)]),
    ('setflag "a"; addflag ["b", "c"]; keep;', [("a", "b", "c")]),
    ('setflag "a b  c"; removeflag "B"; keep;', [("a", "c")]),
    ('setflag "a"; removeflag ["b", "c"]; keep;', [("a",)]),
    ('addflag "a"; addflag "A"; keep;', [("a",)]),
    ('setflag ["a", "\\\\Deleted"]; setflag ""; keep;', [()]),
    ('setflag "\\\\Flagged"; fileinto "x"; setflag "y"; fileinto "z";', [("\\Flagged",), ("y",)]),
    # :flags wins over the internal variable
    ('setflag "a"; keep :flags "b"; fileinto "x";', [("b",), ("a",)]),
    ('fileinto :flags ["\\\\Seen", "a b"] "x";', [("\\Seen", "a", "b")]),
    ('set "f" "a b"; keep :flags "${f} c";', [("a", "b", "c")]),
    # into one mailbox once, with the last flags
    ('keep :flags "a"; keep :flags "b";', [("b",)]),
    ('keep :flags "a"; setflag "c"; fileinto "INBOX";', [("c",)]),
    # a variable by name leaves the internal one alone
    ('setflag "v" "a"; addflag "v" "b"; keep;', [()]),
    ('setflag "v" "a"; addflag "v" "b c"; removeflag "v" "A"; keep :flags "${v}";', [("b", "c")]),
    # what is no flag is ignored
    ('setflag "\\\\nonsense ok bad( 100%"; keep;', [("ok",)]),
    ('setflag ["\\\\Recent", "\\\\SEEN"]; keep;', [("\\SEEN",)]),
]


@pytest.mark.parametrize(("script", "flags"), STORED)
def test_stored(script: str, flags: list[tuple[str, ...]]) -> None:
    result = outcome(NAMES, script)
    assert not result.errors
    assert [one.options["flags"] for one in result.actions] == flags


def test_implicit_keep() -> None:
    keep = outcome(NAMES, 'setflag "a b";').implicit_keep
    assert keep is not None
    assert keep.options == {"flags": ("a", "b")}


def test_without_require_nothing_is_said_of_flags() -> None:
    assert outcome("fileinto", 'fileinto "a";').actions[0].options == {}


HAS = [
    # section 4: any of the flags, without regard to case by default
    (True, 'setflag "a b";', 'hasflag "B"'),
    (False, 'setflag "a b";', 'hasflag "c"'),
    (True, 'setflag "a b";', 'hasflag ["x", "y b"]'),
    (False, "", 'hasflag "a"'),
    (True, 'setflag "\\\\Seen";', 'hasflag :is "\\\\seen"'),
    (False, 'setflag "\\\\Seen";', 'hasflag :comparator "i;octet" "\\\\seen"'),
    (True, 'setflag "Junk NotJunk";', 'hasflag :contains "tju"'),
    (True, 'setflag "label1";', 'hasflag :matches "label?"'),
    (False, "", 'hasflag :contains ""'),
    (False, 'setflag "a";', 'hasflag :contains ""'),
    (True, 'setflag "a";', 'hasflag :matches "*"'),
    (True, 'setflag "a b c";', 'hasflag :count "ge" "3"'),
    (True, 'setflag "a A a";', 'hasflag :count "eq" "1"'),
    (True, "", 'hasflag :count "eq" "0"'),
    # variables
    (True, 'setflag "v" "a b";', 'hasflag "v" "b"'),
    (False, 'setflag "v" "a b";', 'hasflag "b"'),
    (True, 'setflag "v" "a"; setflag "w" "b";', 'hasflag ["v", "w"] "b"'),
    (True, 'setflag "v" "a b"; setflag "w" "b c";', 'hasflag :count "eq" ["v", "w"] "4"'),
    (False, 'set "v" "";', 'hasflag :contains "v" ""'),
    (True, 'set "k" "b"; setflag "a b";', 'hasflag "${k}"'),
]


@pytest.mark.parametrize(("expected", "before", "test"), HAS)
def test_hasflag(expected: bool, before: str, test: str) -> None:
    result = outcome(NAMES, f"{before} if {test} {{ discard; }}")
    assert not result.errors
    assert [one.name for one in result.actions] == ["discard"] * expected


def test_hasflag_keeps_match_values() -> None:
    script = 'setflag "x-urgent"; if hasflag :matches "x-*" { fileinto "${1}"; }'
    (action,) = outcome(NAMES, script).actions
    assert isinstance(action, FileInto)
    assert action.mailbox == "urgent"


def test_flags_go_on_to_the_next_script() -> None:
    dialect = Dialect(all_capabilities())
    state: dict[str, object] = {}
    message = Message(MESSAGE)
    execute(load('require "imap4flags"; setflag "a";', dialect), message, state=state)
    result = execute(load('require "imap4flags"; addflag "b"; keep;', dialect), message, state=state)
    assert result.actions[0].options["flags"] == ("a", "b")
    # also to one that knows nothing of flags
    result = execute(load('require "fileinto"; fileinto "x";', dialect), message, state=state)
    assert result.actions[0].options["flags"] == ("a", "b")


WRONG = [
    (NAMES, "setflag;", "1:1 error the setflag command requires 1 to 2 positional argument(s), but 0"),
    (NAMES, 'setflag ["a"] "b";', "1:9 error if a second argument is specified for the setflag command"),
    (NAMES, "addflag 3;", "1:9 error the addflag command expects a string or string list"),
    (NAMES, 'setflag "a b" "c";', "1:9 error invalid variable name 'a b'"),
    (NAMES, 'setflag "${a}" "c";', "1:9 error variable name '${a}' must be a constant string"),
    (NAMES, "keep :flags;", "1:6 error the :flags tag for the keep command requires a string or string list"),
    (NAMES, 'redirect :flags "a" "x@y.z";', "1:10 error unknown tagged argument ':flags'"),
    (NAMES, 'setflag "\\\\foo x";', "1:9 warning IMAP flag '\\foo' specified for the setflag command"),
    (NAMES, 'keep :flags "a ba(d";', "1:13 warning IMAP flag 'ba(d' specified for the :flags tag"),
    (NAMES, 'if hasflag "a b" "c" { keep; }', "1:12 error invalid variable name 'a b'"),
    (
        "imap4flags",
        'setflag "v" "a";',
        "1:9 error the setflag command only allows for the specification of a",
    ),
    ("imap4flags", 'if hasflag "v" "a" { keep; }', "1:12 error the hasflag test only allows for the"),
    ("fileinto", 'setflag "a";', "1:1 error unknown command 'setflag'"),
]


@pytest.mark.parametrize(("names", "script", "start"), WRONG)
def test_wrong(names: str, script: str, start: str) -> None:
    (text,) = complaints(names, script)
    assert text.startswith(start)


def test_many_flags_end_within_limits() -> None:
    script = "".join(f'addflag "f{n}";' for n in range(3000))
    result = outcome("imap4flags", script, settings={"sieve_max_operations": "100000"})
    assert [error.text for error in result.errors] == ["script uses too many operations (max 100000)"]


def test_holds_with_flags_of_the_host() -> None:
    assert not holds(NAMES, 'hasflag "a"')
