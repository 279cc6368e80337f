"""vnd.dovecot.testsuite: the language of policy tests. Status: complete.

The words are in `words_*` of this package, one module for each thing that they work on. The capability is
part of no dialect but that of the runner.
"""

from __future__ import annotations

from functools import cache

from sieve_ext.extend import Capability, Namespace, Reference, Run, Scope
from sieve_ext.extensions.table import all_capabilities
from sieve_ext.language.dialect import Dialect
from sieve_ext.testsuite import words_message, words_result, words_script, words_settings, words_test
from sieve_ext.testsuite.session import KEY, session_of


def _resolve(scope: Scope, name: str) -> Reference | str:
    """`${tst.path}`, the directory of the test file; other names are empty."""
    if name == "path":
        return Reference(_path)
    return Reference(_empty)


def _path(run: Run) -> str:
    return str(session_of(run).directory)


def _empty(run: Run) -> str:
    return ""


TESTSUITE = Capability(
    KEY,
    words=(
        *words_test.WORDS,
        *words_message.WORDS,
        *words_settings.WORDS,
        *words_script.WORDS,
        *words_result.WORDS,
    ),
    namespaces=(Namespace("tst", _resolve),),
    is_privileged=True,
    specification="docs/sieve.md",
)
"""The capability that makes a script a test."""


@cache
def testsuite_dialect() -> Dialect:
    """All that the engine knows, and the words of tests."""
    return Dialect((*all_capabilities(), TESTSUITE))
