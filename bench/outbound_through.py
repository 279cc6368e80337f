"""Mail from one end to the other: in by SMTP, out to 50 destinations over TLS with verified DANE.

`outbound_through` and `outbound_through_cpu`: 4 kB messages, 50 sessions that are kept, each to a destination
of its own; beside Postfix with the same load, the same kind of DNS world and sink. It is what a server does
all day: Tamis delivers while the client waits, Postfix from its queue. Measured is from when a quarter of the
messages has come to the last one.
"""

from __future__ import annotations

import subprocess
import threading

from bench import workplace
from bench.command import Options, run
from bench.figures import Figure
from bench.outbound_daemon import drained, serving
from bench.outbound_postfix import dane_postfix
from bench.outbound_sink import DESTINATIONS
from bench.outbound_world import dane_world
from bench.rounds import in_turns
from bench.system import SENDER, Failure, last_lines
from bench.workplace import free_port, program

EACH = 60
"""Messages to each destination."""
SIZE = 4096
PATIENCE = 120.0


def measure(options: Options) -> list[Figure]:
    """Both in turns."""
    each = EACH // (3 if options.quick else 1)
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []

    def mine() -> float:
        ours.append(_tamis(options, each))
        return ours[-1][0]

    def other() -> float:
        theirs.append(_postfix(each))
        return theirs[-1][0]

    rounds = in_turns(mine, other, options.rounds)
    cpu, peer_cpu = (sorted(one[1] for one in all_of)[len(all_of) // 2] for all_of in (ours, theirs))
    return [
        Figure.of_rounds("outbound_through", rounds, "messages/s", rate=True),
        Figure("outbound_through_cpu", cpu, "us", peer_cpu),
    ]


def _postfix(each: int) -> tuple[float, float]:
    with dane_postfix() as postfix:
        master = int((postfix.folder / "spool/pid/master.pid").read_text())
        found = _through(postfix.port, master, each, 25)
        if "Verified TLS connection" not in (postfix.folder / "mail.log").read_text():
            raise Failure("Postfix did not verify anybody")
    return found


def _tamis(options: Options, each: int) -> tuple[float, float]:
    port = free_port()
    with (
        workplace.folder(options.folder) as place,
        dane_world(port) as (dns, _),
        serving(place / "tamis", str(dns.resolver), port, "") as (tamis, _),
    ):
        found = _through(tamis.port, tamis.process, each, port)
        log = (place / "tamis/tamis.log").read_text()
        if "tls=dane" not in log or "tls=clear" in log:
            raise Failure(f"not all of it went by DANE:{last_lines(place / 'tamis/tamis.log')}")
    return found


def _through(port: int, process: int, each: int, sink: int) -> tuple[float, float]:
    """Send to all destinations at once; messages a second and microseconds a message. Raises Failure."""
    words = [
        program("smtp-source", "postfix"),
        "-d",
        "-m",
        str(each),
        "-s",
        "1",
        "-l",
        str(SIZE),
        "-f",
        SENDER,
    ]
    sources = [
        subprocess.Popen(
            [*words, "-t", f"b@d{n}.bench.test", f"127.0.0.1:{port}"], stderr=subprocess.PIPE, text=True
        )
        for n in range(1, DESTINATIONS + 1)
    ]
    said: list[str] = []

    def watch() -> None:
        for one in sources:
            said.append(one.communicate(timeout=PATIENCE)[1].strip())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        return drained(process, each * DESTINATIONS, "127.2.0.1", sink)
    finally:
        for one in sources:
            if one.poll() is None:
                one.kill()
        watching.join()
        if any(said):
            print("\n".join(dict.fromkeys(filter(None, said))))


if __name__ == "__main__":
    run("outbound_through", measure)
