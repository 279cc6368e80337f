"""Tables in a real Dovecot: its userdb and a dictionary; started again, broken, gone; recipients by them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from mta import config
from mta.tables.build import Tables
from mta.tables.table import TableUnavailable
from tests.dialog.server import run, serving
from tests.peers.dovecot_lookups import DovecotLookups, running_dovecot_lookups
from tests.peers.tables import ask

pytestmark = pytest.mark.scenario
USERS = (
    "ann@x.test::1000:1000::/srv/ann::userdb_box=one=two\n"
    "eve@x.test::1000:1000::/srv/eve::\n"
    "b@example.test::1000:1000::/srv/b::\n"
)
ENTRIES = "shared/box/ann@x.test\nbox 1\nshared/box/a\\|b\\\\c\nslash\npriv/own\nmine\n"


def settings(dovecot: DovecotLookups, **more: str) -> str:
    lines = "".join(f'{key} = "{value}"\n' for key, value in more.items())
    return f"""
[tables.homes]
type = "dovecot_userdb"
address = "unix:{dovecot.userdb}"
map = "home"
{lines}
[tables.fields]
type = "dovecot_userdb"
address = "unix:{dovecot.userdb}"
query = "{{local}}@x.test"
map = "box"
[tables.users]
type = "dovecot_userdb"
address = "unix:{dovecot.userdb}"
{lines}
[tables.boxes]
type = "dovecot_dict"
address = "unix:{dovecot.dict}"
map = "boxes"
query = "shared/box/{{key}}"
{lines}
[tables.own]
type = "dovecot_dict"
address = "unix:{dovecot.dict}"
map = "boxes"
query = "priv/own"
[tables.none]
type = "dovecot_dict"
address = "unix:{dovecot.dict}"
map = "nothing"
query = "{{key}}"
"""


ODD = (
    "",
    " ",
    "a\tb",
    "ann@x.test\nUSER\t2\tann@x.test",
    "a\0b",
    "../ann@x.test",
    "%u",
    "x" * 1000,
    "\udcff",
)
"""Keys that are nobody, and no second question."""


def test_users_and_entries(tmp_path: Path) -> None:
    async def main(dovecot: DovecotLookups) -> None:
        text = settings(dovecot, timeout="20s")
        tables = Tables(config.parse(text, f"{tmp_path}/tamis.toml").tables, str(tmp_path))
        for table, key, value in (
            ("homes", "ann@x.test", "/srv/ann"), ("homes", "eve@x.test", "/srv/eve"),
            ("homes", "bob@x.test", None), ("fields", "ann@elsewhere.test", "one=two"),
            ("fields", "eve@x.test", None), ("users", "ann@x.test", ""), ("users", "bob@x.test", None),
            ("boxes", "ann@x.test", "box 1"), ("boxes", "bob@x.test", None), ("boxes", "a/b\\c", "slash"),
            ("own", "ann@x.test", "mine"),
        ):  # fmt: skip
            assert await ask(tables[table], key) == value, (table, key)
        for table in ("homes", "users", "boxes"):
            for key in ODD:
                assert await ask(tables[table], key) is None, (table, key)
            assert await asyncio.gather(*(ask(tables[table], "bob@x.test") for _ in range(50))) == [None] * 50
        with pytest.raises(TableUnavailable, match="the connection broke"):
            await ask(tables["none"], "x")
        await asyncio.to_thread(dovecot.stop)
        for table in ("homes", "boxes"):
            with pytest.raises(TableUnavailable, match=f"table {table}: no connection"):
                await ask(tables[table], "ann@x.test")
        await asyncio.to_thread(dovecot.start)
        assert await ask(tables["homes"], "ann@x.test") == "/srv/ann"
        assert await ask(tables["boxes"], "ann@x.test") == "box 1"
        # What Dovecot itself cannot read is not "not there".
        for name in ("users", "entries"):
            shutil.chown(dovecot.folder / name, "root", "root")
            (dovecot.folder / name).chmod(0)
        await asyncio.to_thread(dovecot.stop)
        await asyncio.to_thread(dovecot.start)
        for table in ("homes", "boxes"):
            with pytest.raises(TableUnavailable):
                await ask(tables[table], "ann@x.test")
        await tables.close()

    with running_dovecot_lookups(USERS, ENTRIES) as dovecot:
        asyncio.run(main(dovecot))


def test_recipients_are_users_of_dovecot(tmp_path: Path) -> None:
    async def main(dovecot: DovecotLookups) -> None:
        more = settings(dovecot)
        async with serving(tmp_path, recipients="table:users", more=more) as server:
            client = await server.connect()
            await client.hello()
            await client.say("MAIL FROM:<a@x.test>")
            assert (await client.say("RCPT TO:<b@example.test>")).startswith("250 ")
            assert (await client.say("RCPT TO:<c@example.test>")).startswith("550 5.1.1")
            await asyncio.to_thread(dovecot.stop)
            assert (await client.say("RCPT TO:<c@example.test>")).startswith("451 4.")
            await asyncio.to_thread(dovecot.start)
            assert (await client.say("RCPT TO:<c@example.test>")).startswith("550 5.1.1")

    with running_dovecot_lookups(USERS, ENTRIES) as dovecot:
        run(lambda: main(dovecot))
