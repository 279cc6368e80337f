"""The stores of the queue, opened by a command: as the user of the server, and closed afterwards.

What a command writes must be the server's to read, so root becomes `process.user` first, or the owner of the
state directory where systemd chooses the user. Errors are QueueProblems with a text for the administrator.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mailqueue.entry import FormatError
from mailqueue.keys import FORMAT
from mailqueue.store.base import MissingKey, Store, StoreError, StoreRefused
from mta import config
from mta.spool.remote import QueueProblem
from mta.spool.stores import open_stores
from mta.supervisor.privileges import Account, UnknownAccount, drop_privileges, find_account, find_owner


def read_configuration(path: str) -> config.Config:
    """The configuration without a look at the files that it names.

    Somebody may ask for the queue who may not read the keys, or while a certificate is wrong. Raises
    ConfigError.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        from mta.config.problems import unreadable

        raise config.ConfigError((unreadable(path, error),)) from error
    except UnicodeDecodeError as error:
        from mta.config.problems import Problem

        raise config.ConfigError((Problem(path, 0, "", "cannot be read: is no UTF-8"),)) from error
    return config.parse(text, path, config.this_machine())


def become_server_user(settings: config.Config) -> None:
    """Leave root for the user that the server runs as. Raises QueueProblem."""
    account = server_account(settings)
    if account is not None and os.geteuid() == 0:
        try:
            drop_privileges(account)
        except OSError as error:
            raise QueueProblem(f"cannot become user {account.user}: {error.strerror or error}") from error


def server_account(settings: config.Config) -> Account | None:
    """The user that the server runs as: who has its state directory, where the configuration leaves it open.

    None when there is no such folder yet. Raises QueueProblem.
    """
    process = settings.process
    try:
        if process.user:
            return find_account(process.user, process.group)
    except UnknownAccount as error:
        raise QueueProblem(f"[process] {error}") from error
    return find_owner(process.state_directory)


@asynccontextmanager
async def opened_stores(settings: config.Config, *, new: bool = False) -> AsyncIterator[Store]:
    """The stores of a configuration. With `new` a folder that is not there yet is made.

    Raises QueueProblem, also for StoreErrors and FormatErrors of whoever uses them.
    """
    if not settings.queue.enabled:
        raise QueueProblem("there is no queue: queue.enabled is off")
    if not new:
        _require_folders(settings)
    try:
        store = open_stores(settings.queue, settings.queue_stores)
        try:
            yield store
        finally:
            await store.close()
    except StoreRefused as error:
        raise QueueProblem(_explained(str(error))) from error
    except (StoreError, FormatError, ValueError) as error:
        raise QueueProblem(str(error)) from error


def _require_folders(settings: config.Config) -> None:
    for name in settings.queue.stores:
        url = settings.queue_stores[name].url
        if not url.startswith("file:"):
            continue
        try:
            os.stat(url.removeprefix("file:"))
        except FileNotFoundError:
            raise QueueProblem(f"{url}: there is no queue yet") from None
        except OSError as error:
            raise QueueProblem(f"{url}: {error.strerror}") from error


async def require_queue(store: Store) -> None:
    """Raises QueueProblem when nobody has ever kept mail there, and StoreError."""
    try:
        await store.get(FORMAT)
    except MissingKey:
        raise QueueProblem(f"{store.name}: there is no queue yet") from None


def _explained(text: str) -> str:
    if "Permission denied" in text:
        return f"{text} (run it as root, or as the user of the server)"
    return text
