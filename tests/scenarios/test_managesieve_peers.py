"""Programs that people edit scripts with: sieve-connect, and sievelib's client."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sievelib.managesieve import Client as SieveClient  # type: ignore[import-untyped]

from mta.net.tls import client_context
from mta.startup.probe import Opening, Seen, probe
from tests.peers.managesieve import ADMIN, ALICE, PASSWORD, Site, managesieve_site
from tests.peers.needs import needs, program
from tests.peers.ports import free_port

pytestmark = pytest.mark.scenario

KEEP = 'require ["fileinto"];\r\nfileinto "INBOX";\r\n'
POLICY = 'require ["vnd.tamis.stage", "vnd.tamis.reply"];\r\nstage "helo" { reply "refused here"; }\r\n'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with managesieve_site(tmp_path_factory.mktemp("managesieve")) as running:
        yield running


def sieve_connect(site: Site, user: str, *arguments: str) -> tuple[int, str]:
    """Run sieve-connect: its status, and all that it wrote."""
    read, write = os.pipe()
    os.write(write, f"{PASSWORD}\n".encode())
    os.close(write)
    try:
        done = subprocess.run(
            [
                program("sieve-connect"), "--server", "localhost", "--4", "--port", str(site.sieve),
                "--user", user, "--passwordfd", str(read), "--tlscafile", site.authority.file,
                "--authmech", "PLAIN", *arguments,
            ],
            pass_fds=[read], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
            check=False, env={**os.environ, "HOME": str(site.directory)},
        )  # fmt: skip
    finally:
        os.close(read)
    return done.returncode, done.stdout + done.stderr


def test_sieve_connect_keeps_scripts_of_a_user(site: Site, tmp_path: Path) -> None:
    needs("sieve-connect")
    good, bad = tmp_path / "good.sieve", tmp_path / "bad.sieve"
    good.write_bytes(KEEP.encode())
    bad.write_bytes(b"nonsense;\r\n")
    status, text = sieve_connect(site, ALICE, "--checkscript", "--localsieve", str(good))
    assert status == 0, text
    status, text = sieve_connect(site, ALICE, "--upload", "--localsieve", str(good), "--remotesieve", "one")
    assert status == 0, text
    status, text = sieve_connect(site, ALICE, "--activate", "--remotesieve", "one")
    assert status == 0, text
    status, text = sieve_connect(site, ALICE, "--list")
    assert status == 0, text
    assert '"one" ACTIVE' in text
    status, text = sieve_connect(site, ALICE, "--upload", "--localsieve", str(bad), "--remotesieve", "two")
    assert "1:1: error: " in text
    back = tmp_path / "back.sieve"
    status, text = sieve_connect(site, ALICE, "--download", "--remotesieve", "one", "--localsieve", str(back))
    assert status == 0, text
    assert back.read_bytes() == KEEP.encode()
    status, text = sieve_connect(site, ALICE, "--deactivate")
    assert status == 0, text
    status, text = sieve_connect(site, ALICE, "--delete", "--remotesieve", "one")
    assert status == 0, text
    assert "one" not in sieve_connect(site, ALICE, "--list")[1]


def test_sieve_connect_changes_the_policy(site: Site, tmp_path: Path) -> None:
    needs("sieve-connect")
    script = tmp_path / "main.sieve"
    script.write_bytes(POLICY.encode())
    where = ("--localsieve", str(script), "--remotesieve", "main")
    status, text = sieve_connect(site, ADMIN, "--upload", *where)
    assert status == 0, text
    assert site.hello().startswith("250")
    status, text = sieve_connect(site, ADMIN, "--activate", "--remotesieve", "main")
    assert status == 0, text
    assert site.hello() == "550 5.7.1 refused here"
    status, text = sieve_connect(site, ADMIN, "--deactivate")
    assert status == 0, text
    assert site.hello().startswith("250")


def test_sievelib(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", site.authority.file)
    monkeypatch.setattr(SieveClient, "read_timeout", 60)
    client = SieveClient("localhost", site.sieve)
    assert client.connect(ALICE, PASSWORD, starttls=True, authmech="PLAIN")
    assert client.get_implementation() == "Tamis"
    assert "fileinto" in client.get_sieve_capabilities()
    assert client.havespace("lib", 100)
    assert client.checkscript(KEEP)
    assert not client.putscript("lib", "nonsense;\r\n")
    assert b"1:1: error: " in client.errmsg
    assert client.putscript("lib", KEEP)
    assert client.setactive("lib")
    assert client.listscripts() == ("lib", [])
    assert client.renamescript("lib", "new")
    assert client.listscripts() == ("new", [])
    assert client.getscript("new") == KEEP.replace("\r\n", "\n").rstrip("\n")
    assert not client.deletescript("new")
    assert client.errcode == b"ACTIVE"
    assert client.setactive("")
    assert client.deletescript("new")
    assert client.listscripts() in (("", []), (None, []))
    client.logout()
    client.sock.close()


def test_the_check_of_srv_sees_what_programs_see(site: Site) -> None:
    trusting, strange = client_context("verify", ca_file=site.authority.file), client_context("verify")

    async def look(port: int, opening: Opening, name: str, context: ssl.SSLContext) -> Seen:
        return await probe("127.0.0.1", port, opening, name, context, 20.0)

    async def main() -> None:
        seen = await look(site.sieve, "sieve", "mx.test", trusting)
        assert seen.reached
        assert seen.certificate
        assert not seen.error
        assert (await look(site.sieve, "sieve", "other.test", trusting)).error
        assert (await look(site.sieve, "sieve", "mx.test", strange)).error
        assert (await look(site.sieve, "imap", "mx.test", trusting)).error.startswith("greeting: ")
        assert not (await look(free_port(), "sieve", "mx.test", trusting)).reached

    asyncio.run(main())
