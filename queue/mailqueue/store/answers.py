"""What an object store's error means: obstore's texts turned into our errors and an administrator's words.

obstore (the Rust crate object_store) has few exception classes; what happened is in the text: the status
code and the XML of the answer, or, when there was none, the kind of failure of the connection in a dump
after "Debug source". Texts were taken from obstore 0.12.1; of a text that is not understood the first line
is passed on, as `StoreUnavailable`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mailqueue.store.base import (
    MissingKey,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreRefused,
    StoreUnavailable,
)

_STATUS = re.compile(r"non-2xx status code: (\d{3})([^:\n]*)")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>|\"code\"\s*:\s*\"([^\"]{1,80})\"")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})|\"message\"\s*:\s*\"([^\"]{1,300})")
_KIND = re.compile(r"HttpError \{\s*kind: (\w+)")
_OS_MESSAGE = re.compile(r"message: \"([^\"]{1,200})\"|error: \"([^\"]{1,200})\"")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_FULL = ("QuotaExceeded", "StorageFull", "InsufficientStorage")
_REFUSED = ("AccessDenied", "Certificate")
_TEMPORARY = (
    "NoSuchUpload",
    "RequestTimeout",
    "SlowDown",
    "OperationAborted",
    "ConditionalRequestConflict",
    "TooManyRequests",
)
_NOT_MISSING = ("NoSuchUpload", "Token")
"""Codes of a 404 in which the bucket may be there: a large upload was forgotten; no token was to be had."""
_TOKEN = re.compile(r"Error performing token request: Error performing \w+ \w+://([^/\s]+)")
_GENERIC = re.compile(r"\AGeneric \w+ error: ")
_PERFORMED = re.compile(r"Error performing (?:list request: |[A-Z]+ \S+ in [^ ,]+(?:, after [^-]*)? *- )")
"""Where something went wrong and after how long, which is different each time."""
_NO_PLACE = "Received redirect without LOCATION"
_IN_BODY = "Server returned error response: "
_NOT_DELETED = re.compile(r"DeleteObjects request failed for key \S+ (.*) \(code: (\w+)\)")
_SLOWER = ("SlowDown", "ServerBusy")
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)|InvalidMessage\(\s*(\w+)")


class Answer(NamedTuple):
    """What a text says."""

    status: int
    """HTTP status, 0 when no answer came."""
    code: str
    """The store's name for the error, or the kind of failure ("Connect", "Timeout", ...)."""
    words: str
    """For an administrator."""


def understand(text: str) -> Answer:
    """Read a text of obstore."""
    answer = _understand(text)
    token = _TOKEN.search(text)
    if token is None:
        return answer
    words = f"no token from {token.group(1)}: {answer.words}; are credentials configured?"
    return Answer(answer.status, "Token", words)


def _understand(text: str) -> Answer:
    status = _STATUS.search(text)
    code, detail = _detail(text)
    if status is not None:
        detail = detail or status.group(2).strip()
        return Answer(int(status.group(1)), code, f"it answered {status.group(1)} ({detail})")
    first = _PERFORMED.sub("", _GENERIC.sub("", text.partition("\n")[0]))
    if first.startswith(_NO_PLACE):
        return Answer(301, "", "it sends us elsewhere (301) and not to where: is the region right?")
    if first.startswith(_IN_BODY):
        return Answer(200, code, f"it answered 200 with an error ({detail})")
    kept = _NOT_DELETED.match(first)
    if kept is not None:
        return Answer(200, kept.group(2), f"it answered 200 with an error ({kept.group(2)}: {kept.group(1)})")
    kind = _first(_KIND, text)
    certificate = _first(_CERTIFICATE, text)
    if certificate:
        return Answer(0, "Certificate", f"no TLS with it ({certificate}): is its certificate good?")
    if kind == "Connect":
        return Answer(0, kind, f"no connection ({_first(_OS_MESSAGE, text) or 'no answer in time'})")
    if kind == "Timeout":
        return Answer(0, kind, "no answer in time")
    if kind:
        return Answer(0, kind, f"the connection broke ({_first(_OS_MESSAGE, text) or kind})")
    return Answer(0, "", first[:300])


def _detail(text: str) -> tuple[str, str]:
    """The code in the body of an answer, and that with the message."""
    code = _first(_CODE, text)
    message = _first(_MESSAGE, text).strip()
    message = message.partition("\n")[0].strip().rstrip(".")  # Azure has more lines
    return code, ": ".join(part for part in (code, message) if part)


def is_past_the_end(text: str) -> bool:
    """True when a range was asked for that begins behind the last octet (RFC 9110 section 15.5.17)."""
    return understand(text).status == 416 or "Wanted range starting at" in text


def is_told_to_wait(text: str) -> bool:
    """True when the store wants fewer requests, as Google when an object is overwritten twice in a second."""
    answer = understand(text)
    return answer.status == 429 or answer.code in _SLOWER


def is_missing_bucket(text: str) -> bool:
    """True when not only the object is missing."""
    return any(name in text for name in _NO_BUCKET)


def is_of_the_store(text: str) -> bool:
    """False for a 404 without a code: every store has one, a gateway that does not find its server has none.

    What such an answer says is missing may well be there.
    """
    answer = understand(text)
    return answer.status != 404 or bool(answer.code)


def translate(store: str, what: str, error: Exception, *, reading: bool) -> StoreError:
    """Our error for one of obstore's. `what` was tried; 404 is a missing key when `reading` an object."""
    text = str(error)
    answer = understand(text)
    if not is_of_the_store(text):
        return StoreUnavailable(store, f"{what}: {answer.words}, and not in the way of a store")
    is_missing = isinstance(error, FileNotFoundError) or answer.status == 404
    if is_missing and answer.code not in _NOT_MISSING:
        if reading and not is_missing_bucket(text):
            return MissingKey(store, f"{what}: there is none")
        place = "container" if store.startswith("az:") else "bucket"
        return StoreMissing(store, f"{what}: there is no such {place}")
    return _kind(answer)(store, f"{what}: {answer.words}")


def _kind(answer: Answer) -> type[StoreError]:
    if answer.code in _TEMPORARY or answer.status in (408, 409, 412, 425, 429):
        return StoreUnavailable
    if answer.status == 507 or any(name in answer.code for name in _FULL):
        return StoreFull
    if 300 <= answer.status < 500 or answer.status == 501 or answer.code in _REFUSED:
        return StoreRefused
    return StoreUnavailable


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return next((group for group in found.groups() if group), "") if found else ""
