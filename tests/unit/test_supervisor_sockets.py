"""Listening sockets: opened, kept over a reload, closed last, found stale, inherited from systemd."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.supervisor.plan import Endpoint, Inet, Inherited, Listen, UnixPath
from mta.supervisor.privileges import Account, make_directories
from mta.supervisor.sockets import ListenError, ListeningSockets, inherited_sockets
from tests.peers.needs import needs_ipv6
from tests.peers.ports import free_port


@pytest.fixture
def book() -> Iterator[ListeningSockets]:
    sockets = ListeningSockets()
    yield sockets
    sockets.close()


def listen(*endpoints: Endpoint, name: str = "smtp") -> Listen:
    return Listen(name, endpoints)


def connects(family: socket.AddressFamily, address: object) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        return client.connect_ex(address) == 0  # type: ignore[arg-type]


def test_ipv4_and_ipv6_wildcards_of_one_port_live_together(book: ListeningSockets) -> None:
    needs_ipv6()
    port = free_port()
    opened = book.prepare([listen(Inet("0.0.0.0", port), Inet("::", port))])
    assert len(opened.of("worker")["smtp"]) == 2
    assert connects(socket.AF_INET, ("127.0.0.1", port))
    assert connects(socket.AF_INET6, ("::1", port))
    assert all(not sock.getblocking() and not sock.get_inheritable() for sock in opened.of("worker")["smtp"])


def test_endpoint_that_stays_is_the_same_socket_and_what_left_closes_last(book: ListeningSockets) -> None:
    stays, leaves, comes = (Inet("127.0.0.1", free_port()) for _ in range(3))
    before = book.prepare([listen(stays, leaves)])
    book.commit(before)
    after = book.prepare([listen(stays, comes, name="renamed")])
    assert after.of("worker")["renamed"][0] is before.of("worker")["smtp"][0]
    for endpoint in (stays, leaves, comes):
        assert connects(socket.AF_INET, (endpoint.host, endpoint.port))
    book.commit(after)
    assert connects(socket.AF_INET, (stays.host, stays.port))
    assert not connects(socket.AF_INET, (leaves.host, leaves.port))


def test_a_port_is_free_at_once_after_sessions_that_the_server_has_ended(book: ListeningSockets) -> None:
    """The kernel remembers them for a minute (TIME_WAIT), and a restart takes less."""
    port = listen(Inet("127.0.0.1", free_port()))
    (listening,) = book.prepare([port]).of("worker")["smtp"]
    with socket.create_connection(listening.getsockname()) as client:
        listening.setblocking(True)
        listening.accept()[0].close()
        assert client.recv(1) == b""
    book.close()
    assert book.prepare([port]).of("worker")["smtp"]


def test_addresses_have_the_port_that_was_chosen(book: ListeningSockets, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    opened = book.prepare([listen(Inet("127.0.0.1", 0)), listen(UnixPath(path, 0o600), name="local")])
    port = opened.of("worker")["smtp"][0].getsockname()[1]
    assert port > 0
    assert opened.addresses("worker") == [f"smtp 127.0.0.1:{port}", f"local unix:{path}"]
    assert opened.addresses("supervisor") == []
    book.close()
    assert opened.addresses("worker") == []


def test_rollback_closes_only_what_was_new(book: ListeningSockets) -> None:
    old, new = Inet("127.0.0.1", free_port()), Inet("127.0.0.1", free_port())
    book.commit(book.prepare([listen(old)]))
    book.rollback(book.prepare([listen(old, new)]))
    assert connects(socket.AF_INET, (old.host, old.port))
    assert not connects(socket.AF_INET, (new.host, new.port))


def test_all_endpoints_that_cannot_be_opened_are_named_and_the_rest_closed(book: ListeningSockets) -> None:
    good = Inet("127.0.0.1", free_port())
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = Inet("127.0.0.1", other.getsockname()[1])
        with pytest.raises(ListenError) as raised:
            book.prepare(
                [listen(good, taken, Inet("192.0.2.1", 2525), UnixPath("/nonexistent/x"), Inherited("smtp"))]
            )
    first, second, third, fourth = raised.value.problems
    assert f"listener 'smtp': cannot listen on {taken}: Address already in use (does another" in first
    assert "no interface of this machine has it" in second
    assert "/nonexistent/x: No such file or directory" in third
    assert "fd:smtp: the service manager passed no socket of this name (passed: none)" in fourth
    assert not connects(socket.AF_INET, (good.host, good.port))


def test_unix_socket_gets_mode_and_owner_and_is_removed(book: ListeningSockets, tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    umask = os.umask(0o022)
    os.umask(umask)
    book.commit(book.prepare([listen(UnixPath(str(path), 0o640, uid=65534, gid=65534))]))
    found = path.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o640, 65534, 65534)
    assert connects(socket.AF_UNIX, str(path))
    after = os.umask(umask)
    assert after == umask
    assert book.close() == []
    assert not path.exists()


def test_nothing_is_given_to_who_has_it(
    book: ListeningSockets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the sandbox of conf/systemd nobody may call chown; process.user may be set all the same."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    path = tmp_path / "control"
    book.commit(book.prepare([listen(UnixPath(str(path), 0o600, os.geteuid(), os.getegid()))]))
    assert connects(socket.AF_UNIX, str(path))
    with pytest.raises(ListenError, match="Operation not permitted"):
        book.prepare([listen(UnixPath(str(tmp_path / "other"), 0o600, os.geteuid() + 1, os.getegid()))])


def test_mode_changes_without_a_new_socket(book: ListeningSockets, tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    first = book.prepare([listen(UnixPath(str(path), 0o600))])
    second = book.prepare([listen(UnixPath(str(path), 0o666))])
    assert second.of("worker")["smtp"][0] is first.of("worker")["smtp"][0]
    assert path.stat().st_mode & 0o777 == 0o666
    book.prepare([listen(UnixPath(str(path), 0o600))])
    assert path.stat().st_mode & 0o777 == 0o600


def test_rollback_gives_a_unix_socket_its_mode_and_owner_back(book: ListeningSockets, tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    uid, gid = os.geteuid(), os.getegid()
    before = [listen(UnixPath(str(path), 0o600, uid, gid))]
    book.commit(book.prepare(before))
    other = (65534, 65534) if uid == 0 else (uid, gid)
    wanted = listen(UnixPath(str(path), 0o666, *other))
    assert book.rollback(book.prepare([wanted])) == []
    found = path.stat()
    assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o600, uid, gid)
    with pytest.raises(ListenError):
        book.prepare([wanted, listen(UnixPath("/nonexistent/x"), name="other")])
    found = path.stat()
    assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o600, uid, gid)
    book.prepare([wanted])
    found = path.stat()
    assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o666, *other)


def test_stale_unix_socket_is_replaced(book: ListeningSockets, tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    book.prepare([listen(UnixPath(path))])
    assert connects(socket.AF_UNIX, path)


def test_living_unix_socket_of_somebody_else_is_an_error(book: ListeningSockets, tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(ListenError, match="another process listens there"):
            book.prepare([listen(UnixPath(path))])
        assert connects(socket.AF_UNIX, path)


def test_ordinary_file_in_the_way_is_not_removed(book: ListeningSockets, tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    path.write_text("precious")
    with pytest.raises(ListenError, match="exists and is not a socket"):
        book.prepare([listen(UnixPath(str(path)))])
    assert path.read_text() == "precious"


@pytest.mark.parametrize("by", ["nothing", "a file of somebody else's socket"])
def test_socket_whose_file_is_gone_is_opened_again(book: ListeningSockets, tmp_path: Path, by: str) -> None:
    path = str(tmp_path / "lmtp")
    listens = [listen(UnixPath(path)), listen(Inet("127.0.0.1", free_port()), name="inet")]
    first = book.prepare(listens)
    assert book.lost(listens) == {}
    os.unlink(path)
    if by != "nothing":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
    assert book.lost(listens) == {path: listens[0]}
    second = book.prepare(listens)
    assert book.lost(listens) == {}
    assert connects(socket.AF_UNIX, path)
    assert second.of("worker")["inet"] == first.of("worker")["inet"]
    assert book.commit(second) == []
    assert first.of("worker")["smtp"][0].fileno() == -1, "the old socket stays open"
    assert connects(socket.AF_UNIX, path)


def test_rollback_of_a_socket_whose_file_is_gone_leaves_the_old_one(
    book: ListeningSockets, tmp_path: Path
) -> None:
    path = str(tmp_path / "lmtp")
    listens = [listen(UnixPath(path))]
    first = book.prepare(listens)
    os.unlink(path)
    assert book.rollback(book.prepare(listens)) == []
    assert first.of("worker")["smtp"][0].fileno() != -1
    assert not os.path.exists(path)
    assert book.lost(listens) == {path: listens[0]}


def test_what_is_kept_is_not_opened_again(book: ListeningSockets, tmp_path: Path) -> None:
    """At a stop nobody needs a file that is gone, and it may not be possible to make it."""
    path = str(tmp_path / "folder" / "control")
    os.mkdir(tmp_path / "folder")
    stays, leaves = listen(UnixPath(path), name="control"), listen(Inet("127.0.0.1", free_port()))
    opened = book.prepare([stays, leaves])
    os.unlink(path)
    os.rmdir(tmp_path / "folder")
    assert book.keep([stays]) == []
    assert opened.of("worker")["smtp"][0].fileno() == -1
    assert opened.of("worker")["control"][0].fileno() != -1
    assert book.keep([]) == []
    assert opened.of("worker")["control"][0].fileno() == -1


def test_socket_file_that_somebody_replaced_is_not_removed(book: ListeningSockets, tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    book.prepare([listen(UnixPath(str(path)))])
    os.replace(path, tmp_path / "moved")
    path.write_text("another's")
    book.close()
    assert path.read_text() == "another's"


LAUNCHER = """
import os, socket, sys
from mta.supervisor.sockets import ListenError, ListeningSockets, inherited_sockets
from mta.supervisor.plan import Inherited, Listen
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[1]))
try:
    found = inherited_sockets(os.environ)
except ListenError as error:
    print("error", *error.problems)
    sys.exit()
print({name: [s.getsockname()[1] for s in group] for name, group in sorted(found.items())})
print(sorted(name for name in os.environ if name.startswith("LISTEN_")))
if found:
    book = ListeningSockets(found)
    book.commit(book.prepare([Listen("mail", (Inherited("smtp"),))]))
    print(book.unwanted())
    book.commit(book.prepare([]))
    print(book.prepare([Listen("mail", (Inherited("smtp"),))]).of("worker")["mail"] == found["smtp"])
"""


def inherit(
    descriptors: list[int], names: str | None, pid_offset: int = 0, count: str | None = None
) -> list[str]:
    """Run the launcher with these descriptors as 3, 4, ..., as systemd would."""
    environment = {**os.environ, "LISTEN_FDS": str(len(descriptors)) if count is None else count}
    if names is not None:
        environment["LISTEN_FDNAMES"] = names

    def move() -> None:
        for index, fd in enumerate([os.dup(fd) for fd in descriptors]):
            os.dup2(fd, 3 + index)

    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, str(pid_offset)],
        preexec_fn=move,
        close_fds=False,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_sockets_of_systemd_are_taken_by_name() -> None:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [server.getsockname()[1] for server in servers]
    lines = inherit([server.fileno() for server in servers], "smtp:submission:smtp")
    for server in servers:
        server.close()
    found, variables, unwanted, kept = lines
    assert found == str({"smtp": [ports[0], ports[2]], "submission": [ports[1]]})
    assert (variables, kept) == ("[]", "True")
    assert "'submission'" in unwanted  # nobody would answer there
    assert "'smtp'" not in unwanted


def test_sockets_for_another_process_are_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert inherit([server.fileno()], "smtp", pid_offset=1) == ["{}", "[]"]


def test_descriptor_that_does_not_listen_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as idle, open(os.devnull) as file:
        (line,) = inherit([idle.fileno(), file.fileno()], "smtp:file")
    assert "passed descriptor 3 (smtp) is not a listening stream socket" in line
    assert "passed descriptor 4 (file)" in line


@pytest.mark.parametrize(
    ("count", "names", "reason"),
    [
        ("²", "smtp", "LISTEN_FDS is '²', expected a number of sockets"),
        ("-1", "smtp", "LISTEN_FDS is '-1'"),
        ("", "smtp", "LISTEN_FDS is ''"),
        ("1000000000", "smtp", "LISTEN_FDS is '1000000000'"),
        ("2000", "smtp", "at most 1024"),
        ("1", "smtp:other", "LISTEN_FDNAMES has 2 names, expected as many as LISTEN_FDS says: 1"),
        ("2", "smtp", "LISTEN_FDNAMES has 1 names, expected as many as LISTEN_FDS says: 2"),
        ("2", "smtp:other", "passed descriptor 4 (other): Bad file descriptor"),
    ],
)
def test_variables_that_cannot_be_true_are_refused(count: str, names: str, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        (line,) = inherit([server.fileno()], names, count=count)
    assert line.startswith("error ")
    assert reason in line


def test_sockets_without_names_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.supervisor.sockets.FIRST_INHERITED", socket.create_server(("", 0)).detach())
    found = inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
    assert list(found) == ["unknown"]
    found["unknown"][0].close()


def test_descriptors_that_are_refused_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wrong count they are those of the event loop."""
    with socket.socket() as idle:
        monkeypatch.setattr("mta.supervisor.sockets.FIRST_INHERITED", idle.fileno())
        with pytest.raises(ListenError):
            inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "smtp"})
        assert idle.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0


def test_nothing_is_inherited_without_the_variables() -> None:
    assert inherited_sockets({}) == {}


def test_what_a_link_leads_to_keeps_its_mode(
    book: ListeningSockets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may be the server's own: who has broken into it must not use root's start to go further."""
    path, victim = tmp_path / "lmtp", tmp_path / "victim"
    victim.touch(0o600)

    def swap(name: str, uid: int, gid: int, *, follow_symlinks: bool = True) -> None:
        assert not follow_symlinks
        os.unlink(name)
        os.symlink(victim, name)

    monkeypatch.setattr(os, "chown", swap)
    book.prepare([listen(UnixPath(str(path), 0o666, uid=65534, gid=65534))])
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


def test_a_folder_that_became_a_link_is_not_given_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, bool]] = []

    def note(name: str, uid: int, gid: int, *, follow_symlinks: bool = True) -> None:
        given.append((name, follow_symlinks))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", note)
    path = str(tmp_path / "a" / "b")
    make_directories(((path, 0o755),), Account("nobody", 65534, 65534, ()))
    assert given == [(path, False)]


def test_folders_have_the_mode_that_is_asked_for_whatever_the_umask(tmp_path: Path) -> None:
    state, run, there = tmp_path / "state", tmp_path / "srv" / "run", tmp_path / "there"
    there.mkdir(0o700)
    before = os.umask(0o077)
    try:
        make_directories(((str(state), 0o750), (str(run), 0o755), (str(there), 0o755)), None)
    finally:
        after = os.umask(before)
    assert after == 0o077
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (state, run, run.parent, there)]
    assert [oct(mode) for mode in modes] == ["0o750", "0o755", "0o700", "0o700"], "srv is not ours to open"
