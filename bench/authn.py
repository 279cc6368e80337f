"""Messages a second while everything is found out about their sender: SPF, DKIM, ARC, DMARC and iprev.

`authn_throughput`: 4 kB messages with an RSA-2048 signature and an ARC set, 20 sessions, answers of the DNS
in the caches, beside Postfix with policyd-spf, opendkim and opendmarc. nsd serves the zones, Unbound
and caches, for both. `authn_beside_unchecked` has a Postfix beside it that looks at nothing.

Before anything is measured both are shown to look: a forged message is refused, one for which SPF alone or
DKIM alone speaks is taken.
"""

from __future__ import annotations

import contextlib
import smtplib
import subprocess
import time
from functools import partial
from pathlib import Path

from bench import workplace
from bench.command import Options, run
from bench.figures import Figure
from bench.peers.checking import checking_postfix
from bench.peers.postfix import postfix
from bench.rounds import in_turns
from bench.side_by_side import wait_until_idle
from bench.sink import sink
from bench.system import RECIPIENT, Failure, System
from bench.tamis import tamis
from bench.workplace import program
from mta.authn.arc import Chain
from mta.authn.arcseal import seal
from mta.authn.dkimkeys import SigningKey, make_key
from mta.authn.dkimrecord import zone_line
from mta.authn.results import Result
from mta.net.resolver.server import Address
from sieve_ext.message import Message
from tests.dialog.senders import signed
from tests.peers.dnsworld import Zone, running_dnsworld

DOMAIN, FORGER = "sender.example", "forger.example"
RESOLVER = Address("127.53.0.1", 53)
"""The peer's programs read resolv.conf, which knows no port."""
SESSIONS = 20
WARM_UP = 200
PATIENCE = 120.0
"""Seconds for a round."""
SETTINGS = f"""
[dns]
resolvers = ["{RESOLVER}"]

[authentication]
own_mail = true
"""


def plain_message() -> bytes:
    """A message of 4 kB that nobody has signed."""
    return (
        b"From: Alice <alice@sender.example>\r\nTo: bob@example.org\r\nSubject: weekly report\r\n"
        b"Date: Sat, 28 Nov 2026 00:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\n"
        + (b"x" * 70 + b"\r\n") * 54
    )  # fmt: skip


def sealed_message(key: SigningKey) -> bytes:
    """The same, signed, and sealed by somebody on its way."""
    now = time.time()
    message = signed(plain_message(), key, now=now)
    payload = "mx.other.test; dmarc=pass header.from=sender.example"
    return seal(Message(message), Chain(Result.NONE), payload, key, now=now) + message


def zones(key: SigningKey) -> dict[str, Zone]:
    """A DNS in which all of it passes, and nothing of a forger."""
    policy = '@ 300 TXT "v=spf1 ip4:127.0.0.1 -all"\n_dmarc 300 TXT "v=DMARC1; p=reject"\n'
    return {
        DOMAIN: Zone(f"{policy}mx 300 A 127.0.0.1\n{zone_line(key)}\n"),
        FORGER: Zone('@ 300 TXT "v=spf1 -all"\n'),
        "127.in-addr.arpa": Zone(f"1.0.0 300 PTR mx.{DOMAIN}.\n"),
    }


def show(system: System, key: SigningKey) -> None:
    """That a server looks at signatures, at SPF, and at what the author's domain wants. Raises Failure."""
    signature = signed(plain_message(), key, now=time.time())
    for sender, message, expected in (
        (FORGER, plain_message(), False),
        (FORGER, signature, True),
        (FORGER, signature.replace(b"xxx", b"yyy", 1), False),
        (DOMAIN, plain_message(), True),
    ):
        with smtplib.SMTP("127.0.0.1", system.port, f"mx.{DOMAIN}") as client:
            try:
                client.sendmail(f"alice@{sender}", RECIPIENT, message)
                taken = True
            except smtplib.SMTPDataError as error:
                if not 500 <= error.smtp_code < 600:
                    raise Failure(f"{system.name}: {error}{system.last_words()}") from None
                taken = False
        if taken is not expected:
            says = "takes" if taken else "refuses"
            raise Failure(f"{system.name} {says} a message of {sender}{system.last_words()}")


def rate(system: System, message: Path, count: int) -> float:
    """Messages that reach the sink a second. Raises Failure for a refusal."""
    before = system.sink.count()
    begin = time.perf_counter()
    done = subprocess.run(
        [
            program("smtp-source", "postfix"), "-m", str(count), "-s", str(SESSIONS), "-F", str(message),
            "-f", f"alice@{DOMAIN}", "-t", RECIPIENT, "-M", f"mx.{DOMAIN}", f"127.0.0.1:{system.port}",
        ],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    if done.returncode:
        raise Failure(f"{system.name}: {done.stderr.strip()}{system.last_words()}")
    return count / (system.sink.wait(before + count, PATIENCE) - begin)


def measure(options: Options) -> list[Figure]:
    """Measure all three, ours in turns with each of the others."""
    key = SigningKey(DOMAIN, "bench", make_key("rsa"))
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(workplace.folder(options.folder))
        message = place / "message"
        message.write_bytes(sealed_message(key).replace(b"\r\n", b"\n"))
        stack.enter_context(running_dnsworld(zones(key), RESOLVER))
        sinks = [stack.enter_context(sink(name)) for name in ("tamis", "checking", "unchecked")]
        system = stack.enter_context(tamis(place / "tamis", sinks[0], SETTINGS))
        checking = stack.enter_context(checking_postfix(place / "checking", sinks[1], RESOLVER))
        unchecked = stack.enter_context(postfix(place / "unchecked", sinks[2]))
        for one in (system, checking):
            show(one, key)

        def prepare(one: System) -> partial[float]:
            count = max(WARM_UP, round(rate(one, message, WARM_UP) * options.seconds))
            return partial(rate, one, message, count)

        for one in (system, checking, unchecked):
            wait_until_idle(one)
        ours = prepare(system)
        return [
            Figure.of_rounds(name, in_turns(ours, prepare(peer), options.rounds), "messages/s", rate=True)
            for name, peer in (("authn_throughput", checking), ("authn_beside_unchecked", unchecked))
        ]


if __name__ == "__main__":
    run("authn", measure)
