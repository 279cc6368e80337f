"""docs/security.md names every limit of the code and of the configuration, with its value.

A limit of the code is every module-level number in capitals, and every number that is the default of a field
of a settings class (see `SETTINGS`). A limit of the configuration is every number, duration and size of the
schema. What is no limit stands here with its reason.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from collections.abc import Iterator
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import get_args, get_origin

import msgspec
import pytest

from mta.config.read import fields_of, unwrap
from mta.config.reference import sections
from mta.config.schema import Config

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"

SETTINGS = re.compile("(Settings|Limits|Timeouts|Bounds|Options|Pool|PolicyService)$")
"""Names of dataclasses whose numbers are limits."""

NO_LIMITS = {
    "mta.*.EXIT_*": "an exit status",
    "mta.*.EX_*": "an exit status",
    "mta.cli_mailbox.POLL": "how often a command looks",
    "mta.cli_user.GENERATED_LENGTH": "the length of a password that is made, not of one that is taken",
    "mta.cli_user.SHORT": "a warning",
    "mta.cli_user.SMALL_QUOTA": "a warning",
    "mta.demo.*": "the demonstration",
    "mta.textform.*": "how base64 is written",
    "mta.daemon_director.UNREAD": "how often something is looked at",
    "mta.director.spread._SPAN": "the range of a hash",
    "mta.director.shared._DIGITS": "a number of the format",
    "mta.startup.publish.TLSA_TTL": "of records that are proposed",
    "mta.cli_*.NOT_YET": "an exit status",
    "mta.startup.answers.TTL": "of records that are proposed",
    "mta.startup.clock.*": "numbers of the kernel, and what is wrong with a clock",
    "mta.largepages._*": "numbers of the kernel",
    "mta.startup.probe.ROUNDS": "a handshake in memory, with ourselves",
    "mta.startup.render.*": "layout",
    "mta.cli_console.*": "layout",
    "mta.cli_queue.STATS_ROWS": "layout",
    "mta.startup.runner.*PAUSE": "how often something is asked again",
    "mta.supervisor.setup.IDLE": "how often something is looked at",
    "mta.supervisor.setup.STARTING": "how often something is looked at",
    "mta.roundtrip.TIMEOUT": "the demonstration",
    "mta.accounts.libcrypt._DATA_SIZE": "the size of a structure of the C library",
    "mta.accounts.usersfile.CHECK_INTERVAL": "how often something is looked at",
    "mta.accounts.usersfile.MODE": "permissions",
    "sieve_ext.closures.guards.*": "how work is put together; nothing is refused",
    "sieve_ext.core.many.LEAST": "from where another way is faster",
    "mta.authn.dkimcanon.BLOCK": "how work is cut up; nothing is refused",
    "mta.authn.dkimkeys.UNSAFE_MODE": "permissions",
    "mta.authn.dkimsign.COLUMNS": "layout",
    "mta.policy.srs.SLOTS": "a number of the format",
    "mta.policy.srs.DAY": "a unit",
    "mta.spool.journaling.BOUNDARY": "octets of a name",
    "mta.policytest.world.NOW": "the clock of tests",
    "mta.config.problems.SHOWN": "layout",
    "mta.config.reference.WIDTH": "layout",
    "mta.cli_progress.EVERY": "how often something is shown",
    "mta.daemon.SWEEP": "how often something is looked at",
    "mailqueue.store.disk._MEASURED": "how often something is looked at",
    "mta.delivery.security.capability.[!M]*": "numbers of the protocol",
    "mta.delivery.security.capability.MANDATORY": "a number of the protocol",
    "mta.delivery.security.der.*": "numbers of the format",
    "mta.delivery.security.memory.DAY": "a unit",
    "mta.delivery.security.pins.REFRESH": "how often something is written",
    "mta.delivery.security.provider.PROBE_[AI]*": "how often something is looked at",
    "mta.delivery.security.provider.SecuritySettings.https_port": "a port",
    "mta.delivery.security.provider.SecuritySettings.level": "a level",
    "mta.delivery.security.tlsa.DANE_*": "numbers of the protocol",
    "mta.delivery.security.tlsa.[CFP]*": "numbers of the protocol",
    "mta.scripts.store.*MODE": "permissions",
    "mta.scripts.store.LOCK_POLL": "how often something is looked at",
    "mta.net.tlschain._DER": "a number of the library",
    "mta.reporting.daily.DAY": "a unit",
    "mta.reporting.daily.*_INTERVAL": "how often something is done",
    "mta.reporting.mail.ENTROPY": "random octets that are used",
    "mta.dsn.render.ENTROPY": "random octets that are used",
    "mta.dsn.wording._WIDTH": "layout",
    "mta.mailq.listing._INDENT": "layout",
    "mta.mailq.postqueue.*": "layout",
    "mta.queue_export.FORMAT": "a version",
    "mta.queue_stream.LOOK": "how often something is looked at",
    "mta.spool.alarm.EVERY": "how often something is looked at",
    "mta.spool.remote.LOOK": "how often something is looked at",
    "mta.spool.remote.QUIET": "when a word is said about waiting",
    "sieve_ext.diskcache.*_EVERY": "how often something is looked at",
    "sieve_ext.diskcache.TEMPORARY_SECONDS": "when what was left behind is swept",
    "sieve_ext.diskcache._*": "numbers of the format",
    "sieve_ext.syntax.stored.FORMAT": "a version",
    "mailqueue.*VERSION": "a version",
    "mailqueue.*.HEAD_SIZE": "a number of the format",
    "mailqueue.ids.*": "numbers of the format",
    "mailqueue.idtable._*": "numbers of a table in memory",
    "mailqueue.index.*": "numbers of a table in memory",
    "mailqueue.log._SMOOTHING": "how a figure is smoothed",
    "mailqueue.model.*_PRIORITY": "the scale of RFC 6710, which MAIL is held to",
    "mailqueue.payload.LEVEL": "how hard is compressed",
    "mailqueue.recipients.*": "numbers of the format",
    "mailqueue.schedule.retry._MOMENT": "what a sum may miss by",
    "mailqueue.schedule.timetable.LEVELS": "the shape of a timing wheel",
    "mailqueue.schedule.timetable.SLOTS": "the shape of a timing wheel",
    "mailqueue.schedule.timetable._*": "the shape of a timing wheel",
    "mailqueue.schedule.timetable.PORTION": "how work is cut up; nothing is refused",
    "mailqueue.schedule.ready.SPARE": "when a table in memory is swept",
    "mailqueue.bodies._IN_LOOP": "what is done in a thread",
    "mailqueue.bodies._RANGE": "how work is cut up; nothing is refused",
    "mailqueue.compaction._SCAN": "how work is cut up; nothing is refused",
    "mailqueue.entry.FIRST_READ": "how work is cut up; nothing is refused",
    "mailqueue.housekeeping._*": "how often something is done",
    "mailqueue.reader._*": "how work is cut up; nothing is refused",
    "mailqueue.rows.BLOCK_ROWS": "how work is cut up; nothing is refused",
    "mailqueue.settings.QueueSettings.adopt_rows": "how work is cut up; nothing is refused",
    "mailqueue.settings.QueueSettings.compact_bytes": "how work is cut up; nothing is refused",
    "mailqueue.settings.QueueSettings.housekeeping": "how often something is looked at",
    "mailqueue.store.base.UNBOUNDED": "of a store that does not know its size",
    "mailqueue.store.base.CHUNK": "how work is cut up; nothing is refused",
    "mailqueue.store.objects.LIST_PAGE": "how work is cut up; nothing is refused",
    "mailqueue.store.objects.PART": "how work is cut up; nothing is refused",
    "mailqueue.store.probe.RAC*": "how stores are tried",
    "mailqueue.parts._GROUP": "how work is cut up; nothing is refused",
    "mailqueue.takeover._LIST_EVERY": "how often something is looked at",
    "mailqueue.parts._TURN": "how work is cut up; nothing is refused",
    "mta.queue_import.TOGETHER*": "how work is cut up; nothing is refused",
    "mta.queue_offline.BATCH": "how work is cut up; nothing is refused",
    "mta.sendmail*.BLOCK": "how much is read at a time; nothing is refused",
    "mta.spool.desk.BUDGET": "how an answer is cut up; who asks goes on",
    "mta.spool.desk.PAGE": "how an answer is cut up; who asks goes on",
    "mta.spool.desk.NOTED_TOGETHER": "how work is cut up; nothing is refused",
    "mta.spool.desk.TOGETHER": "how work is cut up; nothing is refused",
    "mta.spool.desk.READ": "how an answer is cut up; who asks goes on",
    "mta.spool.walk.BURST": "how work is cut up; nothing is refused",
    "mta.spool.runner.AGAIN": "how often something is looked at",
    "mta.spool.stored.TAIL_CHUNK": "how work is cut up; nothing is refused",
    "mailmilter.*._READ": "how much is read at a time; nothing is refused",
    "mailmilter.constants.*": "numbers of the protocol",
    "mailmilter.packets._COMPACT": "when a buffer is swept",
    "mailmilter.responses.NEGOTIATION": "a number of the protocol",
    "mailmilter.session._BATCH": "how work is cut up; nothing is refused",
    "mailmilter.session._CONTINUE": "a number of the protocol",
    "mailqueue.settings.?IB": "a unit",
    "mailqueue.store.disk.SHARE": "said beside `RESERVE`",
    "mailqueue.store.disk._KEEP_LEVELS": "a number of the format",
    "mailqueue.store.folders.FLAGS": "flags of open(2)",
    "mailqueue.store.folders.MODE": "permissions",
    "mailqueue.store.replicated.SEAL_MAX": "a number of the format",
    "mta.log.sink.ATOMIC": "a property of pipes",
    "mta.log.sink.USUAL_LINE": "an estimate of what URGENT_SIZE counts",
    "mta.metrics.stats._PAGE_SIZE": "a property of the kernel",
    "mta.net.dial._BIND_ADDRESS_NO_PORT": "a number of the kernel",
    "mta.net.socks5._*": "numbers of the protocol",
    "mta.net.counters._*": "where something lies in the shared memory",
    "mta.net.overload.TICK": "how often something is looked at",
    "mta.net.overload.MEMORY_TICKS": "how often something is looked at",
    "mta.net.overload.RECOVERY": "hysteresis of a limit that is named",
    "mta.net.proxyproto._*": "numbers of the protocol",
    "mta.net.resolver.fake.*": "of a resolver for tests",
    "mta.net.resolver.server.DRAIN": "how work is cut up; nothing is refused",
    "mta.net.resolver.wire._*": "numbers of the protocol",
    "mta.net.resolver.wire.NOERROR": "a number of the protocol",
    "mta.net.resolver.wire.NXDOMAIN": "a number of the protocol",
    "mta.net.resolver.wire.SERVFAIL": "a number of the protocol",
    "mta.policy.sieve.reply.NOT_NOW": "a code of a reply",
    "mta.policy.counting.SLACK": "rounding",
    "mta.policy.ledgerfile.SWEEP_EVERY": "how often something is looked at",
    "mta.tables.index._*": "numbers of the format",
    "mta.tables.socketmap._DIGITS": "of a number, which has its own limit",
    "mta.policy.watched.INTERVAL": "how often something is looked at",
    "mta.smtp.dotstuff._*": "characters",
    "mta.folders.FOLDER_FLAGS": "flags of open(2)",
    "mta.store.quota.LOCK_POLL_*": "how often something is looked at",
    "mta.store.quota.CLOCK_GRAIN": "a property of file systems",
    "mta.store.reader.RECENT": "a property of file systems",
    "mta.supervisor.channel.PREFIX": "the length of a length",
    "mta.supervisor.planning.*_MODE": "permissions",
    "mta.supervisor.privileges.*": "numbers of the kernel",
    "mta.supervisor.sockets.FIRST_INHERITED": "a number of systemd",
    "mta.supervisor.staff.NO_SLOT": "no number of anything",
    "mta.unacknowledged.DIGEST_SIZE": "the length of a digest",
    "*.FOLD_COLUMNS": "layout",
    "sieve_ext.message.words.WORD_OCTETS": "layout",
    "sieve_ext.*._LONG": "what counts as one operation",
    "sieve_ext.*.DAY": "how long a day is",
    "sieve_ext.*.HIGHEST": "the scale of RFC 5235",
    "sieve_ext.formatting.WIDTH": "layout",
    "sieve_ext.runtime.scan.ROUNDING": "how numbers are rounded",
    "mta.sieve_lsp.FULL": "a number of the protocol",
    "mta.sieve_lsp.UNKNOWN_METHOD": "a number of the protocol",
    "mta.sieve_lsp.WRONG_PARAMETERS": "a number of the protocol",
}

FROM_CONFIGURATION = {
    "mta.delivery.remote.RemoteSettings.failure_delay": "outbound.failure_delay",
    "mta.delivery.remote.RemoteSettings.port": "outbound.port",
    "mta.delivery.remote.RemoteSettings.recipient_limit": "outbound.max_recipients",
    "mta.delivery.way.SMTP_PORT": "outbound.port",
    "mailqueue.schedule.limits.Limits.initial": "queue.concurrency_initial",
    "mailqueue.settings.QueueSettings.lifetime": "queue.expire",
    "mailqueue.settings.QueueSettings.takeover": "queue.takeover",
    "mailqueue.store.options.Limits.request": "queue_stores.request_timeout",
    "mta.dsn.returned.MAX_MESSAGE": "queue.report_size",
    "mta.spool.keeper.KeepSettings.max_latency": "queue.max_latency",
    "mta.spool.reports.ReportSettings.lifetime": "queue.expire_reports",
    "mta.accounts.limiter.LimiterSettings.delay": "auth.failure_delay",
    "mta.accounts.limiter.LimiterSettings.failures_per_client": "auth.failures_per_client",
    "mta.accounts.limiter.LimiterSettings.failures_per_session": "auth.failures_per_session",
    "mta.delivery.fixed.FixedSettings.failure_delay": "backends.failure_delay",
    "mta.net.connection.Timeouts.command": "timeouts.command",
    "mta.net.connection.Timeouts.data": "timeouts.data",
    "mta.net.connection.Timeouts.handshake": "timeouts.handshake",
    "mta.net.connection.Timeouts.message": "timeouts.message",
    "mta.net.connection.Timeouts.write": "timeouts.write",
    "mta.net.limits.ClientLimits.session_rate_per_client": "limits.session_rate_per_client",
    "mta.net.limits.ClientLimits.session_rate_per_prefix": "limits.session_rate_per_prefix",
    "mta.net.limits.ClientLimits.sessions_per_client": "limits.sessions_per_client",
    "mta.net.limits.ClientLimits.sessions_per_prefix": "limits.sessions_per_prefix",
    "mta.net.limits.LimitSettings.auth_window": "auth.failure_window",
    "mta.net.limits.LimitSettings.ipv4_prefix": "limits.ipv4_prefix",
    "mta.net.limits.LimitSettings.ipv6_prefix": "limits.ipv6_prefix",
    "mta.net.limits.LimitSettings.message_window": "limits.message_window",
    "mta.net.outbound.Timeouts.block": "backends.data_timeout",
    "mta.net.outbound.Timeouts.command": "backends.command_timeout",
    "mta.net.outbound.Timeouts.connect": "backends.connect_timeout",
    "mta.net.outbound.Timeouts.final": "backends.data_timeout",
    "mta.net.outbound.Timeouts.greeting": "backends.connect_timeout",
    "mta.net.overload.OverloadSettings.lag": "limits.overload_lag",
    "mta.net.overload.OverloadSettings.memory_overloaded": "limits.overload_memory_percent",
    "mta.net.overload.OverloadSettings.memory_stressed": "limits.stress_memory_percent",
    "mta.net.overload.OverloadSettings.sessions": "limits.sessions",
    "mta.net.overload.OverloadSettings.stress_percent": "limits.stress_percent",
    "mta.net.pool.PoolLimits.idle_time": "backends.idle_timeout",
    "mta.net.pool.PoolLimits.max_connections": "backends.max_connections",
    "mta.net.pool.PoolLimits.messages_per_connection": "backends.messages_per_connection",
    "mta.net.admission.HANDSHAKE_TIMEOUT": "timeouts.handshake",
    "mta.net.admission.ListenerSettings.backlog": "listener.backlog",
    "mta.net.admission.ListenerSettings.handshake_timeout": "timeouts.handshake",
    "mta.net.admission.ListenerSettings.stressed_handshake_timeout": "timeouts.stressed_command",
    "mta.net.admission.ListenerSettings.proxy_timeout": "timeouts.proxy_header",
    "mta.net.admission.PROXY_TIMEOUT": "timeouts.proxy_header",
    "mta.smtp.server_settings.ServerSettings.max_errors": "limits.errors_per_session",
    "mta.smtp.server_settings.ServerSettings.max_idle_commands": "limits.idle_commands",
    "mta.smtp.server_settings.ServerSettings.max_recipients": "message.max_recipients",
    "mta.smtp.server_settings.ServerSettings.max_size": "message.max_size",
    "mta.smtp.server_settings.ServerSettings.max_transactions": "limits.transactions_per_session",
    "mta.store.settings.StoreSettings.drain_timeout": "process.drain_timeout",
    "mta.store.settings.StoreSettings.recipient_limit": "message.max_recipients",
    "mta.store.settings.StoreSettings.size_limit": "message.max_size",
    "mta.trace.HeaderLimits.hops": "message.max_hops",
    "mta.trace.HeaderLimits.octets": "message.max_header_size",
    "mta.transaction.TransactionSettings.deadline": "delivery.deadline",
}
"""Defaults that the server never uses: the configuration sets them."""

NAMED_ELSEWHERE = {
    "mta.authn.dkim.Options.max_signatures": "mta.authn.dkim.MAX_SIGNATURES",
    "mta.dsn.returned.Limits.header": "mta.dsn.returned.MAX_HEADER",
    "mta.dsn.returned.Limits.message": "mta.dsn.returned.MAX_MESSAGE",
    "mta.trace.HeaderLimits.fields": "sieve_ext.message.limits.HEADER_FIELDS",
}
"""Defaults that are a constant."""

NO_LIMIT_OPTIONS = {
    "relays.port": "where a relay is",
    "milters.version": "what is spoken",
    "tables.cache_positive": "nothing is remembered by default",
    "tables.cache_negative": "nothing is remembered by default",
}

UNITS = {
    "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
    "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400,
}  # fmt: skip


def number(text: str) -> float:
    """The number that a text begins with: "2,048 octets", "64 KiB", "1 h", "50MiB", "10m"."""
    match = re.match(r"(\d[\d,]*(?:\.\d+)?) ?([A-Za-z]*)", text)
    assert match is not None, f"no number: {text}"
    return float(match[1].replace(",", "")) * UNITS.get(match[2], 1)


def modules() -> Iterator[ModuleType]:
    """All modules of ours but those that run when they are imported."""
    for folder, root in (("mta", ""), ("sieve_ext", ""), ("mailqueue", "queue"), ("mailmilter", "milter")):
        for path in sorted((ROOT / root / folder).rglob("*.py")):
            if path.name != "__main__.py":
                parts = path.relative_to(ROOT / root).with_suffix("").parts
                yield importlib.import_module(".".join(part for part in parts if part != "__init__"))


def constants(module: ModuleType) -> Iterator[tuple[str, float]]:
    """The numbers in capitals that a module itself assigns."""
    assert module.__file__ is not None
    for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=targets):
                names = [
                    part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)
                ]
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
                names = [name]
            case _:
                continue
        for name in names:
            value = getattr(module, name)
            if name.isupper() and isinstance(value, int | float) and not isinstance(value, bool | Enum):
                yield f"{module.__name__}.{name}", value


def defaults(module: ModuleType) -> Iterator[tuple[str, float]]:
    """The numbers that settings of a module have by default; 0 is: no limit."""
    for name, cls in vars(module).items():
        ours = isinstance(cls, type) and cls.__module__ == module.__name__
        if not (ours and dataclasses.is_dataclass(cls) and SETTINGS.search(name)):
            continue
        for field in dataclasses.fields(cls):
            value = field.default
            if isinstance(value, int | float) and not isinstance(value, bool) and value:
                yield f"{module.__name__}.{name}.{field.name}", value


def options() -> Iterator[tuple[str, float]]:
    """The numbers of the configuration by section and key, with their defaults."""
    for section in sections():
        bare = unwrap(fields_of(Config)[section.key])[0]
        cls = get_args(bare)[-1 if get_origin(bare) is dict else 0] if get_origin(bare) else bare
        fields = {field.name: field.default for field in msgspec.structs.fields(cls)}
        for option in section.options:
            if option.kind.split(",")[0] in ("number", "duration", "size"):
                yield f"{section.key}.{option.name}", fields[option.name]


def stated() -> dict[str, list[float]]:
    """What the tables of the page say: the names in the first cell, the value in the second."""
    found: dict[str, list[float]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[0].startswith("`"):
            for name in re.findall(r"`([^`]+)`", cells[0]):
                found.setdefault(name.replace(".NAME.", "."), []).append(number(cells[1]))
    return found


CODE = dict(item for module in modules() for find in (constants, defaults) for item in find(module))
OPTIONS = dict(options())
STATED = stated()


def excepted(name: str) -> bool:
    return (
        name in FROM_CONFIGURATION
        or name in NAMED_ELSEWHERE
        or name in NO_LIMIT_OPTIONS
        or any(fnmatchcase(name, pattern) for pattern in NO_LIMITS)
    )


LIMITS = {name: value for name, value in (CODE | OPTIONS).items() if not excepted(name)}


@pytest.mark.parametrize("name", LIMITS)
def test_limit_is_on_the_page_with_its_value(name: str) -> None:
    assert name in STATED, f"docs/security.md does not name {name}"
    assert STATED[name] == [pytest.approx(LIMITS[name])]


@pytest.mark.parametrize("name", STATED)
def test_the_page_names_no_limit_that_is_gone(name: str) -> None:
    assert name in LIMITS


@pytest.mark.parametrize("pattern", NO_LIMITS)
def test_exception_is_needed(pattern: str) -> None:
    assert any(fnmatchcase(name, pattern) for name in CODE)


@pytest.mark.parametrize(("name", "option"), FROM_CONFIGURATION.items())
def test_configured_default_exists(name: str, option: str) -> None:
    assert name in CODE
    assert option in OPTIONS


@pytest.mark.parametrize(("name", "constant"), NAMED_ELSEWHERE.items())
def test_default_is_the_constant(name: str, constant: str) -> None:
    assert CODE[name] == CODE[constant]


def test_found_enough() -> None:
    """The rules above find what they are made to find."""
    assert CODE["mta.smtp.server.MAX_COMMAND_LINE"] == 2048
    assert CODE["mta.address.MAX_ADDRESS"] == 254
    assert OPTIONS["message.max_size"] == 50 * 2**20
    assert (OPTIONS["backends.connect_timeout"], OPTIONS["relays.connect_timeout"]) == (3.0, 10.0)
    assert NO_LIMIT_OPTIONS.keys() <= OPTIONS.keys()


@pytest.mark.parametrize(
    ("text", "value"),
    [("2,048 octets", 2048), ("64 KiB", 65536), ("50MiB", 52428800), ("1m", 60), ("0.25 s", 0.25), ("9", 9),
     ("0 (none)", 0), ("19,456 (KiB)", 19456), ("3650 d", 315360000), ("50 ms", 0.05)],
)  # fmt: skip
def test_numbers(text: str, value: float) -> None:
    assert number(text) == pytest.approx(value)
