"""Running the external programs of a test: files of the directories that its settings name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sieve_ext.message import Message
from sieve_ext.programs import ProgramResult, program_environment
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.runtime.settings import Settings

SECONDS = 10.0
"""How long a program may take, if the test says nothing else."""


def run_program(
    settings: Settings,
    kind: str,
    name: str,
    arguments: tuple[str, ...],
    given: Message | bytes | None,
    envelope: Envelope,
) -> ProgramResult:
    """Run the program `name` of a kind ("pipe", "filter", "execute") with `given` as its input."""
    directory = settings.text(f"sieve_{kind}_bin_dir")
    path = Path(directory) / name
    if not directory or not path.is_file():
        return ProgramResult(is_missing=True)
    octets = b"".join(given.chunks()) if isinstance(given, Message) else given or b""
    octets = octets.replace(b"\r\n", b"\n")
    if settings.text(f"sieve_{kind}_input_eol", "crlf") != "lf":
        octets = octets.replace(b"\n", b"\r\n")
    try:
        done = subprocess.run(
            [str(path), *arguments],
            input=octets,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath), **program_environment(envelope)},
            timeout=settings.period(f"sieve_{kind}_exec_timeout", SECONDS),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ProgramResult()
    output = done.stdout
    if kind == "filter":
        output = output.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return ProgramResult(done.returncode == 0, output)
