"""What an administrator probably meant: guesses for values that miss a unit or a port, and for parameter
names of Postfix.

A guess is only shown, never used. Each function returns TOML text, or "" when it has no idea; guesses
for values are checked by the parser of the value before they are shown.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from mta.config.units import format_size

_TIME_WORDS = {
    "msec": "ms", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m",
    "minute": "m", "minutes": "m", "hour": "h", "hours": "h", "hr": "h", "day": "d", "days": "d",
    "week": "w", "weeks": "w",
}  # fmt: skip
_SIZE_WORDS = {
    "": "B", "b": "B", "k": "KiB", "kb": "kB", "kib": "KiB", "m": "MiB", "mb": "MB", "mib": "MiB",
    "g": "GiB", "gb": "GB", "gib": "GiB", "t": "TiB", "tb": "TB", "tib": "TiB",
}  # fmt: skip

POSTFIX = {
    "alias_maps": 'a section [tables.NAME] with type = "aliases"',
    "content_filter": "a section [filters.NAME]",
    "home_mailbox": "store.path",
    "inet_interfaces": "listener.addresses",
    "inet_protocols": "listener.addresses",
    "lmtp_connect_timeout": "backends.NAME.connect_timeout",
    "lmtp_tls_security_level": "backends.NAME.tls",
    "mail_owner": "process.user",
    "mailbox_transport": "domains.NAME.backend",
    "maillog_file": "log.target",
    "message_size_limit": "message.max_size",
    "milter_command_timeout": "milters.NAME.command_timeout",
    "milter_connect_timeout": "milters.NAME.connect_timeout",
    "milter_content_timeout": "milters.NAME.content_timeout",
    "milter_default_action": "milters.NAME.default_action",
    "milter_macro_daemon_name": "milters.NAME.daemon_name",
    "milter_protocol": "milters.NAME.version",
    "mydestination": 'a section [domains."example.org"] for each domain',
    "mydomain": "identity.hostname",
    "myhostname": "identity.hostname",
    "mynetworks": "policy.trusted_networks",
    "myorigin": "identity.hostname",
    "recipient_delimiter": "domains.NAME.subaddress_delimiter",
    "non_smtpd_milters": "a section [milters.NAME] with listeners",
    "relay_domains": 'a section [domains."example.org"] for each domain',
    "relayhost": "policy.relay",
    "hopcount_limit": "message.max_hops",
    "header_size_limit": "message.max_header_size",
    "smtp_sasl_password_maps": "relays.NAME.user",
    "smtp_tls_security_level": "relays.NAME.tls",
    "smtpd_banner": "listener.banner",
    "smtpd_client_connection_count_limit": "limits.sessions_per_client",
    "smtpd_client_connection_rate_limit": "limits.session_rate_per_client",
    "smtpd_client_event_limit_exceptions": "limits.exempt_networks",
    "smtpd_discard_ehlo_keywords": "listener.discard_ehlo_keywords",
    "smtpd_error_sleep_time": "limits.error_delay",
    "smtpd_hard_error_limit": "limits.errors_per_session",
    "smtpd_junk_command_limit": "limits.idle_commands",
    "smtpd_recipient_limit": "message.max_recipients",
    "smtpd_milters": "a section [milters.NAME] with listeners",
    "smtpd_policy_service_default_action": "policy_servers.NAME.default_action",
    "smtpd_policy_service_timeout": "policy_servers.NAME.timeout",
    "smtpd_proxy_filter": "a section [filters.NAME]",
    "smtpd_sasl_auth_enable": "auth.backend",
    "smtpd_sasl_path": "auth.dovecot_socket",
    "smtpd_sasl_type": "auth.backend",
    "smtpd_soft_error_limit": "limits.errors_before_delay",
    "smtpd_timeout": "timeouts.command",
    "smtpd_tls_auth_only": "auth.require_tls",
    "smtpd_tls_cert_file": "certificates.NAME.chain",
    "smtpd_tls_chain_files": "certificates.NAME.chain",
    "smtpd_tls_key_file": "certificates.NAME.key",
    "smtpd_tls_mandatory_protocols": "tls.minimum_version",
    "smtpd_tls_protocols": "tls.minimum_version",
    "smtpd_tls_security_level": "listener.tls",
    "smtpd_upstream_proxy_protocol": "listener.proxy_protocol_from",
    "smtpd_client_restrictions": "policy.scripts",
    "smtpd_recipient_restrictions": "policy.scripts",
    "smtpd_relay_restrictions": "policy.scripts",
    "smtpd_sender_restrictions": "policy.scripts",
    "transport_maps": "policy.scripts",
    "virtual_alias_maps": "a section [tables.NAME]",
    "virtual_mailbox_base": "store.path",
    "virtual_mailbox_domains": 'a section [domains."example.org"] for each domain',
    "virtual_mailbox_maps": "domains.NAME.recipients",
    "virtual_transport": "domains.NAME.backend",
}
"""Where to look for what Postfix calls by this name."""


def duration(found: object) -> str:
    """A duration for a bare number (taken as seconds) or a long unit name."""
    if isinstance(found, (int, float)):
        return f"{found}s"
    number, word = _split(found)
    if not word:
        return f"{number}s" if number else ""
    return number + _TIME_WORDS.get(word, word)


def size(found: object) -> str:
    """A size for a bare number (taken as octets) or a unit written otherwise."""
    if isinstance(found, int):
        return format_size(found) if found >= 0 else ""
    number, word = _split(found)
    if number and not word:
        return format_size(int(number)) if number.isdigit() else ""
    return number + _SIZE_WORDS.get(word, "")


def listen(found: object) -> str:
    """An address to listen on for a bare port, a path, `*` or `localhost`."""
    text = str(found)
    if text.isdigit():
        return f"0.0.0.0:{text}"
    if text.startswith("/"):
        return f"unix:{text}"
    host, _, port = text.rpartition(":")
    match host.lower().removeprefix("[::ffff:").removesuffix("]"):
        case mapped if len(mapped) < len(host) - 1 and "." in mapped:
            return f"{mapped}:{port}"
        case "" | "*" | "any":
            return f"0.0.0.0:{port}"
        case "localhost":
            return f"127.0.0.1:{port}"
    return f"[{host}]:{port}" if ":" in host else ""


def connect(found: object) -> str:
    """An address to connect to for a bare path or an IPv6 address without brackets; LMTP's usual port."""
    text = str(found)
    if text.startswith("/"):
        return f"unix:{text}"
    if text.startswith(("inet:", "lmtp:", "smtp:")):
        return text[5:]
    if ":" not in text:
        return f"{text}:24"
    host, _, port = text.rpartition(":")
    return f"[{host}]:{port}"


def network(found: object) -> str:
    """The network of an address with host bits set."""
    try:
        return str(ipaddress.ip_network(str(found), strict=False))
    except ValueError:
        return ""


def mode(found: object) -> str:
    """Permissions for a number: 0o660 of TOML, whose value is 432, or 660."""
    if not isinstance(found, int) or found < 0:
        return ""
    octal = f"{found:04o}"
    return octal if octal.endswith("0") or octal in ("0666", "0777") else f"{found:04d}"


def recipients(found: object) -> str:
    """A source of recipients for a path or a slip."""
    text = str(found)
    if "/" in text or text.startswith(("file:", "hash:", "lmdb:", "texthash:")):
        return "table:" + text.rpartition(":")[2]
    return ""


def checked(guess: str, parse: Callable[[str, str], object], folder: str) -> str:
    """The guess in quotes if `parse` takes it, else ""."""
    if not guess:
        return ""
    try:
        parse(guess, folder)
    except ValueError:
        return ""
    return f'"{guess}"'


def _split(found: object) -> tuple[str, str]:
    text = str(found).replace(" ", "").lower()
    end = 0
    while end < len(text) and (text[end].isdigit() or text[end] == "."):
        end += 1
    return text[:end], text[end:]
