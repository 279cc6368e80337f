"""From a configuration to a plan; what the store is told; the status page for people."""

from __future__ import annotations

import io
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mta import config
from mta.admin.report import show
from mta.supervisor.plan import (
    STORE,
    SUPERVISOR,
    WORKER,
    Inet,
    Inherited,
    Listen,
    PlanError,
    UnixPath,
)
from mta.supervisor.planning import DAEMON, STORE_DAEMON, plan, reader
from mta.supervisor.slots import MAX_WORKERS
from mta.supervisor.storehost import TRACE_ROOM, store_settings

TEXT = """
[identity]
hostname = "mail.example.org"
[[listener]]
name = "smtp"
addresses = ["192.0.2.1:25", "[2001:db8::1]:25", "unix:/run/tamis/lmtp", "fd:mail"]
backlog = 77
[domains."example.org"]
recipients = "users"
backend = "dovecot"
[backends.dovecot]
addresses = ["127.0.0.1:24"]
[process]
workers = 3
drain_timeout = "7s"
restart_delay_max = "9s"
"""


def parse(text: str = TEXT, more: str = "") -> config.Config:
    return config.parse(text + more)


def test_every_listener_and_address_is_in_the_plan() -> None:
    made = plan(parse())
    listens = {listen.name: listen for listen in made.listens}
    assert listens["smtp"] == Listen(
        "smtp",
        (
            Inet("192.0.2.1", 25),
            Inet("2001:db8::1", 25),
            UnixPath("/run/tamis/lmtp", 0o660),
            Inherited("mail"),
        ),
        WORKER,
        77,
    )
    assert listens["control"] == Listen("control", (UnixPath("/run/tamis/control", 0o600),), SUPERVISOR)
    assert set(listens) == {"smtp", "control"}
    assert [(crew.role, crew.daemon, crew.count) for crew in made.crews] == [(WORKER, DAEMON, 3)]
    assert (made.workers, made.drain_timeout, made.restart_delay_max, made.account) == (3, 7.0, 9.0, None)
    assert config.from_json(made.configuration) == parse()


def test_a_listener_says_who_may_connect_to_its_unix_sockets() -> None:
    made = plan(parse(TEXT.replace("backlog = 77", 'socket_mode = "0600"') + "[store]\nenabled = true\n"))
    modes = {str(e): e.mode for listen in made.listens for e in listen.endpoints if isinstance(e, UnixPath)}
    assert modes == {"/run/tamis/lmtp": 0o600, "/run/tamis/control": 0o600, "/run/tamis/store": 0o660}


def test_metrics_and_store_have_sockets_and_processes_of_their_own() -> None:
    made = plan(parse(more='[metrics]\nlisten = "127.0.0.1:9025"\n[store]\nenabled = true\n'))
    roles = {listen.name: listen.role for listen in made.listens}
    assert roles == {"smtp": WORKER, "control": SUPERVISOR, "metrics": SUPERVISOR, "store": STORE}
    assert [(crew.role, crew.daemon, crew.count) for crew in made.crews][1:] == [(STORE, STORE_DAEMON, 1)]
    assert made.workers == 3


def test_user_of_the_server_owns_its_sockets() -> None:
    made = plan(parse(TEXT.replace("workers = 3", 'workers = 3\nuser = "nobody"')))
    assert made.account is not None
    assert made.account.uid == 65534
    unix = [e for listen in made.listens for e in listen.endpoints if isinstance(e, UnixPath)]
    assert {(endpoint.uid, endpoint.gid) for endpoint in unix} == {(65534, 65534)}


def test_folders_and_who_may_enter_them() -> None:
    made = plan(parse())
    assert made.directories == (("/var/lib/tamis", 0o750), ("/run/tamis", 0o755))
    both = plan(parse(TEXT.replace("workers = 3", 'state_directory = "/t"\nruntime_directory = "/t"')))
    assert both.directories == (("/t", 0o755),)


def test_one_worker_a_core_by_default() -> None:
    assert plan(parse(TEXT.replace("workers = 3", ""))).workers == len(os.sched_getaffinity(0))


def test_the_configuration_allows_as_many_workers_as_have_slots() -> None:
    assert plan(parse(TEXT.replace("workers = 3", f"workers = {MAX_WORKERS}"))).workers == MAX_WORKERS
    with pytest.raises(config.ConfigError, match=rf"found {MAX_WORKERS + 1}, expected at most {MAX_WORKERS}"):
        parse(TEXT.replace("workers = 3", f"workers = {MAX_WORKERS + 1}"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('user = "no-such-user"', "user 'no-such-user' does not exist"),
        ('user = "nobody"\ngroup = "no-such-group"', "group 'no-such-group' does not exist"),
    ],
)
def test_what_the_machine_does_not_have_is_a_problem(line: str, reason: str) -> None:
    with pytest.raises(PlanError, match=reason):
        plan(parse(TEXT.replace("workers = 3", line)))


def test_few_descriptors_are_told_and_too_few_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tamis.toml"
    path.write_text(
        f'[process]\nworkers = 2\nstate_directory = "{tmp_path}"\nruntime_directory = "{tmp_path}"\n'
        f'spill_directory = "{tmp_path}"\n[limits]\nsessions = 872\n'
    )
    limit = 1000
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    read = reader(str(path), "module:Class")

    def told() -> list[str]:
        return [warning for warning in read().warnings if "open files" in warning]

    assert told() == []
    limit = 999
    assert told() == [
        "the limit of open files is 999 for each of 2 processes, which is room for about 871 sessions; "
        "limits.sessions is 872 (LimitNOFILE= of the unit, or ulimit -n)"
    ]
    limit = 127
    with pytest.raises(PlanError, match="the limit of open files is 127, expected 128 at least"):
        read()


def test_reader_reads_anew_and_names_all_problems(tmp_path: Path) -> None:
    path = tmp_path / "tamis.toml"
    read = reader(str(path), "module:Class")
    with pytest.raises(PlanError, match=r"tamis\.toml: cannot be read"):
        read()
    path.write_text("[process]\nworkers = true\nusr = 'x'\n")
    with pytest.raises(PlanError) as raised:
        read()
    # As an ordinary user the default folders are problems too.
    found = [problem.split(": ")[1] for problem in raised.value.problems]
    assert {"process.workers", "process.usr"} <= set(found)
    path.write_text(
        f'[process]\nstate_directory = "{tmp_path}"\nruntime_directory = "{tmp_path}"\n'
        f'spill_directory = "{tmp_path}"\n[identity]\nhostname = "mail.example.org"\n'
    )
    made = read()
    assert made.crews[0].daemon == "module:Class"
    assert any("there is no domain" in warning for warning in made.warnings)


@pytest.mark.parametrize(("mode", "times"), [("local", 1), ("production", 0)])
def test_what_a_check_of_the_start_says_is_told_once(tmp_path: Path, mode: str, times: int) -> None:
    """Nobody gets the postmaster's mail: a local server makes no checks at its start."""
    path = tmp_path / "tamis.toml"
    path.write_text(
        f'[process]\nstate_directory = "{tmp_path}"\nruntime_directory = "{tmp_path}"\n'
        f'spill_directory = "{tmp_path}"\n[checks]\nmode = "{mode}"\n'
        '[store]\nenabled = true\npath = "mail"\n[domains."example.org"]\nrecipients = "users"\n'
    )
    (tmp_path / "users").touch(0o600)
    assert sum("identity.postmaster: " in one for one in reader(str(path))().warnings) == times


def test_store_is_told_what_the_configuration_says() -> None:
    more = (
        '[store]\nenabled = true\npath = "/srv/mail"\ndefault_quota = "1GiB"\n[message]\nmax_size = "10MiB"\n'
    )
    settings = store_settings(parse(more=more))
    assert (settings.root, settings.hostname, settings.quota_octets) == (
        "/srv/mail",
        "mail.example.org",
        2**30,
    )
    assert settings.size_limit == 10 * 2**20 + TRACE_ROOM
    assert settings.users_file.endswith("/users")
    assert (settings.over_quota, settings.quota_messages) == ("reject", 0)


def test_store_is_told_what_a_full_mailbox_is_and_what_separates_subaddresses() -> None:
    more = """
        [store]
        enabled = true
        over_quota = "defer"
        default_quota_messages = 5000
        [domains."example.net"]
        backend = "store"
        subaddress_delimiter = "+-"
        [domains."example.com"]
        backend = "store"
        subaddress_delimiter = "-_"
        [domains."example.edu"]
        backend = "store"
        subaddress_delimiter = ""
    """
    settings = store_settings(parse(more=more))
    assert (settings.over_quota, settings.quota_messages) == ("defer", 5000)
    assert settings.recipient_delimiters == "+-_"


def shown(**changes: Any) -> str:
    facts: dict[str, Any] = {
        "version": "1.0",
        "pid": 10,
        "state": "running",
        "serving": True,
        "uptime": 90000,
        "generation": 2,
        "last_reload": None,
        "workers": [
            {"name": "worker-2.1", "pid": 11, "state": "ready", "uptime": 60, "restarts": 4},
            {"name": "worker-1.1", "pid": 12, "state": "draining", "uptime": 3600, "restarts": 0},
        ],
        "metrics": {
            "sessions": {"smtp": 1200, "submission": 34},
            "sessions_open": {"smtp": 5},
            "messages": {"delivered\tsmtp": 1000, "temporary\tsmtp": 7},
            "store_recipients": {"stored": 8, "over_quota": 2},
            "pool_open": {"unix:/run/[dovecot]/lmtp": 3},
            "pool_idle": {"unix:/run/[dovecot]/lmtp": 2},
            "pool_connects": {"failed\tunix:/run/[dovecot]/lmtp": 9},
        },
    }
    page = io.StringIO()
    show(facts | changes, Console(file=page, width=110))
    return page.getvalue()


def test_status_shows_processes_counts_and_pools() -> None:
    lines = [" ".join(line.split()) for line in shown().splitlines()]
    assert lines[0] == "Tamis 1.0, running, up 1 d 1 h, process 10, generation 2"
    assert "worker-2.1 11 ready 1 min 4" in lines
    assert "sessions 1,234 5 open" in lines
    assert "messages 1,007 1,000 delivered, 7 temporary" in lines
    assert "mail store 10 2 over_quota, 8 stored" in lines
    assert "unix:/run/[dovecot]/lmtp 3 2 0 9" in lines


def test_status_says_when_no_mail_is_taken_and_why_a_reload_was_refused() -> None:
    page = shown(
        serving=False,
        state="stopping",
        last_reload={"ok": False, "problems": ["tamis.toml:3: [limits] is wrong"]},
    )
    assert "stopping, takes no mail" in page
    assert "last reload refused" in page
    assert "tamis.toml:3: [limits] is wrong" in page
