"""include (RFC 6609)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sieve_ext import FileInto, InvalidScript
from sieve_ext import compile as load
from sieve_ext.closures.unit import MappingStore
from sieve_ext.extensions.mailbox import MailboxExists
from sieve_ext.stores import DirectoryStore
from tests.unit.sieve_delivery import ALL, Answers, outcome, requiring

NAMES = "include variables fileinto"

SCRIPTS = {
    "file": 'require "fileinto"; fileinto "file";',
    "global/file": 'require "fileinto"; fileinto "global";',
    "count": 'require ["include", "variables"]; global "n"; set "n" "${n}1"; set "local" "x";',
    "return": 'require ["include", "fileinto"]; fileinto "one"; if true { return; } fileinto "two";',
    "stop": "stop;",
    "error": 'require "ihave";\nerror "Bang";',
    "self-once": 'require ["include", "fileinto"]; fileinto "once"; include :once "self-once";',
    "asks": 'require ["mailbox", "fileinto"]; if mailboxexists "x" { fileinto "asked"; }',
    "flags": 'require "imap4flags"; addflag "f";',
    "match": 'require ["variables", "fileinto"]; if header :matches "subject" "F*" { fileinto "in ${1}"; }'
    ' else { fileinto "not ${1}"; }',
    "nested": 'require ["include"]; include "file"; include :global "file";',
    "global-name": 'require ["include", "variables"]; set "global.a" "${global.a}b";',
    "empty": "",
}

RUN = [
    # section 3.2
    ('include "file";', ["file"]),
    ('include :personal "file"; include :global "file";', ["file", "global"]),
    ('include "nested"; fileinto "after";', ["file", "global", "after"]),
    ('include "empty"; fileinto "x";', ["x"]),
    ('include :optional "none"; fileinto "x";', ["x"]),
    ('include :optional :global "none"; include :optional :global "file";', ["global"]),
    ('if false { include "file"; }', []),
    # :once
    ('global "n"; include "count"; include "count"; fileinto "${n}";', ["11"]),
    ('global "n"; include :once "count"; include :once "count"; fileinto "${n}";', ["1"]),
    ('global "n"; include "count"; include :once "count"; include "count"; fileinto "${n}";', ["11"]),
    ('include "self-once";', ["once"]),
    # section 3.3: return ends one script, stop ends all
    ('include "return"; fileinto "x";', ["one", "x"]),
    ('fileinto "x"; return; fileinto "y";', ["x"]),
    ('include "stop"; fileinto "x";', []),
    # section 3.4: variables are private, but for global ones
    ('set "local" "mine"; include "count"; fileinto "${local}";', ["mine"]),
    ('include "count"; fileinto "<${n}>";', ["<>"]),
    ('include "count"; fileinto "${global.n}";', ["1"]),
    ('set "global.a" "x"; include "global-name"; include "global-name"; fileinto "${global.a}";', ["xbb"]),
    ('global ["a", "b"]; global "A"; set "A" "1"; fileinto "${global.a}${a}";', ["11"]),
    ('global "a"; if true { global "b"; set "b" "2"; } fileinto "${global.b}";', ["2"]),
    # match values are private, too
    (
        'if header :matches "from" "*Bosch*" { include "match"; fileinto "${1}"; }',
        ["in rop!", "Stephan "],
    ),
]


@pytest.mark.parametrize(("script", "mailboxes"), RUN)
def test_run(script: str, mailboxes: list[str]) -> None:
    result = outcome(NAMES, script, scripts=SCRIPTS)
    assert not result.errors
    assert [one.mailbox for one in result.actions if isinstance(one, FileInto)] == mailboxes


def test_included_script_asks() -> None:
    host = Answers({MailboxExists: lambda ask: True})
    result = outcome(NAMES, 'include "asks"; include :once "asks";', scripts=SCRIPTS, host=host)
    assert not result.errors
    assert [one.name for one in result.actions] == ["store"]


def test_error_in_an_included_script() -> None:
    result = outcome(NAMES, 'fileinto "x"; include "error";', scripts=SCRIPTS)
    (fault,) = result.errors
    assert (fault.script, fault.position.line, fault.text) == ("error", 2, "Bang")
    assert result.actions == []
    assert result.implicit_keep is not None


def test_capabilities_of_included_scripts_go_on() -> None:
    keep = outcome(NAMES, 'include "flags";', scripts=SCRIPTS).implicit_keep
    assert keep is not None
    assert keep.options == {"flags": ("f",)}


def test_globals_do_not_survive_the_run() -> None:
    state: dict[str, object] = {}
    script = load(requiring(NAMES, 'global "a"; set "a" "${a}x"; fileinto "${a}";'), ALL)
    from sieve_ext import execute

    for _ in range(2):
        (action,) = execute(script, b"", state=state).actions
        assert isinstance(action, FileInto)
        assert action.mailbox == "x"


def errors(script: str, scripts: dict[str, str], names: str = NAMES, **settings: str) -> list[str]:
    """All errors, the closing one too, each with the name of its script."""
    from sieve_ext import Settings

    store = MappingStore({("personal", name): text.encode() for name, text in scripts.items()})
    with pytest.raises(InvalidScript) as raised:
        load(requiring(names, script), ALL, store=store, settings=Settings(settings))
    return [f"{one.script}: {one.text}" if one.script else one.text for one in raised.value.errors]


BAD = {
    "loop": 'require "include"; include "loop";',
    "a": 'require "include"; include "b";',
    "b": 'require "include"; include "a";',
    "bad": "bogus; bogus2;",
    "broken": "keep",
    "good": "keep;",
}

WRONG = [
    ('include "none";', ["included personal script 'none' does not exist"]),
    ('include :global "good";', ["included global script 'good' does not exist"]),
    ('include "x/y";', ["include: invalid script name 'x/y'"]),
    ('include "";', ["include: invalid script name ''"]),
    ('include "${x}";', ["the include command requires a constant string for its value argument"]),
    # a closing error for each level (section 3.2: no recursion)
    ('include "loop";', ["loop: circular include", "failed to validate included script 'loop'"]),
    (
        'include "a";',
        [
            "a: failed to validate included script 'b'",
            "b: circular include",
            "failed to validate included script 'a'",
        ],
    ),
    (
        'include "bad"; include :optional "bad";',
        [
            "bad: unknown command 'bogus' (only reported once at first occurrence)",
            "bad: unknown command 'bogus2' (only reported once at first occurrence)",
            "failed to validate included script 'bad'",
        ],
    ),
    ('return "a";', ["the return command requires 0 positional argument(s), but 1 is/are specified"]),
    # section 3.4.1
    ('set "a" "1"; global "a";', ["declaration of new global variable 'a' conflicts with earlier local use"]),
    ('global "a b";', ["invalid variable identifier 'a b'"]),
    ('global "a.b";', ["invalid variable identifier 'a.b'"]),
    ('global "${x}";', ["invalid variable identifier '${x}'"]),
    (
        'set "global.a.b" "1";',
        ["invalid variable name within global namespace: encountered sub-namespace"],
    ),
]


@pytest.mark.parametrize(("script", "found"), WRONG)
def test_wrong(script: str, found: list[str]) -> None:
    assert sorted(errors(script, BAD)) == sorted([*found, "validation failed"])


def test_locations_exclude_each_other() -> None:
    text, _ = errors('include :personal :global "good";', BAD)
    assert "exactly one of ':personal' and ':global' may be specified" in text.replace(
        "':global' and ':personal'", "':personal' and ':global'"
    )


def test_broken_grammar_of_an_included_script() -> None:
    found = errors('include "broken";', BAD)
    assert found[-2:] == ["failed to parse included script 'broken'", "validation failed"]


def test_global_needs_variables() -> None:
    found = errors('global "a";', {}, "include")
    assert found[0] == "global command requires that variables extension is active"


def chain(length: int) -> dict[str, str]:
    scripts = {f"n{n}": f'require "include"; include "n{n + 1}";' for n in range(1, length)}
    return {**scripts, f"n{length}": "keep;"}


def test_nesting() -> None:
    assert not outcome(NAMES, 'include "n1";', scripts=chain(10)).errors
    found = errors('include "n1";', chain(11))
    assert "n10: cannot nest includes deeper than 10 levels" in found
    assert len(found) == 12
    assert len(errors('include "n1";', chain(4), sieve_include_max_nesting_depth="3")) == 5


def test_number() -> None:
    scripts = {f"s{n}": "keep;" for n in range(6)}
    script = "".join(f'include "s{n}"; include :optional "none{n}"; include "s{n}";' for n in range(6))
    # told of once, and what does not exist does not count
    assert errors(script, scripts, sieve_include_max_includes="3") == [
        "failed to include script 's3': no more than 3 includes allowed",
        "validation failed",
    ]


def test_no_exponential_run() -> None:
    # Nine levels of scripts that include the next twenty times: 20 ** 9 runs if nothing stopped them.
    scripts = {f"n{n}": 'require "include";' + f'include "n{n + 1}";' * 20 for n in range(1, 9)}
    scripts["n9"] = "keep;"
    result = outcome(NAMES, 'include "n1";', scripts=scripts, settings={"sieve_max_operations": "20000"})
    assert [fault.text for fault in result.errors] == ["script uses too many operations (max 20000)"]


def test_directories(tmp_path: Path) -> None:
    (tmp_path / "a.sieve").write_bytes(b"keep;")
    (tmp_path / "big.sieve").write_bytes(b"#" * 101)
    (tmp_path / "dir.sieve").mkdir()
    store = DirectoryStore({"personal": tmp_path}, octets=100)
    assert store.load("personal", "a") == b"keep;"
    assert store.load("personal", "b") is None
    assert store.load("global", "a") is None
    assert store.load("personal", "../a") is None
    with pytest.raises(OSError, match="larger than 100 octets"):
        store.load("personal", "big")
    with pytest.raises(InvalidScript) as raised:
        load('require "include"; include "dir";', ALL, store=store)
    assert raised.value.errors[0].text.startswith("included personal script 'dir' cannot be read")
