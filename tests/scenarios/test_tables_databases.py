"""Tables in real databases, PostgreSQL and MariaDB: up, slow, silent, dead, refusing; TLS, Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mta import config
from mta.tables.build import Tables
from mta.tables.table import Table, TableUnavailable
from tests.dialog.server import serving
from tests.peers.certificates import authority
from tests.peers.databases import CONTENT, Server, running_mariadb, running_postgresql
from tests.peers.tables import ask

pytestmark = pytest.mark.scenario
STARTERS = {"postgresql": running_postgresql, "mysql": running_mariadb}
SLEEP = {"postgresql": "pg_sleep(20) IS NULL", "mysql": "SLEEP(20) = 2"}
QUERY = "SELECT target FROM aliases WHERE address = {key} ORDER BY n"


@pytest.fixture(scope="module", params=STARTERS)
def database(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    with STARTERS[request.param]() as server:
        yield request.param, server


@contextlib.asynccontextmanager
async def table(
    folder: Path, kind: str, server: Server, query: str = QUERY, *, where: str = "", password: str = "secret",
    complaints: list[str] | None = None, **more: str | int,
) -> AsyncIterator[Table]:  # fmt: skip
    """A table as the configuration makes it."""
    (folder / "password").write_text(password + "\n")
    (folder / "password").chmod(0o600)
    where = where or f"//tamis@localhost:{server.port}/mail"
    lines = "".join(f"{key} = {value!r}\n" for key, value in more.items())
    text = f'[tables.t]\ntype = "{kind}"\nurl = "{kind}:{where}"\nquery = "{query}"\n'
    settings = config.parse(f'{text}password_file = "password"\n{lines}', f"{folder}/tamis.toml")
    complain = complaints.append if complaints is not None else lambda text: None
    tables = Tables(settings.tables, str(folder), complain=complain)
    try:
        yield tables["t"]
    finally:
        await tables.close()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """As the daemon runs it."""
    uvloop.run(main())


def test_values_and_keys_that_would_be_something_else(tmp_path: Path, database: tuple[str, Server]) -> None:
    async def main() -> None:
        async with table(tmp_path, *database) as here:
            for address in dict.fromkeys(address for address, _ in CONTENT):
                value = ", ".join(target for one, target in CONTENT if one == address)
                assert await ask(here, address) == value
            for key in (
                "nobody@x", "null@x", "", "'", "x' OR '1'='1", "\\' OR 1=1 -- ", "%", "{key}", "a\0b",
                "\udcff", "%s", "%(a)s", "?", "$1",
            ):  # fmt: skip
                assert await ask(here, key) is None, key
        query = (
            "SELECT CONCAT('100%% ', CAST({local} AS CHAR(3)), ' ? ', CAST('{domain}' AS CHAR(1))) "
            "FROM aliases WHERE address = '{key}' LIMIT 1"
        )
        async with table(tmp_path, *database, query=query) as here:
            assert await ask(here, "ann@x") == "100%% ann ? x"
            assert await ask(here, "ann") is None
        query = "SELECT 5 FROM aliases WHERE (target LIKE '50%' OR n = 0) AND {key} = 'any'"
        async with table(tmp_path, *database, query=query) as here:
            assert await ask(here, "any") == "5"

    run(main)


def test_many_questions_over_few_connections(tmp_path: Path, database: tuple[str, Server]) -> None:
    kind, server = database
    counted = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tamis' AND {key} = 'n'",
        "mysql": "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'tamis' AND {key} = 'n'",
    }

    async def main() -> None:
        async with table(tmp_path, kind, server, connections=2) as here:
            assert await asyncio.gather(*(ask(here, "ann@x") for _ in range(50))) == ["box 1, box 2"] * 50
            async with table(tmp_path, kind, server, query=counted[kind]) as other:
                assert await ask(other, "n") == "3"

    run(main)


def test_too_slow(tmp_path: Path, database: tuple[str, Server]) -> None:
    kind, server = database
    query = f"SELECT target FROM aliases WHERE address = {{key}} AND ({{key}} = 'o''hara@x' OR {SLEEP[kind]})"
    said: list[str] = []

    async def main() -> None:
        async with table(tmp_path, kind, server, query=query, timeout="500ms", complaints=said) as here:
            begun = time.monotonic()
            for _ in range(3):
                with pytest.raises(TableUnavailable):
                    await ask(here, "ann@x")
            assert time.monotonic() - begun < 10
            assert len(said) == 1
            assert said[0].startswith("table t does not answer: ")
            with pytest.raises(TableUnavailable, match="just failed"):
                await ask(here, "o'hara@x")
            await asyncio.sleep(2.1)
            assert await ask(here, "o'hara@x") == "it's"
            assert said[1:] == ["table t answers again"]

    run(main)


def test_silent_and_then_there_again(tmp_path: Path, database: tuple[str, Server]) -> None:
    kind, server = database

    async def main() -> None:
        async with (
            table(tmp_path, kind, server, timeout="300ms") as here,
            table(tmp_path, kind, server, timeout="300ms", on_error="ignore") as careless,
        ):
            assert await ask(here, "o'hara@x") == "it's"
            server.send(signal.SIGSTOP)
            # PostgreSQL has a process for each connection, which goes on: let us have a new one.
            if kind == "postgresql":
                await here.close()
            try:
                begun = time.monotonic()
                with pytest.raises(TableUnavailable, match=r"table t: .*(no answer within|timeout)"):
                    await ask(here, "o'hara@x")
                assert await ask(careless, "o'hara@x") is None
                assert time.monotonic() - begun < 10
            finally:
                server.send(signal.SIGCONT)
            assert await ask(here, "o'hara@x") == "it's"

    run(main)


def test_dead_and_started_again(tmp_path: Path, database: tuple[str, Server]) -> None:
    kind, server = database

    async def main() -> None:
        async with table(tmp_path, kind, server, timeout="20s") as here:
            assert await asyncio.gather(*(ask(here, "o'hara@x") for _ in range(4))) == ["it's"] * 4
            server.stop()
            with pytest.raises(TableUnavailable, match="table t: no connection"):
                await ask(here, "o'hara@x")
            server.start()
            # Those that it had kept are found to be gone and replaced.
            assert await asyncio.gather(*(ask(here, "o'hara@x") for _ in range(4))) == ["it's"] * 4
            server.stop()
            server.start()
            assert await ask(here, "o'hara@x") == "it's"

    run(main)


@contextlib.asynccontextmanager
async def failover(
    folder: Path, kind: str, *servers: Server, complaints: list[str] | None = None
) -> AsyncIterator[Table]:
    """Servers with copies, as one table."""
    (folder / "password").write_text("secret\n")
    (folder / "password").chmod(0o600)
    text = "".join(
        f'[tables.t{number}]\ntype = "{kind}"\nurl = "{kind}://tamis@localhost:{server.port}/mail"\n'
        f'query = "{QUERY}"\npassword_file = "password"\ntimeout = "2s"\n'
        for number, server in enumerate(servers)
    )
    names = [f"t{number}" for number in range(len(servers))]
    text += f'[tables.all]\ntype = "failover"\ntables = {names}\n'
    complain = complaints.append if complaints is not None else lambda text: None
    settings = config.parse(text, f"{folder}/tamis.toml")
    tables = Tables(settings.tables, str(folder), complain=complain)
    try:
        yield tables["all"]
    finally:
        await tables.close()


def test_a_copy_answers_while_the_first_is_dead_or_silent(
    tmp_path: Path, database: tuple[str, Server]
) -> None:
    kind, first = database
    keys, values = ("ann@x", "nobody@x"), ["box 1, box 2", None]

    async def main(second: Server) -> None:
        async with failover(tmp_path, kind, first, second) as here:
            second.stop()  # "not there" of the first one is an answer
            assert [await ask(here, key) for key in keys] == values
            second.start()
            first.stop()
            assert [await ask(here, key) for key in keys] == values
            second.stop()
            with pytest.raises(TableUnavailable, match="table t1: no connection"):
                await ask(here, "ann@x")
            first.start()
            await asyncio.sleep(2.1)  # its rest
            assert [await ask(here, key) for key in keys] == values
        second.start()
        complaints: list[str] = []
        async with failover(tmp_path, kind, first, second, complaints=complaints) as here:
            first.send(signal.SIGSTOP)
            begun = time.monotonic()
            try:
                assert [await ask(here, "ann@x") for _ in range(20)] == ["box 1, box 2"] * 20
            finally:
                first.send(signal.SIGCONT)
            # Three times in vain, and then it is left alone.
            assert 5.5 < time.monotonic() - begun < 12
            assert [one.partition(":")[0] for one in complaints] == ["table t0 does not answer"]

    with STARTERS[kind]() as second:
        uvloop.run(main(second))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"password": "wrong"}, r"no connection: .*(password authentication failed|Access denied)"),
        ({"query": "SELECT nothing FROM aliases WHERE address = {key}"}, r"(MySQL|PostgreSQL): .*nothing"),
        ({"query": "SELEKT {key}"}, r"(MySQL|PostgreSQL): .*SELEKT"),
        ({"query": "SELECT REPEAT(CAST({key} AS CHAR(1)), 100000)"}, "a value of"),
        ({"where": "//tamis@localhost:{port}/elsewhere"}, "no connection: .*elsewhere"),
    ],
)
def test_errors_of_the_server(
    tmp_path: Path, database: tuple[str, Server], settings: dict[str, Any], said: str
) -> None:
    kind, server = database
    settings = {name: value.replace("{port}", str(server.port)) for name, value in settings.items()}

    async def main() -> None:
        async with table(tmp_path, kind, server, **settings) as here:
            for _ in range(2):
                with pytest.raises(TableUnavailable, match=f"table t: {said}"):
                    await ask(here, "x")

    run(main)


def test_tls_and_unix_socket(tmp_path: Path, database: tuple[str, Server]) -> None:
    kind, server = database
    socket = str(server.folder) if kind == "postgresql" else f"{server.folder}/socket"
    where = f"//tamis@/mail?socket={socket}"
    if kind == "postgresql":
        where = where.replace("@/", f"@:{server.port}/")
    encrypted = {
        "postgresql": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND {key} = 'x'",
        "mysql": "SELECT variable_value <> '' FROM information_schema.session_status "
        "WHERE variable_name = 'Ssl_cipher' AND {key} = 'x'",
    }[kind]
    others = authority(tmp_path).file

    async def main() -> None:
        for level, ca in (("none", ""), ("encrypt", ""), ("verify", server.authorities)):
            async with table(tmp_path, kind, server, query=encrypted, tls=level, tls_ca=ca) as here:
                assert await ask(here, "x") in (("False", "0") if level == "none" else ("True", "1")), level
        async with table(tmp_path, kind, server, tls="verify", tls_ca=others) as here:
            with pytest.raises(TableUnavailable, match=r"(?i)certificate"):
                await ask(here, "ann@x")
        # The certificate is for localhost.
        address = f"//tamis@127.0.0.1:{server.port}/mail"
        async with table(
            tmp_path, kind, server, where=address, tls="verify", tls_ca=server.authorities
        ) as here:
            with pytest.raises(TableUnavailable, match=r"(?i)certificate"):
                await ask(here, "ann@x")
        async with table(tmp_path, kind, server, where=where, tls="verify") as here:
            assert await ask(here, "ann@x") == "box 1, box 2"

    run(main)


def test_recipients_and_values_in_the_daemon(tmp_path: Path, database: tuple[str, Server]) -> None:
    kind, server = database
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "policy.sieve").write_text(
        'require ["vnd.tamis.stage", "vnd.tamis.reply", "vnd.tamis.tables", "envelope", "variables"];\n'
        'stage "mail" { if envelope :matches "from" "*" { set "sender" "${1}"; }\n'
        'if lookup :value "where" "table:t" "${sender}" { reply "found ${where}"; } }'
    )
    more = f"""
[tables.t]
type = "{kind}"
url = "{kind}://tamis@localhost:{server.port}/mail"
query = "{QUERY}"
password_file = "password"
tls = "verify"
tls_ca = "{server.authorities}"
[tables.users]
type = "{kind}"
url = "{kind}://tamis@localhost:{server.port}/mail"
query = "SELECT '' FROM aliases WHERE address = CONCAT(CAST({{local}} AS CHAR(3)), '@x')"
password_file = "password"
[policy]
scripts = ["policy.sieve"]
"""

    async def main() -> None:
        async with serving(tmp_path, recipients="table:users", more=more) as daemon:
            client = await daemon.connect()
            await client.hello()
            assert (await client.say("MAIL FROM:<ann@x>")).startswith("550 5.7.1 found box 1, box 2")
            assert (await client.say("MAIL FROM:<x'or'1'='1@x>")).startswith("250 ")
            assert (await client.say("RCPT TO:<ann@example.test>")).startswith("250 ")
            assert (await client.say("RCPT TO:<bob@example.test>")).startswith("550 5.1.1")
            await asyncio.to_thread(server.stop)
            assert (await client.say("RCPT TO:<bob@example.test>")).startswith("451 4.")
            await asyncio.to_thread(server.start)
            assert (await client.say("RCPT TO:<bob@example.test>")).startswith("550 5.1.1")
            assert (await client.say("RCPT TO:<ann@example.test>")).startswith("250 ")

    run(main)
