"""What `make demo` makes: a folder that the configuration checker likes and a second start keeps."""

from __future__ import annotations

import datetime
import json
import ssl
import stat
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from cryptography import x509

from mta import config, demo
from mta.accounts import passwords
from mta.accounts.usersfile import UsersFile
from mta.roundtrip import RoundTripError, Site, round_trip
from tests.peers.ports import free_port

PORTS = (2525, 2587, 2465)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_complete_private_and_accepted_by_the_checker(tmp_path: Path) -> None:
    made = demo.make(tmp_path / "demo", PORTS)
    problems = [str(p) for p in config.check(str(made.configuration)) if not p.warning]
    assert problems == []
    settings = config.load(str(made.configuration))
    assert settings.store.path == str(made.mail.resolve())
    assert [str(listener.addresses[0]) for listener in settings.listener] == [
        "127.0.0.1:2525",
        "127.0.0.1:2587",
        "127.0.0.1:2465",
    ]
    assert [mode(made.folder / name) for name in (".", "key.pem", "demo.json", "users")] == [
        0o700,
        0o600,
        0o600,
        0o640,
    ]


def test_a_second_start_keeps_everything(tmp_path: Path) -> None:
    first = demo.make(tmp_path, PORTS)
    first.configuration.write_text(first.configuration.read_text() + "# mine\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    second = demo.make(tmp_path, (1, 2, 3))
    assert second == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_an_interrupted_start_is_finished(tmp_path: Path) -> None:
    demo.make(tmp_path, PORTS)
    (tmp_path / "certificate.pem").unlink()  # the key was written, the certificate was not
    (tmp_path / "users").unlink()
    demo.make(tmp_path, PORTS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")


def test_the_shown_passwords_are_those_of_the_users_file(tmp_path: Path) -> None:
    made = demo.make(tmp_path, PORTS)
    users = UsersFile(tmp_path / "users", on_error=print)
    for name, password in made.passwords.items():
        user = users.get(name)
        assert user is not None
        assert user.password is not None
        assert passwords.verify(user.password, password)
        assert password in demo.explain(made)
        assert password.isalnum(), "to be pasted behind --auth-password"


def test_the_certificate_names_this_machine() -> None:
    now = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    octets, _ = demo.self_signed(now)
    certificate = x509.load_pem_x509_certificate(octets)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mx.example.test", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert certificate.not_valid_before_utc < now < certificate.not_valid_after_utc


def test_a_deep_folder_gets_its_sockets_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    made = demo.make(folder, PORTS)
    runtime = Path(config.load(str(made.configuration)).process.runtime_directory)
    try:
        assert folder not in runtime.parents
        assert len(str(runtime)) < demo.SOCKET_PATH_ROOM
    finally:
        runtime.rmdir()


def test_fresh_removes_nothing_that_is_not_a_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").write_text("x")
    assert demo.main(["--fresh", "--folder", str(tmp_path)]) == 1
    assert "was not made by this demo" in capsys.readouterr().err
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize("ports", ["1,2", "a,b,c", "", "1,2,3,4"])
def test_bad_ports(ports: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--check", "--ports", ports]) == 1
    assert "--ports wants three numbers or auto" in capsys.readouterr().err


def test_free_ports_are_three() -> None:
    assert len(set(demo.free_ports())) == 3


def test_another_server_on_a_port_is_not_taken_for_the_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Controller(Sink(), hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        demo.make(tmp_path / "demo", (free_port(), server.port, free_port()))
        assert demo.main(["--folder", str(tmp_path / "demo")]) == 1
    finally:
        server.stop()
    said = capsys.readouterr()
    assert said.err.startswith(f"demo: port {server.port}: Address already in use (does another demo run")
    assert "Tamis is running" not in said.out


def site(tmp_path: Path, port: int) -> Site:
    certificate, _ = demo.self_signed(datetime.datetime.now(datetime.UTC))
    (tmp_path / "certificate.pem").write_bytes(certificate)
    return Site(
        ports=(port, port, port),
        authority=tmp_path / "certificate.pem",
        mail=tmp_path / "mail",
        user="alice@example.test",
        password="x",
        other="bob@example.test",
    )


def test_a_round_trip_without_a_server_says_which_step_failed(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(RoundTripError, match=f"SMTP on port {port}: .*refused"):
        round_trip(site(tmp_path, port))


def test_a_server_that_accepts_and_keeps_nothing_is_found_out(tmp_path: Path) -> None:
    server = Controller(Sink(), hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        with pytest.raises(RoundTripError, match="was accepted but is not in the mailbox"):
            round_trip(site(tmp_path, server.port))
    finally:
        server.stop()


def test_the_notes_remember_ports(tmp_path: Path) -> None:
    demo.make(tmp_path, PORTS)
    assert json.loads((tmp_path / "demo.json").read_text())["ports"] == list(PORTS)
