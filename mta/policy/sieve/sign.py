"""vnd.tamis.sign: signatures, in stage sign. Status: complete.

    dkim_sign [:domain <string>] [:selector <string>]
    arc_seal [:domain <string>] [:selector <string>]
    dkim_skip

Without any of them a message is signed as usual (`mta.authn.signer`); with some, only as they say.
"""

from __future__ import annotations

from dataclasses import dataclass

from mta.address import AddressError, domain_key
from mta.authn.signorder import Method, SignatureOrder
from mta.policy.sieve.facts import SIGN
from mta.policy.sieve.reply import SignAction
from sieve_ext.extend import STRING, Act, Capability, Checker, Compiler, Run, Step, tag

KEYS = "tamis_keys"
"""The setting that says whether there are keys."""


@dataclass(eq=False)
class Sign(SignAction):
    """Sign as `order` says."""

    order: SignatureOrder
    name = "sign"

    def describe(self) -> str:
        """One line for people."""
        order = self.order
        return " ".join(part for part in (order.method.value, order.domain, order.selector) if part)


class _SignCommand(Act):
    """What has keys."""

    stages = SIGN
    elsewhere = 'a message is signed when all edits are made, in stage "sign"'
    args_definition = (tag("domain", ":domain", value=STRING), tag("selector", ":selector", value=STRING))
    method = Method.DKIM

    def check(self, checker: Checker) -> None:
        """There are keys, and names are names."""
        if checker.unit.settings.text(KEYS) == "no":
            checker.error(self, "no-keys", f"the {self.name} command needs keys", "set signing.keys")
        for name in ("domain", "selector"):
            text = self.text(name)
            if text is None:
                continue
            constant = checker.constant(text)
            if constant is not None and (problem := _bad_name(constant, name)) is not None:
                checker.error(text, "bad-domain" if name == "domain" else "bad-selector", problem)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        domain = compiler.text(self.text("domain"), "")
        selector = compiler.text(self.text("selector"), "")

        def make(run: Run) -> Sign:
            names = []
            for what, text in (("domain", domain.expand(run)), ("selector", selector.expand(run))):
                problem = _bad_name(text, what) if text else None
                if problem is not None:
                    run.fail(f"{self.name} action: {problem}")
                names.append(_key(text) if text else "")
            return Sign(SignatureOrder(self.method, *names))

        return compiler.action(self, make)


class DkimSignCommand(_SignCommand):
    """dkim_sign [":domain" <string>] [":selector" <string>]."""

    word = "dkim_sign"


class ArcSealCommand(_SignCommand):
    """arc_seal [":domain" <string>] [":selector" <string>]."""

    word = "arc_seal"
    method = Method.ARC


class DkimSkipCommand(Act):
    """dkim_skip."""

    word = "dkim_skip"
    stages = SIGN

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        return compiler.action(self, lambda run: Sign(SignatureOrder(Method.NONE)))


def _bad_name(text: str, what: str) -> str | None:
    """What is wrong with a domain or a selector."""
    try:
        _key(text) if what == "domain" else domain_key(f"{text}.s")
    except AddressError as error:
        return f"'{text[:80]}' is no {what}: {error}"
    return None


def _key(text: str) -> str:
    return domain_key(text) if "." in text else text.lower()


CAPABILITIES = (
    Capability(
        "vnd.tamis.sign",
        words=(DkimSignCommand, ArcSealCommand, DkimSkipCommand),
        specification="docs/policy/sign.md",
    ),
)
