"""`tamis mailbox`: read the mail of the embedded store in the terminal.

`list` shows mailboxes, or the messages of one; `show` prints a message; `watch` prints what arrives until
Ctrl-C. Nothing is changed: what is shown stays new. Senders decide what is in a message, so everything is
made harmless before it is printed (`mta.terminal`); only `show --raw` into a file or a pipe gives the
octets as they are. Exit statuses: 0, 1 when there is no such mailbox or message or it cannot be read, 2 for
wrong usage, 78 when the configuration is wrong.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from mta.cli_console import console
from mta.cli_exit import EXIT_CONFIG, fail
from mta.cli_options import Config as ConfigOption
from mta.mailq.listing import size
from mta.store import readable, reader
from mta.store.reader import NoMailbox, StoredFile, Summary, Watcher
from mta.terminal import harmless
from sieve_ext.message import Message

if TYPE_CHECKING:
    from mta.config import Config as Settings

POLL = 0.3
"""Seconds between two looks of `watch`: feels immediate, costs a few stat calls a mailbox."""

UserArgument = Annotated[str, typer.Argument(metavar="USER", help="Mail address, as alice@example.org.")]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", metavar="FOLDER", help="The mailboxes' folder, no configuration needed."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def make_app(store_path: Callable[[], Path] | None = None) -> typer.Typer:
    """The sub-command. `store_path` names the folder when no --store is given; by default the configuration
    does.
    """
    app = typer.Typer(
        help="Read the mail of the embedded store.", no_args_is_help=True, pretty_exceptions_enable=False
    )

    def place_of(store: Path | None, config: str) -> tuple[Path, Settings | None]:
        if store is not None:
            if not store.is_dir():
                raise ValueError(f"{store}: there is no such folder")
            return store, None
        if store_path is not None:
            return store_path(), None
        settings = _configured(config)
        return Path(settings.store.path), settings

    def root_of(store: Path | None, config: str) -> Path:
        return place_of(store, config)[0]

    @app.command("list")
    def list_mail(
        config: ConfigOption, user: UserArgument = "", store: StoreOption = None, as_json: JsonOption = False
    ) -> None:
        """Show all mailboxes, or the messages of one."""
        with _failures():
            root, settings = place_of(store, config)
            if user:
                path = reader.mailbox(root, user)
                _list_messages(list(enumerate(reader.messages(path), 1)), as_json)
            else:
                # A pattern finds nothing in a folder that may not be read. No mail has come to one not there.
                with suppress(FileNotFoundError):
                    os.scandir(root).close()
                boxes = [reader.summary(path) for path in reader.mailboxes(root)]
                if settings is not None:
                    boxes = _with_quotas(boxes, settings)
                _list_mailboxes(boxes, as_json)

    @app.command()
    def show(
        config: ConfigOption,
        user: Annotated[str, typer.Argument(metavar="USER", help="Mail address.")],
        number: Annotated[str, typer.Argument(help="A number of `list USER`, or last.")] = "last",
        raw: Annotated[bool, typer.Option("--raw", help="Print it as it is stored.")] = False,
        store: StoreOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Print a message: headers, text, what is attached."""
        with _failures():
            messages = reader.messages(reader.mailbox(root_of(store, config), user))
            place = _place(number, len(messages), user)
            stored = messages[place - 1]
            if raw:
                _print_raw(stored)
            elif as_json:
                _print_json(_whole(place, stored, reader.read(stored)))
            else:
                _print_message(place, len(messages), stored, reader.read(stored))

    @app.command()
    def watch(
        config: ConfigOption, user: UserArgument = "", store: StoreOption = None, as_json: JsonOption = False
    ) -> None:
        """Print messages as they arrive, until Ctrl-C."""
        with _failures():
            watcher = Watcher(root_of(store, config), user)
            if not as_json:
                Console(stderr=True).print(
                    f"Waiting for mail{' of ' + user if user else ''}; Ctrl-C ends.", markup=False
                )
            try:
                while True:
                    for address, stored in watcher.poll(time.time()):
                        _announce(address, stored, as_json)
                    time.sleep(POLL)
            except KeyboardInterrupt:
                return

    return app


def _configured(config: str) -> Settings:
    # Imported here: reading a configuration costs more than all the rest of `list`.
    from mta import config as configuration
    from mta.queue_stores import read_configuration

    try:
        # Mail can be read while a certificate is wrong, or a key is not for who reads it.
        settings = read_configuration(config)
    except configuration.ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_CONFIG) from None
    if not settings.store.enabled:
        print(f"tamis: {config} has no embedded store: store.enabled is off", file=sys.stderr)
        raise typer.Exit(EXIT_CONFIG)
    return settings


def _with_quotas(boxes: list[Summary], settings: Settings) -> list[Summary]:
    """With the quotas of the users file: a mailbox has that of its last delivery."""
    from mta.accounts.usersfile import UsersFileError
    from mta.address import AddressError, parse_address
    from mta.store.quota import Quota
    from mta.store.users import UsersFileMailboxes

    default = Quota(settings.store.default_quota, settings.store.default_quota_messages)
    try:
        users = UsersFileMailboxes(
            settings.auth.users_file, Path(settings.store.path), default, on_error=lambda error: None
        )
    except UsersFileError as error:
        print(f"tamis: quotas are those of the last deliveries: {error}", file=sys.stderr)
        return boxes
    found = []
    for box in boxes:
        try:
            info = users.find(parse_address(box.address))
        except AddressError:  # a folder that somebody else has made
            info = None
        found.append(box if info is None else replace(box, quota=info.quota))
    return found


def _list_mailboxes(found: list[Summary], as_json: bool) -> None:
    if as_json:
        _print_json([_box_facts(box) for box in found])
        return
    if not found:
        print("No mail yet.")
        return
    table = Table("User", *(_right(name) for name in ("Messages", "New", "Size", "Quota")))
    for box in found:
        limits = [size(box.quota.octets)] if box.quota.octets else []
        if box.quota.messages:
            limits.append(f"{box.quota.messages} messages")
        table.add_row(
            Text(harmless(box.address)),
            str(box.messages),
            str(box.new),
            size(box.octets),
            ", ".join(limits) or "none",
        )
    console().print(table)


def _list_messages(numbered: list[tuple[int, StoredFile]], as_json: bool) -> None:
    rows = [(number, stored, reader.read(stored)) for number, stored in numbered]
    if as_json:
        _print_json([_facts(number, stored, message) for number, stored, message in rows])
        return
    if not rows:
        print("No messages.")
        return
    in_folders = any(stored.folder for _, stored, _ in rows)
    columns: list[Any] = [_right("#"), "State", "Date", "From", "Subject", _right("Size")]
    table = Table(*columns, *(["Folder"] if in_folders else []))
    for number, stored, message in rows:
        table.add_row(
            str(number),
            stored.state,
            _date(message, stored),
            Text(readable.header_text(message, "from")),
            Text(readable.header_text(message, "subject")),
            size(stored.size),
            *([Text(harmless(stored.folder))] if in_folders else []),
            style="bold" if stored.is_new else "",
        )
    console().print(table)


def _print_message(number: int, count: int, stored: StoredFile, message: Message) -> None:
    console = Console(highlight=False)
    where = f" in {harmless(stored.folder)}" if stored.folder else ""
    console.print(
        Text(f"Message {number} of {count}{where}, {stored.state}, {size(stored.size)}", style="dim")
    )
    for name, value in readable.headers(message):
        console.print(Text.assemble((f"{name}: ", "bold cyan"), value), soft_wrap=True)
    text, attachments = readable.body(message)
    console.print()
    console.print(Text(text), end="", soft_wrap=True)
    for attachment in attachments:
        name = attachment.name or "(no name)"
        console.print(
            Text(f"Attachment: {name}, {attachment.content_type}, {size(attachment.octets)}", style="green"),
            soft_wrap=True,
        )


def _print_raw(stored: StoredFile) -> None:
    octets = stored.path.read_bytes()
    if _is_terminal():
        print(harmless(octets.decode("utf-8", "replace"), lines=True), end="")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(octets)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _announce(address: str, stored: StoredFile, as_json: bool) -> None:
    try:
        message = reader.read(stored)
    except FileNotFoundError:
        return  # a reader was faster
    if as_json:
        print(_json({"user": address, **_facts(None, stored, message)}), flush=True)
        return
    at = time.strftime("%H:%M:%S", time.localtime(stored.received))
    line = Text.assemble(
        (at, "dim"),
        "  ",
        (harmless(address), "bold"),
        f"  from {readable.header_text(message, 'from') or '(nobody)'}: ",
        (readable.header_text(message, "subject") or "(no subject)", "cyan"),
        (f"  {size(stored.size)}", "dim"),
    )
    Console(highlight=False).print(line, soft_wrap=True)


def _box_facts(box: Summary) -> dict[str, Any]:
    return {
        "user": box.address,
        "messages": box.messages,
        "new": box.new,
        "octets": box.octets,
        "quota_octets": box.quota.octets or None,
        "quota_messages": box.quota.messages or None,
    }


def _facts(number: int | None, stored: StoredFile, message: Message) -> dict[str, Any]:
    return {
        **({} if number is None else {"number": number}),
        "state": stored.state,
        "flags": stored.flags,
        "folder": stored.folder,
        "received": stored.received,
        "size": stored.size,
        "file": str(stored.path),
        "date": readable.header_text(message, "date"),
        "from": readable.header_text(message, "from"),
        "subject": readable.header_text(message, "subject"),
    }


def _whole(number: int, stored: StoredFile, message: Message) -> dict[str, Any]:
    text, attachments = readable.body(message)
    return {
        **_facts(number, stored, message),
        "headers": [[harmless(f.name), harmless(f.text)] for f in message.fields if f.name],
        "text": text,
        "attachments": [
            {"name": a.name, "content_type": a.content_type, "octets": a.octets} for a in attachments
        ],
    }


def _place(number: str, count: int, user: str) -> int:
    """The number of a message, 1 to `count`."""
    if number == "last" and count:
        return count
    if number.isdecimal() and 1 <= int(number) <= count:
        return int(number)
    if not count:
        fail(f"{user} has no messages")
    fail(f"{user} has messages 1 to {count}, no {number}")


def _date(message: Message, stored: StoredFile) -> str:
    try:
        at = parsedate_to_datetime(message.text("date") or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        at = stored.received
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _right(name: str) -> Column:
    return Column(name, justify="right")


def _print_json(value: object) -> None:
    print(_json(value, indent=2))


def _json(value: object, indent: int | None = None) -> str:
    """JSON, also where a name of a file or folder is no UTF-8: its octets are escapes such as \\udcff."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except NoMailbox as error:
        fail(f"{error} has no mailbox here, or no message has arrived yet")
    except ValueError as error:
        fail(str(error))
    except BrokenPipeError:
        # The reader of our output has left, as `tamis mailbox list | head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
