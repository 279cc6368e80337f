"""What another process answers, for the supervisor: it stays small, and nothing can hang it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any


class NoAnswer(Exception):
    """There is none; the text says why."""


async def answer_of(
    command: Sequence[str], octets: bytes, seconds: float, environment: Mapping[str, str], **options: Any
) -> bytes:
    """What a command prints that is given `octets`. Raises `NoAnswer`.

    `options` are those of `subprocess.Popen`.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environment),
            **options,
        )
    except (OSError, RuntimeError) as error:  # no memory, no thread, another Python since the start
        raise NoAnswer(str(error)) from error
    try:
        async with asyncio.timeout(seconds):
            answer, errors = await process.communicate(octets)
    except TimeoutError:
        raise NoAnswer(f"not done within {seconds:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        last = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise NoAnswer(last or f"exit status {process.returncode}")
    return answer
