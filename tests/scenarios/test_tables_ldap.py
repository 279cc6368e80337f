"""Tables in a real directory, slapd: found and not found; silent, dead, refusing; TLS of both kinds."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uvloop

from mta import config
from mta.tables.build import Tables
from mta.tables.table import Table, TableUnavailable
from tests.peers.certificates import authority
from tests.peers.databases import Server, running_slapd
from tests.peers.tables import ask

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def slapd() -> Iterator[Server]:
    with running_slapd() as server:
        yield server


@contextlib.asynccontextmanager
async def table(
    folder: Path, server: Server, query: str = "(mail={key})", what: str = "?roomNumber", *,
    base: str = "dc=test", where: str = "", password: str = "", **more: str | int,
) -> AsyncIterator[Table]:  # fmt: skip
    """A table as the configuration makes it."""
    if password:
        (folder / "password").write_text(password + "\n")
        (folder / "password").chmod(0o600)
        more = {"bind_dn": "cn=tamis,dc=test", "password_file": "password", **more}
    url = f"{where or f'ldap://localhost:{server.port}'}/{base}{what}"
    lines = "".join(f"{key} = {value!r}\n" for key, value in more.items())
    text = f"[tables.t]\ntype = 'ldap'\nurl = '{url}'\nquery = '{query}'\n{lines}"
    tables = Tables(config.parse(text, f"{folder}/tamis.toml").tables, str(folder))
    try:
        yield tables["t"]
    finally:
        await tables.close()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """As the daemon runs it."""
    uvloop.run(main())


@pytest.mark.parametrize(
    ("query", "what", "key", "value"),
    [
        ("(mail={key})", "?roomNumber", "ann@x.test", "1, 2"),
        ("(mail={key})", "?roomNumber", "ANNA@x.test", "1, 2"),
        ("(mail={key})", "?roomNumber", "bob@x.test", None),
        ("(mail={key})", "?cn,roomnumber?sub", "ann@x.test", "ann, 1, 2"),
        ("(mail={key})", "?mail", "m@x.test", "m@x.test"),
        ("(mail={key})", "", "ann@x.test", ""),
        ("(mail={key})", "", "bob@x.test", None),
        ("(mail={key})", "?title", "ann@x.test", None),
        ("(mail={key})", "?roomNumber?one", "ann@x.test", None),
        ("(cn={key})", "?roomNumber", "müller", "büx"),
        # What would be a filter is a value.
        ("(mail={key})", "?roomNumber", "*", None),
        ("(mail={key})", "?roomNumber", "ann*", None),
        ("(mail={key})", "?roomNumber", "x)(|(mail=*", None),
        ("(mail={key})", "?roomNumber", "star*@x.test", "3"),
        (r"(mail=star\2a@{domain})", "?roomNumber", "x@x.test", "3"),
        ("(cn={key})", "?roomNumber", "o'hara (*) \\", "3"),
        ("(mail={key})", "?roomNumber", "a\0b", None),
        ("(mail={key})", "?roomNumber", "", None),
        ("(mail={local}*)", "?roomNumber", "star@x", "3"),
        ("(mail={local}*@{domain})", "?cn", "anna@x.test", "ann"),
        ("(mail={local}*)", "?roomNumber", "no domain", None),
        ("(&(objectClass=inetOrgPerson)(|(mail={key})(cn={key}))(!(title=*)))", "?cn", "ann", "ann"),
        ("(&(mail=*)(!(roomNumber={key})))", "?cn", "3", "ann, müller"),
        ("(roomNumber:caseExactMatch:={key})", "?cn", "2", "ann"),
        ("(:caseExactMatch:={key})", "?cn", "nothing", None),
        ("(ou:dn:={key})", "?roomNumber", "x.test", "1, 2, büx, 3"),
    ],
)
def test_filters_and_values(
    tmp_path: Path, slapd: Server, query: str, what: str, key: str, value: str | None
) -> None:
    async def main() -> None:
        async with table(tmp_path, slapd, query, what) as here:
            assert await ask(here, key) == value

    run(main)


def test_where_a_search_begins(tmp_path: Path, slapd: Server) -> None:
    async def main() -> None:
        async with table(tmp_path, slapd, "(cn={local})", base="ou={domain},dc=test") as here:
            assert await ask(here, "ann@x.test") == "1, 2"
            assert await ask(here, "comma@a,b") == "4"
            for key in ("ann@y.test", "ann", "ann@", "ann@x.test,dc=test", "a@ x", "a@#x", 'a@"<>;=+\\ '):
                assert await ask(here, key) is None, key
        async with table(tmp_path, slapd, base="dc=nowhere") as here:
            with pytest.raises(
                TableUnavailable, match=r"LDAP: result 32 \(noSuchObject: the beginning in the URL\)"
            ):
                await ask(here, "ann@x.test")

    run(main)


def test_who_asks(tmp_path: Path, slapd: Server) -> None:
    async def main() -> None:
        async with table(tmp_path, slapd, what="?pager") as here:
            assert await ask(here, "ann@x.test") is None
        async with table(tmp_path, slapd, what="?pager", password="secret") as here:
            assert await ask(here, "ann@x.test") == "555"
        async with table(tmp_path, slapd, what="?pager", password="wrong") as here:
            with pytest.raises(
                TableUnavailable,
                match=r"table t: no connection: bind: result 49 \(invalidCredentials: bind_dn or password\)",
            ):
                await ask(here, "ann@x.test")
        async with table(tmp_path, slapd, what="?jpegPhoto") as here:
            with pytest.raises(TableUnavailable, match="jpegPhoto is no text"):
                await ask(here, "ann@x.test")
            assert await ask(here, "bob@x.test") is None

    run(main)


def test_many_questions_over_few_connections(tmp_path: Path, slapd: Server) -> None:
    async def main() -> None:
        async with table(tmp_path, slapd, connections=2) as here:
            assert await asyncio.gather(*(ask(here, "ann@x.test") for _ in range(50))) == ["1, 2"] * 50

    run(main)


def test_tls(tmp_path: Path, slapd: Server) -> None:
    others = authority(tmp_path).file
    secure = f"ldaps://localhost:{slapd.secure}"
    socket = f"ldapi://{quote(f'{slapd.folder}/ldapi', safe='')}"

    async def main() -> None:
        for where, level, ca in (
            ("", "encrypt", ""), ("", "verify", slapd.authorities), (secure, "encrypt", ""),
            (secure, "verify", slapd.authorities), (socket, "verify", ""),
        ):  # fmt: skip
            async with table(tmp_path, slapd, where=where, tls=level, tls_ca=ca, password="secret") as here:
                assert await ask(here, "ann@x.test") == "1, 2", (where, level)
        for where in ("", secure):
            async with table(tmp_path, slapd, where=where, tls="verify", tls_ca=others) as here:
                with pytest.raises(TableUnavailable, match=r"(?i)certificate"):
                    await ask(here, "ann@x.test")
        # The certificate is for localhost.
        for where in (f"ldap://127.0.0.1:{slapd.port}", f"ldaps://127.0.0.1:{slapd.secure}"):
            async with table(tmp_path, slapd, where=where, tls="verify", tls_ca=slapd.authorities) as here:
                with pytest.raises(TableUnavailable, match=r"(?i)certificate"):
                    await ask(here, "ann@x.test")

    run(main)


def test_silent_dead_and_started_again(tmp_path: Path, slapd: Server) -> None:
    async def main() -> None:
        async with (
            table(tmp_path, slapd, timeout="300ms") as hasty,
            table(tmp_path, slapd, timeout="300ms", on_error="ignore") as careless,
            table(tmp_path, slapd, timeout="20s") as here,
        ):
            assert await ask(hasty, "ann@x.test") == "1, 2"
            slapd.send(signal.SIGSTOP)
            try:
                with pytest.raises(TableUnavailable, match="table t: no answer within"):
                    await ask(hasty, "ann@x.test")
                assert await ask(careless, "ann@x.test") is None
            finally:
                slapd.send(signal.SIGCONT)
            assert await ask(here, "ann@x.test") == "1, 2"
            slapd.stop()
            with pytest.raises(TableUnavailable, match="table t: no connection"):
                await ask(here, "ann@x.test")
            slapd.start()
            assert await ask(here, "ann@x.test") == "1, 2"
            slapd.stop()
            slapd.start()
            assert await ask(here, "ann@x.test") == "1, 2"

    run(main)
