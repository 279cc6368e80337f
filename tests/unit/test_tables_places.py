"""URLs of databases, which TLS is made of the settings, what a missing package is answered with."""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
import sys
from typing import Any

import pytest

from mta import config
from mta.config.tables import EXTRAS
from mta.tables.pool import Broken, Pool, Refused
from mta.tables.server import Server, parse_server, tls_context
from mta.tables.table import TableUnavailable


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("mysql://u@h/d", Server("h", 3306, "", "u", "d")),
        ("mysql://u%40x@[::1]:5/d%2Fe", Server("::1", 5, "", "u@x", "")),
        ("postgresql://u@h:1/d", Server("h", 1, "", "u", "d")),
        ("postgresql://u@:7/d?socket=/run", Server("", 7, "/run", "u", "d")),
        ("mysql://u@h/d?socket=/x", None),
        ("mysql://u@/d?socket=x", None),
        ("mysql://u:p@h/d", None),
        ("mysql://u@h/", None),
        ("mysql://u@h/d/e", None),
        ("mysql://u@h:0/d", None),
        ("mysql://u@h:99999/d", None),
        ("mysql://h/d", None),
        ("mysql://u@h/d?tls=no", None),
        ("mysql://u@h/d#x", None),
        ("redis://u@h/d", None),
    ],
)
def test_urls_of_databases(text: str, server: Server | None) -> None:
    scheme = text.partition(":")[0] if server else "mysql"
    if server is None or not server.database:
        with pytest.raises(ValueError, match=r".+"):
            parse_server(text, scheme)
    else:
        assert parse_server(text, scheme) == server


def test_tls_of_the_three_levels() -> None:
    assert tls_context("none", "") is None
    verify, encrypt = tls_context("verify", ""), tls_context("encrypt", "")
    assert verify is not None
    assert encrypt is not None
    assert (verify.check_hostname, verify.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert (encrypt.check_hostname, encrypt.verify_mode) == (False, ssl.CERT_NONE)


@pytest.mark.parametrize("kind", EXTRAS)
def test_a_missing_package_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, extra = EXTRAS[kind]
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == module else found(name, *more)
    )
    url = "redis://h/" if kind == "redis" else f"{kind}://u@h/d"
    with pytest.raises(config.ConfigError) as caught:
        config.parse(f'[tables.t]\ntype = "{kind}"\nurl = "{url}"\nquery = "{{key}}"\n')
    assert f'"{kind}" needs the Python package {module}, which is not installed' in str(caught.value)
    assert f"{sys.executable} -m pip install 'tamis[{extra}]'" in str(caught.value)


def test_a_pool_uses_again_replaces_and_bounds() -> None:
    opened: list[int] = []
    shut: list[int] = []
    said: list[Any] = []

    async def open() -> int:
        if said and said[0] == "no connection":
            raise Broken("nobody there")
        opened.append(len(opened))
        return opened[-1]

    async def ask(one: int) -> str:
        await asyncio.sleep(0)
        if said and (said[0] == "always" or one in said):
            raise Broken("cut")
        if said == ["refused"]:
            raise Refused("no")
        return f"over {one}"

    async def main() -> None:
        pool = Pool(open, shut.append, 2)
        answers = await asyncio.gather(*(pool.use(ask) for _ in range(10)))
        assert set(answers) == {"over 0", "over 1"}
        said[:] = [0, 1]  # both have gone meanwhile
        assert await pool.use(ask) == "over 2"
        assert shut in ([0, 1], [1, 0])
        said[:] = ["refused"]
        with pytest.raises(TableUnavailable, match=r"^no$"):
            await pool.use(ask)
        said.clear()
        assert await pool.use(ask) == "over 2"
        said[:] = ["always"]
        with pytest.raises(TableUnavailable, match="the connection broke: cut"):
            await pool.use(ask)
        said[:] = ["no connection"]
        with pytest.raises(TableUnavailable, match="no connection: nobody there"):
            await pool.use(ask)
        said.clear()
        # One that is left in the middle is not used again.
        task = asyncio.ensure_future(pool.use(ask))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert sorted(shut) == opened
        await pool.use(ask)
        await pool.close()
        assert sorted(shut) == opened

    asyncio.run(main())
