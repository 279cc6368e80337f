"""MTA-STS policies of other domains: found, fetched, kept, refreshed (RFC 8461 sections 3.3, 5.1, 10.2).

For each delivery the TXT record is asked for (the resolver has it cached); its id tells whether the policy
that we have is still the newest. A new id is fetched while the delivery waits, an old policy is refreshed in
the background. A policy that we have holds until its `max_age` is over, whatever happens to record and web
server meanwhile: that is what protects from somebody who can take both away. One fetch at a time for each
domain; after a failure the next one waits for `FAILURE_TIME`. That a policy in mode enforce will end because
record or web server are gone is told in the log long before, once a day (section 10.2): it may be an attack.

When a policy in mode enforce ends without the domain having said mode "none", the domain stays pinned for a
hold-down (`mta.delivery.security.pins`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from mta.delivery.security.memory import Memory, StoredPolicy
from mta.delivery.security.pins import Held, Log, Pins
from mta.delivery.security.stspolicy import (
    MAX_POLICY,
    WELL_KNOWN,
    PolicyError,
    StsPolicy,
    read_id,
    read_policy,
)
from mta.net.https import HttpsError, IsRefused, Request, request
from mta.net.resolver.base import Resolver, Status
from mta.net.tlsfailure import FailureType

FETCH_TIME = 60.0
"""Seconds for a fetch (RFC 8461 section 3.3)."""
WAIT_TIME = 8.0
"""Seconds that a delivery waits for a fetch: a client may be waiting for the delivery."""
FAILURE_TIME = 300.0
"""Seconds after a failed fetch until the next one (RFC 8461 section 3.3: five minutes)."""
REFRESH_TIME = 86400.0
"""Seconds after which a policy is fetched again though its id is the same (RFC 8461 section 10.2). One of a
short `max_age` is when half of that is over: at its end a web server that is away would make mail wait."""
OVERDUE = 1.5
"""Times that time after which the administrator is told that the policy cannot be renewed."""
WARN_TIME = 86400.0
"""Seconds after which he is told again."""
KEPT = 5000
"""Policies that a worker keeps read, and failures that it remembers; about 1 kB each."""

Fetch = Callable[[str, float], Awaitable[bytes]]
"""Fetches the policy of a domain by a deadline (loop time). Raises FetchError."""

_Value = TypeVar("_Value")


class FetchError(Exception):
    """There is no policy to be had; the text says why."""

    def __init__(self, failure: FailureType, text: str) -> None:
        super().__init__(text)
        self.failure = failure


@dataclass(slots=True, frozen=True)
class Found:
    """What is known of a domain's policy now."""

    policy: StsPolicy | None = None
    """The policy that holds, in mode enforce or testing."""
    failure: FailureType | None = None
    """Why the newest one could not be had."""
    detail: str = ""
    bogus: str = ""
    """The record does not validate: why."""
    held: Held | None = None
    """The domain had a policy in mode enforce; mail waits."""
    doubt: str = ""
    """Why it is not known whether there is another policy, for mail that needs one; "": it is known."""


NOTHING = Found()


def fetcher(
    resolver: Resolver,
    context: ssl.SSLContext,
    port: int = 443,
    is_refused: IsRefused = lambda address: False,
) -> Fetch:
    """Fetches from the domain's policy host; `context` verifies by names in subjectAltName only."""

    async def fetch(domain: str, deadline: float) -> bytes:
        what = Request(f"mta-sts.{domain}", WELL_KNOWN, port)
        try:
            response = await request(
                what, resolver, context, limit=MAX_POLICY, deadline=deadline, is_refused=is_refused
            )
        except HttpsError as error:
            failure = FailureType.STS_WEBPKI_INVALID if error.tls else FailureType.STS_POLICY_FETCH_ERROR
            raise FetchError(failure, str(error)) from error
        if response.status != 200:
            raise FetchError(FailureType.STS_POLICY_FETCH_ERROR, f"{what.host}: status {response.status}")
        if response.media_type != "text/plain":
            raise FetchError(FailureType.STS_POLICY_INVALID, f"{what.host}: no text/plain")
        return response.body

    return fetch


class StsPolicies:
    """The policies of a worker."""

    def __init__(
        self,
        memory: Memory,
        pins: Pins,
        resolver: Resolver,
        fetch: Fetch,
        log: Log,
        *,
        now: Callable[[], float],
    ) -> None:
        """`now` is the time of the epoch."""
        self._memory = memory
        self._pins = pins
        self._resolver = resolver
        self._fetch = fetch
        self._log = log
        self._now = now
        self._warned: dict[str, float] = {}
        self._read: dict[str, tuple[StoredPolicy, StsPolicy]] = {}
        self._failed: dict[str, tuple[float, FetchError]] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}

    async def find(self, domain: str, deadline: float) -> Found:
        """What holds for mail to a domain; `deadline` is loop time. Never raises but CancelledError."""
        answer = await self._resolver.query(f"_mta-sts.{domain}", "TXT", deadline)
        now = self._now()
        kept = self._kept(domain)
        live = kept if kept is not None and kept[0].expires > now else None
        if not answer.usable:
            if live is None and answer.status is Status.BOGUS:
                return Found(bogus=answer.reason)
            doubt = f"the record cannot be looked up: {answer.reason}"
            return self._without(domain, live, doubt, doubt=doubt)
        policy_id = read_id(answer.texts)
        if policy_id is None:
            return self._without(domain, live, "there is no record")
        if live is not None and live[0].id == policy_id:
            if now - live[0].fetched > _refresh_time(live[1]):
                self._start(domain, policy_id)
            return self._with(domain, live[1])
        task = self._start(domain, policy_id)
        if task is not None:
            loop = asyncio.get_running_loop()
            await asyncio.wait([task], timeout=max(0.0, min(WAIT_TIME, deadline - loop.time())))
            kept = self._kept(domain)
            live = kept if kept is not None and kept[0].expires > now else None
        failure = self._failed.get(domain)
        if live is not None and (failure is None or live[0].id == policy_id):
            return self._with(domain, live[1])
        if failure is None:
            error = FetchError(FailureType.STS_POLICY_FETCH_ERROR, "the policy did not come in time")
        else:
            error = failure[1]
        return self._without(domain, live, str(error), error.failure, str(error))

    async def close(self) -> None:
        """Give up fetches."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _with(self, domain: str, policy: StsPolicy) -> Found:
        if policy.mode == "none":
            return NOTHING
        if policy.mode == "enforce":
            self._pins.proven("sts", domain)
        return Found(policy)

    def _without(
        self,
        domain: str,
        live: tuple[StoredPolicy, StsPolicy] | None,
        detail: str,
        failure: FailureType | None = None,
        doubt: str = "",
    ) -> Found:
        """There is no newest policy: the one that we have holds, or there is none, or mail waits."""
        if live is not None:
            self._warn(domain, live, detail)
            policy = live[1] if live[1].mode != "none" else None
            return Found(policy, failure, detail if failure else "", doubt=doubt)
        held = self._pins.missing("sts", domain, detail)
        return Found(None, failure, detail if failure else "", held=held, doubt=doubt)

    def _warn(self, domain: str, live: tuple[StoredPolicy, StsPolicy], reason: str) -> None:
        """The policy that holds could not be renewed: tell it if that is so for long."""
        now = self._now()
        if live[1].mode != "enforce" or now - live[0].fetched < OVERDUE * _refresh_time(live[1]):
            return
        if now - self._warned.get(domain, float("-inf")) < WARN_TIME:
            return
        _put(self._warned, domain, now)
        end = datetime.fromtimestamp(int(live[0].expires), UTC).strftime("%Y-%m-%d %H:%M UTC")
        self._log.warning("MTA-STS policy not renewed", domain=domain, until=end, reason=reason)

    def _kept(self, domain: str) -> tuple[StoredPolicy, StsPolicy] | None:
        stored = self._memory.policy(domain)
        if stored is None:
            return None
        known = self._read.get(domain)
        if known is not None and known[0] == stored:
            return known
        try:
            policy = read_policy(stored.body)
        except PolicyError:  # written by another version
            self._memory.drop_policy(domain)
            return None
        _put(self._read, domain, (stored, policy))
        return stored, policy

    def _start(self, domain: str, policy_id: str) -> asyncio.Task[None] | None:
        """The running fetch of a domain; None when it is too early after a failure."""
        task = self._fetching.get(domain)
        if task is not None:
            return task
        failed = self._failed.get(domain)
        if failed is not None and 0 <= self._now() - failed[0] < FAILURE_TIME:
            return None
        task = asyncio.get_running_loop().create_task(self._renew(domain, policy_id))
        self._fetching[domain] = task
        task.add_done_callback(lambda _: self._fetching.pop(domain, None))
        return task

    async def _renew(self, domain: str, policy_id: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            body = await self._fetch(domain, loop.time() + FETCH_TIME)
            try:
                policy = read_policy(body)
            except PolicyError as error:
                raise FetchError(FailureType.STS_POLICY_INVALID, f"policy of {domain}: {error}") from error
        except FetchError as error:
            now = self._now()
            _put(self._failed, domain, (now, error))
            kept = self._kept(domain)
            if kept is not None and kept[0].expires > now:
                self._warn(domain, kept, str(error))
            return
        self._failed.pop(domain, None)
        now = self._now()
        stored = StoredPolicy(policy_id, body, now, now + policy.max_age)
        _put(self._read, domain, (stored, policy))
        self._memory.set_policy(domain, stored)
        if policy.mode != "enforce":
            # The domain itself, proven by its certificate, demands no more: RFC 8461 section 8.3.
            self._pins.forget("sts", domain)


def _refresh_time(policy: StsPolicy) -> float:
    return min(REFRESH_TIME, policy.max_age / 2)


def _put(table: dict[str, _Value], key: str, value: _Value) -> None:
    table.pop(key, None)
    table[key] = value
    if len(table) > KEPT:
        del table[next(iter(table))]
