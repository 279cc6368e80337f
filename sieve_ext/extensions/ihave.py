"""ihave (RFC 5463): the test ihave and the command error. Status: complete.

What is known of the capabilities is decided when the script is loaded: where they are all known they are
enabled from there on, else the block is not looked at, whatever it contains (section 4). As Pigeonhole has
it, the other branch of a test that holds is checked as any.
"""

from __future__ import annotations

from sieve_ext.extend import (
    Capability,
    Checker,
    Compiler,
    Control,
    Run,
    Step,
    Test,
    string,
    strings,
    texts,
)


class IhaveTest(Test):
    """ihave <capabilities: string-list>: all of them are there (section 4)."""

    word = "ihave"
    args_definition = (strings("capabilities"),)

    def __init__(self, *arguments: object, **more: object) -> None:
        """See `Node`."""
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        self.holds = False

    def check(self, checker: Checker) -> None:
        """Enable the capabilities, if all are known."""
        names: list[str] = []
        for text in texts(self.given["capabilities"]):
            name = checker.constant(text)
            if name is None:
                checker.error(
                    text, "dynamic-capability", "the ihave test requires constant strings as capabilities"
                )
                return
            names.append(name)
        self.holds = all(_is_known(name, checker) for name in names)
        if self.holds:
            for name in names:
                checker.enable(name)

    def constant(self, checker: Checker) -> bool | None:
        """False where one is missing. Else it is not told: the other branch is to be checked, too."""
        return None if self.holds else False

    @property
    def is_probe(self) -> bool:
        """True."""
        return True

    def is_plainly_constant(self) -> bool:
        """True: that is what it is for."""
        return True

    def compile(self, compiler: Compiler) -> Step:
        """What was found out."""
        holds = self.holds
        return lambda run: holds


def _is_known(name: str, checker: Checker) -> bool:
    if name in checker.dialect.capabilities:
        return bool(name)
    comparator = checker.dialect.comparators.get(name.removeprefix("comparator-"))
    return name.startswith("comparator-") and comparator is not None and not comparator[1]


class ErrorCommand(Control):
    """error <message: string>: ends the script as an error at run time (section 5)."""

    word = "error"
    args_definition = (string("message"),)

    def ends_block(self) -> bool:
        """True."""
        return True

    def compile(self, compiler: Compiler) -> Step:
        """Fail with the text."""
        message = compiler.text(self.given["message"])

        def fail(run: Run) -> None:
            run.fail(message.expand(run))

        return fail


CAPABILITIES = (Capability("ihave", words=(IhaveTest, ErrorCommand), specification="RFC 5463"),)
