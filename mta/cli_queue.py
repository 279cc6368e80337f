"""`tamis queue`: look into the queue and work on it, of a running server or of a stopped one.

Messages are named by their ids, or by filter words such as `sender=alice@example.org older=2h` (`--filter` on
commands that change something, so that nothing is done to all by a slip). A running server is asked over its
control socket; when none runs, its stores are opened. Exit statuses: 0; 1 when something could not be done,
above all to an id that was named; 2 for wrong usage; 78 when the configuration is wrong.
"""

from __future__ import annotations

import codecs
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from mta.address import AddressError, parse_address
from mta.cli_console import console
from mta.cli_exit import fail
from mta.cli_progress import Progress
from mta.cli_queue_common import (
    Access,
    AllOption,
    ConfigOption,
    FilterOption,
    IdsArgument,
    JsonOption,
    Open,
    WordsArgument,
    checked_words,
    chosen,
    failures,
    printable,
    require_whole,
    with_missing,
)
from mta.cli_queue_stores import add_commands
from mta.config.units import format_duration
from mta.mailq.listing import Listing, short, size
from mta.mailq.postqueue import postqueue_text
from mta.mailq.rows import QueueRow
from mta.mailq.shape import shape, shape_table

STATS_ROWS = 100
"""Rows of a table of `tamis queue stats`: more are nothing to look at, and take minutes to lay out."""


def make_app(open_queue: Open) -> typer.Typer:
    """The sub-command."""
    app = typer.Typer(
        help="Look into the queue and work on it.", no_args_is_help=True, pretty_exceptions_enable=False
    )

    @app.command("list")
    def list_queue(
        config: ConfigOption,
        words: WordsArgument = None,
        more: FilterOption = None,
        as_json: JsonOption = False,
        mailq: Annotated[bool, typer.Option("--mailq", help="Print it as Postfix's mailq does.")] = False,
    ) -> None:
        """Show the messages that wait."""
        with failures():
            wanted = checked_words([*(words or ()), *(more or ())])
            queue = open_queue(config)
            if as_json:
                for row in queue.rows(wanted):
                    print(json.dumps(msgspec.to_builtins(row)))
                if queue.missing:
                    print(json.dumps(with_missing({}, queue)))
            else:
                rows = sorted(_counted(queue.rows(wanted)), key=lambda row: row.arrived)
                if not rows and queue.missing:
                    pass  # whether there are none is not known
                elif mailq:
                    for line in postqueue_text(rows):
                        print(line)
                else:
                    _print_list(rows, bool(wanted))
            require_whole(queue)

    @app.command()
    def show(
        config: ConfigOption,
        name: Annotated[str, typer.Argument(metavar="ID", help="The message.")],
        as_json: JsonOption = False,
        headers: Annotated[bool, typer.Option("--headers", help="Its header only.")] = False,
        raw: Annotated[bool, typer.Option("--raw", help="Its octets.")] = False,
    ) -> None:
        """Show a message: envelope, what was tried, header."""
        with failures():
            queue = open_queue(config)
            if raw:
                _print_raw(queue.octets(name))
                return
            facts = queue.show(name)
            if as_json:
                print(json.dumps(facts))
            elif headers:
                print(_for_output(facts["header"].replace("\r\n", "\n")), end="")
            else:
                _print_message(facts)

    @app.command()
    def stats(
        config: ConfigOption,
        as_json: JsonOption = False,
        senders: Annotated[bool, typer.Option("--senders", help="Count by domain of the sender.")] = False,
        most: Annotated[
            int, typer.Option("--most", min=0, help="Rows of each table, those with most mail; 0 for all.")
        ] = STATS_ROWS,
    ) -> None:
        """Show how many messages wait, by destination and age, and how next hops do."""
        with failures():
            queue = open_queue(config)
            counted = shape(_counted(queue.rows(())), time.time(), senders=senders)
            missing = dict(queue.missing)
            workers = queue.stats()
            queue.missing |= missing
            if as_json:
                facts = {"bounds": counted.bounds, "domains": counted.domains, "workers": workers}
                print(json.dumps(with_missing(facts, queue)))
            else:
                out = console(highlight=False)
                out.print(shape_table(counted, most))
                hops = _hops(workers, most)
                if hops.row_count:
                    out.print()
                    out.print(hops)
            require_whole(queue)

    def command(action: str, text: str) -> None:
        @app.command(action, help=text)
        def run(
            config: ConfigOption,
            ids: IdsArgument = None,
            words: FilterOption = None,
            everything: AllOption = False,
            as_json: JsonOption = False,
        ) -> None:
            with failures():
                wanted = chosen(ids, words, everything)
                _act(open_queue(config), action, ids or [], wanted, as_json)

    command("retry", "Try messages now.")
    command("hold", "Keep messages from being tried until they are released.")
    command("release", "Let messages be tried that are on hold.")
    command("delete", "Delete messages; nobody is told.")
    command("bounce", "Give messages up now; their senders are told.")

    @app.command()
    def redirect(
        config: ConfigOption,
        to: Annotated[str, typer.Option("--to", metavar="ADDRESS", help="Who gets them instead.")],
        ids: IdsArgument = None,
        words: FilterOption = None,
        everything: AllOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Send messages to another address instead."""
        with failures():
            wanted = chosen(ids, words, everything)
            try:
                parse_address(to)
            except AddressError as error:
                raise typer.BadParameter(f"--to: {to!r} is no address: {error}") from error
            _act(open_queue(config), "redirect", ids or [], wanted, as_json, to)

    @app.command()
    def flush(
        config: ConfigOption,
        site: Annotated[str, typer.Argument(metavar="NEXT-HOP", help="As `stats` names it.")] = "",
    ) -> None:
        """Try now all that waits, for one next hop or for all."""
        with failures():
            queue = open_queue(config)
            number = queue.flush(site)
            missing = dict(queue.missing)
            workers = queue.stats()
            queue.missing |= missing
            if site and not number and not queue.missing:
                fail(_nothing_for(site, workers))
            when = "now" if workers else "when a server starts"
            print(f"{number} message{'' if number == 1 else 's'} will be tried {when}")
            require_whole(queue)

    add_commands(app, open_queue)
    return app


def _nothing_for(site: str, workers: dict[str, dict[str, Any]]) -> str:
    """That no message waits for a next hop, and for which there are some: it may be misspelt."""
    counts: Counter[str] = Counter()
    for facts in workers.values():
        counts.update({name: one["messages"] for name, one in facts["sites"].items() if one["messages"]})
    others = ", ".join(name for name, _ in counts.most_common(5) if name)
    return f"no message waits for {site}" + (f"; messages wait for {others}" if others else "")


def _act(
    queue: Access, action: str, ids: Sequence[str], words: Sequence[str], as_json: bool, to: str = ""
) -> None:
    progress = Progress("messages")
    done: list[str] = []
    for name in queue.act(action, ids, words, to):
        done.append(name)
        progress.update(len(done))
    progress.end()
    if as_json:
        print(json.dumps(with_missing({"action": action, "done": done}, queue)))
    else:
        print(f"{action}: {len(done)} message{'' if len(done) == 1 else 's'}")
    require_whole(queue)
    left = sorted(set(ids) - set(done))
    if left:
        fail(f"nothing to {action} of {', '.join(left)}")


def _counted(rows: Iterable[QueueRow]) -> Iterator[QueueRow]:
    """The same rows; how many have come is shown meanwhile."""
    progress = Progress("messages")
    try:
        for number, row in enumerate(rows, 1):
            progress.update(number)
            yield row
    finally:
        progress.end()


def _print_list(rows: Sequence[QueueRow], some: bool) -> None:
    out = Console(highlight=False)  # laid out for 80 columns, also in a mail
    if not rows:
        out.print("No message in the queue matches." if some else "The queue is empty.")
        return
    nodes = len({row.node for row in rows}) > 1
    out.print(Listing(rows, time.time(), nodes=nodes))
    octets = sum(row.size for row in rows)
    out.print(f"{len(rows)} message{'' if len(rows) == 1 else 's'}, {size(octets)}")


def _print_raw(octets: Iterable[bytes]) -> None:
    if sys.stdout.isatty():
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for some in octets:
            print(_for_output(decoder.decode(some).replace("\r", "")), end="")
        return
    sys.stdout.flush()
    for some in octets:
        sys.stdout.buffer.write(some)


def _for_output(text: str) -> str:
    """As it is for a pipe or a file; a sender's escape sequences do not reach a terminal."""
    return "\n".join(map(printable, text.split("\n"))) if sys.stdout.isatty() else text


def _print_message(facts: dict[str, Any]) -> None:
    out = console(highlight=False, markup=False)
    row = facts["row"]
    now = time.time()
    out.print(f"Message {row['id']}, {size(row['size'])}, in the queue for {short(now - row['arrived'])}")
    out.print(printable(f"From <{row['sender']}>"))
    for recipient, more in zip(row["recipients"], facts["recipients"], strict=True):
        tried = _tries(recipient, more, now)
        out.print(printable(f"To <{recipient['address']}>: {recipient['status']}, {tried}"))
        if recipient["reply"]:
            out.print(f"    {printable(recipient['reply'])}")
        if more.get("by"):
            out.print(f"    said by {printable(more['by'])}")
        tries = [one for one in facts.get("tries", ()) if one["to"] == recipient["address"]]
        if tries and (cause := tries[-1].get("cause")):  # the last reply is above
            out.print(f"    {printable(f'({cause})')}")
        for one in tries[:-1]:
            said = ", ".join(part for part in (one["peer"], one.get("cause")) if part)
            why = f" ({said})" if said else ""
            out.print(f"    {short(max(0.0, now - one['at']))} ago: {printable(one['reply'] + why)}")
    out.print(f"Given up in {short(max(0.0, facts['expires'] - now))}, priority {facts['priority']}")
    origin = facts.get("origin")
    if origin:
        who = f", user {origin['user']}" if origin["user"] else ""
        out.print(printable(f"Came in as {origin['transaction']} from {origin['client'] or 'here'}{who}"))
    if "problem" in facts:
        out.print(printable(f"Problem: {facts['problem']}"))
    out.print()
    for line in facts["header"].replace("\r\n", "\n").splitlines():
        out.print(printable(line))


def _tries(recipient: dict[str, Any], more: dict[str, Any], now: float) -> str:
    tried = f"tried {more['attempts']} time{'' if more['attempts'] == 1 else 's'}"
    if more["last"]:
        tried += f", last {short(max(0.0, now - more['last']))} ago"
    if recipient["next_try"] is not None:
        wait = recipient["next_try"] - now
        tried += f", next {'in ' + short(wait) if wait > 0 else 'now'}"
    return f"{tried}, by {more['site'] or 'no known next hop'}"


def _hops(workers: dict[str, dict[str, Any]], most: int) -> Table:
    table = Table(
        Column("next hop"), Column("messages", justify="right"), Column("under way", justify="right"),
        Column("at most", justify="right"), Column("state", overflow="fold"), box=None, pad_edge=False,
    )  # fmt: skip
    hops = [item for facts in workers.values() for item in facts["sites"].items()]
    # A row is a site, for that is what answers or does not; a worker that has not tried it may not know it.
    sites = {name: hop["site"] for name, hop in hops if hop.get("site", name) != name}
    waiting = dict.fromkeys((name for facts in workers.values() for name in facts["hops"]), 0)
    for name, hop in hops:
        site = sites.get(name, name)
        waiting[site] = waiting.get(site, 0) + hop["messages"]
    names = sorted(waiting, key=lambda name: (-waiting[name], name))
    shown = names[:most] if most else names
    now = time.time()
    for name in shown:
        known = [facts["hops"][name] for facts in workers.values() if name in facts["hops"]]
        dead = [hop for hop in known if hop["dead_until"] is not None]
        state = ""
        if dead:
            wait = max(0.0, min(hop["dead_until"] for hop in dead) - now)
            state = f"does not answer, next look in {format_duration(round(wait))}: {dead[0]['reason']}"
        table.add_row(
            Text(printable(name) or "(none)"),
            str(waiting[name]),
            str(sum(hop["in_flight"] for hop in known)),
            str(sum(hop["window"] for hop in known)),
            Text(printable(state)),  # what the next hop said is no markup
        )
    if rest := names[len(shown) :]:
        table.add_row(f"{len(rest)} more", str(sum(waiting[name] for name in rest)), style="dim")
    return table
