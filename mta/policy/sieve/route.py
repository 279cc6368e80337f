"""vnd.tamis.route: where a recipient's copy goes. Status: back ends and relays of the configuration.

    route :to "backend:NAME" | "relay:NAME"

In stages rcpt and route for the recipient, in stage data for all of them; the later one counts. It says where
mail goes that the base policy accepts, not whether it is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

from mta.policy.sieve.facts import DATA, RCPT, ROUTE
from mta.policy.sieve.reply import PolicyAction
from sieve_ext.extend import STRING, Act, Capability, Checker, Compiler, Step, suggest, tag

ROUTES = "tamis_routes"
"""The setting that lists what there is to route to, with blanks between."""


@dataclass(eq=False)
class Route(PolicyAction):
    """Send it to `transport`."""

    transport: str
    name = "route"

    def describe(self) -> str:
        """One line for people."""
        return f"route to {self.transport}"


class RouteCommand(Act):
    """route :to <next hop: string>."""

    word = "route"
    stages = RCPT | DATA | ROUTE
    args_definition = (tag("to", ":to", value=STRING),)

    def check(self, checker: Checker) -> None:
        """The next hop is in the configuration."""
        where = self.text("to")
        if where is None:
            checker.error(self, "no-route", "the route command needs :to", 'write route :to "relay:NAME"')
            return
        name = checker.constant(where)
        known = checker.unit.settings.text(ROUTES).split()
        if name is None:
            checker.error(where, "dynamic-route", "a next hop is constant: variables are not possible here")
        elif name not in known:
            hint = suggest(name, known) or (f"there are: {', '.join(known)}" if known else "there is none")
            checker.error(where, "unknown-route", f"'{name}' is no back end or relay of tamis.toml", hint)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        where = self.text("to")
        transport = where.value if where is not None else ""
        return compiler.action(self, lambda run: Route(transport))


CAPABILITIES = (Capability("vnd.tamis.route", words=(RouteCommand,), specification="docs/policy/route.md"),)
