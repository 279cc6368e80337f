"""Rules between settings: references to other sections, duplicates, contradictions, open relays.

Pure: works on a settled `Config` and notes what is wrong. A value that is already known to be bad is not
looked at again, so one mistake gives one message.
"""

from __future__ import annotations

import ipaddress

from mta.config.filter_rules import check_filters
from mta.config.locate import KeyPath, format_path
from mta.config.notation import Inet, Inherited, Unix
from mta.config.outbound import TlsLevel
from mta.config.problems import Findings
from mta.config.references import check_connect_timeout, check_reference
from mta.config.rules_auth import check_mechanisms
from mta.config.rules_director import check_directors
from mta.config.rules_forwarding import check_srs
from mta.config.rules_managesieve import check_managesieve, check_quota
from mta.config.rules_queue import check_queue
from mta.config.rules_scripts import check_trace, check_user_scripts
from mta.config.rules_world import check_world
from mta.config.schema import Config
from mta.config.settle import STORE
from mta.config.table_rules import check_tables
from mta.config.units import format_duration

WIDEST_TRUSTED = {4: 8, 6: 16}
"""Shortest prefix, by IP version, that may be trusted to relay: no administrator owns a wider network."""


def check_rules(config: Config, findings: Findings) -> None:
    """Note every violated rule in `findings`."""
    _identity(config, findings)
    _listeners(config, findings)
    check_mechanisms(config, findings)
    check_quota(config, findings)
    _addresses(config, findings)
    _store_address(config, findings)
    _domains(config, findings)
    _backends(config, findings)
    _loops(config, findings)
    _relays(config, findings)
    check_directors(config, findings)
    check_world(config, findings)
    _policy(config, findings)
    check_user_scripts(config, findings)
    check_trace(config, findings)
    check_tables(config, findings)
    _dns(config, findings)
    _signing(config, findings)
    check_srs(config, findings)
    check_filters(config, findings)
    check_queue(config, findings)
    _stress(config, findings)


def _identity(config: Config, findings: Findings) -> None:
    path: KeyPath = ("identity", "postmaster")
    domain = config.identity.postmaster.rpartition("@")[2]
    if (
        config.domains
        and domain not in config.domains
        and not config.policy.relay
        and not config.outbound.enabled
        and findings.is_sound(path)
    ):
        findings.add(
            path, f'found "{config.identity.postmaster}"', "an address in one of our domains",
            reason="there is no way to others: policy.relay and outbound.enabled are not set",
        )  # fmt: skip


def _listeners(config: Config, findings: Findings) -> None:
    names: dict[str, int] = {}
    for index, listener in enumerate(config.listener):
        path: KeyPath = ("listener", index)
        if not findings.is_sound(path):
            continue
        named = findings.is_sound(*((*path, key) for key in ("name", "protocol", "tls")))
        if listener.name in names and named:
            first = findings.position(("listener", names[listener.name]))
            where = f"another listener, on line {first.line}, has it" if first else "another listener has it"
            findings.add((*path, "name"), f'found "{listener.name}" again', "a name of its own", reason=where)
        if named:
            names.setdefault(listener.name, index)
        for number, name in enumerate(listener.certificates):
            check_reference(
                findings, (*path, "certificates", number), name, config.certificates, "certificates"
            )
        _not_too_wide(findings, (*path, "xclient_from"), listener.xclient_from)
        _listener_tls(config, index, findings)
        _listener_auth(config, index, findings)
        if listener.protocol == "managesieve":
            check_managesieve(config, index, findings)


def _listener_tls(config: Config, index: int, findings: Findings) -> None:
    listener = config.listener[index]
    path: KeyPath = ("listener", index)
    sound = findings.is_sound((*path, "certificates"), ("certificates",))
    if listener.tls != "none" and not listener.certificates and sound:
        findings.add(
            (*path, "tls"), f'"{listener.tls}" needs a certificate', "a section [certificates.NAME]",
            reason=f"listener {listener.name}",
        )  # fmt: skip
    if listener.require_client_certificate and not listener.client_ca:
        findings.add((*path, "require_client_certificate"), "found true", "client_ca to check them with")
    if listener.proxy_protocol_tls and not listener.proxy_protocol_from:
        findings.add((*path, "proxy_protocol_tls"), "found true", "proxy_protocol_from, who may tell of it")
    if listener.proxy_protocol_tls and listener.tls == "implicit":
        findings.add((*path, "proxy_protocol_tls"), 'found true with tls = "implicit"', 'tls = "none"')
    if listener.client_ca and listener.tls == "none":
        findings.add((*path, "client_ca"), f'found "{listener.client_ca}"', 'tls other than "none"')


def _listener_auth(config: Config, index: int, findings: Findings) -> None:
    listener = config.listener[index]
    path: KeyPath = ("listener", index, "auth")
    if listener.auth == "none" or not findings.is_sound(path, ("auth",)):
        return
    if config.auth.backend == "none":
        if findings.is_sound(("auth", "backend")):
            findings.add(
                path, f'"{listener.auth}" needs users', 'auth.backend = "users" or "dovecot"',
                reason=f"listener {listener.name}",
            )  # fmt: skip
    elif (
        listener.tls == "none"
        and config.auth.require_tls
        and not listener.proxy_protocol_tls
        and findings.is_sound((*path[:2], "tls"))
    ):
        findings.add(
            path, f'"{listener.auth}" with tls = "none"', "TLS on this listener",
            reason="auth.require_tls offers AUTH over TLS only, so nobody could log in",
        )  # fmt: skip


def _addresses(config: Config, findings: Findings) -> None:
    taken: list[tuple[KeyPath, Inet | Unix | Inherited]] = [
        (("control", "socket"), Unix(config.control.socket))
    ]
    for index, listener in enumerate(config.listener):
        for number, address in enumerate(listener.addresses):
            path: KeyPath = ("listener", index, "addresses", number)
            if not findings.is_sound(path[:3]):
                continue
            if listener.protocol == "lmtp" and isinstance(address, Inet) and address.port == 25:
                findings.add(
                    path, f'found "{address}"', "another port", reason="RFC 2033 5 forbids LMTP on port 25"
                )
            taken.append((path, address))
    if config.metrics.listen is not None:
        taken.append((("metrics", "listen"), config.metrics.listen))
    if config.store.enabled and config.store.listen is not None:
        taken.append((("store", "listen"), config.store.listen))
    seen: dict[Inet | Unix | Inherited, KeyPath] = {}
    for path, address in taken:
        clash = _clash(address, seen)
        if clash is None:
            seen[address] = path
        elif findings.is_sound(path):
            other, other_path = clash
            position = findings.position(other_path)
            line = f" on line {position.line}" if position else f" as {format_path(other_path)}"
            findings.add(
                path, f'found "{address}"', "an address of its own", reason=f"{other} is in use{line}"
            )


def _store_address(config: Config, findings: Findings) -> None:
    """The store is reached by the address that it listens on, so this must be known."""
    listen = config.store.listen
    chosen = isinstance(listen, Inet) and listen.port == 0
    if config.store.enabled and (chosen or isinstance(listen, Inherited)):
        findings.add(
            ("store", "listen"), f'found "{listen}"', "an address with a port, or a path",
            reason="the server connects to it",
        )  # fmt: skip


def _clash(
    address: Inet | Unix | Inherited, seen: dict[Inet | Unix | Inherited, KeyPath]
) -> tuple[Inet | Unix | Inherited, KeyPath] | None:
    """The address in use that keeps `address` from being bound: the same one, or all of its family."""
    if isinstance(address, Inet) and address.port == 0:
        return None  # the kernel chooses
    if address in seen:
        return address, seen[address]
    if isinstance(address, Inet):
        family = ":" in address.host
        for other, path in seen.items():
            if not isinstance(other, Inet) or other.port != address.port or (":" in other.host) != family:
                continue
            if "0.0.0.0" in (other.host, address.host) or "::" in (other.host, address.host):
                return other, path
    return None


def _domains(config: Config, findings: Findings) -> None:
    for name, domain in config.domains.items():
        path: KeyPath = ("domains", name)
        where = (*path, "backend")
        if not domain.backend:
            if config.backends:
                names = ", ".join(sorted(config.backends))
                findings.add(where, "missing", f"one of the back ends: {names}")
            elif findings.is_sound(("backends",)):
                findings.add(
                    where, "missing", "a section [backends.NAME], or store.enabled = true",
                    reason="there is no back end to deliver to",
                )  # fmt: skip
        else:
            hint = "set store.enabled = true for the embedded store" if domain.backend == STORE else ""
            if domain.backend not in config.director:
                check_reference(findings, where, domain.backend, config.backends, "backends", hint)
        if domain.catch_all and findings.is_sound((*path, "catch_all")):
            if domain.recipients.kind == "all":
                findings.add(
                    (*path, "catch_all"), f'found "{domain.catch_all}"', 'recipients other than "all"',
                    reason="with all nobody is ever missing",
                )  # fmt: skip
            elif domain.catch_all.rpartition("@")[2] not in config.domains:
                findings.add(
                    (*path, "catch_all"), f'found "{domain.catch_all}"', "an address in one of our domains"
                )  # fmt: skip
    if not config.domains and findings.is_sound(("domains",)):
        findings.add(
            ("domains",), "there is no domain: mail for every recipient is refused to strangers",
            'sections [domains."example.org"]', warning=True,
        )  # fmt: skip


def _backends(config: Config, findings: Findings) -> None:
    for name, backend in config.backends.items():
        path: KeyPath = ("backends", name)
        if name == STORE and config.store.enabled and findings.position(path) is not None:
            findings.add(path, 'found "store"', "another name", reason="the embedded store is called so")
            continue
        if not backend.addresses and findings.is_sound((*path, "addresses")):
            findings.add((*path, "addresses"), "found an empty list", "at least one address")
        if len(set(backend.addresses)) < len(backend.addresses):
            findings.add((*path, "addresses"), "found an address twice", "each once")
        if backend.tls in ("encrypt", "verify") and any(isinstance(a, Unix) for a in backend.addresses):
            findings.add(
                (*path, "tls"), f'found "{backend.tls}"', '"none" or "may"',
                reason="a Unix socket has no TLS",
            )  # fmt: skip
        _tls_client(path, backend.tls, backend.implicit_tls, backend.tls_ca, backend.tls_name, findings)
        check_connect_timeout(config, path, backend.connect_timeout, findings)


def _loops(config: Config, findings: Findings) -> None:
    """A back end that is one of our listeners: each message would go round until it has too many hops."""
    ours = {address: listener.name for listener in config.listener for address in listener.addresses}
    for name, backend in config.backends.items():
        if name == STORE and config.store.enabled:
            continue  # two listeners on one address, if it is one of ours
        for index, address in enumerate(backend.addresses):
            path: KeyPath = ("backends", name, "addresses", index)
            if address in ours and findings.is_sound(path, ("listener",)):
                findings.add(
                    path, f'found "{address}"', "the address of another server",
                    reason=f"our listener {ours[address]} has it, and mail would go round and round",
                )  # fmt: skip


def _relays(config: Config, findings: Findings) -> None:
    for name, relay in config.relays.items():
        path: KeyPath = ("relays", name)
        _tls_client(path, relay.tls, relay.implicit_tls, relay.tls_ca, relay.tls_name, findings)
        check_connect_timeout(config, path, relay.connect_timeout, findings)
        if relay.port == 465 and not relay.implicit_tls and findings.is_sound((*path, "port")):
            findings.add((*path, "port"), "found 465", "implicit_tls = true", reason="RFC 8314 3.3")
        secret = bool(relay.password_file or relay.token_file)
        if bool(relay.user) != secret and "EXTERNAL" not in relay.mechanisms:
            there, missing = ("user", "password_file") if relay.user else ("password_file", "user")
            if findings.is_sound((*path, missing)):
                findings.add((*path, missing), "missing", f"it, for {there} is set")
        clear = relay.tls in ("none", "may") and {"PLAIN", "LOGIN"} & set(relay.mechanisms or ("PLAIN",))
        if relay.user and clear and findings.is_sound((*path, "tls")):
            findings.add(
                (*path, "tls"), f'found "{relay.tls}"', '"encrypt" or "verify"',
                reason="the password would go over the wire in clear",
            )  # fmt: skip


def _tls_client(
    path: KeyPath, level: TlsLevel, implicit: bool, ca: str, name: str, findings: Findings
) -> None:
    if not findings.is_sound((*path, "tls")):
        return
    if implicit and level in ("none", "may"):
        findings.add(
            (*path, "implicit_tls"), f'found true with tls = "{level}"', 'tls = "encrypt" or "verify"'
        )
    if ca and level != "verify":
        findings.add(
            (*path, "tls_ca"), f'found "{ca}"', 'tls = "verify"', reason=f'"{level}" verifies nothing'
        )
    if name and level != "verify":
        findings.add(
            (*path, "tls_name"), f'found "{name}"', 'tls = "verify"', reason=f'"{level}" verifies nothing'
        )


def _policy(config: Config, findings: Findings) -> None:
    if config.policy.relay:
        check_reference(findings, ("policy", "relay"), config.policy.relay, config.relays, "relays")
    scripts = config.policy.scripts
    for index, script in enumerate(scripts):
        if script in scripts[:index] and findings.is_sound(("policy", "scripts", index)):
            findings.add(("policy", "scripts", index), f'found "{script}" again', "each file once")
    _not_too_wide(findings, ("policy", "trusted_networks"), config.policy.trusted_networks)


def _not_too_wide(findings: Findings, path: KeyPath, networks: tuple[str, ...]) -> None:
    if not findings.is_sound(path):
        return
    for index, text in enumerate(networks):
        network = ipaddress.ip_network(text)
        version, prefix = network.version, network.prefixlen
        if prefix >= 96 and getattr(network.network_address, "ipv4_mapped", None) is not None:
            version, prefix = 4, prefix - 96
        widest = WIDEST_TRUSTED[version]
        if prefix < widest:
            least = widest if version == network.version else widest + 96
            findings.add(
                (*path, index), f'found "{text}"', f"a prefix of at least /{least}",
                reason="strangers in it could relay through us: an open relay",
            )  # fmt: skip


def _dns(config: Config, findings: Findings) -> None:
    for index, server in enumerate(config.dns.resolvers):
        path: KeyPath = ("dns", "resolvers", index)
        if server.tls and not config.dns.tls_keys and findings.is_sound(path, ("dns", "tls_keys")):
            findings.add(path, f'found "{server}"', "dns.tls_keys for it")


def _signing(config: Config, findings: Findings) -> None:
    signing = config.signing
    if (
        signing.keys
        and signing.key_table
        and findings.is_sound(("signing", "keys"), ("signing", "key_table"))
    ):
        findings.add(("signing", "key_table"), "found keys and key_table", "one of them")
    if signing.keys or signing.key_table:
        return
    for key in ("domain", "seal_domain"):
        if getattr(signing, key) and findings.is_sound(("signing", key)):
            findings.add(
                ("signing", key), f'found "{getattr(signing, key)}"', "signing.keys or signing.key_table"
            )


def _stress(config: Config, findings: Findings) -> None:
    for name in ("command", "data"):
        usual, stressed = getattr(config.timeouts, name), getattr(config.timeouts, f"stressed_{name}")
        path: KeyPath = ("timeouts", f"stressed_{name}")
        if stressed > usual and findings.is_sound(path, ("timeouts", name)):
            findings.add(
                path,
                f"found {format_duration(stressed)}",
                f"at most timeouts.{name} ({format_duration(usual)})",
            )
    limits, path = config.limits, ("limits", "stress_memory_percent")
    sound = findings.is_sound(path, ("limits", "overload_memory_percent"))
    if sound and limits.stress_memory_percent > limits.overload_memory_percent:
        findings.add(
            path,
            f"found {limits.stress_memory_percent}",
            f"at most limits.overload_memory_percent ({limits.overload_memory_percent})",
        )
