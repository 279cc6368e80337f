"""stop (RFC 5228 section 3.3). Status: complete."""

from __future__ import annotations

from sieve_ext.closures.compiler import Compiler
from sieve_ext.language.node import Control
from sieve_ext.runtime.errors import Stopped
from sieve_ext.runtime.run import Run
from sieve_ext.runtime.steps import Step


class StopCommand(Control):
    """Ends the script; what it has decided so far stands."""

    word = "stop"

    def ends_block(self) -> bool:
        """True."""
        return True

    def compile(self, compiler: Compiler) -> Step:
        """Leave all blocks."""
        return _stop


def _stop(run: Run) -> None:
    raise Stopped
