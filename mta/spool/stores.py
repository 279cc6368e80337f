"""The stores of the queue as the configuration names them."""

from __future__ import annotations

from mailqueue.store.base import Store
from mta.config.queueing import Queue, QueueStore


def open_stores(queue: Queue, stores: dict[str, QueueStore]) -> Store:
    """Open what the queue is kept in: one store, or several as one.

    Blocks for a moment. Raises StoreError and ValueError with a text for the administrator; nothing is open
    then.
    """
    opened: list[Store] = []
    try:
        for name in queue.stores:
            opened.append(_open(stores[name]))
    except BaseException:
        for store in opened:
            if hasattr(store, "close_now"):  # a folder; the others have nothing to free
                store.close_now()
        raise
    if len(opened) == 1:
        return opened[0]
    from mailqueue.store.replicated import Member, Replicated

    folders = [stores[name].url.startswith("file:") for name in queue.stores]
    # A folder is this machine's alone, unless there is nothing but folders.
    private = [folder and not all(folders) for folder in folders]
    members = [Member(store, private=own) for store, own in zip(opened, private, strict=True)]
    return Replicated(members, queue.copies, private.index(False), lossy=queue.copies == 1)


def _open(store: QueueStore) -> Store:
    # Imported where they are used: the client of object stores takes longer to load than all of a worker.
    if store.url.startswith("file:"):
        from mailqueue.store.file import FileStore

        return FileStore(store.url.removeprefix("file:"))
    from mailqueue.store.options import Limits, StoreOptions
    from mailqueue.store.urls import open_store

    options = StoreOptions(
        endpoints=store.endpoints,
        region=store.region,
        path_style=store.path_style if store.endpoints else None,
        allow_http=store.allow_http,
        ca_file=store.ca_file,
        access_key=store.access_key,
        secret_file=store.secret_file,
        credentials_file=store.credentials_file,
        limits=Limits(request=store.request_timeout),
    )
    return open_store(store.url, options)
