"""Postfix that finds out who has sent a message: with policyd-spf, opendkim and opendmarc.

policyd-spf is asked as a policy server and adds its Authentication-Results; opendkim and opendmarc are
milters, and opendmarc refuses what the author's domain wants refused. All of them ask the resolver of
`resolv.conf`, at port 53: they, and Postfix, see a file of ours in its place (`unshare --mount`; needs root).
opendkim's resolver knows nothing of `test.`, so domains must have another end.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.peers.postfix import postfix
from bench.sink import Sink
from bench.system import HOSTNAME, Failure, System
from bench.workplace import free_port, program, require_root
from mta.net.resolver.server import Address

START_PATIENCE = 20.0
END_PATIENCE = 1.0
"""Seconds; opendkim would wait longer for what its resolver still asks."""
_OPENDKIM = """\
Mode v
Socket inet:{port}@127.0.0.1
AuthservID {hostname}
AlwaysAddARHeader yes
InternalHosts {nobody}
ExternalIgnoreList {nobody}
PeerList {nobody}
On-DNSError tempfail
Nameservers {resolver}
Syslog no
Background no
"""
_OPENDMARC = """\
Socket inet:{port}@127.0.0.1
AuthservID {hostname}
TrustedAuthservIDs {hostname}
IgnoreHosts {nobody}
RejectFailures {refuses}
PublicSuffixList {suffixes}
SPFIgnoreResults {checks_spf}
SPFSelfValidate {checks_spf}
Syslog false
Background false
"""
_POLICYD_SPF = """\
debugLevel = 0
HELO_reject = False
Mail_From_reject = False
PermError_reject = False
TempError_Defer = False
Header_Type = AR
Authserv_Id = {hostname}
skip_addresses = 203.0.113.1/32
"""
_MAIN = """
policyd-spf_time_limit = 3600
smtpd_recipient_restrictions = check_policy_service unix:private/policyd-spf
smtpd_milters = inet:127.0.0.1:{dkim}, inet:127.0.0.1:{dmarc}
milter_default_action = tempfail
smtpd_client_restrictions =
"""
_MASTER = "policyd-spf unix - n n - 0 spawn user=nobody argv={command} {settings}\n"


@contextlib.contextmanager
def checking_postfix(place: Path, sink: Sink, resolver: Address) -> Iterator[System]:
    """Run it with a resolver at port 53. Raises Missing and Failure."""
    place.mkdir()
    place.chmod(0o755)
    (place / "policyd-spf.conf").write_text(_POLICYD_SPF.format(hostname=HOSTNAME))
    command = program("policyd-spf", "postfix-policyd-spf-python")
    services = _MASTER.format(command=command, settings=place / "policyd-spf.conf")
    with checking_milters(place, resolver, HOSTNAME) as ports:
        more = _MAIN.format(dkim=ports["opendkim"], dmarc=ports["opendmarc"])
        with postfix(place / "postfix", sink, more, services, _within(place)) as system:
            yield system


@contextlib.contextmanager
def checking_milters(
    place: Path, resolver: Address, hostname: str, *, refuses: bool = True, checks_spf: bool = False
) -> Iterator[dict[str, int]]:
    """Run opendkim and opendmarc, that write results as `hostname`: their ports by name.

    opendmarc `refuses` what the author's domain wants refused, or says so only; it believes what others have
    found of SPF, or `checks_spf` itself. Raises Missing and Failure.
    """
    require_root()
    if resolver.port != 53:
        raise ValueError("resolv.conf knows no port but 53")
    nobody = place / "nobody"
    nobody.write_text("203.0.113.1\n")
    suffixes = place / "suffixes"
    suffixes.write_text("example\n")
    (place / "resolv.conf").write_text(f"nameserver {resolver.host}\noptions timeout:5\n")
    ports = {"opendkim": free_port(), "opendmarc": free_port()}
    with contextlib.ExitStack() as stack:
        for name, text in (("opendkim", _OPENDKIM), ("opendmarc", _OPENDMARC)):
            settings = text.format(
                port=ports[name], hostname=hostname, nobody=nobody, resolver=resolver.host,
                suffixes=suffixes,                 refuses=refuses, checks_spf=checks_spf,
            )  # fmt: skip
            (place / f"{name}.conf").write_text(settings)
            words = [*_within(place), program(name, name), "-f", *_settings(name, place)]
            stack.enter_context(_running(name, words, ports[name], place))
        yield ports


def _within(place: Path) -> Sequence[str]:
    """What is put before a command so that it sees our resolv.conf."""
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return (program("unshare", "util-linux"), "--mount", "sh", "-c", script, str(place / "resolv.conf"))


def _settings(name: str, place: Path) -> Sequence[str]:
    return ("-x" if name == "opendkim" else "-c", str(place / f"{name}.conf"))


@contextlib.contextmanager
def _running(name: str, words: Sequence[str], port: int, place: Path) -> Iterator[None]:
    with (place / f"{name}.out").open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out)
    try:
        until = time.monotonic() + START_PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                break
            if process.poll() is not None or time.monotonic() > until:
                raise Failure(f"{name} does not start: {(place / f'{name}.out').read_text()}")
            time.sleep(0.05)
        yield
        if process.poll() is not None:
            raise Failure(f"{name} has ended by itself ({process.returncode})")
    finally:
        process.terminate()
        try:
            process.wait(END_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
