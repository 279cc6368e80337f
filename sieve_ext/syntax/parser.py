"""Tokens to a tree (RFC 5228 section 8.2), going on after every mistake.

`Parser` is sievelib's by its interface: `parse` says whether the script is valid, `result` holds sievelib
commands, `error` and `error_pos` tell of the first error. Its driver is replaced: recursive descent over the
tokens that records each error and looks for the next thing that can be read. After a mistake in a list, in
parentheses or in a command it skips to the end of that (or of what encloses it), nesting taken into account,
so that one mistake is one error and the block behind a broken command is still read.

What the words mean is not known here; `parse` hands the tree to the dialect's binder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sievelib.parser  # type: ignore[import-untyped]

from sieve_ext.diagnostic import Diagnostic, Source
from sieve_ext.syntax import limits
from sieve_ext.syntax.lexer import Lexer, Token
from sieve_ext.syntax.tree import Argument, Call, Number, TagName, Text, TextList

if TYPE_CHECKING:
    from sieve_ext.language.dialect import Dialect
    from sieve_ext.language.node import Node

# What ends a construct, the inner ones first; what opens one of the same kind.
_RANK = {"[": 1, "]": 1, "(": 2, ")": 2, ";": 3, "{": 4, "}": 4}
_OPENS = {"]": "[", ")": "(", "}": "{"}

_LIST_GOES_ON = "expecting ',' or end of string list ']'"

_SHOWN = {
    "identifier": "identifier",
    "tag": "tag",
    "string": "string",
    "number": "number",
    "error": "unknown characters",
    "end": "end of file",
}


class Parser(sievelib.parser.Parser):  # type: ignore[misc]
    """Reads one script of a dialect."""

    def __init__(self, dialect: Dialect | None = None, debug: bool = False) -> None:
        """Without `dialect` only the grammar is checked: `result` stays empty, `tree` is filled."""
        super().__init__(debug)
        self.lexer = Lexer()
        self.dialect = dialect
        self.diagnostics: list[Diagnostic] = []
        self.tree: list[Call] = []
        self.result: list[Node] = []
        self.error: str | None = None
        self.error_pos: tuple[int, int, int] | None = None
        self.source = Source(b"")

    def parse(self, text: bytes | str) -> bool:
        """Read a script; True when it is valid. Everything that is wrong is in `diagnostics`."""
        self.read(text)
        if self.dialect is not None and not self.diagnostics:
            from sieve_ext.validate.check import validate

            checked = validate(self.tree, self.source, self.dialect)
            self.result = checked.nodes
            self.diagnostics = checked.diagnostics
            self._hang_comments()
        first = next((one for one in self.diagnostics if one.severity.value == "error"), None)
        if first is not None:
            self.error = f"line {first.line}: {first.text}"
            self.error_pos = (first.line, first.column, first.length)
        return first is None

    def _hang_comments(self) -> None:
        """Give each command of the top level the comments before it, where sievelib has names of filters."""
        comments = list(self.lexer.comments)
        for node in self.result:
            count = sum(start < node.start for start, _ in comments)
            node.hash_comments = [octets for _, octets in comments[:count]]
            comments = [one for one in comments[count:] if one[0] >= node.call.stop]

    def read(self, text: bytes | str, name: str = "") -> list[Call]:
        """The tree of a script as far as it can be read; `diagnostics` has the errors of its grammar."""
        octets = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        self.source = Source(octets, name)
        self.diagnostics = []
        self.tree = []
        self.result = []
        self.error = self.error_pos = None
        if len(octets) > limits.SCRIPT_OCTETS:
            self._report(0, 0, "long-script", f"script is longer than {limits.SCRIPT_OCTETS} bytes")
            return []
        if octets.startswith(b"\xef\xbb\xbf"):
            octets = b"   " + octets[3:]
        self._tokens = self.lexer.tokens(octets, self._report)
        self._place = 0
        self._token = self._tokens[0]
        self._calls = 0
        self._in_list = 0
        self._is_broken = False
        self._unbalanced = 0
        self._strays = 0
        self.tree = self._commands(0)
        while self._token.kind != "end":
            # A brace that is missing where an error was found before leaves one over.
            if self._unbalanced:
                self._unbalanced -= 1
            else:
                self._report(
                    self._token.start, self._token.end, "unexpected",
                    f"unexpected {self._shown()} found at (the presumed) end of file",
                    "no block is open here",
                )  # fmt: skip
            self._next()
            self.tree += self._commands(0)
        return self.tree

    def _report(self, start: int, end: int, code: str, text: str, hint: str = "") -> None:
        if len(self.diagnostics) < limits.DIAGNOSTICS:
            self.diagnostics.append(self.source.diagnostic(start, end, code, text, hint))

    def _next(self) -> None:
        self._place += 1
        self._token = self._tokens[self._place]

    def _shown(self) -> str:
        kind = self._token.kind
        if kind == "error":
            return str(self._token.value) if self._token.value != "open" else "end of file"
        return _SHOWN.get(kind) or f"'{kind}'"

    def _was_end(self) -> bool:
        """True when the lexer has already said why nothing follows."""
        return self._token.kind == "error" and self._token.value == "open"

    def _recover(self, closer: str) -> bool:
        """Skip to `closer` of the construct that is broken, or what ends one around it; True at `closer`."""
        rank = _RANK[closer]
        opener = _OPENS.get(closer, "")
        nesting = 1
        while self._token.kind != "end":
            kind = self._token.kind
            if _RANK.get(kind, 0) > rank:
                return False
            if kind == opener:
                nesting += 1
            elif kind == closer:
                nesting -= 1
                if not nesting:
                    return True
            self._next()
        return False

    def _skip_block(self) -> None:
        """Behind the block whose brace is at hand."""
        self._next()
        if self._recover("}"):
            self._next()

    # Commands

    def _commands(self, depth: int) -> list[Call]:
        found: list[Call] = []
        while True:
            token = self._token
            if token.kind == "identifier":
                found.append(self._command(token, depth))
            elif token.kind == "end" or token.kind == "}" or self._was_end():
                if self._was_end():
                    self._next()
                return found
            elif token.kind == "error" and token.value in ("identifier", "nul"):
                # The lexer has reported it; the rest of the command is skipped.
                self._next()
                self._end_of_command(Call("", token.start, token.end), depth, report=False)
            else:
                self._report(
                    token.start, token.end, "unexpected",
                    f"expected a command name, but found {self._shown()}",
                )  # fmt: skip
                self._strays += depth > 0
                if token.kind != "{":
                    self._next()
                if token.kind != ";" and self._token.kind != "identifier":
                    self._end_of_command(Call("", token.start, token.end), depth, report=False)

    def _command(self, token: Token, depth: int) -> Call:
        call = Call(str(token.value).lower(), token.start, token.end)
        if self._is_too_long(token):
            return call
        self._next()
        self._is_broken = False
        self._arguments(call, 0)
        self._end_of_command(call, depth, report=not self._is_broken)
        call.stop = self._tokens[self._place - 1].end
        return call

    def _is_too_long(self, token: Token) -> bool:
        """Count a command or test; one too many is reported and ends the script."""
        self._calls += 1
        if self._calls <= limits.CALLS:
            return False
        self._report(
            token.start, token.end, "many-commands",
            f"too many commands and tests in one script (max {limits.CALLS})",
        )  # fmt: skip
        self._tokens[-1:] = [Token("error", "open", token.start, token.end), self._tokens[-1]]
        self._place = len(self._tokens) - 2
        self._token = self._tokens[self._place]
        return True

    def _end_of_command(self, call: Call, depth: int, *, report: bool) -> None:
        if self._token.kind not in (";", "{"):
            if report and not self._was_end():
                self._report_end(call)
            self._unbalanced += 1
            if not self._recover(";") and self._token.kind != "{":
                return
        if self._token.kind == ";":
            self._next()
            return
        start = self._token
        if depth >= limits.BLOCK_DEPTH:
            self._report(
                start.start, start.end, "deep-blocks",
                f"cannot nest command blocks deeper than {limits.BLOCK_DEPTH} levels",
            )  # fmt: skip
            self._skip_block()
            call.block = []
            return
        self._next()
        call.block = self._commands(depth + 1)
        if self._token.kind == "}":
            self._next()
        elif self._strays:
            self._strays -= 1
        elif not self._tokens_end_reported():
            self._strays = limits.BLOCK_DEPTH  # the blocks around it lack theirs, too: once is enough
            self._report(
                self._token.start, self._token.end, "open-block",
                f"expected end of compound block '}}', but found {self._shown()}",
                f"the block of '{call.name}' begins at {self.source.position(start.start)}",
            )  # fmt: skip

    def _tokens_end_reported(self) -> bool:
        before = self._tokens[self._place - 1] if self._place else None
        return before is not None and before.kind == "error" and before.value == "open"

    def _report_end(self, call: Call) -> None:
        before = self._tokens[self._place - 1]
        hint = (
            f"is a ';' missing after '{call.name}'?" if self._token.kind in ("identifier", "end", "}") else ""
        )
        if self._token.kind in ("identifier", "end", "}"):
            where = (before.end, before.end)  # where the semicolon should stand
        else:
            where = (self._token.start, self._token.end)
        self._report(
            *where, "no-end-of-command",
            "expected end of command ';' or the beginning of a compound block '{', but found "
            + self._shown(),
            hint,
        )  # fmt: skip

    # Arguments and tests

    def _arguments(self, call: Call, depth: int) -> None:
        add = call.arguments.append
        while True:
            token = self._token
            kind = token.kind
            argument: Argument
            if kind == "string":
                argument = Text(token.value, token.start, token.end)  # type: ignore[arg-type]
            elif kind == "tag":
                argument = TagName(":" + str(token.value).lower(), token.start, token.end)
            elif kind == "number":
                argument = Number(token.value, token.start, token.end)  # type: ignore[arg-type]
            elif kind == "[":
                listed = self._list()
                if listed is None:
                    self._is_broken = True
                    return
                argument = listed
            elif kind == "identifier":
                self._test(call, depth)
                return
            elif kind == "(":
                self._tests(call, depth)
                return
            elif kind == "error" and token.value in ("identifier", "nul", "multi-line string"):
                # Reported by the lexer, and enough said about this command.
                self._is_broken = True
                self._next()
                self._recover(";")
                return
            else:
                return
            if len(call.arguments) >= limits.ARGUMENTS:
                self._report(
                    token.start, token.end, "many-arguments",
                    f"too many arguments for '{call.name}' (max {limits.ARGUMENTS})",
                )  # fmt: skip
                self._is_broken = True
                self._recover(";")
                return
            add(argument)
            if kind != "[":
                self._next()

    def _list(self) -> TextList | None:
        start = self._token
        items: list[Text] = []
        self._next()
        while True:
            token = self._token
            if token.kind != "string":
                expected = "string after '['" if not items else "string after ','"
                return self._broken_list(start, items, f"expecting {expected} in string list", again=True)
            if len(items) < limits.LIST_STRINGS:
                items.append(Text(token.value, token.start, token.end))  # type: ignore[arg-type]
            self._next()
            if self._token.kind == "]":
                self._next()
                break
            if self._token.kind != ",":
                return self._broken_list(start, items, _LIST_GOES_ON)
            self._next()
        if len(items) >= limits.LIST_STRINGS:
            self._report(
                start.start, start.end, "long-list",
                f"too many strings in string list (max {limits.LIST_STRINGS})",
            )  # fmt: skip
        return TextList(items, start.start, self._tokens[self._place - 1].end)

    def _broken_list(
        self, start: Token, items: list[Text], expected: str, *, again: bool = False
    ) -> TextList | None:
        self._report_found("bad-list", expected)
        if not self._recover("]"):
            if again:
                self._report_found("bad-list", _LIST_GOES_ON)
            return None
        self._next()
        return TextList(items, start.start, self._tokens[self._place - 1].end)

    def _test(self, call: Call, depth: int) -> None:
        token = self._token
        test = Call(str(token.value).lower(), token.start, token.end)
        if self._is_too_long(token):
            return
        if depth >= limits.TEST_DEPTH:
            self._report(
                token.start, token.end, "deep-tests",
                f"cannot nest tests deeper than {limits.TEST_DEPTH} levels",
            )  # fmt: skip
            self._recover(")") if self._in_list else self._recover(";")
            return
        self._next()
        self._arguments(test, depth + 1)
        test.stop = self._tokens[self._place - 1].end
        call.tests.append(test)

    def _report_found(self, code: str, expected: str) -> None:
        if not self._was_end():
            found = f"{expected}, but found {self._shown()}"
            self._report(self._token.start, self._token.end, code, found)

    def _tests(self, call: Call, depth: int) -> None:
        call.is_list = True
        after = "'('"
        self._in_list += 1
        self._next()
        while True:
            if self._token.kind != "identifier":
                self._report_found("bad-tests", f"expecting test identifier after {after} in test list")
                break
            self._test(call, depth)
            if self._is_broken:
                self._recover(")")
            if self._token.kind == ")":
                break
            if self._token.kind != ",":
                self._report_found("bad-tests", "expecting ',' or end of test list ')'")
                break
            after = "','"
            self._next()
        self._in_list -= 1
        if self._token.kind == ")" or self._recover(")"):
            self._next()
            self._is_broken = False
        else:
            self._is_broken = True
