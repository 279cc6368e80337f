"""Certificates that change while the server runs."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from mta import config
from mta.daemon_certificates import TOPIC, Refusals, build_judge, build_tls
from mta.lastgood import KeptFiles
from mta.net import tls as module
from mta.net.certificates import CertificateFiles, load_pem
from mta.net.resolver.base import Status
from mta.net.resolver.fake import FakeResolver
from mta.net.tls import (
    Reload,
    ServerTls,
    TlsSettings,
    served_certificate,
    tls_info,
)
from mta.startup.tlsa import tlsa_value
from mta.supervisor.messages import Keep
from tests.peers.certificates import PAST, Authority, authority
from tests.peers.handshake import Handshake, client_with_certificate
from tests.unit.startup_kit import CONFIGURATION

END = "-----END CERTIFICATE-----\n"


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path)


def test_a_reload_takes_new_certificates_and_leaves_sessions_alone(ca: Authority) -> None:
    server = ServerTls([ca.issue("one", "one.example.org"), ca.issue("two", "two.example.org")])
    before = Handshake(server, "one.example.org")
    assert not server.changed()
    assert server.reload() == Reload()
    ca.issue("one", "one.example.org", "new.example.org")
    assert server.changed()
    assert server.reload() == Reload(taken=("one",))
    assert not server.changed()
    after = Handshake(server, "new.example.org")
    assert "new.example.org" in after.names
    assert served_certificate(after.server) != served_certificate(before.server)
    before.server.write(b"250 ok\r\n")
    assert served_certificate(before.server) == before.client.getpeercert(binary_form=True)
    # A context that was handed out before the reload chooses among the new certificates, too.
    assert "new.example.org" in server.names


def spoil_key(ca: Authority, files: CertificateFiles) -> None:
    Path(files.key).write_bytes(Path(ca.issue("other", "x.example.org").key).read_bytes())


def spoil_expired(ca: Authority, files: CertificateFiles) -> None:
    ca.issue(files.name, "one.example.org", not_after=PAST)


def spoil_names(ca: Authority, files: CertificateFiles) -> None:
    ca.issue(files.name, "elsewhere.example.org")


def spoil_missing(ca: Authority, files: CertificateFiles) -> None:
    os.unlink(files.chain)


def spoil_garbage(ca: Authority, files: CertificateFiles) -> None:
    Path(files.chain).write_text("half of a cert")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_key, "not the key"),
        (spoil_expired, "expired on 2020-01-01"),
        (spoil_names, "is not for one.example.org"),
        (spoil_missing, "No such file"),
        (spoil_garbage, "no certificates"),
    ],
)
def test_a_reload_keeps_the_old_certificate_if_the_new_one_is_bad(
    ca: Authority, spoil: Callable[[Authority, CertificateFiles], None], reason: str
) -> None:
    one = dataclasses.replace(ca.issue("one", "one.example.org"), names=("one.example.org",))
    server = ServerTls([one, ca.issue("two", "two.example.org")])
    old = Handshake(server, "one.example.org").certificate
    spoil(ca, one)
    ca.issue("two", "two.example.org", "three.example.org")
    outcome = server.reload()
    assert outcome.taken == ("two",)  # one bad certificate does not hold up the others
    assert list(outcome.refused) == ["one"]
    assert reason in outcome.refused["one"]
    assert Handshake(server, "one.example.org").certificate == old
    assert "three.example.org" in Handshake(server, "three.example.org").names
    assert server.changed()  # it is tried again
    ca.issue("one", "one.example.org")
    assert server.reload() == Reload(taken=("one",))


def test_a_certificate_is_not_taken_before_its_time(ca: Authority) -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    server = ServerTls([ca.issue("one", "one.example.org")], now=lambda: now[0])
    ca.issue("one", "one.example.org")
    now[0] = datetime(1990, 1, 1, tzinfo=UTC)
    assert "not valid before" in server.reload().refused["one"]
    now[0] = datetime(2026, 1, 1, tzinfo=UTC)
    assert server.reload().taken == ("one",)


def test_a_reload_of_the_authority_of_clients(ca: Authority) -> None:
    server = ServerTls([ca.issue("one", "one.example.org")], TlsSettings(client_ca_file=ca.file))
    other = Authority(ca.folder, trustme.CA())
    context = client_with_certificate(other, "bob@example.org")
    Path(ca.folder / "ca.pem").write_text("nonsense")
    assert "no certificates in PEM form" in server.reload().refused["client_ca"]
    with pytest.raises(ssl.SSLError):
        Handshake(server, context=context)
    assert other.file == str(ca.folder / "ca.pem")
    assert server.reload() == Reload(taken=("client_ca",))
    assert tls_info(Handshake(server, context=context).server).peer_names == ("bob@example.org",)


def test_the_watcher_reports_each_change_once(ca: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ca.issue("one", "one.example.org")
    server = ServerTls([files])
    reports: list[Reload] = []

    async def until(probe: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not probe():  # noqa: ASYNC110 - files have no event to wait for
                await asyncio.sleep(0.005)

    async def run() -> None:
        task = asyncio.create_task(server.watch(0.005, reports.append))
        await asyncio.sleep(0.05)
        assert reports == []
        spoil_key(ca, files)
        await until(lambda: bool(reports))
        await asyncio.sleep(0.05)
        assert len(reports) == 1
        assert "not the key" in reports[0].refused["one"]
        ca.issue("one", "one.example.org")
        # It may be seen with one of its two files, which is refused, before it is seen whole.
        await until(lambda: bool(reports[-1].taken))
        assert not server.changed()
        context = server.context
        await asyncio.sleep(0.05)
        assert server.context is context
        monkeypatch.setattr(module, "CONTEXT_LIFETIME", 0.01)
        await until(lambda: server.context is not context)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_certificates_are_watched_on_when_there_was_no_descriptor_for_once(
    ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ServerTls([ca.issue("one", "one.example.org")])
    reports: list[Reload] = []
    tries: list[int] = []

    def fail(context: ssl.SSLContext, pem: bytes) -> None:
        tries.append(1)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def until(probe: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not probe():  # noqa: ASYNC110 - files have no event to wait for
                await asyncio.sleep(0.005)

    async def run() -> None:
        monkeypatch.setattr(module, "CONTEXT_LIFETIME", 0.01)
        monkeypatch.setattr(module, "load_pem", fail)
        task = asyncio.create_task(server.watch(0.005, reports.append))
        await until(lambda: len(tries) > 1)
        ca.issue("one", "one.example.org", "new.example.org")
        await until(lambda: bool(reports) and "Too many open files" in reports[-1].refused.get("one", ""))
        assert "new.example.org" not in server.names
        monkeypatch.setattr(module, "load_pem", load_pem)
        await until(lambda: bool(reports[-1].taken))
        assert "new.example.org" in server.names
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_a_renewed_certificate_waits_until_the_resolver_knows_its_records(ca: Authority) -> None:
    """Refused while a cache has the records of the old one, it is taken after that without another change."""
    files = ca.issue("one", "mx.good.test")
    server = ServerTls([files])
    dns = FakeResolver()
    dns.status("good.test", Status.SECURE)
    reports: list[Reload] = []

    def publish() -> None:
        der = ssl.PEM_cert_to_DER_cert(Path(files.chain).read_text().partition(END)[0] + END)
        dns.remove("_25._tcp.mx.good.test", "TLSA")
        dns.add("_25._tcp.mx.good.test", "TLSA", tlsa_value(der))

    async def until(probe: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not probe():  # noqa: ASYNC110 - files have no event to wait for
                await asyncio.sleep(0.005)

    async def run() -> None:
        settings = config.parse(CONFIGURATION + '[checks]\nmode = "production"\n', str(ca.folder / "t"))
        judge = build_judge(settings, settings.listener[0], dns)
        assert judge is not None
        publish()
        task = asyncio.create_task(server.watch(0.005, reports.append, judge))
        before = server.certificate_for("mx.good.test")
        ca.issue("one", "mx.good.test")
        await until(lambda: bool(reports) and "none matches" in reports[-1].refused.get("one", ""))
        told = len(reports)
        await asyncio.sleep(0.05)
        assert len(reports) == told
        assert server.certificate_for("mx.good.test") is before
        publish()
        await until(lambda: bool(reports[-1].taken))
        assert server.certificate_for("mx.good.test") is not before
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())


class Supervisor:
    """Keeps what the workers of a generation give it, and passes on what one tells (`WorkerLink`)."""

    slot, slots, shared_memory_fd = 0, 1, -1

    def __init__(self) -> None:
        self.sent: dict[str, Keep] = {}
        self.heard: list[Callable[[dict[str, Any]], None]] = []

    def publish(self, topic: str, data: dict[str, Any]) -> None:
        assert topic == TOPIC
        for callback in self.heard:
            callback(data)

    def subscribe(self, topic: str, callback: Callable[[dict[str, Any]], None]) -> None:
        assert topic == TOPIC
        self.heard.append(callback)

    def keep(self, key: str, data: dict[str, Any]) -> None:
        self.sent[key] = Keep(key, msgspec.msgpack.decode(msgspec.msgpack.encode(data)))

    def kept(self, key: str) -> dict[str, Any] | None:
        return self.sent[key].data if key in self.sent else None


class Log:
    """What was logged as an error."""

    def __init__(self) -> None:
        self.errors: list[dict[str, Any]] = []

    def info(self, event: str, **facts: Any) -> None: ...

    def warning(self, event: str, **facts: Any) -> None: ...

    def error(self, event: str, **facts: Any) -> None:
        self.errors.append({"event": event, **facts})


@pytest.mark.parametrize("spoil", [None, "mix"], ids=["another pair", "half a pair"])
def test_a_worker_begins_with_what_the_others_of_its_generation_serve(
    ca: Authority, spoil: str | None
) -> None:
    """Not with what the files have by then; and it tells those after it what it takes."""
    ca.issue("main", "mx.good.test")
    settings = config.parse(CONFIGURATION + '[tls]\npoll_interval = "5ms"\n', str(ca.folder / "t"))
    listener, link, log = settings.listener[0], Supervisor(), Log()

    def worker() -> tuple[ServerTls, Any]:
        return build_tls(settings, listener, None, log, link, Refusals(link, log, 0.005))

    async def run() -> None:
        first, watch = worker()
        watch.close()
        old = first.certificate_for("mx.good.test")
        key = (ca.folder / "main.key").read_bytes()
        ca.issue("main", "mx.good.test")
        if spoil:
            (ca.folder / "main.key").write_bytes(key)
        second, watch = worker()
        assert second.certificate_for("mx.good.test") == old
        (error,) = log.errors
        assert (error["event"], error["name"]) == ("certificate refused, keeping the old one", "main")
        assert ("the other workers serve" in error["reason"]) is (spoil is None)
        if spoil:
            ca.issue("main", "mx.good.test")
        task = asyncio.create_task(watch)  # nobody refuses it here: it is taken at the next look
        async with asyncio.timeout(60):
            while second.certificate_for("mx.good.test") == old:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
        third, watch = worker()
        watch.close()
        assert third.certificate_for("mx.good.test") == second.certificate_for("mx.good.test")
        assert len(log.errors) == 1

    asyncio.run(run())


def test_later_workers_are_given_the_authorities_that_were_read(
    ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what somebody writes into their file a moment later."""
    ca.issue("main", "mx.good.test")
    text = CONFIGURATION.replace("[[listener]]", f'[[listener]]\nclient_ca = "{ca.file}"', 1)
    settings = config.parse(text + '[tls]\npoll_interval = "5ms"\n', str(ca.folder / "t"))
    listener, link, log, file = settings.listener[0], Supervisor(), Log(), ca.folder / "ca.pem"
    right = file.read_bytes()

    class Editor(KeptFiles):
        def note(self, path: str, octets: bytes | None) -> None:
            file.write_bytes(b"half edit")
            super().note(path, octets)

    monkeypatch.setattr("mta.daemon_certificates.KeptFiles", Editor)

    async def run() -> None:
        _, watch = build_tls(settings, listener, None, log, link, Refusals(link, log, 0.005))
        assert KeptFiles(link).content(str(file)) == right
        renewed = authority(ca.folder).ca.cert_pem.bytes()
        file.write_bytes(renewed)
        assert watch is not None
        task = asyncio.create_task(watch)
        async with asyncio.timeout(60):
            while file.read_bytes() == renewed:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
        assert KeptFiles(link).content(str(file)) == renewed

    asyncio.run(run())


def test_a_refused_certificate_is_logged_once_for_all_listeners_and_workers() -> None:
    link, log, now = Supervisor(), Log(), [0.0]
    one, other = (Refusals(link, log, 60.0, lambda: now[0]) for _ in range(2))
    for worker in (one, one, other, other):  # two listeners each
        worker.tell({"main": "not the key"})
        now[0] += 29.0
    assert log.errors == [
        {"event": "certificate refused, keeping the old one", "name": "main", "reason": "not the key"}
    ]
    other.tell({"main": "expired", "more": "not the key"})
    assert [(error["name"], error["reason"]) for error in log.errors[1:]] == [
        ("main", "expired"),
        ("more", "not the key"),
    ]
    now[0] += 3600.0
    other.tell({"main": "not the key"})  # it was mended, and is broken anew
    assert len(log.errors) == 4


def test_a_renewed_certificate_is_taken_where_the_old_one_is_no_better(ca: Authority) -> None:
    """Without TLSA records nobody goes by them, and the old certificate would end some day."""
    files = ca.issue("one", "mx.good.test")
    old = ServerTls([files]).certificate_for("mx.good.test")
    ca.issue("one", "mx.good.test")
    new = ServerTls([files]).certificate_for("mx.good.test")
    dns = FakeResolver()
    dns.status("good.test", Status.SECURE)
    name = "_25._tcp.mx.good.test"

    async def run() -> None:
        settings = config.parse(CONFIGURATION + '[checks]\nmode = "production"\n', str(ca.folder / "t"))
        judge = build_judge(settings, settings.listener[0], dns)
        assert judge is not None
        assert await judge(new, old) == ""
        dns.add(name, "TLSA", "3 1 1 " + "ab" * 32)
        assert await judge(new, old) == ""
        dns.add(name, "TLSA", tlsa_value(old.der))
        assert "none matches" in await judge(new, old)
        dns.fail(name, "TLSA")
        assert "unknown" in await judge(new, old)

    asyncio.run(run())
