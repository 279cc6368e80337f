"""Tables of files: what their lines mean, what is wrong with them, how they change; and large ones."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.address import parse_address
from mta.authn.keysource import read_key_table
from mta.director.userstable import read_users
from mta.policy.recipients import RecipientFile, read_table
from mta.policy.tablefile import MOST_MISTAKES
from mta.policy.watched import TableError, Watched
from mta.tables import patterns
from mta.tables.aliases import read_aliases
from mta.tables.cidr import read_networks
from mta.tables.index import EX_MISTAKES, Index, build, is_current, main
from mta.tables.lines import entries
from mta.tables.patterns import read_patterns
from mta.tables.sqlite import SqliteTable
from mta.tables.table import TableUnavailable
from mta.tables.template import parse
from mta.tables.text import PAUSE, TextTable, read_text

TEXT = """# people
Ann@Example.org  box1.example.org
"two words"\tvalue  of two
lone

# a comment inside of an entry
long a
    b
\tc
ann@example.org  never
"""


def test_lines(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(TEXT)
    assert read_text(tmp_path / "t") == {
        "ann@example.org": "box1.example.org",
        "two words": "value  of two",
        "lone": "",
        "long": "a b c",
    }


@pytest.mark.parametrize("large", [1, 10_000])
def test_keys_beyond_ascii_in_any_spelling(tmp_path: Path, large: int) -> None:
    """Composed and decomposed, in capitals, domains as U-labels and A-labels: all are one key."""
    path = tmp_path / "t"
    path.write_text(
        "Ann@Bücher.example 1\nbu\u0308cher.example 2\njo\u0308rg@a.test 3\nxn--mller-kva.example 4\n"
        '"zwei Wörter. x" 5\n@Bücher.example 6\nö 7\n'
    )
    table = TextTable(str(path), str(tmp_path / "i"), lambda: 0.0, large=large)
    for key, value in (
        ("ann@bücher.example", "1"),
        ("ann@xn--bcher-kva.example", "1"),
        ("BÜCHER.example", "2"),
        ("xn--bcher-kva.example", "2"),
        ("JÖRG@a.test", "3"),
        ("müller.example", "4"),
        ("Zwei Wo\u0308rter. x", "5"),
        ("@xn--bcher-kva.example", "6"),
        ("Ö", "7"),
        ("xn--nda", None),
        ("o", None),
    ):
        assert table.get(key) == value, key


def test_recipients_beyond_ascii_in_any_spelling(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("jo\u0308rg\nann@Bücher.example\n")
    source = RecipientFile(tmp_path / "t", lambda: 0.0)
    for name in ("JÖRG@a.test", "jo\u0308rg@a.test", "ann@xn--bcher-kva.example"):
        assert source.find(parse_address(name)) is None
    assert source.find(parse_address("jorg@a.test")) is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [("\n  x", ":2: a line that begins"), ('a\n"b', ":2: the quote"), ('"b"c d', ":1: the quote")],
)
def test_bad_lines_say_where(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(text)
    with pytest.raises(TableError, match=f"{path}{reason}"):
        read_text(path)
    with pytest.raises(TableError, match=f"{path}{reason}"):
        build(str(path), str(tmp_path / "i"))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["i.lock", "t"]


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"a b\n\n\xff c\n")
    for read in (lambda: read_text(path), lambda: build(str(path), str(tmp_path / "i"))):
        with pytest.raises(TableError, match=f"^{path}:3: is no UTF-8$"):
            read()
    with pytest.raises(TableError, match="No such file"):
        TextTable(str(tmp_path / "none"), "", lambda: 0.0)


READERS: list[tuple[Callable[[Path], object], str, str]] = [
    (read_text, '"b\na x\n"c', "1 3"),
    (lambda path: build(str(path), f"{path}.index"), '"b\na x\n"c', "1 3"),
    (read_aliases, " x\na: b\na: c\nd\ne: |prog\n", "1 3 4 5"),
    (read_networks, "192.0.2.1/24 a\n192.0.2.0/24 b\nx c\n", "1 3"),
    (read_patterns, "/a\n/(/ x\n/b/ $1\n/c/ y\n/d/z w\n", "1 2 3 5"),
    (read_table, "a b\n@\nann\nbob@\n", "1 2 4"),
    (read_users, "a@b.test\na@b.test c\na@ c\n", "1 3"),
    (read_key_table, "a.test b\na.test b c\na..b c d\n", "1 3"),
]


@pytest.mark.parametrize(("read", "text", "wrong"), READERS)
def test_all_bad_lines_are_told(
    read: Callable[[Path], object], text: str, wrong: str, tmp_path: Path
) -> None:
    path = tmp_path / "t"
    path.write_text(text)
    with pytest.raises(TableError) as caught:
        read(path)
    lines = str(caught.value).splitlines()
    assert sorted(line.partition(": ")[0] for line in lines) == [
        f"{path}:{number}" for number in wrong.split()
    ]
    path.write_text(text + 30 * ("\n" + text.splitlines()[-1]))
    with pytest.raises(TableError) as caught:
        read(path)
    *lines, left = str(caught.value).splitlines()
    numbers = [int(line.removeprefix(f"{path}:").partition(":")[0]) for line in lines]
    assert (len(lines), numbers) == (MOST_MISTAKES, sorted(numbers))
    assert left == f"{path}: {len(wrong.split()) + 30 - MOST_MISTAKES} more lines are wrong"
    path.write_bytes(b"# a\n# \xff\n")
    with pytest.raises(TableError, match=f"^{path}:2: is no UTF-8$"):
        read(path)


KEYS = st.text(
    st.characters(codec="utf-8", exclude_characters='"', exclude_categories=["C", "Z"]), min_size=1
)


@given(st.dictionaries(KEYS.filter(lambda key: not key.startswith("#")), st.integers(0, 10**6)))
def test_an_index_has_what_the_text_has(content: dict[str, int]) -> None:
    import tempfile

    lines = [f"{key} {value}" for key, value in content.items()]
    wanted: dict[str, str] = {}
    for _, key, value in entries(lines, lambda number, reason: pytest.fail(f"{number}: {reason}")):
        wanted.setdefault(key, value)
    with tempfile.TemporaryDirectory() as folder:
        source, target = f"{folder}/source", f"{folder}/target"
        Path(source).write_text("\n".join(lines), encoding="utf-8")
        build(source, target)
        index = Index(target)
        assert {key: index.get(key) for key in wanted} == wanted
        assert index.get("not there") is None


def forbidden(*arguments: object) -> None:
    """A system call that a sandbox takes away."""
    raise PermissionError(1, "Operation not permitted")


def test_an_index_is_made_once_and_anew_for_a_changed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "s", tmp_path / "folder" / "t"
    source.write_text("a 1\n")
    build(str(source), str(target))
    made = target.stat().st_ino
    build(str(source), str(target))
    assert target.stat().st_ino == made
    source.write_text("a 22\n")
    assert not is_current(str(source), str(target))
    command = [sys.executable, "-m", "mta.tables.index", str(source), str(target)]
    subprocess.run(command, check=True)
    assert is_current(str(source), str(target))
    assert Index(str(target)).get("a") == "22"
    monkeypatch.setattr(os, "nice", forbidden)
    assert main([str(source), str(target)]) == 0
    source.write_text(" b\n")
    failed = subprocess.run(command, capture_output=True, text=True)
    assert (failed.returncode, failed.stderr.splitlines()[-1][-40:]) == (
        EX_MISTAKES,
        "begins with a blank goes on with the one before"[-40:],
    )


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_a_damaged_index_is_noticed(damage: bytes | None, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a 1\n")
    build(str(tmp_path / "s"), str(tmp_path / "t"))
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(whole[:-8] if damage is None else damage)
    with pytest.raises((TableError, ValueError)):
        Index(str(tmp_path / "t"))


async def says(table: TextTable, key: str, wanted: str | None) -> None:
    """Wait until the table has a value."""
    for _ in range(600):
        if table.get(key) == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{key} is not {wanted}")


async def complains(table: TextTable, key: str, old: str, told: list[str]) -> None:
    """Wait until something is told; the old value is there all the time."""
    for _ in range(600):
        assert table.get(key) == old
        if told:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("nothing is told")


@pytest.mark.parametrize("large", [10**6, 1])
def test_a_changed_file_is_seen(large: int, tmp_path: Path) -> None:
    path, now, told = tmp_path / "t", [0.0], list[str]()

    async def changed(table: TextTable, text: str, key: str, wanted: str | None) -> None:
        path.write_text(text)
        now[0] += 2
        await says(table, key, wanted)

    async def main() -> None:
        path.write_text("a 1\n")
        table = TextTable(str(path), str(tmp_path / "i"), lambda: now[0], told.append, large=large)
        assert table.get("A") == "1"
        await changed(table, "a 22\n", "a", "22")
        path.write_text("  bad\n")
        now[0] += 2
        await complains(table, "a", "22", told)
        assert "begins with a blank" in told[0]
        await changed(table, "b 333\n", "b", "333")
        os.unlink(path)
        now[0] += 2
        assert table.get("b") == "333"
        await table.close()

    asyncio.run(main())


def test_a_read_that_failed_is_tried_again(tmp_path: Path) -> None:
    """What keeps it from being read may pass without a change of the file: rights, descriptors, room."""
    path, now, told = tmp_path / "t", [0.0], list[str]()
    problem: Exception | None = None

    def read(path: Path, octets: bytes) -> str:
        if problem is not None:
            raise problem
        return octets.decode()

    path.write_text("a")
    watched = Watched(path, read, lambda: now[0], complain=told.append)
    problem = TableError(f"{path}: Permission denied")
    problem.__cause__ = PermissionError()
    path.write_text("bb")
    for _ in range(3):
        now[0] += 1
        assert watched.content() == "a"
    assert told == [f"{path}: Permission denied"]
    problem = None
    assert watched.content() == "a", "looked at once a second"
    now[0] += 1
    assert watched.content() == "bb"
    problem = TableError("a mistake")
    path.write_text("ccc")
    for _ in range(3):
        now[0] += 1
        assert watched.content() == "bb"
    problem = None
    now[0] += 1
    assert watched.content() == "bb", "a mistake is mended by a change of the file"
    problem = RuntimeError("bug")
    path.write_text("dddd")
    now[0] += 1
    assert watched.content() == "bb"
    assert told[1:] == ["a mistake", f"{path}: internal error: RuntimeError('bug')"]


def test_an_index_that_could_not_be_made_is_tried_again(tmp_path: Path) -> None:
    path, folder, now, told = tmp_path / "t", tmp_path / "folder", [0.0], list[str]()

    async def main() -> None:
        path.write_text("a 1\n")
        table = TextTable(str(path), str(folder / "i"), lambda: now[0], told.append, large=1)
        folder.rename(tmp_path / "aside")
        folder.touch()
        path.write_text("a 22\n")
        now[0] += 2
        await complains(table, "a", "1", told)
        assert told[0].startswith(f"{path}: no index was made (status 1): ")
        assert "Traceback" not in told[0]
        folder.unlink()
        now[0] += PAUSE
        await says(table, "a", "22")
        await table.close()

    asyncio.run(main())
    assert len(told) == 1


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_table, "ann\nx y\n"), (read_networks, "192.0.2.0/24 a\u2028b\nx\n"),
        (read_patterns, "/a/ v\x85w\nx\n"), (read_text, "a b\n\"c\n"),
        (lambda path: build(str(path), f"{path}.index"), "a b\n\"c\n"),
    ],
)  # fmt: skip
def test_lines_are_those_of_editors(read: Callable[[Path], object], text: str, tmp_path: Path) -> None:
    """With a byte order mark, and with characters that end lines for Unicode alone."""
    path = tmp_path / "t"
    path.write_text(text, encoding="utf-8-sig")
    with pytest.raises(TableError, match=rf"^{path}:2: [^\n]*$"):
        read(path)
    path.write_text("ann x\n", encoding="utf-8-sig")
    assert read_text(path) == {"ann": "x"}


def test_networks(tmp_path: Path) -> None:
    path = tmp_path / "n"
    path.write_text(
        "# first\n192.0.2.7 one\n192.0.2.0/24  many of them\n192.0.2.9 late\n2001:db8::/32 six\n0.0.0.0/0\n"
    )
    networks = read_networks(path)
    found = {
        key: networks.get(key)
        for key in ("192.0.2.7", "192.0.2.9", "::ffff:192.0.2.8", "2001:db8::1", "10.1.1.1", "::1", "x", "")
    }
    assert found == {
        "192.0.2.7": "one", "192.0.2.9": "many of them", "::ffff:192.0.2.8": "many of them",
        "2001:db8::1": "six", "10.1.1.1": "", "::1": None, "x": None, "": None,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["192.0.2.1/24 x", "300.0.0.0/8", "name"])
def test_bad_networks_say_where(text: str, tmp_path: Path) -> None:
    path = tmp_path / "n"
    path.write_text(f"# x\n{text}\n")
    with pytest.raises(TableError, match=f"{path}:2: "):
        read_networks(path)


def test_patterns(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_text(
        "# lists\n"
        "/^(bounce|owner)-(.*)@lists\\.x$/  $2 of ${1}, $$1\n"
        "/CASE/c\tupper\n"
        "/a\\/b/ slash\n"
        "!/@x$/ elsewhere\n"
        "/spam/\n"
        "/./i last\n"
    )
    table = read_patterns(path)
    cases = {
        "Owner-ann@lists.x": "ann of Owner, $1", "case@x": "last", "CASE@x": "upper", "a/b@x": "slash",
        "b@y": "elsewhere", "spam@x": "", "n@x": "last", "": "elsewhere",
    }  # fmt: skip
    assert {key: table.get(key) for key in cases} == cases
    (tmp_path / "none").write_text("")
    assert read_patterns(tmp_path / "none").get("x") is None


def test_many_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p"
    path.write_text("".join(f"/^word{number}@.*\\.example\\.org$/ {number}\n" for number in range(8000)))
    assert read_patterns(path).get("word7999@x.example.org") == "7999"
    path.write_text("".join(f"/{number}abc\\pL+defgh/\n" for number in range(100)))
    monkeypatch.setattr(patterns, "SET_MEMORY", 1 << 20)
    with pytest.raises(TableError, match=rf"^{path}:100: all patterns together take more than 1 MiB: "):
        read_patterns(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x", "a line begins with"), ("/x", "the slash at the end"), ("/x/z y", "there is no flag 'z'"),
        ("/(x/ y", "missing \\)"), ("/x/ $1", "there is no group 1"), ("!/(x)/ $1", "there is no group 1"),
        ("/(?=x)/ y", "invalid perl operator"), (f"/x/ ${'1' * 5000}", "there is no group 111111111 for"),
    ],
)  # fmt: skip
def test_bad_patterns_say_where(line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_text(f"/a/ b\n\n{line}\n")
    with pytest.raises(TableError, match=f"{path}:3: .*{reason}"):
        read_patterns(path)


def test_sqlite_file_that_another_takes_the_place_of(tmp_path: Path) -> None:
    path = tmp_path / "users.db"

    def write(place: Path, *users: str) -> None:
        base = sqlite3.connect(place)
        base.execute("CREATE TABLE users (address)")
        base.executemany("INSERT INTO users VALUES (?)", [(user,) for user in users])
        base.commit()
        base.close()

    async def main() -> None:
        table = SqliteTable(str(path), parse("SELECT 'yes' FROM users WHERE address = {key}"), 1.0)
        write(path, "old@x")
        assert await table.get("new@x") is None
        write(tmp_path / "new.db", "new@x")
        (tmp_path / "new.db").rename(path)
        assert await table.get("new@x") == "yes"
        assert await table.get("old@x") is None
        path.unlink()
        with pytest.raises(TableUnavailable):  # and not: nobody is there
            await table.get("new@x")
        write(path, "new@x")
        assert await table.get("new@x") == "yes"
        await table.close()

    asyncio.run(main())


def test_sqlite_up_slow_dead_and_lying(tmp_path: Path) -> None:
    path = tmp_path / "db"
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE aliases (address, target)")
    rows = [("a@x", "b"), ("a@x", "c"), ("n@x", None), ("big@x", "y" * 70_000)]
    base.executemany("INSERT INTO aliases VALUES (?, ?)", rows)
    base.commit()

    async def main() -> None:
        table = SqliteTable(
            str(path), parse("SELECT target FROM aliases WHERE address = {local} || '@' || {domain}"), 0.05
        )
        assert await table.get("a@x") == "b, c"
        assert await table.get("no@x") is None
        assert await table.get("n@x") is None
        assert await table.get("no domain") is None
        assert await table.get("'; DROP TABLE aliases; --@x") is None
        with pytest.raises(TableUnavailable, match="70000"):
            await table.get("big@x")
        base.execute("BEGIN EXCLUSIVE")  # a writer holds the file
        with pytest.raises(TableUnavailable, match="locked"):
            await table.get("a@x")
        base.rollback()
        assert await table.get("a@x") == "b, c"
        await table.close()
        rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        slow = SqliteTable(str(path), parse(f"{rows} SELECT max(i) FROM n WHERE {{key}} != ''"), 0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await slow.get("x")  # it is interrupted, or the next one would wait for it
        waiting = asyncio.ensure_future(slow.get("x"))
        await asyncio.sleep(0.1)
        await slow.close()
        with pytest.raises(TableUnavailable, match="interrupted"):
            await waiting
        for wrong, reason in ((tmp_path / "none", "unable to open"), (Path(__file__), "not a database")):
            with pytest.raises(TableUnavailable, match=reason):
                await SqliteTable(str(wrong), parse("SELECT {key} FROM t"), 0.05).get("x")

    asyncio.run(main())
    base.close()


@pytest.mark.parametrize(
    ("text", "key", "wanted"),
    [
        ("{key}", "a", "a"), ("x{local}y{domain}z", "a@b@c", "xa@bycz"), ("{local}", "a", "a"),
        ("{domain}", "a", None), ("{reversed}.list", "192.0.2.7", "7.2.0.192.list"),
        ("{reversed}.list", "::ffff:192.0.2.7", "7.2.0.192.list"),
        ("{reversed}", "2001:db8::1", "1." + "0." * 23 + "8.b.d.0.1.0.0.2"), ("{reversed}", "x", None),
        ("{other} {", "a", "{other} {"), ("", "a", ""),
    ],
)  # fmt: skip
def test_templates(text: str, key: str, wanted: str | None) -> None:
    assert parse(text).expand(key) == wanted


def test_marks_take_the_place_of_quoted_places() -> None:
    made = parse("SELECT x FROM t WHERE a = '{key}' AND b LIKE {local}")
    assert made.with_marks("?") == "SELECT x FROM t WHERE a = ? AND b LIKE ?"
    assert made.values("a@b") == ("a@b", "a")
