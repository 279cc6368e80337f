"""Next hops whose reply codes are in no RFC: their first digit counts, and nobody else's mail suffers."""

from __future__ import annotations

from pathlib import Path

from tests.dialog.backend import ScriptedStore
from tests.dialog.server import run, serving


def test_a_recipient_refused_with_571_does_not_hold_back_the_others(tmp_path: Path) -> None:
    store = ScriptedStore(
        rcpt_reply=lambda address: "571 5.7.1 blocked" if address.startswith("bob") else "250 2.1.5 ok"
    )

    async def main() -> None:
        async with serving(tmp_path, store=store) as server:
            client = await server.connect()
            await client.hello()
            assert (await client.send("bob@example.test", "eve@example.test")).startswith("550 5.7.1 ")
            assert [one.recipient for one in store.delivered] == ["eve@example.test"]
            assert (await client.send("bob@example.test")) == "550 5.7.1 blocked\r\n"
            assert store.sessions == 1

    run(main)
