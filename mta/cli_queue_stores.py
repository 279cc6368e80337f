"""`tamis queue export|import|streams|probe|fsck`: messages as files, and the stores themselves.

All but `export` open the stores, whether a server runs or not. Exit statuses of `fsck`: 0 nothing is wrong,
1 it could not look, 3 something is damaged but no message is lost, 4 messages cannot be read any more, or it
cannot be told which there were.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

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
    chosen,
    failures,
    printable,
    require_whole,
    with_missing,
)
from mta.mailq.listing import short

if TYPE_CHECKING:
    from mailqueue.fsck import Report
    from mailqueue.inspect import StreamInfo
    from mta import config as configuration
    from mta.queue_import import Imported

EXIT_DAMAGED = 3
EXIT_LOST = 4


def add_commands(app: typer.Typer, open_queue: Open) -> None:
    """Add these commands to `tamis queue`."""
    app.command("export")(_export_command(open_queue))
    app.command("import")(import_command)
    app.command("streams")(streams_command)
    app.command("probe")(probe_command)
    app.command("fsck")(fsck_command)


def _export_command(open_queue: Open) -> Callable[..., None]:
    def export_command(
        config: ConfigOption,
        folder: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the files go.")],
        ids: IdsArgument = None,
        words: FilterOption = None,
        everything: AllOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Copy messages into files, ID.eml and ID.json; they stay in the queue."""
        from mta.queue_export import ExportError, export

        with failures():
            wanted = chosen(ids, words, everything)
            _prepare_folder(folder, config)
            queue = open_queue(config)
            names = list(ids or ()) or [row.id for row in queue.rows(wanted)]
            with queue.reading():
                done, problems = _each(queue, names, lambda name: export(queue, name, folder), ExportError)
            if as_json:
                facts = {"folder": str(folder), "done": done, "problems": problems}
                print(json.dumps(with_missing(facts, queue)))
            else:
                print(f"export: {_count(done)} in {folder}")
            for problem in problems:
                print(f"tamis: {problem}", file=sys.stderr)
            require_whole(queue)
            if problems:
                raise typer.Exit(1)

    return export_command


def _each(
    queue: Access, names: Sequence[str], work: Callable[[str], None], problem: type[Exception]
) -> tuple[list[str], list[str]]:
    from mta.spool.remote import QueueProblem

    progress = Progress("messages")
    done: list[str] = []
    problems: list[str] = []
    for number, name in enumerate(names, 1):
        try:
            work(name)
            done.append(name)
        except problem as error:
            progress.end()
            fail(str(error))
        except QueueProblem as error:
            problems.append(f"{name}: {error}")  # it was delivered meanwhile
        progress.update(number, len(names))
    progress.end()
    return done, problems


def _prepare_folder(folder: Path, config: str) -> None:
    """Make it, for the user who will write there: that of a stopped server is not root."""
    import os

    from mta.folders import make_folder, opened_folder
    from mta.queue_stores import server_account

    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    if not missing:
        return
    account = server_account(_settings(config)) if os.geteuid() == 0 else None
    owner = None if account is None else (account.uid, account.gid)
    try:
        for path in reversed(missing):
            with opened_folder(path.parent) as above:
                if path == folder:
                    make_folder(above, path.name, 0o700, owner)
                else:
                    make_folder(above, path.name, 0o755)
    except OSError as error:
        fail(f"{path}: {error.strerror}")


def import_command(
    config: ConfigOption,
    paths: Annotated[list[Path], typer.Argument(metavar="DIR|FILE...", help="What `export` has written.")],
    as_json: JsonOption = False,
) -> None:
    """Put messages from files into the queue; they keep their ids."""
    from mta.queue_import import ImportProblem, find_files, import_all

    with failures():
        try:
            files = find_files(paths)
        except ImportProblem as problem:
            fail(str(problem))
        if not files:
            fail("no messages there: they are files ID.json with ID.eml beside them")
        progress = Progress("messages")
        results: list[Imported] = []

        def done(result: Imported) -> None:
            results.append(result)
            progress.update(len(results), len(files))

        try:
            import_all(_settings(config), files, time.time, done)
        finally:
            progress.end()
            _report_import(results, as_json)
        if any(result.problem for result in results):
            raise typer.Exit(1)


def _report_import(results: Sequence[Imported], as_json: bool) -> None:
    new = [result.id for result in results if result.id and not result.was_there]
    there = [result.id for result in results if result.was_there]
    problems = [result.problem for result in results if result.problem]
    if as_json:
        print(json.dumps({"done": new, "were_there": there, "problems": problems}))
    else:
        print(f"import: {_count(new)}" + (f", {len(there)} were in the queue before" if there else ""))
    for problem in problems:
        print(f"tamis: {problem}", file=sys.stderr)


def streams_command(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show which process of which node owns what in the stores, and how far its log has come."""
    with failures():
        settings = _settings(config)
        streams, messages = _with_stores(settings, _list_streams)
        now = time.time()
        shown = [
            stream_facts(stream, messages.get(stream.name, 0), now, settings.queue.takeover)
            for stream in streams
        ]
        if as_json:
            for facts in shown:
                print(json.dumps(facts))
            return
        console = Console(highlight=False, markup=False)
        if not shown:
            console.print("Nobody has kept mail here yet.")
        for facts in shown:
            for line in stream_lines(facts):
                console.print(printable(line), soft_wrap=True)


async def _list_streams(store: Any) -> tuple[list[StreamInfo], Counter[str]]:
    from mailqueue.inspect import Inspection, list_streams
    from mta.queue_stores import require_queue

    await require_queue(store)
    inspection = await Inspection.open(store)
    return await list_streams(store), Counter(name for name, _ in inspection.messages())


def stream_facts(stream: StreamInfo, messages: int, now: float, takeover: float) -> dict[str, Any]:
    """What is told of a stream that holds so many messages. `now` and ages are by this machine's clock."""
    beat, announced = stream.beat, stream.announced
    age = None if beat is None else max(0.0, now - beat.at)
    if stream.is_retired:
        state = "adopted"
    elif beat is not None and beat.closed:
        state = "closed"
    elif age is None or age > takeover:
        state = "silent"
    else:
        state = "alive"
    return {
        "stream": stream.name,
        "node": "" if announced is None else announced.node,
        "pid": 0 if announced is None else announced.pid,
        "started": None if announced is None else announced.at,
        "state": state,
        "heartbeat_age": age,
        "messages": messages,
        "entries": stream.entries,
        "last_entry": stream.last,
        "snapshot": stream.snapshot,
        "lag": stream.lag,
        "adopted_by": _takers(stream),
        "leases": {str(part): epoch for part, epoch in sorted(stream.leases.items())},
    }


def _takers(stream: StreamInfo) -> dict[str, int]:
    """How many sixteenths each has adopted."""
    takers: dict[str, int] = {}
    for taker in stream.retired.values():
        takers[taker] = takers.get(taker, 0) + 1
    return takers


def stream_lines(facts: dict[str, Any]) -> list[str]:
    """A stream for the terminal."""
    who = f"{facts['node'] or 'node unknown'}, process {facts['pid']}"
    lines = [f"{facts['stream']}  {facts['state']:<7}  {who}"]
    age = facts["heartbeat_age"]
    words = [] if age is None else [f"last sign of life {short(age)} ago"]
    if facts["state"] != "adopted":
        words.append(f"{facts['messages']} message{'' if facts['messages'] == 1 else 's'}")
        words.append(f"{facts['lag']} of {facts['entries']} log entries since the snapshot")
    if words:
        lines.append(f"    {', '.join(words)}")
    for taker, parts in facts["adopted_by"].items():
        lines.append(f"    {parts} of 16 parts adopted by {taker}")
    if facts["leases"] and facts["state"] != "adopted":
        lines.append(f"    claimed: {len(facts['leases'])} of 16 parts")
    return lines


def probe_command(config: ConfigOption) -> None:
    """Try whether the stores keep the rules that the queue depends on. Writes under probe/, and cleans up."""
    from mailqueue.store.probe import probe

    with failures():
        settings = _settings(config)

        async def run(store: Any) -> str:
            await probe(store, lambda text: print(printable(text)))
            return str(store.name)

        print(f"{printable(_with_stores(settings, run, new=True))}: ok")


def fsck_command(
    config: ConfigOption,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Copy what is damaged to corrupt/ in the store.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check everything in the stores: log, snapshots, each message. The server may run."""
    from mailqueue.fsck import fsck

    with failures():
        progress = Progress("objects")
        settings = _settings(config)
        try:
            report = _with_stores(
                settings, lambda store: fsck(store, quarantine=quarantine, progress=progress.update)
            )
        finally:
            progress.end()
        _report_check(report, as_json)
        if any(finding.lost for finding in report.findings):
            raise typer.Exit(EXIT_LOST)
        if not report.is_sound:
            raise typer.Exit(EXIT_DAMAGED)


def _report_check(report: Report, as_json: bool) -> None:
    counts = {
        "entries": report.entries,
        "snapshots": report.snapshots,
        "messages": report.messages,
        "bodies": report.bodies,
    }
    if as_json:
        findings = [
            {"key": finding.key, "problem": finding.problem, "lost": finding.lost}
            for finding in report.findings
        ]
        print(json.dumps({**counts, "findings": findings}))
        return
    for finding in report.findings:
        lost = " (mail is lost, or may be)" if finding.lost else ""
        print(printable(f"{finding.key}: {finding.problem}{lost}"))
    seen = ", ".join(f"{number} {what}" for what, number in counts.items())
    print(f"{seen}: {'ok' if report.is_sound else f'{len(report.findings)} problems'}")


def _with_stores(settings: configuration.Config, work: Callable[[Any], Any], *, new: bool = False) -> Any:
    from mta.queue_stores import become_server_user, opened_stores

    become_server_user(settings)

    async def run() -> Any:
        async with opened_stores(settings, new=new) as store:
            return await work(store)

    return asyncio.run(run())


def _settings(config: str) -> configuration.Config:
    from mta.queue_stores import read_configuration

    return read_configuration(config)


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} message{'' if len(names) == 1 else 's'}"
