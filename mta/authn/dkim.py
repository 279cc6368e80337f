"""Verification of DKIM signatures (RFC 6376 section 6, RFC 8301, RFC 8463).

`verify` takes the signatures of a message apart, fetches their keys, then hashes and checks without the
DNS; in a thread when the message is large. What it refuses that other verifiers let pass: signatures that do
not cover From or not every From there is, rsa-sha1, RSA keys under 1024 bits, keys that are not for mail or
not for SHA-256, `i=` outside `d=` of a key with `t=s`, expired signatures, and, unless it is told otherwise,
signatures of a part of the body only (`l=`), for anybody can add to such a message.

Results are those of RFC 8601 section 2.7.1: *fail* only when a hash or a signature is not right, *permerror*
for what the signer wrote or published wrongly (PERMFAIL of RFC 6376), *policy* for what is right but not
enough for us, *temperror* when the DNS cannot say. Of a domain that only tests DKIM (`t=y`) a bad signature
is *neutral*: like none. Nothing is raised for what a stranger wrote; an unreadable temporary file is an error
of the caller's and goes through.

Costs are linear in the message: the number of signatures, the names in `h=` and the size of a signature have
caps, each body form is computed once.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from mta.authn.dkimhash import BodyDigest, BodyForm, HeaderForms, body_digests
from mta.authn.dkimkey import KeyRecord, choose_record, fetch_keys
from mta.authn.dkimlib import Malformed
from mta.authn.dkimsignature import Signature, read_signature
from mta.authn.results import MethodResult, Result
from mta.net.resolver.base import Answer, Resolver
from sieve_ext.message import Field, Message

METHOD = "dkim"
MAX_SIGNATURES = 10
"""Signatures of a message that are looked at, from the top: the newest come first."""
CLOCK_SKEW = 3600
"""Seconds that a signer's clock may be ahead of ours, or behind when a signature expires."""
INLINE_OCTETS = 256 * 1024
"""A larger message is hashed in a thread: this one takes the loop about a millisecond."""


@dataclass(slots=True, frozen=True)
class Options:
    """What a receiver decides about signatures."""

    partial_body: bool = False
    """Accept `l=` that leaves a part of the body unsigned."""
    max_signatures: int = MAX_SIGNATURES
    timeout: float = 10.0
    """Seconds for all keys together."""


DEFAULT_OPTIONS = Options()


@dataclass(slots=True, frozen=True)
class DkimResult:
    """What became of one signature."""

    result: Result
    reason: str = ""
    signature: Signature | None = None
    """None when the field could not be read."""
    key: KeyRecord | None = None
    secure: bool = False
    """DNSSEC vouches for the key."""
    written: Field | None = field(default=None, repr=False)
    """The header field."""

    @property
    def passed(self) -> bool:
        """True for a good signature."""
        return self.result is Result.PASS

    @property
    def domain(self) -> str:
        """The signing domain in lower case and A-labels, "" when the field could not be read."""
        return self.signature.domain if self.signature is not None else ""

    @property
    def method_result(self) -> MethodResult:
        """The result as all methods have it, with the properties of RFC 8601 section 2.7.1 and RFC 6008."""
        one = self.signature
        properties = {}
        if one is not None:
            properties = {
                "header.d": one.domain,
                "header.i": one.identity,
                "header.s": one.selector,
                "header.a": one.algorithm,
                "header.b": base64.b64encode(one.signature)[:8].decode(),
            }
        return MethodResult(METHOD, self.result, self.reason, MappingProxyType(properties))


async def verify(
    message: Message, resolver: Resolver, options: Options = DEFAULT_OPTIONS, *, now: float | None = None
) -> tuple[DkimResult, ...]:
    """The result of each signature of `message` as it stands, the topmost first; empty if it has none.

    One more result at the end tells of signatures over the cap that were not looked at. `now` is in seconds
    of the epoch. Raises what reading the body raises.
    """
    fields = message.all("dkim-signature")
    if not fields:
        return ()
    moment = time.time() if now is None else now
    results = [_read(one, message, moment) for one in fields[: options.max_signatures]]
    wanted = {one.signature.key_name for one in results if _is_open(one)}  # type: ignore[union-attr]
    if wanted:
        deadline = asyncio.get_running_loop().time() + options.timeout
        answers = await fetch_keys(sorted(wanted), resolver, deadline)
        results = [_with_key(one, answers) if _is_open(one) else one for one in results]
    if any(_is_open(one) for one in results):
        if message.size > INLINE_OCTETS:
            results = await asyncio.to_thread(_check, message, results, options)
        else:
            results = _check(message, results, options)
    if len(fields) > options.max_signatures:
        results.append(
            DkimResult(Result.POLICY, f"{len(fields) - options.max_signatures} more signatures ignored")
        )
    return tuple(results)


def method_results(results: Iterable[DkimResult]) -> tuple[MethodResult, ...]:
    """The results for the header field: that of each signature, or *none* for an unsigned message."""
    return tuple(one.method_result for one in results) or (MethodResult(METHOD, Result.NONE, "no signature"),)


def read_time_problem(signature: Signature, now: float) -> str:
    """Why a signature is not valid at `now`, or the empty text (`t=` and `x=`, RFC 6376 section 3.5)."""
    if signature.time is not None and signature.time > now + CLOCK_SKEW:
        return "the signature is from the future"
    if signature.expires is None:
        return ""
    if signature.time is not None and signature.expires <= signature.time:
        return "the signature expires before it was made"
    return "the signature has expired" if signature.expires < now - CLOCK_SKEW else ""


def key_of(signature: Signature, answer: Answer) -> KeyRecord:
    """The key for `signature` in an answer that is usable. Raises Malformed."""
    key = choose_record(answer)
    if key.type != signature.key_type:
        raise Malformed(f"the key is for {key.type}, the signature is {signature.algorithm}")
    if key.exact and signature.is_below:
        raise Malformed("the key does not allow subdomains in i=")
    return key


def _is_open(one: DkimResult) -> bool:
    """Not decided yet."""
    return one.result is Result.NONE


def _read(written: Field, message: Message, now: float) -> DkimResult:
    """What can be said without key and body; `NONE` stands for undecided."""
    try:
        signature = read_signature(written)
    except Malformed as problem:
        return DkimResult(Result.PERMERROR, f"bad signature field: {problem}", written=written)
    problem_found = ""
    result = Result.PERMERROR
    if message.is_header_cut:
        problem_found = "the header is too long"
    elif "from" not in signature.names:
        problem_found = "From is not signed"
    elif signature.algorithm == "rsa-sha1":
        problem_found = "rsa-sha1 proves nothing"
    elif message.count("from") > signature.names.count("from"):
        # Readers show one of them, and it may be the one that is not signed (RFC 6376 section 8.15).
        result, problem_found = Result.POLICY, "a further From is not signed"
    else:
        problem_found = read_time_problem(signature, now)
    if problem_found:
        return DkimResult(result, problem_found, signature, written=written)
    return DkimResult(Result.NONE, "", signature, written=written)


def _with_key(one: DkimResult, answers: dict[str, Answer]) -> DkimResult:
    assert one.signature is not None
    answer = answers[one.signature.key_name]
    if not answer.usable:
        return replace(one, result=Result.TEMPERROR, reason=f"no key: {answer.reason}")
    try:
        key = key_of(one.signature, answer)
    except Malformed as problem:
        return replace(one, result=Result.PERMERROR, reason=str(problem), secure=answer.secure)
    return replace(one, key=key, secure=answer.secure)


def _check(message: Message, results: list[DkimResult], options: Options) -> list[DkimResult]:
    """Hash and verify what is open; runs in any thread."""
    forms: dict[BodyForm, None] = {}
    for one in results:
        if _is_open(one) and one.signature is not None:
            forms[one.signature.relaxed_body, one.signature.length] = None
    bodies = body_digests(message.body_chunks(), forms)
    header = HeaderForms(message)
    return [_verdict(one, bodies, header, options) if _is_open(one) else one for one in results]


def _verdict(
    one: DkimResult, bodies: dict[BodyForm, BodyDigest], header: HeaderForms, options: Options
) -> DkimResult:
    signature, key = one.signature, one.key
    assert signature is not None
    assert key is not None
    body = bodies[signature.relaxed_body, signature.length]
    result, reason = Result.PASS, ""
    if signature.length is not None and signature.length > body.size:
        result, reason = Result.PERMERROR, "l= is longer than the body"
    elif body.digest != signature.body_hash:
        result, reason = Result.FAIL, "the body is not what was signed"
    elif not key.verify(signature.signature, header.digest(signature)):
        result, reason = Result.FAIL, "the header is not what was signed"
    elif signature.length is not None and signature.length < body.size and not options.partial_body:
        result, reason = Result.POLICY, "a part of the body is not signed"
    if key.testing and result is Result.FAIL:
        # RFC 6376 section 3.6.1: no worse than an unsigned message.
        result, reason = Result.NEUTRAL, f"{reason}; the domain only tests DKIM"
    return replace(one, result=result, reason=reason)
