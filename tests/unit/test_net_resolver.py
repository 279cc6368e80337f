"""The stub resolver against servers in this process: what answers are worth, fail-over, TCP, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import uvloop
from dns.message import Message

from mta.net.resolver import flight
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.cache import CacheSettings
from mta.net.resolver.server import QUERIES_PER_SOCKET, Address
from mta.net.resolver.stub import Stub, StubSettings
from tests.peers.nameserver import Answering, Nameserver, records
from tests.peers.ports import free_port

AD, TC, CD = dns.flags.AD, dns.flags.TC, dns.flags.CD
A = "d.test. 60 IN A 192.0.2.1"
SOA = "test. 300 IN SOA ns.test. h.test. 1 1 1 1 30"
NO_CACHE = StubSettings(CacheSettings(entries=0))


def asking(
    answer: Answering,
    name: str = "d.test",
    rdtype: str = "A",
    *,
    settings: StubSettings | None = None,
    seconds: float = 5.0,
    **others: Any,
) -> tuple[Answer, Nameserver]:
    """One question to one server."""

    async def run() -> tuple[Answer, Nameserver]:
        async with Nameserver(answer, **others) as server:
            stub = Stub([server.address], settings)
            try:
                return await stub.query(name, rdtype, asyncio.get_running_loop().time() + seconds), server
            finally:
                stub.close()

    return asyncio.run(run())


def with_servers(
    *answers: Answering,
    act: Callable[[Stub, list[Nameserver]], Awaitable[None]],
    settings: StubSettings | None = None,
) -> None:
    """Run `act` with a stub over several servers."""

    async def run() -> None:
        servers = [Nameserver(answer) for answer in answers]
        for server in servers:
            await server.__aenter__()
        stub = Stub([server.address for server in servers], settings)
        try:
            await act(stub, servers)
            assert stub.in_flight == 0
        finally:
            stub.close()
            for server in servers:
                await server.__aexit__(None, None, None)

    asyncio.run(run())


async def ask(stub: Stub, name: str = "d.test", rdtype: str = "A", seconds: float = 5.0) -> Answer:
    return await stub.query(name, rdtype, asyncio.get_running_loop().time() + seconds)


def servfail(query: Message, *, cd: str | None = None, reason: str = "") -> Message:
    """SERVFAIL; with CD set the record `cd`."""
    if cd is not None and query.flags & CD:
        return records(query, cd)
    reply = records(query, rcode=2)
    if reason:
        option = dns.edns.EDEOption(dns.edns.EDECode.SIGNATURE_EXPIRED, reason)
        reply.use_edns(0, 0, 1232, options=[option])
    return reply


def negative(query: Message, rcode: int, flags: int = AD) -> Message:
    reply = records(query, rcode=rcode, flags=flags)
    owner, ttl, rdclass, rdtype, value = SOA.split(" ", 4)
    reply.authority.append(dns.rrset.from_text(owner, int(ttl), rdclass, rdtype, value))
    return reply


def test_query_as_dnspython_reads_it() -> None:
    _, server = asking(lambda query: records(query, A))
    (query,) = server.asked
    assert query.question[0].to_text() == "d.test. IN A"
    assert query.flags == dns.flags.RD | AD
    assert (query.edns, query.payload, query.ednsflags) == (0, 1232, 0)


def test_secure_answer() -> None:
    answer, _ = asking(lambda query: records(query, A, flags=AD))
    assert answer.status is Status.SECURE
    assert answer.secure
    assert [record.to_text() for record in answer.records] == ["192.0.2.1"]
    assert (answer.ttl, answer.exists, answer.canonical) == (60, True, "")


def test_insecure_answer() -> None:
    answer, _ = asking(lambda query: records(query, A))
    assert answer.status is Status.INSECURE
    assert answer.usable


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("192.0.2.1", False),
        ("10.0.0.1", False),
        ("fe80::1", False),
    ],
)
def test_only_loopback_vouches(host: str, trusted: bool) -> None:
    assert Address(host).is_loopback is trusted


def test_what_came_from_elsewhere_is_never_secure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Address, "is_loopback", False)
    answer, _ = asking(lambda query: records(query, A, flags=AD))
    assert answer.status is Status.INSECURE


@pytest.mark.parametrize("rcode", [0, 3])
def test_negative_answers(rcode: int) -> None:
    answer, _ = asking(lambda query: negative(query, rcode))
    assert answer.status is Status.SECURE
    assert answer.records == ()
    assert answer.exists is (rcode == 0)
    assert answer.ttl == 30


def test_bogus_answer() -> None:
    answer, server = asking(lambda query: servfail(query, cd=A, reason="of d.test"))
    assert answer.status is Status.BOGUS
    assert not answer.usable
    assert answer.records == ()
    assert answer.reason == "SERVFAIL (signature expired: of d.test)"
    assert [bool(query.flags & CD) for query in server.asked] == [False, True]


def test_failure_with_checking_disabled_too() -> None:
    answer, server = asking(servfail)
    assert answer.status is Status.FAIL
    assert answer.reason == "SERVFAIL"
    assert len(server.asked) == 2


def test_refusal_is_no_bogus_answer() -> None:
    answer, server = asking(lambda query: records(query, rcode=5))
    assert (answer.status, answer.reason) == (Status.FAIL, "REFUSED")
    assert len(server.asked) == 1


def test_silence() -> None:
    answer, _ = asking(lambda query: None, seconds=0.05)
    assert (answer.status, answer.reason) == (Status.FAIL, "no answer in time")


def test_deadline_in_the_past() -> None:
    answer, server = asking(lambda query: records(query, A), seconds=-1)
    assert answer.status is Status.FAIL
    assert server.asked == []


def test_nobody_listens() -> None:
    async def run() -> Answer:
        stub = Stub([Address("127.0.0.1", free_port())])
        try:
            return await ask(stub)
        finally:
            stub.close()

    answer = asyncio.run(run())
    assert (answer.status, answer.reason) == (Status.FAIL, "connection refused")


def test_chain_of_aliases() -> None:
    chain = ["d.test. 50 IN CNAME E.test.", "e.test. 40 IN CNAME f.test.", "f.test. 60 IN A 192.0.2.2"]
    answer, _ = asking(lambda query: records(query, *chain, "g.test. 60 IN A 192.0.2.3", flags=AD))
    assert [record.to_text() for record in answer.records] == ["192.0.2.2"]
    assert (answer.canonical, answer.ttl) == ("f.test", 40)


@pytest.mark.parametrize(
    "circle",
    [("d.test. 50 IN CNAME d.test.",), ("e.test. 40 IN CNAME d.test.", "d.test. 50 IN CNAME e.test.")],
)
def test_aliases_in_circles_prove_nothing(circle: tuple[str, ...]) -> None:
    """Else mail for the domain would come back at once, for want of an address."""
    answer, _ = asking(lambda query: records(query, *circle))
    assert answer.status is Status.FAIL


def test_more_aliases_than_are_followed_prove_nothing() -> None:
    chain = ["d.test. 60 IN CNAME n0.test."]
    chain += [f"n{number}.test. 60 IN CNAME n{number + 1}.test." for number in range(16)]
    answer, _ = asking(lambda query: records(query, *chain, "n16.test. 60 IN A 192.0.2.2"))
    assert answer.status is Status.FAIL
    answer, _ = asking(lambda query: records(query, *chain[:15], "n14.test. 60 IN A 192.0.2.2"))
    assert [record.to_text() for record in answer.records] == ["192.0.2.2"]


def test_alias_that_is_asked_for() -> None:
    answer, _ = asking(lambda query: records(query, "d.test. 50 IN CNAME e.test."), rdtype="CNAME")
    assert [record.to_text() for record in answer.records] == ["e.test."]


def test_records_of_other_names_do_not_count() -> None:
    answer, _ = asking(lambda query: records(query, "e.test. 50 IN A 192.0.2.9"))
    assert answer.records == ()


def test_texts_are_joined() -> None:
    answer, _ = asking(lambda query: records(query, 'd.test. 50 IN TXT "v=spf1 " "-all"'), rdtype="TXT")
    assert answer.texts == (b"v=spf1 -all",)


def test_truncated_answer_is_asked_for_over_tcp() -> None:
    many = [f'd.test. 60 IN TXT "{n} {"x" * 200}"' for n in range(100)]
    answer, server = asking(
        lambda query: records(query, flags=TC),
        rdtype="TXT",
        tcp=lambda query: records(query, *many, flags=AD),
    )
    assert len(answer.records) == 100
    assert answer.status is Status.SECURE
    assert server.over_tcp == 1


@pytest.mark.parametrize(
    "over_tcp",
    [
        lambda query: None,
        lambda query: b"",
        lambda query: b"\0" * 12,
        lambda query: records(query, A, flags=TC),
        lambda query: dns.message.make_response(dns.message.make_query("other.test", "A")),
    ],
)
def test_tcp_that_does_not_answer(over_tcp: Answering) -> None:
    answer, _ = asking(lambda query: records(query, flags=TC), tcp=over_tcp)
    assert answer.status is Status.FAIL


def forgeries(query: Message) -> bytes:
    """An answer to another question, with the right id."""
    return records(query, A).to_wire().replace(b"\1d\4test", b"\1x\4test")


@pytest.mark.parametrize(
    "answer",
    [
        forgeries,
        lambda query: b"",
        lambda query: query.to_wire()[:2],
        lambda query: query.to_wire(),
        lambda query: bytes((query.to_wire()[0] ^ 1,)) + records(query, A).to_wire()[1:],
        lambda query: records(query, A).to_wire().replace(b"\1d\4test", b"\1D\4test", 1),
    ],
)
def test_what_does_not_answer_the_question_is_not_looked_at(answer: Answering) -> None:
    found, _ = asking(answer, seconds=0.05)
    assert (found.status, found.reason) == (Status.FAIL, "no answer in time")


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_malformed_answer(cut: int) -> None:
    found, _ = asking(lambda query: records(query, A).to_wire()[:-cut])
    assert (found.status, found.reason) == (Status.FAIL, "malformed reply")


@pytest.mark.parametrize(
    "name", ["", "a..test", "x" * 64 + ".test", "a" * 2000, "a\0b.test", "a\\.test", ".".join("x" * 140)]
)
def test_what_is_no_name_is_not_asked(name: str) -> None:
    answer, server = asking(lambda query: records(query, A), name)
    assert (answer.exists, answer.usable, server.asked) == (False, True, [])


def test_names_are_asked_in_one_form() -> None:
    answer, server = asking(
        lambda query: records(query, "xn--bcher-kva.test. 60 IN A 192.0.2.1"), "BÜCHER.test."
    )
    assert server.asked[0].question[0].name.to_text() == "xn--bcher-kva.test."
    assert len(answer.records) == 1


def test_unknown_type_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="NONSENSE"):
        asking(lambda query: records(query, A), rdtype="NONSENSE")


def test_no_server_is_the_callers_mistake() -> None:
    async def run() -> None:
        Stub([])

    with pytest.raises(ValueError, match="at least one server"):
        asyncio.run(run())


def test_second_answer_comes_from_the_cache() -> None:
    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        first = await ask(stub)
        assert await ask(stub, "D.TEST.") is first
        await ask(stub, "d.test", "MX")
        assert len(servers[0].asked) == 2
        assert stub.counters["cached"] == 1

    with_servers(lambda query: records(query, A), act=act)


def test_timeouts_are_not_kept() -> None:
    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        await ask(stub, seconds=0.02)
        await ask(stub, seconds=0.02)
        assert len(servers[0].asked) == 2
        assert len(stub.cache) == 0

    with_servers(lambda query: None, act=act)


def test_same_question_is_asked_once() -> None:
    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        servers[0].delay = 0.02
        answers = await asyncio.gather(*(ask(stub) for _ in range(50)))
        assert all(answer is answers[0] for answer in answers)
        assert len(servers[0].asked) == 1
        assert stub.counters["joined"] == 49

    with_servers(lambda query: records(query, A), act=act)


def test_each_waits_as_long_as_it_wants() -> None:
    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        servers[0].delay = 0.05
        short, long = await asyncio.gather(ask(stub, seconds=0.01), ask(stub, seconds=5))
        assert (short.status, long.status) == (Status.FAIL, Status.INSECURE)

    with_servers(lambda query: records(query, A), act=act)


def test_cancelled_question_is_forgotten() -> None:
    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        task = asyncio.create_task(ask(stub))
        await asyncio.sleep(0.01)
        assert stub.in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stub.in_flight == 0

    with_servers(lambda query: None, act=act)


def test_cancelled_questions_do_not_blame_a_server() -> None:
    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        tasks = [asyncio.create_task(ask(stub, f"n{n}.test")) for n in range(10)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await ask(stub, seconds=0.02)
        assert len(servers[0].asked) == 11
        assert servers[1].asked == []

    with_servers(lambda query: None, lambda query: None, act=act)


def test_servers_that_keep_silent_are_asked_last() -> None:
    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        for n in range(3):
            await ask(stub, f"n{n}.test", seconds=0.02)
        await ask(stub)
        assert (len(servers[0].asked), len(servers[1].asked)) == (3, 1)

    with_servers(lambda query: None, lambda query: records(query, A), act=act)


def test_too_many_questions() -> None:
    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        tasks = [asyncio.create_task(ask(stub, f"n{n}.test", seconds=0.1)) for n in range(10)]
        await asyncio.sleep(0.01)
        assert (await ask(stub)).reason == "too many questions at once"
        await asyncio.gather(*tasks)

    with_servers(lambda query: None, act=act, settings=StubSettings(in_flight=10))


def test_close_answers_all() -> None:
    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        task = asyncio.create_task(ask(stub))
        await asyncio.sleep(0.01)
        stub.close()
        assert (await task).reason == "the resolver is closed"

    with_servers(lambda query: None, act=act)


@pytest.mark.parametrize("first", [servfail, lambda query: records(query, rcode=5), lambda query: b"", None])
def test_next_server_is_asked(first: Answering | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "RESEND", 0.02)

    async def run() -> Answer:
        async with Nameserver(lambda query: records(query, A)) as good, Nameserver(first or servfail) as bad:
            before = bad.address if first is not None else Address("127.0.0.1", free_port())
            stub = Stub([before, good.address])
            try:
                return await ask(stub)
            finally:
                stub.close()

    assert asyncio.run(run()).status is Status.INSECURE


def test_late_answer_of_the_first_server_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "RESEND", 0.02)

    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        servers[0].delay = 0.06
        assert (await ask(stub)).usable
        assert len(servers[1].asked) >= 1

    with_servers(lambda query: records(query, A), lambda query: None, act=act)


def test_bogus_at_one_and_unreachable_at_the_other() -> None:
    async def run() -> Answer:
        async with Nameserver(lambda query: servfail(query, cd=A)) as server:
            stub = Stub([server.address, Address("127.0.0.1", free_port())])
            try:
                return await ask(stub)
            finally:
                stub.close()

    assert asyncio.run(run()).status is Status.BOGUS


@pytest.mark.parametrize("cd", [A, None])
def test_who_cannot_vouch_does_not_overrule_who_can(cd: str | None) -> None:
    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        stub._servers[1].trusted = False
        answer = await ask(stub)
        if cd is None:  # it only does not reach anybody: better the word of the other one than none
            assert (answer.status, len(answer.records)) == (Status.INSECURE, 1)
        else:
            assert answer == Answer(Status.BOGUS, reason="SERVFAIL (signature expired: forged)")
        assert [bool(query.flags & CD) for query in servers[0].asked] == [False, True]
        assert len(servers[1].asked) == 1

    with_servers(
        lambda query: servfail(query, cd=cd, reason="forged"),
        lambda query: records(query, A, flags=AD),
        act=act,
    )


@pytest.mark.parametrize("forged", [False, True])
def test_who_cannot_vouch_does_not_overrule_who_is_still_looking(
    forged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that validates takes its time for what it has never seen, most of all for what is forged."""
    monkeypatch.setattr(flight, "RESEND", 0.02)

    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        stub._servers[1].trusted = False
        servers[0].delay = 0.2
        answer = await ask(stub)
        assert answer.status is (Status.BOGUS if forged else Status.SECURE)
        assert len(servers[1].asked) == 1

    with_servers(
        (lambda query: servfail(query, cd=A, reason="forged"))
        if forged
        else lambda query: records(query, A, flags=AD),
        lambda query: records(query, A),
        act=act,
    )


def test_who_can_vouch_and_says_nothing_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flight, "RESEND", 0.02)
    monkeypatch.setattr(flight, "VOUCHING", 0.1)

    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        stub._servers[1].trusted = False
        began = asyncio.get_running_loop().time()
        answer = await ask(stub)
        assert (answer.status, len(answer.records)) == (Status.INSECURE, 1)
        assert asyncio.get_running_loop().time() - began >= 0.1
        # Whoever has names looked up that are slow could make it silent, so it is asked first all the same.
        for number in range(4):
            await ask(stub, f"n{number}.test")
        assert stub._servers[0].rests
        servers[0].answer = lambda query: records(query, A, flags=AD)
        assert (await ask(stub, "last.test")).status is Status.SECURE

    with_servers(lambda query: None, lambda query: records(query, A), act=act)


def test_dead_server_is_asked_last() -> None:
    async def run() -> None:
        async with Nameserver(
            lambda query: records(query, query.question[0].name.to_text() + " 60 IN A 192.0.2.1")
        ) as good:
            stub = Stub([Address("127.0.0.1", free_port()), good.address])
            for n in range(20):
                assert (await ask(stub, f"n{n}.test")).usable
            assert stub.counters["sent"] <= 23
            stub.close()

    asyncio.run(run())


@pytest.mark.parametrize("loop", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("at_once", [1, 5])
def test_server_that_comes_back_is_used(loop: Callable[..., None], at_once: int) -> None:
    """A loop of libuv, as workers have it, looks at no socket any more once that had an error."""

    async def run() -> None:
        port = free_port()
        stub = Stub([Address("127.0.0.1", port)])
        for n in range(10):
            refused = await asyncio.gather(*(ask(stub, f"n{n}.{m}.test") for m in range(at_once)))
            assert {answer.reason for answer in refused} == {"connection refused"}
        async with Nameserver(lambda query: records(query, A), port=port):
            for n in range(10):
                answers = await asyncio.gather(*(ask(stub, f"n{n}.{m}.test") for m in range(at_once)))
                assert all(answer.usable for answer in answers)
        assert stub.in_flight == 0
        stub.close()

    loop(run())


def test_ids_and_ports_vary() -> None:
    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        for _ in range(200):
            await ask(stub)
        assert len({query.id for query in servers[0].asked}) > 190
        assert len(set(servers[0].sources)) == 4

    with_servers(lambda query: records(query, A), act=act, settings=NO_CACHE)


def test_sockets_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.net.resolver.server.QUERIES_PER_SOCKET", 5)
    assert QUERIES_PER_SOCKET > 5

    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        for _ in range(200):
            assert (await ask(stub)).usable
        assert len(set(servers[0].sources)) > 20

    with_servers(lambda query: records(query, A), act=act, settings=NO_CACHE)


def test_ids_on_their_way_are_not_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(1)
    few = [bytes(random.randrange(4) for _ in range(512)) for _ in range(100)]
    monkeypatch.setattr("mta.net.resolver.server.os.urandom", lambda count: few.pop())

    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        answers = await asyncio.gather(*(ask(stub, f"n{n}.test", seconds=2) for n in range(30)))
        assert all(answer.usable for answer in answers)
        assert stub.counters["resent"] == 0

    with_servers(lambda query: records(query), act=act)


def test_many_questions_at_once() -> None:
    async def act(stub: Stub, servers: list[Nameserver]) -> None:
        answers = await asyncio.gather(*(ask(stub, f"n{n}.test") for n in range(200)))
        assert all(answer.usable for answer in answers)

    with_servers(
        lambda query: records(query, query.question[0].name.to_text() + " 60 IN A 192.0.2.1"), act=act
    )
