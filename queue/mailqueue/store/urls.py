"""From a URL and options to a store.

    memory:                 in memory, for tests
    file:/var/spool/tamis   a folder (mailqueue.store.file); `file:///var/spool/tamis` is the same
    s3://bucket/prefix      S3 and what speaks its protocol (mailqueue.store.objects)
    gs://bucket/prefix      Google Cloud Storage
    az://container/prefix   Azure Blob Storage

The prefix, which may be empty, is the queue's name space: several queues may share a bucket.

What is wrong with a URL or an option raises `StoreUrlError`, with the value and what is expected.
"""

from __future__ import annotations

import os

from mailqueue.store.base import Store
from mailqueue.store.file import FileStore
from mailqueue.store.memory import MemoryStore
from mailqueue.store.options import StoreOptions, StoreUrlError

FORMS = "memory:, file:/path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"


def open_store(url: str, options: StoreOptions | None = None) -> Store:
    """Open one store. Only a FileStore does anything yet; `mailqueue.store.probe` tries the others.

    Raises StoreUrlError, and StoreError of a FileStore whose folder cannot be used.
    """
    scheme, colon, rest = url.partition(":")
    match scheme if colon else "":
        case "memory":
            if rest:
                raise StoreUrlError(f"{url!r}: nothing can follow memory:")
            return MemoryStore()
        case "file":
            return FileStore(_path(url, rest))
        case "s3" | "gs" | "az":
            # Only who uses an object store pays for the library: 30 ms and 16 MB.
            from mailqueue.store.buckets import open_bucket

            return open_bucket(url, scheme, options or StoreOptions())
        case _:
            raise StoreUrlError(f"{url!r} is no store: expected {FORMS}")


def _path(url: str, rest: str) -> str:
    path = rest.removeprefix("//") if rest.startswith("///") else rest
    if not path.startswith("/") or path.startswith("//") or path == "/" or "\0" in path:
        raise StoreUrlError(f"{url!r}: expected file:/path, with an absolute path")
    return os.path.normpath(path)
