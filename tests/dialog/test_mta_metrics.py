"""What a worker counts of connections, pools and certificates."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.dialog.backend import ScriptedStore
from tests.dialog.server import Server, run, serving
from tests.peers.certificates import authority
from tests.peers.greeter import until

CERTIFICATES = '[certificates.main]\nchain = "main.pem"\nkey = "main.key"\n'


def of_pool(server: Server) -> dict[str, Any]:
    """The metrics of the pool to the store."""
    peer, found = f"127.0.0.1:{server.store.port}", server.daemon.snapshot()
    gauges = {name: found[f"pool_{name}"][peer] for name in ("open", "idle", "waiting")}
    counters = {name: found[f"pool_{name}"][peer] for name in ("reused", "waits", "refused")}
    connects = {name: found["pool_connects"][f"{name}\t{peer}"] for name in ("opened", "failed")}
    return gauges | counters | connects


def test_connections_to_a_next_hop(tmp_path: Path) -> None:
    async def main() -> None:
        store, one = ScriptedStore(final_delay=0.3), "max_connections = 1\nmessages_per_connection = 2"
        async with serving(tmp_path, backend=one, store=store) as server:
            clients = [await server.connect() for _ in range(2)]
            for client in clients:
                await client.hello()
            nothing = dict.fromkeys(of_pool(server), 0)
            assert of_pool(server) == nothing
            sending = [asyncio.ensure_future(client.send("a@example.test")) for client in clients]
            await store.data_seen.wait()
            await until(lambda: of_pool(server)["waiting"] == 1)
            assert of_pool(server) == nothing | {"open": 1, "opened": 1, "waiting": 1, "waits": 1}
            assert all(reply.startswith("250 ") for reply in await asyncio.gather(*sending))
            found = of_pool(server)
            assert (found["waiting"], found["waits"], found["opened"]) == (0, 1, 1)
            assert (await clients[0].send("a@example.test")).startswith("250 ")
            assert of_pool(server)["opened"] == 2, "a third message is one too many for a connection"
            await until(lambda: of_pool(server)["idle"] == 1)
            assert (await clients[0].send("a@example.test")).startswith("250 ")
            assert of_pool(server)["reused"] == 2
            await store.stop()
            await until(lambda: of_pool(server)["open"] == 0)
            assert (await clients[0].send("a@example.test")).startswith("451 4.4.1")
            assert of_pool(server)["failed"] == 1
            await store.start(store.port)

    run(main)


def test_connections_of_clients_and_the_end_of_certificates(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    ca.issue("main", "mx.test")
    made = x509.load_pem_x509_certificate((tmp_path / "main.pem").read_bytes())

    async def main() -> None:
        async with serving(tmp_path, more=CERTIFICATES) as server:
            client = await server.connect()
            await client.hello()
            trust = ssl.create_default_context()
            ca.ca.configure_trust(trust)
            await client.starttls(trust, "mx.test")
            await client.say("EHLO client.test")
            found = server.daemon.snapshot()
            assert found["connections"] == {"accepted\tsmtp": 1}
            assert found["sessions_open"] == {"smtp": 1}
            assert found["tls_sessions"] == {"TLSv1.3\tsmtp": 1}
            end = made.not_valid_after_utc.timestamp()
            assert found["certificate_expiry_seconds"] == {"main": end}

    run(main)
