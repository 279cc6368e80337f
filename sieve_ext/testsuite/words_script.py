"""test_script_*, test_multiscript, test_binary_*: the scripts under test."""

from __future__ import annotations

from sieve_ext.extend import Compiler, Control, Run, Step, Test, string, strings, tag
from sieve_ext.runtime.script import load
from sieve_ext.testsuite.session import session_of


class TestScriptCompileTest(Test):
    """test_script_compile <path: string>."""

    __test__ = False
    word = "test_script_compile"
    args_definition = (string("path"),)

    def compile(self, compiler: Compiler) -> Step:
        """Compile; False if it cannot be."""
        path = compiler.text(self.given["path"])
        return lambda run: session_of(run).compile(path.expand(run))


class TestScriptRunTest(Test):
    """test_script_run [:append_result]."""

    __test__ = False
    word = "test_script_run"
    args_definition = (tag("append_result", ":append_result"),)

    def compile(self, compiler: Compiler) -> Step:
        """Run; False if that failed."""
        append = self.has_tag("append_result")
        return lambda run: session_of(run).run_script(run, append=append)


class TestMultiscriptTest(Test):
    """test_multiscript <paths: string-list>."""

    __test__ = False
    word = "test_multiscript"
    args_definition = (strings("paths"),)

    def compile(self, compiler: Compiler) -> Step:
        """Run one after the other."""
        paths = compiler.texts(self.given["paths"])
        return lambda run: session_of(run).run_sequence(run, paths.expand(run))


class TestBinarySaveCommand(Control):
    """test_binary_save <name: string>."""

    __test__ = False
    word = "test_binary_save"
    args_definition = (string("name"),)

    def compile(self, compiler: Compiler) -> Step:
        """Keep the compiled script."""
        name = compiler.text(self.given["name"])

        def save(run: Run) -> None:
            session = session_of(run)
            if session.script is None:
                run.fail("no script has been compiled yet, so there is none to be saved")
            session.saved[name.expand(run)] = session.script

        return save


class TestBinaryLoadCommand(Control):
    """test_binary_load <name: string>.

    What is kept of a script between two processes is its text: it is compiled again.
    """

    __test__ = False
    word = "test_binary_load"
    args_definition = (string("name"),)

    def compile(self, compiler: Compiler) -> Step:
        """Take a script that was kept."""
        name = compiler.text(self.given["name"])

        def take(run: Run) -> None:
            session = session_of(run)
            saved = session.saved.get(name.expand(run))
            if saved is None:
                run.fail(f"failed to load the compiled script '{name.expand(run)}'")
            session.script = load(
                saved.text,
                session.dialect,
                name=saved.name,
                settings=session.settings,
                store=session.scripts,
            )

        return take


WORDS = (
    TestScriptCompileTest,
    TestScriptRunTest,
    TestMultiscriptTest,
    TestBinarySaveCommand,
    TestBinaryLoadCommand,
)
