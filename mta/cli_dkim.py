"""`tamis dkim`: keys for signatures, from their making to their end.

    tamis dkim new example.org       makes keys and prints the records to publish
    tamis dkim rotate example.org    goes as far as the DNS allows; to be run again until all is done
    tamis dkim rotate example.org --begin    makes new keys to replace those that sign
    tamis dkim delete example.org NAME    deletes a key that was made by mistake
    tamis dkim test                  compares all keys with the DNS; exit status 1 when one is wrong

Exit codes: 0, 1 when something is wrong or the DNS does not answer, 2 for wrong usage, 78 when the files of
the keys cannot be used (EX_CONFIG of sysexits.h). Errors go to standard error; `--json` is for programs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.table import Table

from mta.authn.dkim import DkimResult, verify
from mta.authn.dkimfolder import KeyFolder, check_domain
from mta.authn.dkimkey import MAX_RSA_BITS, fetch_keys
from mta.authn.dkimkeys import ALGORITHMS, DEFAULT_RSA_BITS, KeyFileError, SigningKey, check_selector
from mta.authn.dkimrecord import Comparison, Published, compare, record_name, record_text, zone_line
from mta.authn.dkimrotate import SETTLE, KeyEntry, KeyState, Step, advance, is_resting, types_to_renew
from mta.authn.dkimsign import sign
from mta.cli_console import console
from mta.cli_exit import EXIT_CONFIG
from mta.folders import Owner
from mta.net.resolver.base import Resolver
from mta.net.resolver.server import Address
from mta.net.resolver.stub import Stub
from mta.net.resolver.system import system_resolvers
from sieve_ext.message import Message

EXIT_REFUSED = 1
TIMEOUT = 10.0
"""Seconds for all questions of a command together."""
SMALLEST_RSA = 2048
"""Bits that a new RSA key has at least (RFC 8301 section 3.2: signers should)."""

T = TypeVar("T")

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="DIR",
        help="The folder of the keys; default: signing.keys, or dkim beside the configuration.",
    ),
]
DomainArgument = Annotated[str, typer.Argument(metavar="DOMAIN", help="The domain that signs.")]
ResolverOption = Annotated[
    str,
    typer.Option(
        "--resolver", metavar="ADDRESS[:PORT]", help="The DNS server to ask; default: those of the system."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def make_app(default_folder: Callable[[], Path], owner: Callable[[], Owner | None]) -> typer.Typer:
    """The sub-command; `default_folder` names the folder when no --keys is given.

    `owner` says who gets what root makes (`KeyFolder`), and may raise ValueError.
    """
    app = typer.Typer(help="Manage the keys of DKIM.", no_args_is_help=True, pretty_exceptions_enable=False)

    def locate(folder: Path | None) -> KeyFolder:
        try:
            return KeyFolder(folder if folder is not None else default_folder(), owner())
        except ValueError as error:
            _refuse(str(error), EXIT_CONFIG)

    @app.command()
    def new(
        domain: DomainArgument,
        keys: FolderOption = None,
        kind: Annotated[
            str, typer.Option("--type", metavar="TYPE", help="rsa, ed25519, or both: one key of each.")
        ] = "both",
        selector: Annotated[
            str, typer.Option(metavar="NAME", help="The name of the key; default: today's date and the type.")
        ] = "",
        bits: Annotated[int, typer.Option(metavar="BITS", help="Size of an RSA key.")] = DEFAULT_RSA_BITS,
    ) -> None:
        """Make keys, readable by their owner only, and print the records to publish."""
        name = _domain(domain)
        kinds = _kinds(kind)
        if selector and len(kinds) > 1:
            _refuse("a selector is the name of one key: give --type too", 2)
        if not SMALLEST_RSA <= bits <= MAX_RSA_BITS:
            _refuse(f"an RSA key has from {SMALLEST_RSA} to {MAX_RSA_BITS} bits", 2)
        folder = locate(keys)
        with _files():
            had = sorted(entry.selector for entry in folder.entries(name) if entry.type in kinds)
            made = folder.create(name, kinds, _selector(selector) if selector else "", bits, time.time())
            for entry in made:
                typer.echo(zone_line(folder.key(name, entry)))
        if had:
            old = ", ".join(had)
            replace = f"tamis dkim rotate {name} --begin"
            typer.echo(f"note: {name} had {old} before; to replace keys: {replace}", err=True)
        typer.echo(f"publish this, then: tamis dkim rotate {name}", err=True)

    @app.command("list")
    def list_keys(
        domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="One domain only.")] = "",
        keys: FolderOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Show all keys and where they are in their life."""
        folder = locate(keys)
        rows = []
        with _files():
            for name in [_domain(domain)] if domain else folder.domains():
                rows += [(name, entry) for entry in folder.entries(name)]
            if domain and not rows:
                there = ", ".join(one for one in folder.domains() if folder.entries(one))
                _refuse(f"there are no keys for {_domain(domain)}; there are some for {there or 'no domain'}")
        if as_json:
            typer.echo(json.dumps([_facts(name, entry) for name, entry in rows], indent=2))
            return
        table = Table("Domain", "Selector", "Type", "State", "Since (UTC)")
        for name, entry in rows:
            table.add_row(name, entry.selector, entry.type, entry.state.value, _moment(entry.since))
        console().print(table)

    @app.command()
    def record(
        domain: DomainArgument,
        selector: Annotated[str, typer.Argument(metavar="SELECTOR", help="One key only.")] = "",
        keys: FolderOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Print the DNS records of a domain's keys as lines of a zone file."""
        folder, name = locate(keys), _domain(domain)
        with _files():
            chosen = _chosen(folder, name, selector)
            if as_json:
                facts = [
                    {"name": record_name(name, one.selector), "type": "TXT", "text": record_text(one)}
                    for one in chosen
                ]
                typer.echo(json.dumps(facts, indent=2))
                return
            for one in chosen:
                typer.echo(zone_line(one))

    @app.command()
    def rotate(
        domain: DomainArgument,
        keys: FolderOption = None,
        resolver: ResolverOption = "",
        begin: Annotated[
            bool, typer.Option("--begin", help="Make new keys to replace those that sign.")
        ] = False,
        at_once: Annotated[
            bool, typer.Option("--at-once", help="Sign with a new key as soon as its record is seen.")
        ] = False,
    ) -> None:
        """Move a domain's keys on as far as the DNS allows; with --begin, begin to replace them."""
        folder, name = locate(keys), _domain(domain)
        with _files():
            entries = folder.entries(name)
            if not entries:
                _refuse(f"{name} has no keys; make some with: tamis dkim new {name}")
            if begin and not is_resting(entries):
                _refuse("keys are being replaced already; go on without --begin")
            if is_resting(entries) and not begin:
                typer.echo("nothing to do: all keys sign; --begin replaces them")
                return
            if begin:
                made = folder.create(name, types_to_renew(entries), "", DEFAULT_RSA_BITS, time.time())
                typer.echo("new keys are made; publish this:", err=True)
                for entry in made:
                    typer.echo(zone_line(folder.key(name, entry)))
                return
            with folder.locked(name):
                step = _advance(folder, name, resolver, settle=0 if at_once else SETTLE)
                folder.write(name, step.entries, step.gone)
            for event in step.events:
                typer.echo(event)
            for entry in step.entries:
                if entry.state is KeyState.NEW:
                    typer.echo(zone_line(folder.key(name, entry)))
        if not step.events:
            typer.echo("nothing to do now")
        if step.problem:
            raise typer.Exit(EXIT_REFUSED)

    @app.command()
    def delete(
        domain: DomainArgument,
        selector: Annotated[str, typer.Argument(metavar="SELECTOR", help="The name of the key.")],
        keys: FolderOption = None,
        resolver: ResolverOption = "",
        force: Annotated[bool, typer.Option("--force", help="Also a key in use.")] = False,
    ) -> None:
        """Delete a key that was made by mistake: one that does not sign and has no record."""
        folder, name, label = locate(keys), _domain(domain), _selector(selector)
        with _files(), folder.locked(name):
            entries = folder.entries(name)
            doomed = [entry for entry in entries if entry.selector == label]
            if not doomed:
                _refuse(f"{name} has no key {label}")
            if not force:
                _refuse_in_use(folder, name, doomed[0], resolver)
            folder.write(name, [entry for entry in entries if entry not in doomed], doomed)
        typer.echo(f"{label} is deleted")

    @app.command()
    def test(
        domains: Annotated[
            list[str] | None, typer.Argument(metavar="DOMAIN", help="Default: all domains.")
        ] = None,
        keys: FolderOption = None,
        resolver: ResolverOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Compare keys with what is published, and verify a signature of each that signs."""
        folder = locate(keys)
        with _files():
            names = [_domain(each) for each in domains] if domains else folder.domains()
            found = [one for name in names for one in _tested(folder, name, resolver)]
        for line in [json.dumps(found, indent=2)] if as_json else map(_line, found):
            typer.echo(line)
        lacking = sorted({*map(_domain, domains or ())} - {one["domain"] for one in found})
        if lacking or not found:  # of a folder with another name nothing is wrong either
            _refuse(f"there are no keys {f'for {lacking[0]} ' if lacking else ''}in {folder.path}")
        if any(one["wrong"] for one in found):
            raise typer.Exit(EXIT_REFUSED)

    return app


def _refuse_in_use(folder: KeyFolder, domain: str, entry: KeyEntry, resolver: str) -> None:
    """Refuse to delete a key that signs, or that the DNS has or may have."""
    if entry.state is KeyState.ACTIVE:
        _refuse(f"{entry.selector} signs; to replace it: tamis dkim rotate {domain} --begin, or add --force")
    seen = _asked(resolver, [folder.key(domain, entry)])[entry.selector]
    if seen.state not in (Published.ABSENT, Published.REVOKED):
        found = seen.reason or "it is published"
        _refuse(f"{record_name(domain, entry.selector)}: {found}; remove the record first, or add --force")


def _asked(resolver: str, keys: Sequence[SigningKey]) -> dict[str, Comparison]:
    """What the DNS has of `keys`, by selector."""

    async def ask(dns: Resolver) -> dict[str, Comparison]:
        deadline = asyncio.get_running_loop().time() + TIMEOUT
        names = [record_name(key.domain, key.selector) for key in keys]
        answers = await fetch_keys(names, dns, deadline)
        return {key.selector: compare(key, answers[name]) for key, name in zip(keys, names, strict=True)}

    return _with_resolver(resolver, ask)


def _with_resolver(resolver: str, work: Callable[[Resolver], Awaitable[T]]) -> T:
    servers = [_address(resolver)] if resolver else system_resolvers()

    async def run() -> T:
        try:
            stub = Stub(servers)
        except ValueError as error:
            _refuse(f"--resolver: {error}", 2)
        try:
            return await work(stub)
        finally:
            stub.close()

    return asyncio.run(run())


def _advance(folder: KeyFolder, domain: str, resolver: str, settle: int) -> Step:
    entries = folder.entries(domain)
    found = _asked(resolver, [folder.key(domain, entry) for entry in entries])
    return advance(domain, entries, found, time.time(), settle=settle)


def _tested(folder: KeyFolder, domain: str, resolver: str) -> list[dict[str, Any]]:
    entries = folder.entries(domain)
    keys = [folder.key(domain, entry) for entry in entries]
    found = _asked(resolver, keys) if keys else {}
    active = [key for key, entry in zip(keys, entries, strict=True) if entry.state is KeyState.ACTIVE]
    signatures: dict[str, DkimResult] = {}
    if active:
        text = Message(f"From: test@{domain}\r\nSubject: test\r\n\r\ntest\r\n".encode())
        text.prepend(sign(text, active, now=time.time()))
        for one in _with_resolver(resolver, lambda dns: verify(text, dns)):
            if one.signature is not None:
                signatures[one.signature.selector] = one
    facts = []
    for entry in entries:
        seen = found[entry.selector]
        signed = signatures.get(entry.selector)
        # A key that nobody signs with yet, or no longer, may be unpublished.
        matters = entry.state is KeyState.ACTIVE or seen.state in (Published.WRONG, Published.UNKNOWN)
        facts.append(
            {
                **_facts(domain, entry),
                "published": seen.state.value,
                "reason": seen.reason,
                "warnings": list(seen.warnings),
                "dnssec": seen.secure,
                "signature": signed.result.value if signed is not None else "",
                "wrong": (matters and seen.state is not Published.OK)
                or (signed is not None and not signed.passed),
            }
        )
    return facts


def _line(one: dict[str, Any]) -> str:
    text = f"{record_name(one['domain'], one['selector'])} ({one['state']}): {one['published']}"
    details = [one["reason"], *one["warnings"]]
    if one["signature"]:
        details.append(f"its signature: {one['signature']}")
    if one["dnssec"]:
        details.append("secure")
    details = [detail for detail in details if detail]
    return f"{text}; {', '.join(details)}" if details else text


def _facts(domain: str, entry: KeyEntry) -> dict[str, Any]:
    return {
        "domain": domain,
        "selector": entry.selector,
        "type": entry.type,
        "state": entry.state.value,
        "created": entry.created,
        "since": entry.since,
    }


def _chosen(folder: KeyFolder, domain: str, selector: str) -> list[SigningKey]:
    entries = [
        entry for entry in folder.entries(domain) if not selector or entry.selector == selector.lower()
    ]
    if not entries:
        _refuse(f"{domain} has no key {selector}" if selector else f"{domain} has no keys")
    return [folder.key(domain, entry) for entry in entries]


def _address(text: str) -> Address:
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if port and not (port.isdecimal() and 0 < int(port) < 65_536):
        _refuse(f"--resolver: {port!r} is no port", 2)
    return Address(host, int(port) if port else 53)


def _domain(text: str) -> str:
    try:
        return check_domain(text)
    except ValueError as error:
        _refuse(str(error), 2)


def _selector(text: str) -> str:
    try:
        return check_selector(text)
    except ValueError as error:
        _refuse(str(error), 2)


def _kinds(text: str) -> tuple[str, ...]:
    if text not in (*ALGORITHMS, "both"):
        _refuse(f"--type: {text!r} is neither rsa nor ed25519 nor both", 2)
    return ALGORITHMS if text == "both" else (text,)


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))


@contextmanager
def _files() -> Iterator[None]:
    """Turn what is wrong with the files of keys into an error of the command."""
    try:
        yield
    except KeyFileError as error:
        _refuse(str(error), EXIT_CONFIG)


def _refuse(text: str, code: int = EXIT_REFUSED) -> NoReturn:
    typer.echo(f"error: {text}", err=True)
    raise typer.Exit(code)
