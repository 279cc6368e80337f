"""The supervisor and its workers as real processes: start, reload, crash, stop, privileges, systemd."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mta.admin.control import MAX_LINE
from tests.peers.ports import free_port
from tests.peers.running import ROOT, Client, Tamis, alive, children_of, state_of, tamis, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Tamis]:
    with tamis(tmp_path) as running:
        running.configure()
        yield running


class Trickle:
    """Clients that connect all the time and note everything that goes wrong."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.done = 0
        self.pids: set[int] = set()
        self.problems: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with Client(self.port) as client:
                    time.sleep(0.01)
                    answer = client.ask("echo word")
                    if answer != f"word {client.pid}":
                        self.problems.append(f"answer {answer!r}")
                    self.pids.add(client.pid)
                    self.done += 1
            except (OSError, ValueError) as problem:
                self.problems.append(repr(problem))

    def __enter__(self) -> Trickle:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_start_status_and_stop(server: Tamis) -> None:
    server.start()
    with server.client() as client:
        assert client.ask("echo a") == f"a {client.pid}"
        assert client.ask("sockets") == "smtp=1"
    status = json.loads(server.run("status", "--json").stdout)
    assert (status["state"], status["generation"], status["serving"]) == ("running", 1, True)
    assert status["listening"] == [f"smtp 127.0.0.1:{server.port}"]
    assert f"smtp 127.0.0.1:{server.port}" in next(
        line for line in server.log().splitlines() if ": ready" in line
    )
    assert [worker["state"] for worker in status["workers"]] == ["ready", "ready"]
    assert sorted(worker["slot"] for worker in status["workers"]) == [0, 1]
    assert client.pid in server.workers().values()
    shown = server.run("status")
    assert shown.returncode == 0
    assert "worker-1.2" in shown.stdout
    assert "running" in shown.stdout
    pids = list(server.workers().values())
    stopped = server.run("stop")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert server.wait() == 0
    assert not any(map(alive, pids))
    assert not server.control.exists()
    again = server.run("status")
    assert again.returncode == 1
    assert "does not run" in again.stderr
    assert "Traceback" not in server.log()


def test_reload_under_a_trickle_refuses_and_loses_no_connection(server: Tamis) -> None:
    server.start()
    before = set(server.workers().values())
    with Trickle(server.port) as trickle:
        for generation in (2, 3):
            answer = server.request({"command": "reload"})
            assert answer["ok"], answer
            assert answer["result"]["generation"] == generation
        until(lambda: trickle.pids & set(server.workers().values()), "clients reach the new workers")
    assert trickle.problems == []
    assert trickle.done > 50
    after = set(server.workers().values())
    assert len(after) == 2
    assert not before & after
    until(lambda: not any(map(alive, before)), "the old workers end")


def test_old_worker_keeps_its_session_until_the_client_is_done(server: Tamis) -> None:
    server.start()
    with server.client() as client:
        assert server.run("reload").returncode == 0
        assert client.pid in server.workers("draining").values()
        assert client.ask("echo still") == f"still {client.pid}"
        with server.client() as newcomer:
            assert newcomer.pid in server.workers().values()
    until(lambda: not alive(client.pid), "the old worker ends with its last session")


def test_old_worker_ends_at_the_drain_limit(server: Tamis) -> None:
    server.configure(drain="300ms")
    server.start()
    with server.client() as client:
        server.signal(signal.SIGHUP)
        assert client.line() == "421 time is up"
        assert client.line() == ""
    until(lambda: not alive(client.pid), "the old worker ends")


def test_reload_opens_new_addresses_and_closes_old_ones(server: Tamis) -> None:
    server.start()
    old, server.port = server.port, free_port()
    server.configure()
    assert server.run("reload").returncode == 0
    with server.client() as client:
        assert client.ask("echo x") == f"x {client.pid}"
    with pytest.raises(ConnectionRefusedError):
        Client(old)


def test_reload_makes_the_folder_that_the_control_socket_moves_to(server: Tamis) -> None:
    server.start()
    old, other = server.control, server.directory / "other"
    server.path.write_text(server.path.read_text().replace('/run"', '/other"'))
    asked_there = server.run("reload")
    assert (asked_there.returncode, other.exists()) == (1, False)
    assert f"no Tamis answers at {other}/control" in asked_there.stderr
    asked = server.run("reload", "--socket", str(old))
    assert asked.returncode == 0, asked.stderr
    server.control = other / "control"
    assert server.status()["generation"] == 2
    assert not old.exists()
    with server.client() as client:
        assert client.ask("echo x") == f"x {client.pid}"


def test_bad_configuration_keeps_the_old_one_and_says_why(server: Tamis) -> None:
    server.start()
    before = server.workers()
    good = server.path.read_text()
    server.path.write_text(good + "\n[limits]\nsesions = 5\n[process2]\n")
    refused = server.run("reload")
    assert refused.returncode == 78
    assert "sesions" in refused.stderr
    assert "process2" in refused.stderr
    assert "goes on as before" in refused.stderr
    assert server.workers() == before
    assert server.status()["last_reload"]["ok"] is False
    assert "sesions" in server.log()
    assert "sesions" in server.run("check-config").stderr
    server.path.write_text(good)
    assert server.run("reload").returncode == 0
    assert set(server.workers()) == {"worker-2.1", "worker-2.2"}


@pytest.mark.parametrize(("banner", "reason"), [("bad", "the toy is bad today"), ("buggy", "KeyError")])
def test_workers_that_do_not_get_ready_keep_the_old_ones(server: Tamis, banner: str, reason: str) -> None:
    server.start()
    before = server.workers()
    server.configure(banner=banner)
    refused = server.run("reload")
    assert refused.returncode == 1
    assert reason in refused.stderr
    assert server.workers() == before
    assert reason in server.log()
    assert "supervisor is gone" not in server.log()
    with server.client() as client:
        assert client.banner == "toy"


def test_workers_may_be_asked_for_counters_while_they_start(server: Tamis) -> None:
    server.start()
    server.configure(banner="slow")
    server.signal(signal.SIGHUP)

    def reloaded() -> bool:
        return bool(server.request({"command": "metrics"})["ok"] and server.status()["generation"] == 2)

    until(reloaded, "reload")
    assert "error" not in server.log()


def test_address_that_cannot_be_opened_refuses_the_reload(server: Tamis) -> None:
    server.start()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        server.configure(addresses=[f"127.0.0.1:{server.port}", f"127.0.0.1:{taken}"])
        refused = server.run("reload")
    assert refused.returncode == 1
    assert f"127.0.0.1:{taken}: Address already in use" in refused.stderr
    assert len(server.workers()) == 2


def test_killed_worker_is_replaced_while_connections_are_accepted(server: Tamis) -> None:
    server.start()
    victim = server.workers()["worker-1.1"]
    with Trickle(server.port) as trickle:
        time.sleep(0.1)
        os.kill(victim, signal.SIGKILL)
        replacement = until(
            lambda: (found := server.workers().get("worker-1.1")) != victim and found,
            "the worker is replaced",
        )
        until(lambda: trickle.done > 200, "clients are served")
    # Only sessions of the killed worker broke; nobody was refused.
    assert all("refused" not in problem for problem in trickle.problems), trickle.problems
    assert len(trickle.problems) <= 3
    assert replacement in trickle.pids or len(server.workers()) == 2
    assert "killed by SIGKILL" in server.log()
    assert [w["restarts"] for w in server.status()["workers"]] == [1, 0]


def test_worker_that_keeps_dying_is_restarted_with_growing_pauses(server: Tamis) -> None:
    server.configure(workers=1)
    server.start()
    server.configure(workers=1, banner="mortal")
    server.run("reload")
    log = until(lambda: server.log() if server.log().count("worker restarts") >= 4 else None, "four crashes")
    crashes = [line for line in log.splitlines() if "worker restarts" in line][:4]
    assert [float(line.split("delay=")[1].split()[0]) for line in crashes] == [0, 0.25, 0.5, 1]
    assert all("ended with status 3" in line for line in crashes)
    assert server.status()["state"] == "running"
    (waits,) = until(lambda: server.status()["restarting"], "it waits for its next start")
    assert (waits["name"], waits["reason"]) == ("worker-2.1", "ended with status 3")
    assert 0 <= waits["seconds"] <= 2
    assert waits["restarts"] >= 4


def test_first_start_that_fails_says_why_and_leaves_nothing(server: Tamis) -> None:
    server.configure(banner="bad")
    server.start(wait=False)
    assert server.wait() == 1
    assert "cannot start: worker-1." in server.log()
    assert "the toy is bad today" in server.log()
    assert "Traceback" not in server.log()
    assert not server.control.exists()
    with pytest.raises(ConnectionRefusedError):
        server.client()


def test_start_with_a_wrong_configuration_or_a_taken_port(server: Tamis) -> None:
    server.configure(rest="[limit]\n")
    server.start(wait=False)
    assert server.wait() == 78
    assert "tamis.toml:" in server.log()
    with socket.create_server(("127.0.0.1", 0)) as other:
        server.configure(addresses=[f"127.0.0.1:{other.getsockname()[1]}"])
        server.start(wait=False)
        assert server.wait() == 1
    assert "Address already in use (does another mail server run?)" in server.log()
    assert "Traceback" not in server.log()


def test_second_server_does_not_take_over_the_control_socket(server: Tamis) -> None:
    server.start()
    first = server.process
    server.configure(addresses=[f"127.0.0.1:{free_port()}"])
    server.start(wait=False)
    assert server.wait() == 1
    server.process = first
    assert "another process listens there" in server.log()
    assert len(server.workers()) == 2


def test_stop_waits_for_sessions_and_closes_the_ports_first(server: Tamis) -> None:
    server.start()
    with server.client() as client:
        server.signal(signal.SIGTERM)
        until(lambda: server.status().get("state") == "stopping", "the stop begins")
        until(lambda: _refused(server.port), "the port is closed")
        assert client.ask("echo mine") == f"mine {client.pid}"
        assert not server.status()["serving"]
        assert server.request({"command": "reload"})["ok"] is False
    assert server.wait() == 0
    assert "stopped" in server.log()


def _refused(port: int) -> bool:
    try:
        # Without waiting for an answer: a client that still got into the queue is reset.
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it got into the queue, and that was closed in the same moment
        return False
    return False


def test_second_signal_ends_at_once(server: Tamis) -> None:
    server.configure(drain="60s")
    server.start()
    with server.client() as client:
        server.signal(signal.SIGINT)
        until(lambda: server.status().get("state") == "stopping", "the stop begins")
        server.signal(signal.SIGTERM)
        assert client.line() == ""
    assert server.wait() == 0


def half_started(server: Tamis) -> None:
    """Start a server whose first worker serves, and whose second one is on its way."""
    server.start(wait=False)
    until(lambda: "the toy is at it" in server.log(), "the first worker is ready, the second is not")


@pytest.mark.parametrize("banner", ["lonely", "stuck"])
def test_stop_during_the_start_drains_who_has_clients(server: Tamis, banner: str) -> None:
    """The first worker serves while the second one starts; "stuck" hears nothing and is killed in the end."""
    server.configure(banner=banner, drain="60s")
    half_started(server)
    with server.client() as client:
        server.signal(signal.SIGTERM)
        until(lambda: not server.workers("starting"), "the second worker is told")
        until(lambda: len(children_of(server.process.pid)) == 1, "it ends")  # type: ignore[union-attr]
        until(lambda: _refused(server.port), "the port is closed")
        assert client.ask("echo mine") == f"mine {client.pid}"
        assert server.workers("draining") == {"worker-1.1": client.pid}
    assert server.wait() == 0
    log = server.log()
    assert "stopped" in log
    assert ("killed by SIGKILL" in log) == (banner == "stuck")
    assert not any(word in log for word in ("error", "restarts", "Traceback", "never retrieved"))


def test_stop_during_the_start_ends_clients_at_the_drain_limit(server: Tamis) -> None:
    server.configure(banner="lonely", drain="300ms")
    half_started(server)
    with server.client() as client:
        assert server.run("stop").returncode == 0
        assert client.line() == "421 time is up"
    assert server.wait() == 0


def test_stop_ends_a_reload_that_is_starting_workers(server: Tamis) -> None:
    server.start()
    server.configure(banner="late")
    server.signal(signal.SIGHUP)
    until(lambda: server.workers("starting"), "the reload begins")
    with server.client() as client:
        server.signal(signal.SIGTERM)
        until(lambda: _refused(server.port), "the port is closed")
        assert client.ask("echo mine") == f"mine {client.pid}"
    assert server.wait() == 0
    assert "Traceback" not in server.log()


def test_reload_that_fails_half_way_lets_clients_end(server: Tamis) -> None:
    """The first new worker serves already when the second one cannot start."""
    server.configure(workers=1)
    server.start()
    old = server.workers()["worker-1.1"]
    server.configure(workers=2, banner="divided")
    server.signal(signal.SIGHUP)
    new = until(lambda: server.workers().get("worker-2.1"), "the first new worker serves")
    with client_of(server, new) as client:
        until(lambda: server.status()["last_reload"], "the reload ends")
        assert server.status()["last_reload"]["ok"] is False
        assert client.ask("echo mine") == f"mine {new}"
    until(lambda: not alive(new), "it ends with its last session")
    assert server.workers() == {"worker-1.1": old}


def test_stop_now_does_not_wait(server: Tamis) -> None:
    server.configure(drain="60s")
    server.start()
    with server.client() as client:
        assert server.run("stop", "--now").returncode == 0
        assert client.line() == ""
    assert server.wait() == 0


def test_workers_of_a_dead_supervisor_drain_and_end(server: Tamis) -> None:
    server.start()
    pids = list(server.workers().values())
    with server.client() as client:
        server.signal(signal.SIGKILL)
        server.wait()
        assert client.ask("echo on") == f"on {client.pid}"
        until(lambda: _refused(server.port), "nobody listens any more")
    until(lambda: not any(map(alive, pids)), "the workers end")
    # The control socket's file is stale now; a new supervisor replaces it.
    server.start()
    assert len(server.workers()) == 2


def test_worker_that_is_told_to_end_is_replaced(server: Tamis) -> None:
    server.start()
    victim = server.workers()["worker-1.2"]
    os.kill(victim, signal.SIGHUP)
    os.kill(victim, signal.SIGINT)
    os.kill(victim, signal.SIGTERM)
    until(lambda: server.workers().get("worker-1.2") not in (victim, None), "the worker is replaced")
    assert not alive(victim)


def client_of(server: Tamis, pid: int) -> Client:
    """Connect to a certain worker: nothing says which one accepts first, so the others stand still."""
    others = set(server.workers().values()) - {pid}
    try:
        for other in others:
            os.kill(other, signal.SIGSTOP)
        until(lambda: all(state_of(one) == "T" for one in others), "they stand still")
        client = server.client()
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)
    assert client.pid == pid
    return client


def test_what_a_worker_publishes_reaches_all_others_and_those_to_come(server: Tamis, tmp_path: Path) -> None:
    server.start()
    with server.client() as client:
        assert client.ask("publish one") == "published"
        (other,) = set(server.workers().values()) - {client.pid}
        assert client.ask("heard") == "nothing"
    with client_of(server, other) as listener:
        until(lambda: listener.ask("heard") == "one", "the other worker hears")
    assert server.status()["remembered"] == 1
    assert server.request({"command": "reload"})["ok"]
    with server.client() as client:
        assert client.ask("heard") == "one"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert (tmp_path / "state" / "unacknowledged.json").exists()
    server.start()
    with server.client() as client:
        assert client.ask("heard") == "one"


def test_counters_never_go_back(tmp_path: Path, server: Tamis) -> None:
    http = free_port()
    server.configure(rest=f'[metrics]\nlisten = "127.0.0.1:{http}"')
    server.start()

    def delivered() -> float:
        text = get(http, "/metrics")[1]
        lines = [line for line in text.splitlines() if line.startswith("tamis_messages_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    for _ in range(5):
        with server.client() as client:
            assert client.ask("count") == "counted"
    assert delivered() == 5
    assert server.run("reload").returncode == 0
    until(lambda: len(server.status()["workers"]) == 2, "the old workers are gone")
    assert delivered() == 5
    with server.client() as client:
        client.ask("count")
        assert delivered() == 6
        os.kill(client.pid, signal.SIGKILL)
    until(lambda: "killed by SIGKILL" in server.log(), "the crash is seen")
    assert delivered() == 6
    page = get(http, "/metrics")[1]
    assert 'tamis_worker_restarts_total{role="worker"} 1.0' in page
    assert 'tamis_reloads_total{result="ok"} 1.0' in page
    assert server.status()["messages"] == {"delivered": 6}
    assert get(http, "/health") == (200, "ok\n")
    assert get(http, "/ready") == (200, "ready\n")
    assert get(http, "/ready", "POST")[0] == 405
    assert get(http, "/other")[0] == 404


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"command": "dance"}, "unknown command 'dance'"),
        ({"command": "status", "extra": 1}, "unreadable request"),
        ({"command": "log-level", "level": "loud"}, "a level is one of"),
        ([], "unreadable request"),
    ],
)
def test_control_socket_refuses_what_it_does_not_know(server: Tamis, request_: Any, error: str) -> None:
    server.start()
    answer = server.request(request_)
    assert answer["ok"] is False
    assert error in answer["error"]


def test_control_socket_is_private_and_bounded(server: Tamis) -> None:
    server.start()
    assert server.control.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(server.control))
        sock.sendall(b"x" * (MAX_LINE + 1000))
        assert b"at most %d bytes" % MAX_LINE in sock.recv(1000)
    os.chmod(server.directory, 0o755)
    for parent in (server.directory.parent, server.directory.parent.parent):
        os.chmod(parent, 0o755)
    command = (
        "import os, sys; os.setuid(65534); from mta.cli import main; "
        f"sys.argv = ['tamis', 'status', '--socket', {str(server.control)!r}]; main()"
    )
    closed = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert closed.returncode == 1
    assert closed.stderr.startswith("tamis: only root and the user of the server may ask it (cannot reach ")
    os.chmod(server.control, 0o666)
    probe = (
        "import socket, os; os.setuid(65534); s = socket.socket(socket.AF_UNIX); "
        f"s.connect({str(server.control)!r}); print(s.recv(1000).decode())"
    )
    stranger = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert "not permitted" in stranger.stdout, stranger.stderr
    assert "uid=65534" in server.log()
    assert server.status()["state"] == "running"


def test_log_level_changes_in_all_processes(server: Tamis) -> None:
    server.start()
    assert server.run("log-level", "debug").returncode == 0
    wrong = server.run("log-level", "loud")
    assert wrong.returncode == 2
    assert "'loud' is not one of 'debug', 'info'" in wrong.stderr


def test_privileges_are_dropped_after_binding(server: Tamis, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        path.chmod(0o755)
    for path in (tmp_path, tmp_path / "state", tmp_path / "run"):
        os.chown(path, 65534, 65534)
    server.port = next(port for port in range(1023, 600, -1) if _is_free(port))
    logging = f'[log]\ntarget = "{tmp_path}/state/log"'
    server.configure(process='user = "nobody"', rest=logging)
    server.interpreter = interpreter_for("nobody")
    server.start()
    assert server.process is not None
    supervisor = Path(f"/proc/{server.process.pid}/status").read_text()
    assert "Uid:\t65534\t65534\t65534\t65534" in supervisor
    assert "NoNewPrivs:\t1" in supervisor
    assert f"CapPrm:\t{1 << 10:016x}" in supervisor
    with server.client() as client:
        facts = client.ask("uid")
    assert facts == f"uid=65534 gid=65534 groups=65534 CapPrm={0:016x} CapAmb={0:016x} NoNewPrivs=1"
    for path, mode in ((server.control, 0o600), (tmp_path / "state" / "log", 0o640)):
        status = path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, 65534, mode)
    # A reload may still open a low port.
    server.port = next(port for port in range(server.port - 1, 600, -1) if _is_free(port))
    server.configure(process='user = "nobody"', rest=logging)
    os.rename(tmp_path / "state" / "log", tmp_path / "state" / "log.1")
    answer = server.request({"command": "reload"})
    assert answer["ok"], answer
    assert (tmp_path / "state" / "log").stat().st_uid == 65534
    with server.client() as client:
        assert client.ask("echo low") == f"low {client.pid}"
    assert server.run("stop").returncode == 0


def interpreter_for(user: str) -> list[str]:
    """Find a Python that another user may run with our packages: ours may lie in a home directory."""
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    account = pwd.getpwnam(user)
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        command = ["env", f"PYTHONPATH={ROOT}:{packages}", python]
        with contextlib.suppress(OSError):
            probe = subprocess.run(
                [*command, "-c", "import mta.worker"], user=account.pw_uid, capture_output=True, check=False
            )
            if probe.returncode == 0:
                return command
    raise AssertionError(f"user {user} may run no Python of version {sys.version_info[:2]} here")


def _is_free(port: int) -> bool:
    with socket.socket() as sock, contextlib.suppress(OSError):
        sock.bind(("127.0.0.1", port))
        return True
    return False


def test_systemd_passes_sockets_and_is_told_what_happens(server: Tamis, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as passed,
        socket.create_server(("127.0.0.1", 0)) as forgotten,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        server.port = passed.getsockname()[1]
        server.configure(addresses=["fd:smtp"])
        server.environment = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "400000",
            "LISTEN_FDS": "2",
            "LISTEN_FDNAMES": "smtp:forgotten",
        }
        launcher = (
            "import fcntl, os, sys; "
            "kept = [fcntl.fcntl(int(word), fcntl.F_DUPFD_CLOEXEC, 100) for word in sys.argv[1:3]]; "
            "os.dup2(kept[0], 3); os.dup2(kept[1], 4); os.environ['LISTEN_PID'] = str(os.getpid()); "
            "os.execv(sys.executable, [sys.executable, *sys.argv[3:]])"
        )
        with server.log_path.open("ab") as log:
            server.process = subprocess.Popen(
                [sys.executable, "-c", launcher, str(passed.fileno()), str(forgotten.fileno()),
                 "-m", "mta.cli", "serve", "-c", str(server.path), "--daemon", server.options["daemon"]],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **server.environment},
                pass_fds=[passed.fileno(), forgotten.fileno()],
                stdout=log,
                stderr=log,
            )  # fmt: skip

        def told(word: str) -> str:
            while True:
                message = manager.recv(4096).decode()
                if message.startswith(word):
                    return message

        ready = told("READY=1")
        assert f"MAINPID={server.process.pid}" in ready
        assert "STATUS=serving, 2 processes" in ready
        assert "passed sockets named 'forgotten' that no listener names" in server.log()
        with server.client() as client:
            assert client.ask("sockets") == "smtp=1"
            sendmail = json.loads((tmp_path / "run" / "sendmail.json").read_text())
            assert (sendmail["host"], sendmail["port"]) == ("127.0.0.1", server.port)
            environment = Path(f"/proc/{client.pid}/environ").read_text()
        assert not any(name in environment for name in ("NOTIFY_SOCKET", "WATCHDOG", "LISTEN_"))
        assert told("WATCHDOG=1")
        server.signal(signal.SIGHUP)
        reloading = told("RELOADING=1")
        microseconds = int(reloading.split("MONOTONIC_USEC=")[1].split()[0])
        assert 0 < time.monotonic_ns() // 1000 - microseconds < 15_000_000
        assert "generation 2" in told("READY=1")
        server.path.write_text("nonsense")
        server.signal(signal.SIGHUP)
        assert told("RELOADING=1")
        assert "STATUS=serving, generation 2; reload refused: " in told("READY=1")
        server.signal(signal.SIGTERM)
        assert told("STOPPING=1")
        assert server.wait() == 0
        # systemd's socket is still there for the next start.
        assert passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_too_few_descriptors_refuse_the_start(server: Tamis) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

    server.start(wait=False, preexec_fn=few)
    assert server.wait() == 78
    assert server.log() == (
        "the limit of open files is 100, expected 128 at least (LimitNOFILE= of the unit, or ulimit -n)\n"
    )


def test_pid_file_is_written_and_removed(server: Tamis, tmp_path: Path) -> None:
    server.options["pid-file"] = str(tmp_path / "pid")
    server.start()
    assert server.process is not None
    assert (tmp_path / "pid").read_text() == f"{server.process.pid}\n"
    server.run("stop")
    server.wait()
    assert not (tmp_path / "pid").exists()


def test_start_is_fast(server: Tamis) -> None:
    # The best of some: others may use the machine meanwhile.
    times = []
    for _ in range(6):
        began = time.monotonic()
        server.start(wait=False)
        until(lambda: not _refused(server.port), "the first connection")
        times.append(time.monotonic() - began)
        assert server.process is not None
        supervisor = server.process.pid
        # The first worker starts alone, to be the sooner ready; the second follows.
        until(lambda pid=supervisor: len(children_of(pid)) == 2, "the second worker")  # type: ignore[misc]
        server.signal(signal.SIGTERM)
        server.wait()
        if times[-1] < 1.5:
            return
    # A slow machine needs that long for much less as well.
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import asyncio, ssl, uvloop, msgspec"], check=True)
    assert min(times) < 10 * (time.monotonic() - began), times


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["version"], 0),
        (["--help"], 0),
        (["serve", "--nonsense"], 2),
        (["nonsense"], 2),
        (["status", "--socket", "/nonexistent/control"], 1),
        (["check-config", "-c", "/nonexistent/tamis.toml"], 78),
        (["serve", "-c", "/nonexistent/tamis.toml"], 78),
    ],
)
def test_command_line_ends_with_the_right_status_and_no_traceback(arguments: list[str], status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mta.cli", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
