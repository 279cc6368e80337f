"""What the msmtp of this machine can do."""

from __future__ import annotations

import functools
import subprocess

from tests.peers.needs import needs, program

GAVE_UP = 70
"""Exit status (sysexits.h) of an msmtp whose own SASL library fails."""
_BROKEN = "msmtp version 1.8.28"
"""That of Debian 13 gives up on SCRAM before it has said AUTH, over TLS 1.2 as over 1.3."""


@functools.cache
def can_scram() -> bool:
    """Whether it can log in with SCRAM."""
    needs("msmtp")
    done = subprocess.run([program("msmtp"), "--version"], capture_output=True, text=True, check=True)
    return not done.stdout.startswith(_BROKEN)


def gives_up(mechanism: str, status: int, transcript: str) -> bool:
    """Whether it has done with a mechanism what one without SCRAM does: nothing is asked of the server."""
    if can_scram() or not mechanism.startswith(("scram", "on")):
        return False
    return status == GAVE_UP and "--> AUTH" not in transcript
