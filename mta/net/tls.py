"""TLS contexts: as a server with several certificates, as a client at three levels.

Server. `ServerTls` serves the certificate whose names cover the server name that the client asks for (SNI,
RFC 6066 section 3; exact names before wildcards) and the first one to clients that ask for none or for an
unknown one: a mail client that does not verify must get an answer, not an alert. TLS 1.2 or later (RFC 8996)
with the "intermediate" cipher list of Mozilla's recommendations (forward secrecy and AEAD only), no
compression, no renegotiation, no ALPN.

Resumption: no tickets in TLS 1.3, every handshake is a full one. Tickets would need a key that all workers
share and rotate, senders hardly ever use them, and a full handshake is what ties a login to a fresh channel.
In TLS 1.2 the library's stateless tickets stay on, because it would otherwise keep the state of each session
in memory; their key lives in the context, so contexts are built anew every `CONTEXT_LIFETIME`.

Client certificates are asked for only when an authority for them is configured and are always verified: a
certificate of another authority fails the handshake. Python's ssl cannot let unverified ones pass, so
set an authority only where clients are known (submission, relays), not where the world delivers.

`reload` reads the files again, checks them (`mta.net.certcheck`) and swaps in new contexts at once;
sessions that are open keep theirs. What fails the check is refused with its reason and the old one is kept,
for each certificate by itself. `watch` does that whenever a file has changed.

Client. `client_context` for a session with another server: levels `may` and `encrypt` verify nothing,
`verify` demands a chain to a known authority and the server's name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from mta.net.certificates import (
    NOT_SERVED,
    Certificate,
    CertificateError,
    CertificateFiles,
    ReadFile,
    load_pem,
    read_file,
    readable_by_all,
    wildcard_of,
)
from mta.net.tlsinfo import channel_bindings, failure_class, failure_text, tls_info

__all__ = [
    "CertificateError",
    "CertificateFiles",
    "Reload",
    "ServerTls",
    "TlsSettings",
    "channel_bindings",
    "client_context",
    "failure_class",
    "failure_text",
    "served_certificate",
    "tls_info",
]

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""TLS 1.2 ciphers of Mozilla's "intermediate" list, without finite-field DHE: it needs parameters of its own
and no client that lacks ECDHE speaks TLS 1.2 today. TLS 1.3 suites are the library's."""
CONTEXT_LIFETIME = 86400.0
"""Seconds after which `watch` builds contexts anew, so that a ticket key of TLS 1.2 opens at most a day."""

Level = Literal["may", "encrypt", "verify"]
Judge = Callable[[Certificate, Certificate], Awaitable[str]]
"""Why a new certificate may not take the place of the old one, "" when it may."""

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(slots=True, frozen=True)
class TlsSettings:
    """What the contexts of one listener have in common."""

    minimum_version: str = "TLSv1.2"
    """ "TLSv1.2" or "TLSv1.3"."""
    ciphers: str = CIPHERS
    """OpenSSL cipher list for TLS 1.2; empty means `CIPHERS`."""
    client_ca_file: str = ""
    """Authorities (PEM) for client certificates; empty: clients are not asked."""
    require_client_certificate: bool = False
    """Refuse the handshake of a client without a certificate. Needs `client_ca_file`."""


@dataclass(slots=True, frozen=True)
class Reload:
    """The outcome of `ServerTls.reload`, by certificate name ("client_ca" for the client authorities)."""

    taken: tuple[str, ...] = ()
    """Renewed, with other octets than before."""
    refused: dict[str, str] = field(default_factory=dict)
    """Kept as they were, with the reason."""


class _ServedObject(ssl.SSLObject):
    """The TLS state of one connection, with what was chosen for it."""

    sni: str = ""
    certificate: Certificate | None = None


class _Context(ssl.SSLContext):
    sslobject_class = _ServedObject


def served_certificate(ssl_object: ssl.SSLObject) -> bytes:
    """DER of the certificate that this connection was served; b"" if it is not of a `ServerTls`."""
    certificate = getattr(ssl_object, "certificate", None)
    return certificate.der if isinstance(certificate, Certificate) else b""


class ServerTls:
    """The certificates and contexts of one listener."""

    def __init__(
        self,
        certificates: Sequence[CertificateFiles],
        settings: TlsSettings | None = None,
        *,
        kept: Mapping[str, Certificate] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        read: ReadFile = read_file,
    ) -> None:
        """Load everything. Raises CertificateError for the first thing that is wrong.

        The first of `certificates` is the default. `read` reads a file: another one lets a process
        without the rights serve what its parent can read. `kept` has, by name, what is served in place of
        files that say something else, until a reload takes these.
        """
        if not certificates:
            raise CertificateError("no certificate is configured")
        self._files = tuple(certificates)
        self._settings = settings or TlsSettings()
        self._now = now
        self._read = read
        self._stamps = self._look()
        self._refused: dict[str, str] = {}
        self._client_ca = self._load_client_ca()
        self._loaded = {files.name: self._first(files, kept or {}) for files in self._files}
        self._install()

    @property
    def context(self) -> ssl.SSLContext:
        """The context to start a handshake with, now; ask for it anew for each connection."""
        return self._context

    @property
    def expiry(self) -> dict[str, datetime]:
        """The end of validity (UTC) of each certificate that is served, for metrics and alarms."""
        return {name: certificate.not_after for name, certificate in self._loaded.items()}

    def state(self) -> tuple[Mapping[str, Certificate], Mapping[str, str]]:
        """By name: the certificates that are served, and why the files of some are not."""
        return self._loaded, self._refused

    @property
    def names(self) -> tuple[str, ...]:
        """All server names that select a certificate, wildcards included."""
        return tuple(self._by_name)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is no reason to refuse a certificate but should be told to the administrator."""
        return tuple(
            f"{files.key}: everybody on this machine can read the private key"
            for files in self._files
            if readable_by_all(files.key)
        )

    @property
    def client_ca(self) -> str:
        """The authorities for client certificates (PEM); "" when clients are not asked for one."""
        return self._client_ca

    def certificate_for(self, name: str) -> Certificate:
        """The certificate that a client asking for `name` (A-labels; "" for none) is served."""
        return self._choose(name)[0]

    def candidates(self) -> dict[str, Certificate]:
        """What a reload would take now, by name: certificates that are sound and differ from those served."""
        found: dict[str, Certificate] = {}
        for files in self._files:
            with contextlib.suppress(CertificateError):
                certificate = self._load(files)
                if certificate != self._loaded[files.name]:
                    found[files.name] = certificate
        return found

    def reload(self, vetoes: Mapping[Certificate, str] | None = None) -> Reload:
        """Read all files again and use from now on what is sound; never raises for a bad file.

        `vetoes` says why certificates that are sound are not taken all the same.
        """
        self._stamps = self._look()
        refused: dict[str, str] = {}
        client_ca = self._client_ca
        try:
            client_ca = self._load_client_ca()
        except CertificateError as error:
            refused["client_ca"] = str(error)
        loaded = dict(self._loaded)
        for files in self._files:
            try:
                candidate = self._load(files)
            except CertificateError as error:
                refused[files.name] = str(error)
                continue
            if vetoes and candidate in vetoes:
                refused[files.name] = vetoes[candidate]
            else:
                loaded[files.name] = candidate
        taken = [name for name in loaded if loaded[name] != self._loaded[name]]
        if client_ca != self._client_ca:
            taken.append("client_ca")
        before = self._loaded, self._client_ca
        self._loaded, self._client_ca = loaded, client_ca
        try:
            self._install()
        except CertificateError as error:  # what passed our checks and the library still refuses
            self._loaded, self._client_ca = before
            refused = dict.fromkeys(taken, str(error)) | refused
            taken = []
        self._refused = refused
        return Reload(tuple(taken), refused)

    def changed(self) -> bool:
        """True when a file differs (time, size, inode) from what was read last or is still refused."""
        return bool(self._refused) or self._look() != self._stamps

    async def watch(
        self, interval: float, report: Callable[[Reload], None], judge: Judge | None = None
    ) -> None:
        """Reload changed files for ever, looking every `interval` seconds; run it as a task.

        `judge` is asked about new certificates that are sound; what it gives a reason against is refused.
        `report` is called after a reload that took something or refused it for a new reason, so a
        renewal that has written one of two files makes one line, not one a minute.
        """
        built = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(interval)
            now = asyncio.get_running_loop().time()
            before = self._refused
            if self.changed():
                vetoes: dict[Certificate, str] = {}
                if judge is not None:
                    for name, candidate in self.candidates().items():
                        reason = await judge(candidate, self._loaded[name])
                        if reason:
                            vetoes[candidate] = reason
                outcome = self.reload(vetoes)
                if outcome.taken or outcome.refused != before:
                    report(outcome)
            elif now - built < CONTEXT_LIFETIME:
                continue
            else:
                try:
                    self._install()
                except CertificateError:  # without a descriptor, say: the old ones serve until the next look
                    continue
            built = now

    def _look(self) -> dict[str, tuple[int, int, int]]:
        paths = [path for files in self._files for path in (files.chain, files.key)]
        if self._settings.client_ca_file:
            paths.append(self._settings.client_ca_file)
        stamps = {}
        for path in paths:
            try:
                status = os.stat(path)
            except OSError:
                stamps[path] = (0, 0, 0)
            else:
                stamps[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return stamps

    def _load(self, files: CertificateFiles) -> Certificate:
        from mta.net.certcheck import load  # only servers with certificates pay for this import

        return load(files, self._now(), self._read)

    def _first(self, files: CertificateFiles, kept: Mapping[str, Certificate]) -> Certificate:
        before, reason = kept.get(files.name), NOT_SERVED
        try:
            found = self._load(files)
            if before in (None, found):
                return found
        except CertificateError as error:
            if before is None:
                raise
            reason = str(error)
        assert before is not None
        self._refused[files.name] = reason
        return before

    def _load_client_ca(self) -> str:
        path = self._settings.client_ca_file
        if not path:
            if self._settings.require_client_certificate:
                raise CertificateError("client certificates are required, but there is no authority for them")
            return ""
        try:
            text = self._read(path).decode("ascii")
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
        except (ssl.SSLError, ValueError) as error:
            raise CertificateError(f"{path}: no certificates in PEM form ({failure_text(error)})") from error
        except OSError as error:
            raise CertificateError(f"{path}: {error.strerror or error}") from error
        return text

    def _install(self) -> None:
        """Build the contexts of what is loaded and make them current, or raise CertificateError."""
        by_name: dict[str, tuple[Certificate, ssl.SSLContext]] = {}
        default: tuple[Certificate, ssl.SSLContext] | None = None
        for certificate in self._loaded.values():
            pair = certificate, self._build(certificate)
            default = default or pair
            for name in certificate.names:
                by_name.setdefault(name, pair)
        assert default is not None
        self._by_name = by_name
        self._default = default
        self._context = default[1]

    def _build(self, certificate: Certificate) -> ssl.SSLContext:
        settings = self._settings
        context = _Context(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.minimum_version = _VERSIONS[settings.minimum_version]
            context.set_ciphers(settings.ciphers or CIPHERS)
            load_pem(context, certificate.pem)
            if self._client_ca:
                context.load_verify_locations(cadata=self._client_ca)
                required = settings.require_client_certificate
                context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        except (OSError, ValueError) as error:  # the library's own, or there is no descriptor left
            raise CertificateError(f"{certificate.name}: {failure_text(error)}") from error
        except KeyError as error:
            raise CertificateError(f"unknown TLS version {settings.minimum_version!r}") from error
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_SINGLE_ECDH_USE
        context.num_tickets = 0
        context.sni_callback = self._select
        return context

    def _choose(self, name: str) -> tuple[Certificate, ssl.SSLContext]:
        by_name = self._by_name
        return by_name.get(name) or by_name.get(wildcard_of(name)) or self._default

    def _select(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        # The library calls this in every handshake, with None for a client that sends no server name.
        key = (name or "").lower().rstrip(".")
        certificate, context = self._choose(key)
        if isinstance(connection, _ServedObject):
            connection.sni = key if key.isprintable() else ""
            connection.certificate = certificate
        connection.context = context


def client_context(
    level: Level,
    *,
    ca_file: str | None = None,
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
) -> ssl.SSLContext:
    """A context for sessions with other servers; it costs milliseconds, so build one for a kind of next hop.

    `may` and `encrypt` differ in what the caller does without TLS, not in TLS: both verify nothing.
    `verify` checks chain and name (pass `server_hostname`) against `ca_file`, or the system's
    authorities when it is None. Raises CertificateError when `ca_file` cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = minimum
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if level != "verify":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        # Whatever TLS the other side has is better than the clear text that would be sent instead.
        context.set_ciphers("DEFAULT")
        return context
    context.set_ciphers(CIPHERS)
    try:
        if ca_file is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        raise CertificateError(f"{ca_file}: {failure_text(error)}") from error
    except OSError as error:
        raise CertificateError(f"{ca_file}: {error.strerror or error}") from error
    return context
