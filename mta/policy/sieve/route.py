"""vnd.tamis.route: where a recipient's copy goes. Status: complete for what is listed.

    route :to "backend:NAME" | "relay:NAME"
    route :to "mx" | "mx:DOMAIN" | "smtp:[HOST]:PORT"
          [:tls "none" | "may" | "encrypt" | "verify" | "dane"] [:source "NAME"] [:helo "NAME"]
          [:fallback "relay:NAME" | "smtp:[HOST]:PORT"]

In stages rcpt and route for the recipient, in stage data for all of them; the later one counts. It says where
mail goes that the base policy accepts, not whether it is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

from mta.delivery.outcome import RELAY
from mta.delivery.way import OPTIONS, WayError, is_way, parse_way
from mta.policy.sieve.facts import DATA, RCPT, ROUTE
from mta.policy.sieve.reply import PolicyAction
from sieve_ext.extend import STRING, Act, Capability, Checker, Compiler, Step, Text, suggest, tag

ROUTES = "tamis_routes"
"""The setting that lists what there is to route to, with blanks between."""
WORLD = "mx"
"""Stands in that list where mail may go to any domain."""
SOURCES = "tamis_sources"
"""The setting that lists source addresses by name."""


@dataclass(eq=False)
class Route(PolicyAction):
    """Send it to `transport`."""

    transport: str
    name = "route"

    def describe(self) -> str:
        """One line for people."""
        return f"route to {self.transport}"


class RouteCommand(Act):
    """route :to <next hop: string> [:tls <level>] [:source <name>] [:helo <name>] [:fallback <next hop>]."""

    word = "route"
    stages = RCPT | DATA | ROUTE
    args_definition = tuple(tag(name, f":{name}", value=STRING) for name in ("to", *OPTIONS))

    def check(self, checker: Checker) -> None:
        """The next hop is in the configuration, or a way into the world."""
        where = self.text("to")
        if where is None:
            checker.error(self, "no-route", "the route command needs :to", 'write route :to "relay:NAME"')
            return
        name = checker.constant(where)
        options = self._options(checker)
        if name is None:
            checker.error(where, "dynamic-route", "a next hop is constant: variables are not possible here")
        elif is_way(name):
            self._check_way(checker, where, name, options)
        else:
            known = checker.unit.settings.text(ROUTES).split()
            if name not in known:
                hint = suggest(name, known) or (
                    f"there are: {', '.join(known)}" if known else "there is none"
                )
                checker.error(where, "unknown-route", f"'{name}' is no back end or relay of tamis.toml", hint)
            for option, text in options.items():
                checker.error(
                    text, "needless-option", f":{option} is for routes to 'mx' and 'smtp:[HOST]:PORT'",
                    "relays and back ends have it in tamis.toml",
                )  # fmt: skip

    def _options(self, checker: Checker) -> dict[str, Text]:
        found: dict[str, Text] = {}
        for option in OPTIONS:
            text = self.text(option)
            if text is None:
                continue
            found[option] = text
            if checker.constant(text) is None:
                checker.error(
                    text, "dynamic-route", f":{option} is constant: variables are not possible here"
                )
        return found

    def _check_way(self, checker: Checker, where: Text, name: str, options: dict[str, Text]) -> None:
        settings = checker.unit.settings
        known = settings.text(ROUTES).split()
        if WORLD not in known:
            checker.error(
                where, "unknown-route", f"'{name}' needs delivery to the world", "set outbound.enabled = true"
            )
        try:
            parse_way(name)
        except WayError as error:
            checker.error(where, "bad-route", str(error))
            return
        for option, text in options.items():
            value = checker.constant(text)
            if value is None:
                continue
            try:
                parse_way(f"mx;{option}={value}")
            except WayError as error:
                checker.error(text, "bad-route", str(error))
                continue
            if option == "source":
                sources = settings.text(SOURCES).split()
                if value not in sources:
                    hint = suggest(value, sources)
                    checker.error(
                        text, "unknown-source", f"there is no [sources.{value}] in tamis.toml", hint
                    )
            elif option == "fallback" and value.startswith(RELAY) and value not in known:
                checker.error(
                    text, "unknown-route", f"'{value}' is no relay of tamis.toml", suggest(value, known)
                )

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        where = self.text("to")
        name = where.value if where is not None else ""
        if is_way(name):
            given = ((option, self.text(option)) for option in OPTIONS)
            name = str(
                parse_way(name + "".join(f";{o}={text.value}" for o, text in given if text is not None))
            )
        return compiler.action(self, lambda run: Route(name))


CAPABILITIES = (Capability("vnd.tamis.route", words=(RouteCommand,), specification="docs/policy/route.md"),)
