"""How places are written in the configuration: files that must be there, stores of the queue.

As `mta.config.notation`, on which it builds.
"""

from __future__ import annotations

from typing import Annotated

from mta.config.notation import Notation, parse_path


def parse_file_path(text: str, folder: str) -> str:
    """A path that must be given, as `parse_path`. Raises ValueError."""
    if not text:
        raise ValueError("the path is empty")
    return parse_path(text, folder)


def parse_log_target(text: str, folder: str) -> str:
    """ "stderr" or a path. Raises ValueError."""
    if not text:
        raise ValueError("the path is empty")
    return text if text == "stderr" else parse_path(text, folder)


def parse_store_url(text: str, folder: str) -> str:
    """Where the queue is kept; a relative folder begins in that of the configuration. Raises ValueError."""
    scheme, colon, rest = text.partition(":")
    if scheme == "file" and colon:
        path = parse_path(rest.removeprefix("//"), folder)
        if not path:
            raise ValueError("the path of the folder is missing")
        return f"file:{path}"
    if scheme not in ("s3", "gs", "az") or not rest.startswith("//"):
        raise ValueError("it names no kind of store")
    bucket, _, prefix = rest[2:].partition("/")
    if not bucket:
        raise ValueError("the name of the bucket is missing")
    if any(not part or part in (".", "..") for part in prefix.strip("/").split("/")) and prefix.strip("/"):
        raise ValueError("the prefix has an empty part")
    return f"{scheme}://{bucket}/{prefix.strip('/')}".rstrip("/")


FilePath = Annotated[str, Notation("path", "a path, relative to the folder of this file", parse_file_path)]
"""An absolute path, never empty."""

LogTarget = Annotated[str, Notation("path", '"stderr" or the path of a file', parse_log_target)]
"""The word "stderr" or an absolute path."""

StoreUrl = Annotated[
    str,
    Notation(
        "URL of a store", '"file:PATH", "s3://BUCKET/PREFIX", "gs://..." or "az://..."', parse_store_url
    ),
]
"""Where the queue is kept."""
