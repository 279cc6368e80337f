"""Rules of the sections about delivery to any domain, for `mta.config.rules`."""

from __future__ import annotations

from mta.config.locate import KeyPath
from mta.config.problems import Findings
from mta.config.references import check_connect_timeout, check_reference
from mta.config.schema import Config


def check_world(config: Config, findings: Findings) -> None:
    """Note what is wrong with [outbound], [sources.NAME], [authentication] and [reports]."""
    outbound = config.outbound
    if outbound.enabled and not config.dns.resolvers and findings.is_sound(("dns", "resolvers")):
        findings.add(
            ("outbound", "enabled"), "found true without a resolver", 'dns.resolvers, such as ["127.0.0.1"]',
            reason="mail servers are found by their MX records",
        )  # fmt: skip
    if outbound.source:
        check_reference(findings, ("outbound", "source"), outbound.source, config.sources, "sources")
    if outbound.enabled:
        check_connect_timeout(config, ("outbound",), outbound.connect_timeout, findings)
    checks, path = config.authentication.checks, ("authentication", "checks")
    if "bimi" in checks and "dmarc" not in checks and findings.is_sound(path):
        findings.add(path, 'found "bimi" without "dmarc"', '"dmarc", too')
    missing = " and ".join(f'"{one}"' for one in ("spf", "dkim") if one not in checks)
    if "dmarc" in checks and missing and findings.is_sound(path):
        findings.add(
            path, f'found "dmarc" without {missing}', f"{missing}, too",
            reason="what they have not let pass fails DMARC",
        )  # fmt: skip
    _contact(config, findings)
    for name, source in config.sources.items():
        _source(("sources", name), source.socks5_user, source.socks5_password_file, findings)
        own: KeyPath = ("sources", name, "addresses")
        if len(set(source.addresses)) < len(source.addresses) and findings.is_sound(own):
            findings.add(own, "found an address twice", "each once")
        proxy: KeyPath = ("sources", name, "socks5")
        rate: KeyPath = ("sources", name, "rate")
        if source.rate and not config.queue.enabled and findings.is_sound(rate, ("queue",)):
            findings.add(
                rate, f"found {source.rate}", "queue.enabled = true",
                reason="what is more than the rate waits in the queue",
            )  # fmt: skip
        if source.socks5 is None and source.socks5_user and findings.is_sound(proxy):
            findings.add(proxy, "missing", "it, for socks5_user is set")


def _contact(config: Config, findings: Findings) -> None:
    """Reports go to whoever asks for them, without SMTPUTF8, from an address that must be theirs to write."""
    reports, path = config.reports, ("reports", "contact")
    sent = (reports.tls and config.outbound.enabled) or (
        reports.dmarc and "dmarc" in config.authentication.checks
    )
    reason = "servers without SMTPUTF8 ask for reports, too"
    if not reports.contact.isascii():
        findings.add(path, f'found "{reports.contact}"', "an address in ASCII", reason=reason)
    elif sent and findings.is_sound(path) and not (reports.contact or config.identity.postmaster.isascii()):
        what = f'missing, and identity.postmaster is "{config.identity.postmaster}"'
        findings.add(path, what, "an address in ASCII", reason=reason)


def _source(path: KeyPath, user: str, password_file: str, findings: Findings) -> None:
    if bool(user) == bool(password_file):
        return
    there, missing = (
        ("socks5_user", "socks5_password_file") if user else ("socks5_password_file", "socks5_user")
    )
    if findings.is_sound((*path, missing)):
        findings.add((*path, missing), "missing", f"it, for {there} is set")
