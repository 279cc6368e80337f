"""What texts of obstore mean for an administrator. The texts are of obstore 0.12.1, shortened."""

from __future__ import annotations

import pytest

from mailqueue.store.answers import translate, understand
from mailqueue.store.base import (
    MissingKey,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreRefused,
    StoreUnavailable,
)


def answered(status: str, code: str = "", message: str = "") -> str:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>" if code else ""
    return (
        "Generic S3 error: Error performing PUT http://127.0.0.1:1/queue/a in 1.58ms - "
        f"Server returned non-2xx status code: {status}: {body}\n\nDebug source:\nGeneric {{ }}"
    )


def token(status: str) -> str:
    return (
        "Generic GCS error: Error performing token request: Error performing GET "
        f"http://192.0.2.1/token?x=y in 1.1ms - Server returned non-2xx status code: {status}: no"
        "\n\nDebug source:\nGeneric { }"
    )


def broken(kind: str, inner: str) -> str:
    return (
        "Generic S3 error: Error performing PUT http://127.0.0.1:1/q/a in 2s - HTTP error: error sending "
        "request\n\nDebug source:\nGeneric { inner: Http(\n"
        f"  HttpError {{\n    kind: {kind},\n    source: {inner} }} ) }}"
    )


def no_answer(what: str) -> str:
    """What has no status; who was asked, and for how long, is told in front of it."""
    where = "POST http://127.0.0.1:1/queue?delete in 306.986883ms, after 2 retries, max_retries: 2  - "
    return f"Generic S3 error: Error performing {where}{what}\n\nDebug source:\nGeneric {{ }}"


ELSEWHERE = "Received redirect without LOCATION, this normally indicates an incorrectly configured region"
LIST = "Error performing list request: Error performing GET http://127.0.0.1:1/queue?list-type=2 in 97µs - "
INSIDE = (
    "Server returned error response: <?xml?><Error><Code>InternalError</Code><Message>We</Message></Error>"
)
KEPT = "DeleteObjects request failed for key ns/a: Access Denied (code: AccessDenied)"
OS_REFUSED = 'Os { code: 111, kind: ConnectionRefused, message: "Connection refused", }'
DNS = '"dns error", Custom { kind: Uncategorized, error: "failed to lookup address information" }'


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (
            answered("403 Forbidden", "InvalidAccessKeyId", "The access key ID does not exist."),
            StoreRefused,
            "it answered 403 (InvalidAccessKeyId: The access key ID does not exist)",
        ),
        (answered("401 Unauthorized"), StoreRefused, "it answered 401 (Unauthorized)"),
        (
            answered(
                "403 Forbidden", "AuthenticationFailed", "No.\nRequestId:1b23\nTime:2026-11-28T16:30:55Z"
            ),
            StoreRefused,
            "it answered 403 (AuthenticationFailed: No)",
        ),
        (answered("403 Forbidden", "SlowDown", "x"), StoreUnavailable, "403 (SlowDown"),
        (answered("400 Bad Request", "RequestTimeout", "x"), StoreUnavailable, "400 (RequestTimeout"),
        (
            answered("400 Bad Request", "AuthorizationHeaderMalformed", "the region 'x' is wrong"),
            StoreRefused,
            "the region 'x' is wrong",
        ),
        (answered("301 Moved Permanently", "PermanentRedirect", "x"), StoreRefused, "301"),
        (answered("404 Not Found", "NoSuchBucket", "x"), StoreMissing, "there is no such bucket"),
        (answered("404 Not Found", "NoSuchUpload", "x"), StoreUnavailable, "404 (NoSuchUpload: x)"),
        (answered("404 Not Found"), StoreUnavailable, "404 (Not Found), and not in the way of a store"),
        (no_answer(ELSEWHERE), StoreRefused, "writing a: it sends us elsewhere (301) and not to where: is"),
        (
            f"Generic S3 error: {LIST}{ELSEWHERE}",
            StoreRefused,
            "writing a: it sends us elsewhere",
        ),
        (no_answer(INSIDE), StoreUnavailable, "writing a: it answered 200 with an error (InternalError: We)"),
        (f"Generic S3 error: {KEPT}", StoreRefused, "200 with an error (AccessDenied: Access Denied)"),
        (no_answer("something new"), StoreUnavailable, "writing a: something new"),
        (answered("409 Conflict", "ConditionalRequestConflict", "x"), StoreUnavailable, "409"),
        (answered("429 Too Many Requests"), StoreUnavailable, "429"),
        (answered("500 Internal Server Error", "InternalError", "oops"), StoreUnavailable, "500"),
        (answered("501 Not Implemented", "NotImplemented", "x"), StoreRefused, "501"),
        (answered("503 Slow Down"), StoreUnavailable, "503"),
        (answered("507 Insufficient Storage"), StoreFull, "507"),
        (answered("403 Forbidden", "QuotaExceeded", "x"), StoreFull, "QuotaExceeded"),
        (broken("Connect", OS_REFUSED), StoreUnavailable, "no connection (Connection refused)"),
        (
            token("404 Not Found"),
            StoreRefused,
            "no token from 192.0.2.1: it answered 404 (Not Found); are credentials",
        ),
        (token("503 Busy"), StoreUnavailable, "no token from 192.0.2.1: it answered 503 (Busy)"),
        ("Generic GCS error: what", StoreUnavailable, "writing a: what"),
        (broken("Connect", DNS), StoreUnavailable, "no connection (failed to lookup address information)"),
        (broken("Connect", "TimedOut"), StoreUnavailable, "no connection (no answer in time)"),
        (broken("Timeout", "TimedOut"), StoreUnavailable, "no answer in time"),
        (broken("Interrupted", 'Os { message: "Connection reset by peer" }'), StoreUnavailable, "broke"),
        (broken("Connect", "InvalidCertificate(UnknownIssuer)"), StoreRefused, "UnknownIssuer"),
        ("something new\nand more", StoreUnavailable, "something new"),
        ("", StoreUnavailable, ""),
    ],
)
def test_texts(text: str, kind: type[StoreError], words: str) -> None:
    error = translate("s3://b", "writing a", RuntimeError(text), reading=False)
    assert type(error) is kind
    assert words in str(error)
    assert str(error).startswith("s3://b: writing a: ")
    assert "\n" not in str(error)


def test_what_is_missing() -> None:
    missing = FileNotFoundError(answered("404 Not Found", "NoSuchKey", "x"))
    assert type(translate("s", "reading a", missing, reading=True)) is MissingKey
    assert type(translate("s", "listing", missing, reading=False)) is StoreMissing
    container = FileNotFoundError(answered("404 Not Found", "ContainerNotFound", "x"))
    assert str(translate("az://c", "listing", container, reading=False)).endswith(
        "there is no such container"
    )
    bucket = FileNotFoundError(answered("404 Not Found", "NoSuchBucket", "x"))
    assert type(translate("s", "reading a", bucket, reading=True)) is StoreMissing


def test_a_gateway_that_does_not_find_its_server_does_not_say_that_an_object_is_missing() -> None:
    for text in (answered("404 Not Found"), f"{answered('404 Not Found')}404 page not found"):
        error = translate("s", "reading a", FileNotFoundError(text), reading=True)
        assert type(error) is StoreUnavailable
    # Who does not speak HTTP has no codes either.
    assert type(translate("s", "reading a", FileNotFoundError("none"), reading=True)) is MissingKey


def test_json_of_google() -> None:
    text = 'non-2xx status code: 403 Forbidden: {"error": {"code": 403, "message": "no access to it"}}'
    assert understand(text).words == "it answered 403 (no access to it)"
