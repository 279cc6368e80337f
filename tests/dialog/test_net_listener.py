"""Listeners on real sockets: who arrives, who is refused; reloads, want of descriptors, several workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.net import listener as module
from mta.net.arrival import Arrival
from mta.net.counters import create
from mta.net.limits import ClientLimits, Limits, LimitSettings
from mta.net.overload import Level, OverloadSettings
from tests.peers.greeter import LOOPS, Greeter, Guest, House, bound, run, until
from tests.peers.needs import needs_ipv6

both_loops = pytest.mark.parametrize("loop", LOOPS)


@contextlib.contextmanager
def limits(sessions: int = 100, **clients: int) -> Iterator[Limits]:
    fd = create(2)
    settings = LimitSettings(ClientLimits(**clients), exempt=())
    yield Limits(settings, OverloadSettings(sessions=sessions), fd, 0)
    os.close(fd)


@both_loops
def test_a_client_over_ipv4(loop: str) -> None:
    async def main() -> None:
        async with House() as house:
            guest = await house.connect()
            ours = guest.writer.get_extra_info("sockname")
            assert await guest.greeting() == {
                "listener": "test",
                "client": ["127.0.0.1", ours[1]],
                "server": ["127.0.0.1", house.address[1]],
                "proxied": False,
                "tls": False,
                "pid": os.getpid(),
            }
            await guest.echo()
            assert house.listener.counts == {"accepted": 1}
            await guest.close()

    run(loop, main())


@both_loops
def test_accepted_sockets_have_the_options_of_the_listening_one(loop: str) -> None:
    async def main() -> None:
        async with House() as house:
            guest = await house.connect()
            await guest.greeting()
            (greeter,) = house.open
            sock = greeter.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 120
            await guest.close()

    run(loop, main())


@both_loops
@pytest.mark.parametrize(
    ("v6only", "connect_to", "expected"),
    [(1, "::1", "::1"), (0, "::1", "::1"), (0, "127.0.0.1", "127.0.0.1")],
)
def test_a_client_over_ipv6(loop: str, v6only: int, connect_to: str, expected: str) -> None:
    needs_ipv6()
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    sock.bind(("::1" if v6only else "::", 0))

    async def main() -> None:
        async with House([sock]) as house:
            guest = Guest(*await asyncio.open_connection(connect_to, house.address[1]))
            facts = await guest.greeting()
            assert facts["client"][0] == facts["server"][0] == expected
            await guest.close()

    run(loop, main())


@both_loops
def test_a_client_over_a_unix_socket(loop: str, tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp")

    async def main() -> None:
        async with House([bound(socket.AF_UNIX, path)]) as house:
            guest = await house.connect()
            facts = await guest.greeting()
            assert facts["client"] == ["unix", 0]
            assert facts["server"] == [path, 0]
            await guest.echo()
            await guest.close()

    run(loop, main())
    assert os.path.exists(path)  # it is the supervisor's, and the next generation listens on it


@both_loops
@pytest.mark.parametrize("other", [socket.AF_INET, socket.AF_INET6])
def test_several_sockets(loop: str, other: socket.AddressFamily) -> None:
    if other is socket.AF_INET6:
        needs_ipv6()

    async def main() -> None:
        host = "::1" if other is socket.AF_INET6 else "127.0.0.1"
        async with House([bound(), bound(other, (host, 0))]) as house:
            for address in house.listener.addresses:
                guest = Guest(*await asyncio.open_connection(*address[:2]))
                assert (await guest.greeting())["server"] == [address[0], address[1]]
                await guest.close()

    run(loop, main())


@both_loops
def test_a_client_over_its_limit_is_told_421_and_a_place_is_given_back(loop: str) -> None:
    async def main() -> None:
        with limits(sessions_per_client=2) as node:
            async with House(limits=node) as house:
                first, second = await house.connect(), await house.connect()
                await first.greeting()
                await second.greeting()
                third = await house.connect()
                assert await third.rest() == b"421 4.7.0 Too many sessions from your address\r\n"
                assert node.sessions == 2
                await first.close()
                await until(lambda: node.sessions == 1)
                fourth = await house.connect()
                await fourth.greeting()
                assert house.listener.counts == {"accepted": 3, "refused": 1}
                assert house.log.lines == [
                    (
                        "connection closed",
                        {"listener": "test", "client": "127.0.0.1", "reason": "sessions per client"},
                    )
                ]
                for guest in (second, third, fourth):
                    await guest.close()
            assert node.sessions == 0

    run(loop, main())


@both_loops
def test_an_overloaded_server_says_421(loop: str) -> None:
    async def main() -> None:
        with limits() as node:
            node.overload.level = Level.OVERLOADED
            async with House(limits=node) as house:
                guest = await house.connect()
                assert (await guest.rest()).startswith(b"421 4.3.2 ")
                await guest.close()
            assert node.sessions == 0

    run(loop, main())


@both_loops
def test_leaving_is_counted_once(loop: str) -> None:
    async def main() -> None:
        with limits() as node:
            async with House(limits=node) as house:
                one, two = await house.connect(), await house.connect()
                await one.greeting()
                await two.greeting()
                greeter = next(iter(house.open))
                greeter.arrival.leave()
                greeter.arrival.leave()
                assert node.sessions == 1
                await one.close()
                await two.close()
            assert node.sessions == 0

    run(loop, main())


@both_loops
def test_a_factory_that_fails_costs_one_client_only(loop: str) -> None:
    errors: list[object] = []
    broken = ["yes"]
    guests: list[House] = []

    def factory(arrival: Arrival) -> asyncio.Protocol:
        if broken:
            raise LookupError("a bug of ours")
        return Greeter(guests[0], arrival)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
        with limits() as node:
            async with House(limits=node, factory=factory) as house:
                guests.append(house)
                guest = await house.connect()
                assert await guest.rest() == b""
                await guest.close()
                broken.clear()
                other = await house.connect()
                await other.greeting()
                await other.close()
            assert node.sessions == 0

    run(loop, main())
    assert [type(error) for error in errors] == [LookupError]


# Reload


@both_loops
def test_stopping_leaves_sessions_and_the_queue_alone(loop: str) -> None:
    sock = bound()

    async def main() -> None:
        old, new = House([sock.dup()]), House([sock])
        async with new, old:
            guest = await old.connect()
            await guest.greeting()
            old.listener.stop()
            await guest.echo()
            for _ in range(20):
                other = await new.connect()
                await other.greeting()
                await other.close()
            assert new.listener.counts["accepted"] >= 20
            await guest.echo()
            await guest.close()

    run(loop, main())


@both_loops
def test_no_client_is_lost_while_generations_change(loop: str) -> None:
    """Clients connect all the time; generations come and go, once with nobody accepting in between."""
    sock = bound()
    sock.listen(1024)
    address = sock.getsockname()

    async def main() -> int:
        served = 0
        done = asyncio.Event()

        async def clients() -> None:
            nonlocal served
            while not done.is_set():
                guest = Guest(*await asyncio.open_connection(*address))
                await guest.greeting()
                served += 1
                await guest.close()

        tasks = [asyncio.create_task(clients()) for _ in range(5)]
        houses = [House([sock.dup()])]
        await houses[0].listener.start()
        for generation in range(6):
            await asyncio.sleep(0.05)
            if generation % 2:
                houses[-1].listener.stop()
                await asyncio.sleep(0.05)
                houses.append(House([sock.dup()]))
                await houses[-1].listener.start()
            else:
                houses.append(House([sock.dup()]))
                await houses[-1].listener.start()
                houses[-2].listener.stop()
        await asyncio.sleep(0.05)
        done.set()
        await asyncio.gather(*tasks)
        houses[-1].listener.stop()
        assert sum(house.listener.counts["accepted"] for house in houses) == served
        await until(lambda: not any(house.open for house in houses))
        return served

    try:
        assert run(loop, main()) > 20
    finally:
        sock.close()


# Descriptors


@both_loops
@pytest.mark.parametrize("proxy_from", [(), ("127.0.0.0/8",)])
def test_with_few_descriptors_left_clients_are_told_421_until_there_are_more(
    loop: str, proxy_from: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.05)

    async def main() -> None:
        # The client takes the lowest number that is free now, so the server gets a higher one.
        ceiling = lowest_free_descriptor() + module.FD_RESERVE
        async with House(fd_limit=ceiling, proxy_from=proxy_from) as house:
            for _ in range(3):  # it pauses, comes back, and finds that nothing has changed
                guest = await house.connect()
                assert (await guest.rest()).startswith(b"421 4.3.2 ")
                await guest.close()
            assert house.listener.counts["descriptors"] >= 3
            assert "accepted" not in house.listener.counts
            assert "accepting paused" in house.log.events
            house.listener._admission.fd_ceiling = 100000
            guest = await house.connect()
            guest.writer.write(b"PROXY UNKNOWN\r\n" if proxy_from else b"")
            await guest.greeting()
            await guest.close()

    run(loop, main())


@both_loops
def test_who_waits_during_a_pause_is_told_421_and_served_once_there_is_room(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them: a pause is for workers that can serve, and ends when this one can again."""
    monkeypatch.setattr(module, "PAUSE", 3600.0)
    monkeypatch.setattr(module, "LOOK", 0.02)
    monkeypatch.setattr(module, "LOOK_BATCH", 7)  # fewer than there are

    async def main() -> None:
        async with House(fd_limit=lowest_free_descriptor() + module.FD_RESERVE) as house:
            guests = [await house.connect() for _ in range(30)]
            for guest in guests:
                assert (await guest.rest()).startswith(b"421 4.3.2 ")
                await guest.close()
            assert house.listener.counts["descriptors"] == 30
            assert house.log.events.count("accepting paused") == 1
            house.listener._admission.fd_ceiling = 100000
            for _ in range(2):
                guest = await house.connect()
                await guest.greeting()
                await guest.close()
            assert house.listener.counts["accepted"] == 2

    run(loop, main())


def lowest_free_descriptor() -> int:
    with open(os.devnull) as probe:
        return probe.fileno()


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let the next descriptor fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free_descriptor(), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@both_loops
def test_when_accept_fails_one_client_is_told_421_with_the_reserve(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.05)

    async def main() -> None:
        async with House(proxy_from=("127.0.0.0/8",)) as house:
            first = socket.socket()
            second = socket.socket()
            with no_descriptors():
                first.connect(house.address)
                first.setblocking(False)
                await until(lambda: house.listener.counts["descriptors"] == 1)
                assert first.recv(100).startswith(b"421 4.3.2 ")
                second.connect(house.address)
                await until(lambda: house.listener.counts["descriptors"] == 2)
            assert house.log.lines[0][1]["reason"] == "Too many open files"
            guest = await house.connect()
            guest.writer.write(b"PROXY UNKNOWN\r\n")
            await guest.greeting()
            await guest.close()
            first.close()
            second.close()

    run(loop, main())


def test_without_descriptors_libuv_closes_and_goes_on_afterwards() -> None:
    async def main() -> None:
        async with House() as house:
            guest = await house.connect()  # libuv has its reserve descriptor from the first stream on
            await guest.greeting()
            await guest.close()
            await until(lambda: not house.open)
            client = socket.socket()
            client.settimeout(5)
            with no_descriptors():
                client.connect(house.address)
                await asyncio.sleep(0.1)
                with contextlib.suppress(ConnectionResetError):
                    assert client.recv(100) == b""
            client.close()
            guest = await house.connect()
            await guest.greeting()
            await guest.close()

    run("uvloop", main())


# Workers


WORKER = """
import asyncio, os, signal, socket, sys
import uvloop
from tests.peers.greeter import House

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with House([socket.socket(fileno=int(sys.argv[1]))]) as house:
        print("ready", flush=True)
        await stop.wait()
    print(house.listener.counts["accepted"], flush=True)

uvloop.run(main())
"""


def test_workers_share_a_socket_evenly() -> None:
    sock = bound()
    sock.listen(1024)
    root = str(Path(__file__).parents[2])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(sock.fileno())],
            pass_fds=[sock.fileno()],
            stdout=subprocess.PIPE,
            cwd=root,
        )
        for _ in range(2)
    ]

    served: Counter[int] = Counter()

    async def client() -> None:
        guest = Guest(*await asyncio.open_connection(*sock.getsockname()))
        served[(await guest.greeting())["pid"]] += 1
        await guest.echo()
        await guest.close()

    async def main() -> None:
        for measured in range(10):
            before = served.copy()
            for _ in range(20):
                await asyncio.gather(*(client() for _ in range(20)))
            if min(served[worker.pid] - before[worker.pid] for worker in workers) >= 80:
                return
            # One of them may have had no processor meanwhile, but not each time.
            assert measured < 9, served

    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
        run("uvloop", main())
    finally:
        for worker in workers:
            worker.terminate()
        counts = [int(worker.communicate(timeout=20)[0]) for worker in workers]
        sock.close()
    assert counts == [served[worker.pid] for worker in workers]
