"""`tamis sieve`: check, try, test and lay out Sieve scripts in the terminal. No server is needed.

Exit statuses: 0; 1 when a script is wrong, a test failed, or a run ended in an error; 2 for wrong usage.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from mta.cli_exit import EXIT_FAILED, fail
from mta.folders import replacing
from mta.policy.sieve.checking import is_policy
from mta.sieve_files import find_mistakes, in_folders, library
from mta.terminal import harmless
from sieve_ext import (
    Diagnostic,
    Dialect,
    Envelope,
    Event,
    InvalidScript,
    Message,
    Severity,
    execute,
    standard_dialect,
)
from sieve_ext import compile as compile_script
from sieve_ext.formatting import format_script

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Scripts, or folders of them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Library = Annotated[
    Path | None, typer.Option("--library", metavar="FOLDER", help="Where `include` finds NAME.sieve.")
]


def make_app() -> typer.Typer:
    """The sub-command."""
    app = typer.Typer(
        help="Check, try, test and lay out Sieve scripts.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )

    @app.command("check")
    def check_scripts(
        files: Files,
        as_json: Json = False,
        strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
        of_recipient: Annotated[
            bool, typer.Option("--recipient", help="Policy files of domains and users, which may say less.")
        ] = False,
        where: Library = None,
    ) -> None:
        """Report everything that is wrong, as FILE:LINE:COLUMN: for editors.

        Policy files are known by what they require; names of the configuration are left to check-config.
        """
        wrong = False
        for path in in_folders(files, ".sieve", fail):
            found = find_mistakes(_read(path), library(path, where), of_recipient=of_recipient)
            wrong = wrong or any(strict or one.severity is Severity.ERROR for one in found)
            for one in found:
                print(json.dumps({"file": str(path), **_facts(one)}) if as_json else f"{path}:{one}")
            if not found and not as_json:
                print(f"{path}: ok")
        raise typer.Exit(EXIT_FAILED if wrong else 0)

    @app.command()
    def run(
        script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="The script.")],
        message: Annotated[Path, typer.Argument(metavar="MESSAGE", help="A message, - for standard input.")],
        sender: Annotated[str, typer.Option("--from", metavar="ADDRESS", help="Envelope sender.")] = "",
        recipient: Annotated[str, typer.Option("--to", metavar="ADDRESS", help="Envelope recipient.")] = "",
        user: Annotated[str, typer.Option(metavar="NAME", help="The user that sent it.")] = "",
        show_trace: Annotated[
            bool, typer.Option("--trace", help="Show every test with its values and its result.")
        ] = False,
        show_message: Annotated[bool, typer.Option("--message", help="Print the message as edited.")] = False,
        as_json: Json = False,
        where: Library = None,
    ) -> None:
        """Run a script on a message and print what would be done; nothing is done."""
        text = _read(script)
        if is_policy(text):
            fail(f"{script}: a policy file is tried by `tamis explain`, or by a test for `tamis sieve test`")
        octets = sys.stdin.buffer.read() if str(message) == "-" else _read(message)
        octets = octets if b"\r\n" in octets else octets.replace(b"\n", b"\r\n")
        try:
            compiled = compile_script(text, standard_dialect(), store=library(script, where))
        except InvalidScript as invalid:
            _print_all(script, invalid.diagnostics)
            raise typer.Exit(EXIT_FAILED) from invalid
        _print_all(script, compiled.warnings)
        result = execute(
            compiled,
            Message(octets),
            Envelope(sender, recipient, user=user),
            trace=_show if show_trace else None,
        )
        for fault in result.errors:
            print(f"{script}:{harmless(str(fault))}", file=sys.stderr)
        actions = list(result.all_actions)
        if as_json:
            print(json.dumps({"actions": [_action(action) for action in actions], "failed": result.failed}))
        else:
            for action in actions:
                is_implicit = action is result.implicit_keep
                print(harmless(action.describe()) + ("  (implicit)" if is_implicit else ""))
            if not actions:
                print("nothing: the message is discarded")
        for note in result.notes:
            print(f"{script}:{harmless(str(note))}", file=sys.stderr)
        if show_message and result.message is not None:
            _print_octets(b"".join(result.message.chunks()))
        raise typer.Exit(EXIT_FAILED if result.failed else 0)

    @app.command()
    def test(
        files: Files,
        expect_failure: Annotated[bool, typer.Option("-F", "-X", help="Every test must fail.")] = False,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only what failed.")] = False,
        show_trace: Annotated[
            bool, typer.Option("--trace", help="Show every test with its values and its result.")
        ] = False,
    ) -> None:
        """Run tests of scripts: files in the language vnd.dovecot.testsuite (NAME.svtest).

        Those that require vnd.tamis.testsuite try policy files, stage by stage.
        """
        from sieve_ext.testsuite import run_file

        passed = failed = 0
        for path in in_folders(files, ".svtest", fail):
            report = run_file(
                path,
                expect_failure=expect_failure,
                dialect=_dialect_of(path),
                trace=_show if show_trace else None,
            )
            passed, failed = passed + report.passed, failed + (not report.passed)
            if not report.passed or not quiet:
                print(report.text())
            for error in report.errors:
                print(error, file=sys.stderr)
        if passed + failed > 1:
            print(f"{passed} of {passed + failed} files passed")
        raise typer.Exit(EXIT_FAILED if failed else 0)

    @app.command("format")
    def format_scripts(
        files: Files,
        only_check: Annotated[
            bool, typer.Option("--check", help="Change nothing; fail if something would change.")
        ] = False,
    ) -> None:
        """Lay scripts out: one command a line, four blanks a block. - is standard input and output."""
        wrong = False
        if [str(path) for path in files] == ["-"]:
            sys.stdout.buffer.write(_laid_out(Path("-"), sys.stdin.buffer.read()))
            return
        for path in in_folders(files, ".sieve", fail):
            before = _read(path)
            after = _laid_out(path, before)
            if after == before:
                continue
            wrong = True
            if only_check:
                print(f"{path}: would change")
            else:
                _write(path, after)
                print(f"{path}: laid out")
        raise typer.Exit(EXIT_FAILED if wrong and only_check else 0)

    @app.command()
    def extensions(as_json: Json = False) -> None:
        """List what scripts may require, with what specifies it."""
        capabilities = sorted(standard_dialect().capabilities.values(), key=lambda one: one.name)
        if as_json:
            print(json.dumps([{"name": c.name, "specification": c.specification} for c in capabilities]))
            return
        table = Table(
            Column("capability"),
            Column("specification", overflow="fold"),
            Column("for"),
            box=None,
            pad_edge=False,
        )
        for one in capabilities:
            table.add_row(
                one.name or "(always there)",
                one.specification,
                "trusted scripts" if one.is_privileged else "all",
            )
        Console(highlight=False).print(table)

    @app.command("language-server")
    def language_server() -> None:
        """Speak to an editor (LSP over standard input and output): errors as you type, layout."""
        from mta.sieve_lsp import LanguageServer

        raise typer.Exit(LanguageServer(sys.stdin.buffer, sys.stdout.buffer).run())

    return app


def _dialect_of(path: Path) -> Dialect | None:
    """That of a test file; the words of policy files are loaded for those alone that try some."""
    if b"vnd.tamis.testsuite" not in _read(path):
        return None
    from mta.policytest.words import policytest_dialect

    return policytest_dialect()


def _print_octets(octets: bytes) -> None:
    """A message as it is, into a file or a pipe; the sender's escape sequences do not reach a terminal."""
    if sys.stdout.isatty():
        print(harmless(octets.decode("utf-8", "replace"), lines=True), end="")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(octets)


def _show(event: Event) -> None:
    """A line of a trace."""
    parts = [f"{event.script or ''}{event.position.line}:{event.position.column}", event.kind, event.word]
    if event.values or event.keys:
        parts.append(f"{list(event.values)} against {list(event.keys)}")
    if event.kind == "test":
        parts.append(f"-> {'true' if event.result else 'false'}")
    print(" ".join(parts), file=sys.stderr)


def _action(action: Any) -> dict[str, Any]:
    return {"action": action.name, "text": action.describe()}


def _facts(one: Diagnostic) -> dict[str, Any]:
    return {**asdict(one), "severity": one.severity.value}


def _print_all(path: Path, diagnostics: Iterable[Diagnostic]) -> None:
    for one in diagnostics:
        print(f"{path}:{one}", file=sys.stderr)


def _laid_out(path: Path, text: bytes) -> bytes:
    try:
        return format_script(text)
    except InvalidScript as invalid:
        _print_all(path, invalid.diagnostics)
        raise typer.Exit(EXIT_FAILED) from invalid


def _write(path: Path, text: bytes) -> None:
    """Put a text in the place of what is there: a script is the old one or the new one, whatever happens."""
    try:
        with replacing(path.resolve(), like=path.stat()) as file:
            file.write(text)
    except OSError as error:
        fail(f"{path}: {error.strerror or error}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{path}: {error.strerror or error}")
