"""test_config_*, test_mailbox_*, test_imap_metadata_set: what stands around scripts."""

from __future__ import annotations

from sieve_ext.extend import STRING, Checker, Compiler, Control, Run, Step, string, tag
from sieve_ext.testsuite.mailstore import bad_annotation, bad_name
from sieve_ext.testsuite.session import session_of


class TestConfigSetCommand(Control):
    """test_config_set <setting: string> <value: string>."""

    __test__ = False
    word = "test_config_set"
    args_definition = (string("setting"), string("value"))

    def compile(self, compiler: Compiler) -> Step:
        """Note it for the next reload."""
        setting, value = compiler.text(self.given["setting"]), compiler.text(self.given["value"])

        def note(run: Run) -> None:
            session_of(run).overrides[setting.expand(run)] = value.expand(run)

        return note


class TestConfigUnsetCommand(Control):
    """test_config_unset <setting: string>."""

    __test__ = False
    word = "test_config_unset"
    args_definition = (string("setting"),)

    def compile(self, compiler: Compiler) -> Step:
        """Note it for the next reload."""
        setting = compiler.text(self.given["setting"])

        def note(run: Run) -> None:
            session_of(run).overrides[setting.expand(run)] = None

        return note


class TestConfigReloadCommand(Control):
    """test_config_reload [:extension <name: string>].

    Settings belong to no extension in particular here: all that were changed are read.
    """

    __test__ = False
    word = "test_config_reload"
    args_definition = (tag("extension", ":extension", value=STRING),)

    def compile(self, compiler: Compiler) -> Step:
        """Read the settings."""
        extension = compiler.text(self.value("extension"))

        def reload(run: Run) -> None:
            session = session_of(run)
            name = extension.expand(run)
            if name and name not in session.dialect.capabilities:
                run.fail(f"unknown extension '{name}'")
            session.reload()

        return reload


class TestMailboxCreateCommand(Control):
    """test_mailbox_create <mailbox: string>."""

    __test__ = False
    word = "test_mailbox_create"
    args_definition = (string("mailbox", check=bad_name),)

    def compile(self, compiler: Compiler) -> Step:
        """Create it."""
        mailbox = compiler.text(self.given["mailbox"])

        def create(run: Run) -> None:
            try:
                session_of(run).store.create(mailbox.expand(run))
            except ValueError as error:
                run.fail(str(error))

        return create


class TestMailboxDeleteCommand(Control):
    """test_mailbox_delete <mailbox: string>."""

    __test__ = False
    word = "test_mailbox_delete"
    args_definition = (string("mailbox", check=bad_name),)

    def compile(self, compiler: Compiler) -> Step:
        """Delete it, if it is there."""
        mailbox = compiler.text(self.given["mailbox"])
        return lambda run: session_of(run).store.delete(mailbox.expand(run))


class TestImapMetadataSetCommand(Control):
    """test_imap_metadata_set [:mailbox <name: string>] <annotation: string> <value: string>."""

    __test__ = False
    word = "test_imap_metadata_set"
    args_definition = (tag("mailbox", ":mailbox", value=STRING), string("annotation"), string("value"))

    def check(self, checker: Checker) -> None:
        """The mailbox can be one."""
        mailbox = checker.constant(self.value("mailbox"))
        if mailbox is not None and (problem := bad_name(mailbox)) is not None:
            checker.error(self.tags["mailbox"], "bad-value", problem)

    def compile(self, compiler: Compiler) -> Step:
        """Set it."""
        mailbox = compiler.text(self.value("mailbox")) if self.has_tag("mailbox") else None
        annotation, value = compiler.text(self.given["annotation"]), compiler.text(self.given["value"])

        def assign(run: Run) -> None:
            store = session_of(run).store
            name = annotation.expand(run)
            problem = bad_annotation(name)
            if problem is not None:
                run.fail(problem)
            if mailbox is None:
                store.annotations[name.lower()] = value.expand(run)
                return
            folder = store.find(mailbox.expand(run))
            if folder is None:
                run.fail(f"mailbox '{mailbox.expand(run)}' doesn't exist")
            folder.annotations[name.lower()] = value.expand(run)

        return assign


WORDS = (
    TestConfigSetCommand,
    TestConfigUnsetCommand,
    TestConfigReloadCommand,
    TestMailboxCreateCommand,
    TestMailboxDeleteCommand,
    TestImapMetadataSetCommand,
)
