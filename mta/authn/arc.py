"""Validation of the Authenticated Received Chain (RFC 8617 section 5.2).

`validate` checks the shape of all sets, then the newest message signature, then every seal. The chain passes
when all of them do; any defect fails it. A seal covers all sets up to its own, so their hash is carried on
from seal to seal: 50 instances cost 50 signatures and one pass over the fields. The keys of all of them are
asked for at once.

The result is *none*, *pass* or *fail*, or *temperror* when the DNS cannot say: then the message must not be
sealed with `cv=pass`, nor with `cv=fail`, which would last.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mta.authn.arcset import ArcSet, has_sets, read_sets
from mta.authn.authresults import results_in
from mta.authn.dkim import DEFAULT_OPTIONS, INLINE_OCTETS, Options, key_of, read_time_problem
from mta.authn.dkimcanon import relaxed_field
from mta.authn.dkimhash import HeaderForms, body_digests
from mta.authn.dkimkey import KeyRecord, fetch_keys
from mta.authn.dkimlib import Malformed
from mta.authn.dkimsignature import Signature, signed_form
from mta.authn.results import MethodResult, Result
from mta.net.resolver.base import Answer, Resolver
from sieve_ext.message import Message

METHOD = "arc"


@dataclass(slots=True, frozen=True)
class Chain:
    """What became of the chain of a message."""

    result: Result
    reason: str = ""
    sets: tuple[ArcSet, ...] = ()
    """That of instance 1 first; empty when they cannot be read."""
    ended: bool = False
    """A seal says `cv=fail`: whatever it is worth, nobody may add to this chain (section 5.1)."""
    secure: bool = False
    """DNSSEC vouches for all keys."""

    @property
    def passed(self) -> bool:
        """True for a good chain."""
        return self.result is Result.PASS

    @property
    def sealers(self) -> tuple[str, ...]:
        """The domains that sealed, the first of them first, in lower case and A-labels."""
        return tuple(one.seal.domain for one in self.sets)

    @property
    def said(self) -> frozenset[str]:
        """What the first sealer found out, as "dmarc=pass"; worth what its word is worth."""
        return results_in(self.sets[0].payload) if self.sets else frozenset()

    @property
    def method_result(self) -> MethodResult:
        """The result as all methods have it (RFC 8601)."""
        return MethodResult(METHOD, self.result, self.reason)


class _Temporary(Exception):
    """A key cannot be had now."""


async def validate(
    message: Message, resolver: Resolver, options: Options = DEFAULT_OPTIONS, *, now: float | None = None
) -> Chain:
    """Validate the chain of `message` as it stands.

    `now` is in seconds of the epoch. Raises what reading the body raises, and nothing for what a stranger
    wrote.
    """
    if not has_sets(message):
        return Chain(Result.NONE, "no ARC sets")
    try:
        sets = tuple(read_sets(message))
        if message.is_header_cut:
            raise Malformed("the header is too long")
    except Malformed as problem:
        return Chain(Result.FAIL, str(problem))
    failed = Chain(Result.FAIL, sets=sets, ended=any(one.seal.chain == "fail" for one in sets))
    problem_found = "" if failed.ended else _chain_problem(sets)
    if failed.ended or problem_found:
        return replace(failed, reason=problem_found or "a seal says that the chain has failed")
    names = [one.seal.key_name for one in sets] + [sets[-1].message_signature.key_name]
    deadline = asyncio.get_running_loop().time() + options.timeout
    answers = await fetch_keys(names, resolver, deadline)
    moment = time.time() if now is None else now
    try:
        if message.size > INLINE_OCTETS:
            await asyncio.to_thread(_check, message, sets, answers, moment)
        else:
            _check(message, sets, answers, moment)
    except _Temporary as problem_in_dns:
        return replace(failed, result=Result.TEMPERROR, reason=str(problem_in_dns))
    except Malformed as problem:
        return replace(failed, reason=str(problem))
    secure = all(answers[name].secure for name in names)
    return Chain(Result.PASS, f"{len(sets)} sets", sets, secure=secure)


def _chain_problem(sets: Sequence[ArcSet]) -> str:
    """What is wrong with `cv=` (section 5.2, step 3): none in the first seal, pass in all others."""
    for one in sets:
        if one.seal.chain != ("none" if one.instance == 1 else "pass"):
            return f"seal {one.instance} has another cv= than it must have"
    return ""


def _check(message: Message, sets: Sequence[ArcSet], answers: dict[str, Answer], now: float) -> None:
    """Check the newest message signature, then all seals. Raises Malformed, _Temporary."""
    newest = sets[-1].message_signature
    what = f"message signature {len(sets)}"
    key = _key(newest, answers, what, now)
    form = newest.relaxed_body, newest.length
    body = body_digests(message.body_chunks(), [form])[form]
    if newest.length is not None and newest.length != body.size:
        raise Malformed(f"{what} does not cover the whole body")
    if body.digest != newest.body_hash:
        raise Malformed(f"{what}: the body is not what was signed")
    if not key.verify(newest.signature, HeaderForms(message).digest(newest)):
        raise Malformed(f"{what}: the header is not what was signed")
    before = hashlib.sha256()
    for one in sets:
        what = f"seal {one.instance}"
        key = _key(one.seal, answers, what, now)
        before.update(relaxed_field(one.results))
        before.update(relaxed_field(one.message_signature.field))
        digest = before.copy()
        digest.update(signed_form(one.seal.field, True))
        if not key.verify(one.seal.signature, digest.digest()):
            raise Malformed(f"{what} is not good")
        before.update(relaxed_field(one.seal.field))


def _key(signature: Signature, answers: dict[str, Answer], what: str, now: float) -> KeyRecord:
    answer = answers[signature.key_name]
    if not answer.usable:
        raise _Temporary(f"{what}: no key: {answer.reason}")
    problem = read_time_problem(signature, now)
    if problem:
        raise Malformed(f"{what}: {problem}")
    try:
        return key_of(signature, answer)
    except Malformed as reason:
        raise Malformed(f"{what}: {reason}") from None
