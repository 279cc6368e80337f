"""Sender authentication and signing of a worker, put together: the part of `mta.daemon` about who sent what.

What only evaluation or signing needs (dnspython, pyspf, cryptography) is imported where it is configured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mta import config, log
from mta.authn.stamp import Stamper, StampSettings
from mta.daemon_policy import networks
from mta.lastgood import NOBODY, LastGood
from mta.session import Session
from sieve_ext.message import Message

if TYPE_CHECKING:
    from mailqueue.store.base import Blob
    from mta.authn.evaluation import Evaluator
    from mta.authn.keysource import KeySource
    from mta.authn.signer import Signer
    from mta.daemon_reports import DmarcReports
    from mta.net.resolver.base import Resolver
    from mta.spool.reports import Sign


def vouched(settings: config.Config) -> Callable[[Session], bool]:
    """Whether mail of a session is our own: of somebody who has logged in, or of a trusted network."""
    is_trusted = networks(settings.policy.trusted_networks)
    return lambda session: bool(session.user) or is_trusted(session.client_address)


def build_evaluator(settings: config.Config, resolver: Resolver | None) -> Evaluator | None:
    """What finds out who sent a message; None when nobody can be asked, or nothing is to be looked at."""
    wanted = settings.authentication
    if resolver is None or not wanted.checks:
        return None
    from mta.authn import dkim, dmarc
    from mta.authn.evaluation import EvaluationSettings, Evaluator

    is_vouched = vouched(settings)

    def examines(session: Session) -> bool:
        return session.protocol != "lmtp" and (wanted.own_mail or not is_vouched(session))

    return Evaluator(
        EvaluationSettings(
            wanted.authserv_id,
            frozenset(wanted.checks),
            wanted.timeout,
            dkim.Options(partial_body=wanted.partial_body, timeout=wanted.timeout),
            dmarc.DmarcSettings(public_suffixes=wanted.public_suffix_list),
        ),
        resolver,
        examines,
        _complain,
    )


def wants_dmarc_reports(settings: config.Config) -> bool:
    """Whether DMARC is looked at and reported."""
    return settings.reports.dmarc and "dmarc" in settings.authentication.checks


def build_signer(settings: config.Config, good: LastGood = NOBODY) -> Signer | None:
    """What signs, None without keys; `good` has what others read of the table of keys. Raises TableError."""
    signing = settings.signing
    if not signing.keys and not signing.key_table:
        return None
    from mta.authn.dkimfolder import KeyFolder
    from mta.authn.keysource import KeyTable
    from mta.authn.signer import Signer, SignerSettings

    source: KeySource
    if signing.keys:
        source = KeyFolder(signing.keys)
    else:
        source = KeyTable(
            Path(signing.key_table), time.monotonic, lambda text: log.get("mta").error("keys", reason=text),
            good,
        )  # fmt: skip
    return Signer(
        SignerSettings(
            settings.authentication.authserv_id,
            signing.required,
            {one.name: one.signing_domain for one in settings.listener if one.signing_domain},
            signing.domain,
            (signing.seal_domain,)
            if signing.seal_domain
            else (*settings.domains, settings.identity.hostname),
            int(signing.lifetime),
        ),
        source,
        vouched(settings),
        time.time,
        networks(settings.policy.trusted_networks),
    )


def sign_report(settings: config.Config, signer: Signer | None) -> Sign | None:
    """What signs our own reports: with the keys of the domain in From, or else of our host name; or of the
    domain above.

    Daily reports come from an address of the site's, and must pass DMARC (RFC 9990 section 3.5.2).
    """
    if signer is None:
        return None
    from mta.authn.dkimkeys import KeyFileError
    from mta.authn.dkimsign import SigningError
    from mta.authn.dmarcauthor import find_author

    hostname = settings.identity.hostname

    def sign(header: bytes, body: Blob) -> bytes:
        def chunks() -> Iterator[bytes]:
            yield header
            yield from body.chunks()

        message = Message(header, len(header) + body.size, chunks)
        try:
            return signer.sign_own(message, find_author(message).domain) or signer.sign_own(message, hostname)
        except (KeyFileError, SigningError) as error:
            # The report says that mail was lost: better unsigned than not at all.
            log.get("mta").error("report not signed", reason=str(error))
            return b""

    return sign


def build_stamper(
    settings: config.Config, signer: Signer | None, reports: DmarcReports | None = None
) -> Stamper:
    """What removes forged results and writes ours; `reports` counts messages for DMARC."""
    wanted = settings.authentication
    return Stamper(
        StampSettings(
            wanted.authserv_id,
            wanted.received_spf,
            networks(wanted.results_from),
            bimi="bimi" in wanted.checks,
        ),
        signer,
        None if reports is None else reports.count,
    )


def _complain(method: str, error: Exception) -> None:
    log.get("authn").error("cannot be evaluated", method=method, exc_info=error)
