"""`tamis explain`: what the policy says of a session, stage by stage and line by line, without effect.

Exit statuses: 0 the message would be accepted, 1 it would not, 2 wrong usage, 78 the configuration is wrong.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from mailqueue.store.base import StoreError
from mta import assembly, config
from mta.accounts.senderlogin import owns
from mta.accounts.usersfile import UsersFile, UsersFileError
from mta.address import Address
from mta.cli_exit import EXIT_CONFIG, EXIT_USAGE
from mta.daemon_authn import build_evaluator
from mta.daemon_director import Directors, open_states
from mta.daemon_dns import build_resolver
from mta.daemon_policy import build_policy, build_tables
from mta.delivery.fixed import FixedTransport
from mta.delivery.outcome import BACKEND
from mta.director.shared import read
from mta.director.state import DirectorState
from mta.explain.given import (
    Given,
    GivenError,
    address,
    client_address,
    completed,
    read_message,
    read_transcript,
)
from mta.explain.play import Explanation, Play
from mta.explain.show import as_json, as_text
from mta.explain.unasked import programs_of, without_counters
from mta.policy.watched import TableError
from mta.queue_stores import opened_stores, read_configuration
from mta.session import Session
from mta.spool.remote import QueueProblem
from mta.terminal import harmless
from sieve_ext.message import Message

EXIT_REFUSED = 1
DEFAULT_HELO = "client.invalid"
NO_SENDER = "--from is missing: there are no recipients without a sender; '' is the null sender"
NO_CLIENT = "--client is missing: the address of the client, as 192.0.2.1"


def explain(
    path: str,
    given: Given,
    *,
    message: str = "",
    transcript: str = "",
    listener: str = "",
    as_machine: bool = False,
    quiet: bool = False,
) -> int:
    """Run the command; returns the exit status. `message` and `transcript` are paths, "" for none."""
    try:
        settings = read_configuration(path)
    except config.ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    try:
        given = _gathered(given, message, transcript)
        explanation = asyncio.run(_explain(settings, given, listener))
    except GivenError as error:
        print(f"tamis: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (ValueError, TableError, UsersFileError, OSError) as error:
        print(f"tamis: {error}", file=sys.stderr)
        return EXIT_CONFIG
    text = as_json(explanation) if as_machine else as_text(explanation, quiet=quiet)
    # What came as octets that are no UTF-8, in a transcript, no terminal takes.
    text = text.encode("utf-8", "replace").decode("utf-8")
    # Somebody else has written the message: nothing of it moves a terminal.
    print(text if as_machine else harmless(text, lines=True), end="")
    return EXIT_REFUSED if explanation.refused else 0


def _gathered(given: Given, message: str, transcript: str) -> Given:
    """Options first, then the transcript, then what the message tells of itself."""
    if transcript:
        octets = _read("--transcript", transcript)
        given = completed(given, read_transcript(octets.decode("utf-8", "surrogateescape")))
    if message:
        given = completed(given, read_message(_read("--message", message)))
    return given


def _read(option: str, path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise GivenError(f"{option}: {path}: {error.strerror}") from error


async def _explain(settings: config.Config, given: Given, listener: str) -> Explanation:
    if not given.client:
        raise GivenError(NO_CLIENT)
    session = _session(settings, client_address(given.client), listener)
    sender = None if given.sender is None else address("--from", given.sender)
    recipients = [address("--to", text) for text in given.recipients]
    if recipients and sender is None:
        raise GivenError(NO_SENDER)
    users = settings.auth.users_file if settings.auth.backend == "users" else ""
    file = UsersFile(users) if users else None
    name = given.user.lower()
    if file is not None and name:
        user = file.get(given.user)
        if user is None:
            raise GivenError(f"--user: there is no user '{given.user}' in {users}")
        name, session.addresses = user.name, user.addresses
    explanation = Explanation(list(programs_of(settings, session.listener)))
    belongs = assembly.sender_login(settings)
    if file is not None:
        of_key = file.of_key
        belongs = replace(belongs, is_user=lambda key: of_key(key) is not None)

    def user_owns(who: Session, sender: Address) -> bool:
        return owns(belongs, who, sender)

    transports = {
        f"{BACKEND}{name}": FixedTransport(
            assembly.backend(name, backend, settings.identity.hostname, workers=1)
        )
        for name, backend in settings.backends.items()
    }
    resolver = build_resolver(settings)
    tables = directors = None
    try:
        tables = build_tables(settings, resolver, _complain)
        if settings.director:
            directors = Directors(settings, transports, tables or {})
            await _read_states(settings, directors)
        policy = build_policy(
            settings,
            transports,
            lambda: _known(file),
            user_owns,
            _complain,
            choose=without_counters,
            trace=explanation.tell,
            tables=tables or {},
            resolver=resolver,
            directors=directors or {},
        )
        evaluator = build_evaluator(settings, resolver)
        if evaluator is not None:
            session.authentication = evaluator.of(session)
        body = None if given.message is None else Message(given.message)
        find = None if directors is None else directors.finding()
        await Play(policy, session, explanation, find).run(
            given.helo or DEFAULT_HELO, name, sender, recipients, body
        )
    finally:
        for transport in transports.values():
            await transport.close()
        if directors is not None:
            await directors.close()
        if tables is not None:
            await tables.close()
        if resolver is not None:
            resolver.close()
    return explanation


async def _read_states(settings: config.Config, directors: Directors) -> None:
    """Learn what `tamis director` has changed; who may not read it is told so."""
    for name, section in settings.director.items():
        try:
            if section.changes:
                states = open_states(section)
                try:
                    _, now = await read(states, name)
                finally:
                    await states.close()
            elif settings.queue.enabled:
                async with opened_stores(settings) as store:
                    _, now = await read(store, name)
            else:
                now = DirectorState()
        except (QueueProblem, StoreError, ValueError, OSError) as error:
            _complain(f"director {name}: {error}; what was changed by `tamis director` is not known")
            now = DirectorState()
        directors[name].apply(now)


def _session(settings: config.Config, client: str, name: str) -> Session:
    """A session that a listener could have: of that name, by default the first one for SMTP."""
    known = {one.name: one for one in settings.listener}
    if not name:
        name = next((one.name for one in settings.listener if one.protocol == "smtp"), next(iter(known), ""))
    if name not in known:
        there = ", ".join(known) or "none"
        raise GivenError(f"--listener: there is no listener '{name}'; there are: {there}")
    return Session("explain", name, known[name].protocol, client)


def _known(file: UsersFile | None) -> UsersFile:
    if file is None:
        raise ValueError('auth.users_file is needed for recipients = "users"')
    return file


def _complain(text: str) -> None:
    print(f"tamis: {text}", file=sys.stderr)
