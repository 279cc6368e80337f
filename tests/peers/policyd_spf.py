"""policyd-spf, Debian's, as a policy server on a Unix socket."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailmilter.endpoint import Endpoint
from mta.net.resolver.server import Address
from tests.peers.needs import needs, program

# Its library reads resolv.conf, where no port can be named; what it has read is replaced.
_ASKING = """\
import sys, DNS, spf
from spf_engine.policyd_spf import main
DNS.defaults.update(server=["{host}"], port={port}, timeout=2)
sys.argv[0] = "policyd-spf"
sys.exit(main())
"""


@contextmanager
def running_policyd_spf(settings: str = "", resolver: Address | None = None) -> Iterator[Endpoint]:
    """policyd-spf under a stand-in for spawn(8): a process a connection, on its standard input and output.

    With `settings` these are its configuration, with a `resolver` it asks that one.
    """
    needs("postfix-policyd-spf-python")
    with tempfile.TemporaryDirectory(prefix="tamis-spf-") as name:
        path = f"{name}/socket"
        words = [program("policyd-spf")]
        if resolver is not None:
            words = ["/usr/bin/python3", "-c", _ASKING.format(host=resolver.host, port=resolver.port)]
        if settings:
            conf = Path(name) / "conf"
            conf.write_text(settings)
            words.append(str(conf))
        loop = asyncio.new_event_loop()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert process.stdin is not None
            assert process.stdout is not None
            while block := await reader.read(10_000):
                process.stdin.write(block)
                writer.write(await process.stdout.readuntil(b"\n\n"))
            process.stdin.close()
            await process.wait()
            writer.close()

        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        start = asyncio.start_unix_server(connected, path)
        server = asyncio.run_coroutine_threadsafe(start, loop).result(10)
        try:
            yield Endpoint(path=path)
        finally:

            async def stop() -> None:
                server.close()
                others = asyncio.all_tasks() - {asyncio.current_task()}
                await asyncio.wait_for(asyncio.gather(*others), 10)

            asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
