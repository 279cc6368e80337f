"""A gateway that speaks the XML protocol of Google Cloud Storage before a server that speaks S3's.

    python -m tests.peers.googlegateway PORT UPSTREAM_PORT ACCOUNTS

This is not Google, and no emulator of it: what is kept, listed and lost is the server's behind it. The
gateway does what differs between the protocols, as Google documents it:

* who asks is a service account, by a token (JWT) that it has signed itself (RFC 7515 RS256, Google AIP-4111):
  signature, key, issuer, scope and times are checked, and what the account may do;
* `x-goog-if-generation-match: 0` instead of `If-None-Match: *`, and 412 where it did not hold;
* an object that was written less than a second ago is not overwritten: 429;
* every answer about an object has its generation (here made from the ETag);
* to delete what is not there is a 404, and so is a bucket that is not there.

What the protocol has beyond what the queue uses is answered 501. ACCOUNTS is a JSON object: by the address of
an account the PEM of its public `key` and its `permissions`.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

SCOPES = {f"https://www.googleapis.com/auth/{name}" for name in ("cloud-platform", "devstorage.read_write")}
LONGEST = 3600
"""Seconds that a token may live."""
SKEW = 60
PACE = 1.0
"""Seconds between two writes of one object, at least."""
PIECE = 65536
_KNOWN = {
    "GET": {"list-type", "prefix", "start-after", "continuation-token", "max-keys", "delimiter"},
    "PUT": {"partNumber", "uploadId"},
    "POST": {"uploads", "uploadId"},
    "DELETE": {"uploadId"},
    "HEAD": set[str](),
}
_SENT_ON = ("range", "content-type", "content-length", "content-md5")
_SENT_BACK = ("content-type", "content-range", "etag", "last-modified", "accept-ranges")


class Refused(Exception):
    """An answer that is an error: status, code, message."""

    def __init__(self, status: int, code: str, message: str, details: str = "") -> None:
        super().__init__(code)
        self.status = status
        more = f"<Details>{escape(details)}</Details>" if details else ""
        self.body = (
            "<?xml version='1.0' encoding='UTF-8'?>"
            f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
        ).encode()


class Accounts:
    """Who may ask what."""

    def __init__(self, accounts: Mapping[str, Mapping[str, Any]]) -> None:
        self._keys = {name: load_pem_public_key(one["key"].encode()) for name, one in accounts.items()}
        self._permissions = {name: set(one["permissions"]) for name, one in accounts.items()}

    def check(self, authorization: str, permission: str) -> None:
        """Raises Refused."""
        kind, _, token = authorization.partition(" ")
        try:
            if kind != "Bearer":
                raise ValueError("no token")
            name = self._account(token)
        except (ValueError, KeyError, InvalidSignature, binascii.Error) as error:
            raise Refused(
                401, "AuthenticationRequired", "Authentication required.", f"{error or 'Invalid signature'}"
            ) from error
        if permission not in self._permissions[name]:
            details = f"{name} does not have {permission} access to the Google Cloud Storage object."
            raise Refused(403, "AccessDenied", "Access denied.", details)

    def _account(self, token: str) -> str:
        signed, _, signature = token.rpartition(".")
        header, claims = (json.loads(_decoded(part)) for part in signed.split("."))
        name, now = str(claims["iss"]), time.time()
        key = self._keys[name]
        assert isinstance(key, RSAPublicKey)
        if header["alg"] != "RS256":
            raise ValueError("another algorithm")
        key.verify(_decoded(signature), signed.encode(), PKCS1v15(), SHA256())
        if claims["sub"] != name or not SCOPES.intersection(claims["scope"].split()):
            raise ValueError("another subject or scope")
        if not now < claims["exp"] <= claims["iat"] + LONGEST or claims["iat"] > now + SKEW:
            raise ValueError("not valid now")
        return name


class Handler(BaseHTTPRequestHandler):
    """One connection of a client, with one of its own to the server behind."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = PIECE
    accounts: Accounts
    upstream: int
    written: ClassVar[dict[str, float]] = {}
    """When objects were written."""
    _behind: HTTPConnection | None = None
    _unread = 0

    def handle_one_request(self) -> None:
        """A client that goes away is nothing to tell of."""
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def finish(self) -> None:
        """End both connections."""
        if self._behind is not None:
            self._behind.close()
        try:
            super().finish()
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        """An object, or a page of a listing."""
        self._answer("storage.objects.get")

    def do_HEAD(self) -> None:
        """What is known of an object."""
        self._answer("storage.objects.get")

    def do_PUT(self) -> None:
        """An object, or a part of one."""
        self._answer("storage.objects.create")

    def do_POST(self) -> None:
        """Begin or complete an upload of parts."""
        self._answer("storage.objects.create")

    def do_DELETE(self) -> None:
        """An object, or an upload that is given up."""
        self._answer("storage.objects.delete")

    def read(self, octets: int = PIECE) -> bytes:
        """Of the request's body: what http.client calls to pass it on."""
        piece = self.rfile.read(min(octets, self._unread))
        self._unread -= len(piece)
        return piece

    def _answer(self, permission: str) -> None:
        self._unread = int(self.headers.get("content-length") or 0)
        try:
            url = urlsplit(self.path)
            query = parse_qs(url.query, keep_blank_values=True)
            bucket, _, key = url.path.lstrip("/").partition("/")
            if not key and self.command == "GET":
                permission = "storage.objects.list"
            self.accounts.check(self.headers.get("authorization", ""), permission)
            if set(query) - _KNOWN[self.command] or (not key and "list-type" not in query):
                raise Refused(501, "NotImplemented", "The gateway does not know this.")
            if self.command == "DELETE" and not query:
                self._require(f"/{bucket}/{key}")
            self._pass_on()
        except Refused as refused:
            while self._unread and self.read():
                pass
            self._reply(refused.status, {"content-type": "application/xml; charset=UTF-8"}, refused.body)
        except (HTTPException, ConnectionError, TimeoutError) as error:
            self.log_error("behind: %r", error)
            if self._behind is not None:
                self._behind.close()
            self.close_connection = True  # without an answer: nobody knows what was done

    def _require(self, path: str) -> None:
        answer = self._ask("HEAD", path, {})
        answer.read()
        if answer.status == 404:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")

    def _ask(self, method: str, path: str, fields: dict[str, str]) -> HTTPResponse:
        if self._behind is None:
            self._behind = HTTPConnection("127.0.0.1", self.upstream, timeout=60, blocksize=PIECE)
        body = self if self._unread and method == self.command else None
        self._behind.request(method, path, body, fields)
        return self._behind.getresponse()

    def _pass_on(self) -> None:
        fields = {name: self.headers[name] for name in _SENT_ON if name in self.headers}
        generation = self.headers.get("x-goog-if-generation-match")
        if generation == "0":
            fields["If-None-Match"] = "*"
        elif generation is not None:
            raise Refused(501, "NotImplemented", "The gateway knows no other generation.")
        elif self.command == "PUT" and time.monotonic() < self.written.get(self.path, 0.0) + PACE:
            raise Refused(
                429, "SlowDown", "The object exceeded the rate limit for object mutation operations."
            )
        answer = self._ask(self.command, self.path, fields)
        if answer.status in (403, 404, 412):
            said = answer.read()
            if answer.status == 412:
                message = "At least one of the pre-conditions you specified did not hold."
                raise Refused(412, "PreconditionFailed", message)
            if (
                answer.status == 403 or b"NoSuchBucket" in said
            ):  # to us it forbids nothing but to make buckets
                raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.")
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        if self.command == "PUT" and answer.status == 200:
            self.written[self.path] = time.monotonic()
        self._send_back(answer)

    def _send_back(self, answer: HTTPResponse) -> None:
        fields = {name: answer.headers[name] for name in _SENT_BACK if name in answer.headers}
        if "etag" in fields:
            fields["x-goog-generation"] = str(int.from_bytes(fields["etag"].strip('"').encode()[:7]))
        length = answer.headers.get("content-length")
        if length is None or self.command == "HEAD":
            octets = answer.read()
            self._reply(answer.status, fields | ({"content-length": length} if length else {}), octets)
            return
        self._reply(answer.status, fields | {"content-length": length}, b"")
        while piece := answer.read(PIECE):
            self.wfile.write(piece)
        self.wfile.flush()

    def _reply(self, status: int, fields: Mapping[str, str], octets: bytes) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        if "content-length" not in fields:
            self.send_header("content-length", str(len(octets)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(octets)
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 128


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def main(port: int, upstream: int, accounts: Path) -> None:
    """Serve until it is killed."""
    Handler.accounts = Accounts(json.loads(accounts.read_text()))
    Handler.upstream = upstream
    Server(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
