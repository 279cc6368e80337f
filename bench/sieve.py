"""The Sieve engine beside Pigeonhole's: processor time for a script of 20 lines with 6 tests.

`sieve_run` is the microseconds for a message of 4 kB that was not seen before, its index included;
`sieve_body` for one that is indexed. `sieve_compile` is milliseconds for a script of 5 kB, with all checks;
`sieve_compile_cached` the same where its tree is read from a `DiskCache`, file and checks included.

Pigeonhole's programs take one message and start anew for each, so what they need for the script is found
from the difference between a script that holds the commands once and one that holds them a thousand times:
by `sieve-test` with compiled scripts for `sieve_body`, by `sievec` for `sieve_compile`. Opening the message
cannot be told from starting the program; `sieve_run` stands alone.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import workplace
from bench.command import Options, run
from bench.figures import Figure
from bench.rounds import in_turns, middle
from sieve_ext import DiskCache, Envelope, Message, compile, execute, standard_dialect

HEAD = 'require ["fileinto", "envelope", "variables"];\n'
BODY = """# twenty lines with six tests, one of which holds
if header :contains "List-Id" "announce.example.org" {
    fileinto "announce";
}
if address :domain :is "From" "spam.example.com" {
    discard;
    stop;
}
if header :matches "Subject" "*[urgent]*" {
    fileinto "urgent";
}
if allof (header :matches "X-Spam-Level" "*****",
          not header :is "X-Trusted" "yes") {
    fileinto "Junk";
}
if envelope :is "from" "boss@example.net" {
    fileinto "boss";
}
"""
COPIES = 1000
"""As many as make a script that Pigeonhole still takes (1 MB)."""
SIZE = 5000
"""Octets of the script of `sieve_compile`."""
BATCH = 500
"""Runs between two looks at the clock."""

SENDER, RECIPIENT = "alice@example.org", "bob@example.net"
NOBODY = 65534
"""Pigeonhole reads no mail as root."""
CONFIG = """mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = {uid}
first_valid_gid = {gid}
mail_location = maildir:{folder}/mail
"""


def message() -> bytes:
    """The message, 4 kB."""
    head = (
        f"Return-Path: <{SENDER}>\r\n"
        "Received: from mx.example.org (mx.example.org [192.0.2.1])\r\n"
        "\tby mail.example.net with ESMTPS id 12345\r\n"
        f"\tfor <{RECIPIENT}>; Fri, 27 Nov 2026 10:00:00 +0000\r\n"
        "Date: Fri, 27 Nov 2026 10:00:00 +0000\r\n"
        f'From: "Alice Example" <{SENDER}>\r\n'
        f"To: Bob <{RECIPIENT}>, carol@example.net\r\n"
        "Cc: dave@example.net\r\n"
        "Subject: Re: the weekly report on everything\r\n"
        "Message-ID: <123@example.org>\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "X-Mailer: none\r\n"
        "X-Spam-Level: **\r\n"
        "\r\n"
    ).encode()
    line = b"a line of text with some words in it, about seventy columns wide\r\n"
    return (head + line * 60)[:4096]


def measure(options: Options) -> list[Figure]:
    """Measure both engines in turns."""
    octets = message()
    script = compile(HEAD + BODY, standard_dialect())
    envelope = Envelope(sender=SENDER, recipient=RECIPIENT)
    indexed = Message(octets)
    text = (HEAD + BODY * 20)[:SIZE].rpartition("#")[0]
    with workplace.folder(options.folder) as place:
        peer = Pigeonhole(place, octets)
        fresh = sorted(
            seconds(lambda: execute(script, Message(octets), envelope), options)
            for _ in range(options.rounds)
        )
        body = in_turns(
            lambda: seconds(lambda: execute(script, indexed, envelope), options) * 1e6,
            lambda: peer.body_seconds() * 1e6,
            options.rounds,
        )
        trees = DiskCache(place / "trees")
        plainly = partial(compile, text, standard_dialect())
        cached = in_turns(
            lambda: seconds(partial(plainly, trees=trees), options, batch=10),
            lambda: seconds(plainly, options, batch=10),
            options.rounds,
        )
        compiling = in_turns(
            lambda: seconds(plainly, options, batch=10) * 1e3 * SIZE / len(text),
            lambda: peer.compile_seconds() * 1e3 * SIZE,
            options.rounds,
        )
    return [
        Figure("sieve_run", fresh[len(fresh) // 2] * 1e6, "us"),
        Figure.of_rounds("sieve_body", body, "us"),
        Figure.of_rounds("sieve_compile", compiling, "ms"),
        # The round that counts beside our own compiler; Pigeonhole's is no peer of this.
        Figure("sieve_compile_cached", middle(cached).ours * 1e3 * SIZE / len(text), "ms"),
    ]


def seconds(work: Callable[[], object], options: Options, batch: int = BATCH) -> float:
    """Processor seconds of one call: the best of batches, for the others were disturbed."""
    best = float("inf")
    until = time.monotonic() + options.seconds / 2
    while time.monotonic() < until:
        begin = time.thread_time()
        for _ in range(batch):
            work()
        best = min(best, time.thread_time() - begin)
    return best / batch


class Pigeonhole:
    """Pigeonhole's command line tools, with a script once and many times."""

    def __init__(self, folder: Path, octets: bytes) -> None:
        """`folder` is for its files. Raises Missing when the tools are not installed."""
        self._test = workplace.program("sieve-test", "dovecot-sieve")
        self._compiler = workplace.program("sievec", "dovecot-sieve")
        self._config = folder / "dovecot.conf"
        self._config.write_text(
            CONFIG.format(uid=os.getuid() or NOBODY, gid=os.getgid() or NOBODY, folder=folder)
        )
        self._message = folder / "message"
        self._message.write_bytes(octets)
        self._scripts = [folder / f"{copies}.sieve" for copies in (1, COPIES)]
        yesterday = time.time() - 86_400
        for path, copies in zip(self._scripts, (1, COPIES), strict=True):
            path.write_text(HEAD + BODY * copies)
            os.utime(path, (yesterday, yesterday))
            self._compile(path)
            path.with_suffix(".svbin").chmod(0o644)
        (folder / "mail").mkdir(0o777)
        (folder / "mail").chmod(0o777)

    def body_seconds(self) -> float:
        """Processor seconds of the commands for an open message."""
        one, many = (self._best(partial(self._run, path)) for path in self._scripts)
        return (many - one) / (COPIES - 1)

    def compile_seconds(self) -> float:
        """Processor seconds for an octet of script."""
        one, many = (self._best(partial(self._compile, path)) for path in self._scripts)
        return (many - one) / (COPIES - 1) / len(BODY)

    def _best(self, work: Callable[[], float]) -> float:
        return min(work() for _ in range(5))

    def _run(self, path: Path) -> float:
        # It takes the compiled script that lies beside, for that is younger.
        return _cpu(
            [
                self._test,
                "-c",
                str(self._config),
                "-f",
                SENDER,
                "-r",
                RECIPIENT,
                str(path),
                str(self._message),
            ]
        )

    def _compile(self, path: Path) -> float:
        return _cpu([self._compiler, "-c", str(self._config), str(path), str(path.with_suffix(".svbin"))])


def _cpu(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


measure.peer = "Pigeonhole"  # type: ignore[attr-defined]

if __name__ == "__main__":
    run("sieve", measure)
