"""ManageSieve of a worker, put together from the configuration: the part of `mta.daemon` about it."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from mta import config, log
from mta.accounts.senderlogin import address_of
from mta.admin import client, control
from mta.journal import LogJournal
from mta.managesieve.desk import Judgement, NotApplied, Owner
from mta.managesieve.receiver import Counter, ManageSieveReceiver, PatientConnection
from mta.managesieve.session import ManageSieveSession, Request, SessionSettings
from mta.metrics import Stats
from mta.net.arrival import Arrival
from mta.net.connection import Connection
from mta.net.connections import Connections
from mta.net.tls import ServerTls
from mta.policy.sieve.dialect import policy_dialect
from mta.policy.sieve.loading import load_for, source_of
from mta.scripts.names import SUFFIX, site_folder, user_folder
from mta.scripts.store import FolderLimits, FolderStore, ScriptFolder
from mta.session import Session
from mta.smtp.auth import Authenticator
from sieve_ext import check, standard_dialect
from sieve_ext.runtime.script import VALIDATION_FAILED

THREADS = 4
"""Requests about scripts that a worker serves at once; each waits for the disk, or for a reload."""
CHECKING = threading.Lock()
"""Held while a script is checked: that is work for the processor, of which sessions need the most."""
NO_SCRIPT = "no-script"
"""The code of the mistake that an included script is not there (`sieve_ext.extensions.include`)."""
CHANGES = frozenset(("PUTSCRIPT", "SETACTIVE", "DELETESCRIPT", "RENAMESCRIPT"))


class ManageSieve:
    """What all ManageSieve listeners of a worker share."""

    def __init__(
        self,
        settings: config.Config,
        connections: Connections,
        authenticator: Authenticator,
        stats: Stats,
        new_id: Callable[[], str],
    ) -> None:
        """Prepare; to be made in the running loop. `connections` are those of the worker."""
        own = settings.managesieve
        self._settings = settings
        self._authenticator = authenticator
        self._connections = connections
        self._journal = LogJournal(log.get("managesieve"), stats)
        self._new_id = new_id
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(THREADS, "managesieve")
        self._limits = FolderLimits(own.max_scripts, own.max_script_size, own.max_size)
        self._log = log.get("managesieve")
        self._site_extensions = tuple(policy_dialect().names)
        self._user_extensions = tuple(standard_dialect().names)

    def factory(self, listener: config.Listener, tls: ServerTls | None) -> Callable[[Arrival], Connection]:
        """What makes the connections of a listener."""
        server_context = None if tls is None else lambda: tls.context
        counter = Counter(
            name=listener.name,
            hostname=self._settings.identity.hostname,
            settings=SessionSettings(
                self._settings.managesieve.max_script_size,
                starttls=listener.tls in ("starttls", "required"),
                require_tls=listener.tls == "required",
                max_errors=listener.limits.errors_per_session,
            ),
            authenticator=self._authenticator,
            journal=self._journal,
            new_id=self._new_id,
            clock=self._loop.time,
            login_timeout=self._settings.managesieve.login_timeout,
            extensions=self._extensions,
            owner=self._owner,
            executor=self._executor,
            tell=self._tell,
        )
        return partial(self._connect, counter, server_context)

    def close(self) -> None:
        """Serve no more requests; one that is being served goes on to its end."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _connect(
        self, counter: Counter, server_context: Callable[[], ssl.SSLContext] | None, arrival: Arrival
    ) -> Connection:
        def create(
            connection: Connection, transport: asyncio.Transport
        ) -> tuple[ManageSieveSession, ManageSieveReceiver]:
            receiver = ManageSieveReceiver(counter, arrival, connection)
            ssl_object = transport.get_extra_info("ssl_object") if arrival.implicit_tls else None
            return receiver.begin(ssl_object), receiver

        idle = self._settings.managesieve.idle_timeout
        return PatientConnection(idle, self._connections, create, server_context)

    def _is_administrator(self, user: str) -> bool:
        return user in self._settings.auth.master_users

    def _extensions(self, user: str) -> tuple[str, ...]:
        return self._site_extensions if self._is_administrator(user) else self._user_extensions

    def _owner(self, user: str) -> Owner:
        state = self._settings.process.state_directory
        if not self._is_administrator(user):
            path = user_folder(state, address_of(user, self._settings.auth.default_domain))
            return Owner(ScriptFolder(path, self._limits), partial(judge_user, path))
        folder = ScriptFolder(site_folder(state), self._limits)
        return Owner(folder, partial(judge_site, self._settings, folder.path), self._reload)

    def _reload(self) -> None:
        """Let the whole node take the policy that is in the folder now (`tamis reload`)."""
        try:
            answer = client.ask(self._settings.control.socket, control.Request("reload"))
        except OSError as error:
            unsure = isinstance(error, client.Unreachable)
            raise NotApplied(f"the server was not reloaded: {error}", unsure=unsure) from error
        if not answer.ok:
            raise NotApplied("\r\n".join([answer.error, *answer.problems]))

    def _tell(self, session: Session, request: Request, answer: str) -> None:
        write = self._log.info if request.command in CHANGES else self._log.debug
        write(
            "script", session=session.id, client=session.client_address, user=session.user,
            command=request.command, script=request.name, answer=answer,
        )  # fmt: skip


def judge_user(folder: str, name: str, text: bytes) -> Judgement:
    """What is wrong with a script for the mail store; `include` finds the others of its folder and itself."""
    with CHECKING:
        found = check(text, standard_dialect(), store=FolderStore(folder, {name: text} if name else {}))
    errors = [one for one in found if one.severity.value == "error"]
    warnings = tuple(str(one) for one in found if one.severity.value != "error")
    if all(one.code in (NO_SCRIPT, VALIDATION_FAILED) for one in errors):
        return Judgement((), warnings, tuple(str(one) for one in errors if one.code == NO_SCRIPT))
    return Judgement(tuple(map(str, errors)), warnings)


def judge_site(settings: config.Config, folder: str, name: str, text: bytes) -> Judgement:
    """What is wrong with a policy file that comes after all others of the configuration."""
    paths = [path for path in settings.policy.scripts if not path.startswith(f"{folder}/")]
    own = f"{name or 'script'}{SUFFIX}"
    with CHECKING:
        _, found = load_for(settings, [*map(source_of, paths), (own, text)])
    return Judgement(
        tuple(str(one) for one in found if not one.is_warning),
        tuple(str(one) for one in found if one.is_warning and one.path == own),
    )
