"""A language server for Sieve: JSON-RPC over two streams (Language Server Protocol 3.17).

What it does: diagnostics whenever a script is opened or changed, and layout. Documents are always sent whole
(full synchronisation), which is cheap at the size of scripts. A message that cannot be read ends the server,
as the protocol has no way to find the next one; a request that is not known is answered so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from mta import __version__
from mta.sieve_files import find_mistakes, library
from sieve_ext import Diagnostic, InvalidScript, Severity
from sieve_ext.formatting import format_script

MAX_MESSAGE = 16 * 1024 * 1024
"""Octets of a message from the editor."""

FULL = 1
"""TextDocumentSyncKind: the whole text each time."""
UNKNOWN_METHOD = -32601
WRONG_PARAMETERS = -32602


class LanguageServer:
    """One editor's server."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        """Read from `source`, write to `target`."""
        self._source = source
        self._target = target
        self._documents: dict[str, str] = {}
        self._shut_down = False

    def run(self) -> int:
        """Serve until the editor leaves; the exit status that the protocol asks for."""
        while True:
            message = self._read()
            if message is None or message.get("method") == "exit":
                return 0 if self._shut_down else 1
            try:
                answer = self._handle(str(message.get("method", "")), message.get("params") or {})
            except (KeyError, IndexError, TypeError) as error:
                answer = {"error": {"code": WRONG_PARAMETERS, "message": f"parameters are wrong: {error!r}"}}
            if "id" in message and "method" in message:
                self._write({"jsonrpc": "2.0", "id": message["id"], **answer})

    def _handle(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "initialize":
                capabilities = {"textDocumentSync": FULL, "documentFormattingProvider": True}
                server = {"name": "tamis sieve", "version": __version__}
                return {"result": {"capabilities": capabilities, "serverInfo": server}}
            case "shutdown":
                self._shut_down = True
                return {"result": None}
            case "textDocument/didOpen":
                document = params["textDocument"]
                self._changed(document["uri"], document["text"])
            case "textDocument/didChange":
                self._changed(params["textDocument"]["uri"], params["contentChanges"][-1]["text"])
            case "textDocument/didClose":
                self._documents.pop(params["textDocument"]["uri"], None)
            case "textDocument/formatting":
                return {"result": self._layout(params["textDocument"]["uri"])}
            case _:
                return {"error": {"code": UNKNOWN_METHOD, "message": f"{method} is not known here"}}
        return {"result": None}

    def _changed(self, uri: str, text: str) -> None:
        self._documents[uri] = text
        lines = text.split("\n")
        path = Path(unquote(urlsplit(uri).path) or "script.sieve")
        found = find_mistakes(text.encode("utf-8", "surrogateescape"), library(path, None))
        diagnostics = [_diagnostic(one, lines) for one in found if not one.script]
        self._write(
            {
                "jsonrpc": "2.0",
                "method": "textDocument/publishDiagnostics",
                "params": {"uri": uri, "diagnostics": diagnostics},
            }
        )

    def _layout(self, uri: str) -> list[dict[str, Any]]:
        text = self._documents.get(uri, "")
        try:
            laid_out = format_script(text.encode("utf-8", "surrogateescape")).decode(
                "utf-8", "surrogateescape"
            )
        except InvalidScript:
            return []
        end = {"line": text.count("\n") + 1, "character": 0}
        return [{"range": {"start": {"line": 0, "character": 0}, "end": end}, "newText": laid_out}]

    def _read(self) -> dict[str, Any] | None:
        length = -1
        while (line := self._source.readline().strip()) or length < 0:
            if not line:
                return None
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                length = int(value)
        if not 0 <= length <= MAX_MESSAGE:
            return None
        try:
            message = json.loads(self._source.read(length))
        except ValueError:
            return None
        return message if isinstance(message, dict) else None

    def _write(self, message: dict[str, Any]) -> None:
        octets = json.dumps(message).encode()
        self._target.write(b"Content-Length: %d\r\n\r\n" % len(octets) + octets)
        self._target.flush()


def _diagnostic(one: Diagnostic, lines: list[str]) -> dict[str, Any]:
    """A diagnostic as the protocol has it: from 0, in units of UTF-16."""
    line = lines[one.line - 1] if one.line <= len(lines) else ""
    start = _units(line[: one.column - 1])
    end = start + max(1, _units(line[one.column - 1 : one.column - 1 + one.length]))
    return {
        "range": {
            "start": {"line": one.line - 1, "character": start},
            "end": {"line": one.line - 1, "character": end},
        },
        "severity": 1 if one.severity is Severity.ERROR else 2,
        "code": one.code,
        "source": "tamis",
        "message": one.text + (f" ({one.hint})" if one.hint else ""),
    }


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
