"""vnd.tamis.policy_server: servers of Postfix's policy protocol. Status: complete.

    policy_server [:on_error <way>] <name: string>

Asks the server about this stage. A refusal ends the stage; what else it wants is done with the message.
Without :on_error a server that cannot be asked has its `default_action` of the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mta.policy.sieve.asking import Services, Unavailable
from mta.policy.sieve.facts import Facts
from mta.policy.sieve.onerror import ON_ERROR, check_on_error, unavailable, way_of
from mta.policy.sieve.reply import Accept, Answer, Disconnect, clean_text
from mta.policy.sieve.sections import check_section
from mta.reply import Reply
from sieve_ext import Request
from sieve_ext.extend import Act, Capability, Checker, Compiler, Run, Step, Stopped, string

if TYPE_CHECKING:
    from mta.policy.external.policyservers import PolicyServers, Told

POLICY_SERVERS = "tamis_policy_servers"
"""The setting that lists the names of the policy servers, with blanks between."""


@dataclass(frozen=True, slots=True)
class AskPolicyServer(Request):
    """What a policy server says of this stage."""

    server: str

    def unanswered(self) -> Told | None:
        """Nothing."""
        return None


class PolicyServerCommand(Act):
    """policy_server [":on_error" <way>] <name: string>."""

    word = "policy_server"
    stages = frozenset(("connect", "helo", "mail", "rcpt", "data"))
    args_definition = (ON_ERROR, string("name"))

    def check(self, checker: Checker) -> None:
        """The name is that of a section of the configuration."""
        check_on_error(self, checker)
        check_section(self, checker, POLICY_SERVERS, "policy server", "policy_servers")

    def compile(self, compiler: Compiler) -> Step:
        """Ask, and leave if it refuses."""
        name = compiler.text(self.given["name"]).constant or ""
        way = way_of(self) if self.text("on_error") is not None else ""

        def ask(run: Run) -> Any:
            told: Told | None
            told = yield AskPolicyServer(name)
            if told is None:
                return
            if told.note:
                run.note(f"policy server {name}: {told.note}")
            if told.failure and way:
                unavailable(run, way, f"policy server {name}", Unavailable(told.failure))
                return
            if told.failure:
                run.note(f"policy server {name}: {told.failure}")
            if told.reply is not None:
                reply = told.reply
                run.add(Answer(Reply(reply.code, reply.enhanced, clean_text(reply.text), reply.cause)))
                if told.disconnects:
                    run.add(Disconnect())
                run.add(Accept())
                raise Stopped

        return ask


def policy_server_services(servers: PolicyServers) -> Services:
    """Who answers `AskPolicyServer`."""

    def ask(request: AskPolicyServer, facts: Facts) -> Any:
        return servers.ask(request.server, facts)

    return {AskPolicyServer: ask}


CAPABILITIES = (
    Capability(
        "vnd.tamis.policy_server", words=(PolicyServerCommand,), specification="docs/policy/policy_server.md"
    ),
)
