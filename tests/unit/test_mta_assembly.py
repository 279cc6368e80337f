"""Every option reaches the part that it is about: one configuration without a single default.

Values differ from each other, so that no two can be taken for one another.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest

from mta import assembly, assembly_world, config
from mta.net.certificates import CertificateFiles
from mta.net.connect import Endpoint
from mta.net.connection import Timeouts
from mta.net.limits import ClientLimits
from mta.net.outbound import Timeouts as OutboundTimeouts
from mta.net.pool import PoolLimits

TEXT = """
[identity]
hostname = "mx.example.org"
[[listener]]
name = "door"
addresses = ["127.0.0.1:2525"]
tls = "required"
proxy_protocol_from = ["192.0.2.0/24"]
backlog = 77
banner = "hello"
discard_ehlo_keywords = ["CHUNKING"]
certificates = ["one"]
[listener.limits]
errors_per_session = 7
[certificates.one]
chain = "/etc/one.pem"
key = "/etc/one.key"
names = ["a.example.org"]
[tls]
minimum_version = "TLSv1.3"
ciphers = "ECDHE+AESGCM"
[limits]
sessions = 1001
sessions_per_client = 11
sessions_per_prefix = 12
session_rate_per_client = 13
session_rate_per_prefix = 14
ipv4_prefix = 25
ipv6_prefix = 65
exempt_networks = ["203.0.113.0/24"]
messages_per_client = 15
recipients_per_client = 16
message_window = "17m"
idle_commands = 18
transactions_per_session = 19
stress_percent = 20
overload_lag = "21s"
stress_memory_percent = 72
overload_memory_percent = 73
[timeouts]
command = "31s"
data = "32s"
message = "33m"
handshake = "34s"
proxy_header = "35s"
write = "36s"
stressed_command = "7s"
stressed_data = "8s"
[auth]
backend = "users"
users_file = "/etc/users"
mechanisms = ["PLAIN"]
require_tls = false
failure_delay = "41s"
failures_per_session = 42
failures_per_client = 43
failure_window = "44m"
master_users = ["boss@example.org"]
[message]
max_size = "51MiB"
max_recipients = 152
max_header_size = "53KiB"
max_hops = 54
bare_line_ends = "normalise"
nul = "strip"
[delivery]
deadline = "99s"
[domains."example.org"]
backend = "store"
[backends.store]
protocol = "smtp"
addresses = ["192.0.2.7:24", "192.0.2.8:25"]
tls = "verify"
tls_name = "store.example.org"
xclient = true
connect_timeout = "61s"
command_timeout = "62s"
data_timeout = "63s"
max_connections = 64
idle_timeout = "65s"
messages_per_connection = 66
failure_delay = "67s"
[backends.vault]
addresses = ["[2001:db8::1]:24"]
tls = "encrypt"
implicit_tls = true
xforward = true
[relays.out]
host = "relay.example.org"
port = 2587
tls = "encrypt"
connect_timeout = "71s"
command_timeout = "72s"
data_timeout = "73s"
max_connections = 74
idle_timeout = "75s"
messages_per_connection = 76
failure_delay = "77s"
[policy]
relay = "out"
[process]
workers = 3
spill_directory = "/var/spill"
"""


@pytest.fixture(scope="module")
def settings() -> config.Config:
    return config.parse(TEXT, "/etc/tamis/tamis.toml")


def _session(settings: config.Config) -> Any:
    return assembly.server_settings(settings, settings.listener[0], 0.0)


def _door(settings: config.Config) -> Any:
    return assembly.listener_settings(settings, settings.listener[0])


def _store(settings: config.Config) -> Any:
    return assembly.backend("store", settings.backends["store"], "mx.example.org", 2)


def _vault(settings: config.Config) -> Any:
    return assembly.backend("vault", settings.backends["vault"], "mx.example.org", 2)


def _relay(settings: config.Config) -> Any:
    return assembly.relay("out", settings.relays["out"], "mx.example.org", 2, lambda path: "")


CLIENTS = ClientLimits(
    sessions_per_client=11, sessions_per_prefix=12, session_rate_per_client=13, session_rate_per_prefix=14
)
Get = Callable[[config.Config], Any]
ROWS: list[tuple[Get, dict[str, Any]]] = [
    (
        _session,
        {
            "hostname": "mx.example.org",
            "greeting": "hello",
            "max_size": 51 << 20,
            "max_recipients": 152,
            "max_transactions": 19,
            "max_errors": 7,
            "max_idle_commands": 18,
            "normalise_line_ends": True,
            "strip_nul": True,
            "require_tls": True,
            "starttls": True,
        },
    ),
    (
        _door,
        {
            "name": "door",
            "implicit_tls": False,
            "proxy_from": ("192.0.2.0/24",),
            "backlog": 77,
            "handshake_timeout": 34,
            "proxy_timeout": 35,
            "limits": CLIENTS,
        },
    ),
    (
        assembly.limit_settings,
        {
            "clients": CLIENTS,
            "ipv4_prefix": 25,
            "ipv6_prefix": 65,
            "exempt": ("203.0.113.0/24",),
            "auth_window": 44 * 60,
            "messages": 15,
            "recipients": 16,
            "message_window": 17 * 60,
        },
    ),
    (
        assembly.overload_settings,
        {
            "sessions": 1001,
            "stress_percent": 20,
            "lag": 21,
            "memory_stressed": 0.72,
            "memory_overloaded": 0.73,
        },
    ),
    (
        lambda s: assembly.tls_settings(s, s.listener[0]),
        {"minimum_version": "TLSv1.3", "ciphers": "ECDHE+AESGCM", "require_client_certificate": False},
    ),
    (
        lambda s: assembly.auth_settings(s)[0],
        {"mechanisms": ("PLAIN",), "require_tls": False},
    ),
    (lambda s: assembly.auth_settings(s)[0].sender_login, {"masters": frozenset({"boss@example.org"})}),
    (
        lambda s: assembly.auth_settings(s)[1],
        {"delay": 41, "max_delay": 41, "failures_per_session": 42, "failures_per_client": 43},
    ),
    (
        assembly.transaction_settings,
        {"hostname": "mx.example.org", "deadline": 99, "spill_directory": "/var/spill"},
    ),
    (
        lambda s: assembly.transaction_settings(s).header,
        {"octets": 53 << 10, "hops": 54, "require_from": False},
    ),
    (
        lambda s: assembly.transaction_settings(s).submission_header,
        {"octets": 53 << 10, "hops": 54, "require_from": True},
    ),
    (
        _store,
        {
            "name": "store",
            "endpoints": (Endpoint(host="192.0.2.7", port=24), Endpoint(host="192.0.2.8", port=25)),
            "timeouts": OutboundTimeouts(connect=61, greeting=61, command=62, block=63, final=63),
            "pool": PoolLimits(max_connections=32, idle_time=65, messages_per_connection=66),
            "failure_delay": 67,
        },
    ),
    (
        lambda s: _store(s).client,
        {
            "lmtp": False,
            "helo_name": "mx.example.org",
            "xclient": True,
            "xforward": False,
        },
    ),
    (lambda s: _store(s).tls, {"required": True, "implicit": False, "name": "store.example.org"}),
    (lambda s: _store(s).tls.context, {"verify_mode": ssl.CERT_REQUIRED}),
    (_vault, {"endpoints": (Endpoint(host="2001:db8::1", port=24),)}),
    (lambda s: _vault(s).client, {"lmtp": True, "xclient": False, "xforward": True}),
    (lambda s: _vault(s).tls, {"required": True, "implicit": True, "name": ""}),
    (lambda s: _vault(s).tls.context, {"verify_mode": ssl.CERT_NONE}),
    (
        _relay,
        {
            "endpoints": (Endpoint(host="relay.example.org", port=2587),),
            "timeouts": OutboundTimeouts(connect=71, greeting=71, command=72, block=73, final=73),
            "pool": PoolLimits(max_connections=37, idle_time=75, messages_per_connection=76),
            "failure_delay": 77,
        },
    ),
    (lambda s: _relay(s).client, {"authenticate": None, "lmtp": False}),
]


@pytest.mark.parametrize(
    ("get", "name", "expected"), [(get, name, value) for get, row in ROWS for name, value in row.items()]
)
def test_what_is_configured_arrives(settings: config.Config, get: Get, name: str, expected: Any) -> None:
    assert getattr(get(settings), name) == expected


def test_timeouts_usual_and_under_stress(settings: config.Config) -> None:
    usual, stressed = assembly.timeouts(settings)
    assert usual == Timeouts(command=31, data=32, message=33 * 60, handshake=34, write=36)
    assert stressed == Timeouts(command=7, data=8, message=33 * 60, handshake=7, write=8)


def test_stress_never_makes_a_time_longer() -> None:
    text = '[identity]\nhostname = "mx.example.org"\n[timeouts]\nhandshake = "5s"\nwrite = "6s"'
    _, stressed = assembly.timeouts(config.parse(text, "/etc/tamis/tamis.toml"))
    assert (stressed.command, stressed.data, stressed.handshake, stressed.write) == (10, 30, 5, 6)


def test_what_a_listener_does_not_offer(settings: config.Config) -> None:
    assert "CHUNKING" not in _session(settings).offered
    assert "8BITMIME" in _session(settings).offered


def test_workers_and_certificates(settings: config.Config) -> None:
    assert assembly.workers(settings) == 3
    assert assembly.certificates(settings, settings.listener[0]) == [
        CertificateFiles("one", "/etc/one.pem", "/etc/one.key", ("a.example.org",))
    ]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ('"192.0.2.1:25"', {"192.0.2.1"}),
        ('"0.0.0.0:25"', {"192.0.2.1", "192.0.2.2"}),
        ('"fd:smtp"', {"192.0.2.1", "192.0.2.2"}),
        ('"unix:/run/tamis/smtp"', set()),
    ],
)
def test_addresses_at_which_mail_would_come_back_to_us(addresses: str, expected: set[str]) -> None:
    text = f'identity.hostname = "mx.example.org"\n[[listener]]\naddresses = [{addresses}]'
    ours = frozenset({"192.0.2.1", "192.0.2.2"})
    found = assembly_world.ourselves(config.parse(text, "/etc/tamis/tamis.toml"), lambda: ours)
    assert {address for address in ours if found.is_address(address)} == expected
