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
RejectFailures true
SPFIgnoreResults false
SPFSelfValidate false
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
    require_root()
    if resolver.port != 53:
        raise ValueError("resolv.conf knows no port but 53")
    place.mkdir()
    place.chmod(0o755)
    nobody = place / "nobody"
    nobody.write_text("203.0.113.1\n")
    (place / "resolv.conf").write_text(f"nameserver {resolver.host}\noptions timeout:5\n")
    (place / "policyd-spf.conf").write_text(_POLICYD_SPF.format(hostname=HOSTNAME))
    within = (
        program("unshare", "util-linux"), "--mount", "sh", "-c",
        'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(place / "resolv.conf"),
    )  # fmt: skip
    ports = {"opendkim": free_port(), "opendmarc": free_port()}
    for name, text in (("opendkim", _OPENDKIM), ("opendmarc", _OPENDMARC)):
        settings = text.format(port=ports[name], hostname=HOSTNAME, nobody=nobody, resolver=resolver.host)
        (place / f"{name}.conf").write_text(settings)
    command = program("policyd-spf", "postfix-policyd-spf-python")
    services = _MASTER.format(command=command, settings=place / "policyd-spf.conf")
    more = _MAIN.format(dkim=ports["opendkim"], dmarc=ports["opendmarc"])
    with contextlib.ExitStack() as stack:
        for name, port in ports.items():
            words = [*within, program(name, name), "-f", *_settings(name, place)]
            stack.enter_context(_running(name, words, port, place))
        yield stack.enter_context(postfix(place / "postfix", sink, more, services, within))


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
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
