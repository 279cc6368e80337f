"""The Sieve engine and the message index: pure, text and bytes in, answers out; knows nothing of SMTP.

    script = compile('require "fileinto"; if header "List-Id" "a" { fileinto "lists"; }', standard_dialect())
    result = execute(script, message_octets, Envelope(sender="a@example.org"))
    for action in result.all_actions: ...

A script that cannot run raises `InvalidScript`, whose `diagnostics` say all that is wrong with it, each with
line and column. A run never raises: what goes wrong is in `result.errors` and the message is kept. What
a script asks of its surroundings comes out of `Script.run` as requests; `execute` lets a host answer them.
"""

from sieve_ext.closures.unit import MappingStore, ScriptStore
from sieve_ext.diagnostic import Diagnostic, InvalidScript, Position, Severity
from sieve_ext.diskcache import DiskCache
from sieve_ext.extensions.table import all_capabilities, standard_dialect
from sieve_ext.language.capability import Capability
from sieve_ext.language.dialect import Dialect
from sieve_ext.message import Message
from sieve_ext.runtime.actions import Action, Discard, FileInto, Keep, Redirect
from sieve_ext.runtime.cache import ScriptCache
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.runtime.execute import Host, NoHost, execute
from sieve_ext.runtime.requests import Request
from sieve_ext.runtime.result import Fault, Result
from sieve_ext.runtime.script import Script, check
from sieve_ext.runtime.script import load as compile
from sieve_ext.runtime.sequence import run_sequence
from sieve_ext.runtime.settings import Settings
from sieve_ext.runtime.tracing import Event

__all__ = [
    "Action",
    "Capability",
    "Diagnostic",
    "Dialect",
    "Discard",
    "DiskCache",
    "Envelope",
    "Event",
    "Fault",
    "FileInto",
    "Host",
    "InvalidScript",
    "Keep",
    "MappingStore",
    "Message",
    "NoHost",
    "Position",
    "Redirect",
    "Request",
    "Result",
    "Script",
    "ScriptCache",
    "ScriptStore",
    "Settings",
    "Severity",
    "all_capabilities",
    "check",
    "compile",
    "execute",
    "run_sequence",
    "standard_dialect",
]
