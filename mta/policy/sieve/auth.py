"""vnd.tamis.auth: who sent the message. Status: complete.

    iprev <results: string-list>
    spf [:helo] [:domain <string-list>] <results: string-list>
    dkim [:aligned] [:domain <string-list>] [:selector <string-list>] <results: string-list>
    dmarc [:policy] <results or policies: string-list>
    arc [:trusted <string-list>] [:said <string-list>] <results: string-list>

Each is evaluated when it is first asked for, and once. What is not looked at (switched off, or mail of our
own) is "none", and `dmarc :policy` is "none" with it. A domain is a name, "*.name" for all below it, or
"table:NAME" for those in a table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mta.address import AddressError, domain_key
from mta.policy.sieve.asking import Services
from mta.policy.sieve.facts import ALWAYS, FROM_DATA, FROM_HELO, Facts
from mta.policy.sieve.tables import SCHEME, TABLES
from sieve_ext.extend import (
    STRINGS,
    Capability,
    Checker,
    Compiler,
    Request,
    Run,
    Step,
    TemplateList,
    Test,
    asking,
    strings,
    suggest,
    tag,
    texts,
)
from sieve_ext.extensions.extlists import ListLookup

if TYPE_CHECKING:
    from mta.authn.evaluation import Authentication, SessionAuthentication

SPF = ("none", "neutral", "pass", "fail", "softfail", "temperror", "permerror")
DKIM = ("none", "pass", "fail", "policy", "neutral", "temperror", "permerror")
DMARC = ("none", "pass", "fail", "temperror", "permerror")
ARC = ("none", "pass", "fail", "temperror")
IPREV = ("none", "pass", "fail", "temperror", "permerror")
POLICIES = ("none", "quarantine", "reject")

Asking = Generator[Request, Any, bool]
Words = Callable[[Run], frozenset[str]]
"""Strings in a run, in lower case."""


@dataclass(frozen=True)
class Authenticate(Request):
    """What does a method say? Answered by its result as `mta.authn.evaluation` has it; None: nobody looks."""

    method: str
    """ "iprev", "helo", "spf", "dkim", "arc" or "dmarc"."""


_IPREV, _DKIM, _DMARC, _ARC = map(Authenticate, ("iprev", "dkim", "dmarc", "arc"))


def services() -> Services:
    """Who answers."""
    return {Authenticate: _authenticate}


def _authenticate(request: Authenticate, facts: Facts) -> Any:
    of_session = facts.session.authentication
    if of_session is None:
        return None
    method = request.method
    found: SessionAuthentication | Authentication | None = of_session
    if method not in ("iprev", "helo"):
        found = of_session.transaction
        if found is None or not found.examined:
            return None
    known = getattr(found, f"known_{method}")
    if known is not None:
        return known
    asked: Awaitable[Any] = getattr(found, method)()
    return asked


class _ResultTest(Test):
    """A test for the results of a method."""

    results: tuple[str, ...] = ()
    """What the method can say."""

    def check(self, checker: Checker) -> None:
        """Constant results and domains must be such that the method can have them."""
        known = self.known_results()
        for text in texts(self.given["results"]):
            constant = checker.constant(text)
            if constant is not None and constant.lower() not in known:
                hint = suggest(constant, known) or "there are: " + ", ".join(known)
                checker.error(text, "unknown-result", f"'{constant}' is nothing that {self.name} says", hint)
        for name in ("domain", "trusted"):
            for text in texts(self.value(name)):
                constant = checker.constant(text)
                if constant is not None and (problem := _bad_domain(constant, checker)) is not None:
                    code = "unknown-table" if constant.lower().startswith(SCHEME) else "bad-domain"
                    checker.error(text, code, problem)

    def known_results(self) -> tuple[str, ...]:
        """What may be asked for."""
        return self.results

    def list_of(self, name: str, compiler: Compiler) -> TemplateList | None:
        """The strings of an argument, None if it is not given."""
        value = self.given.get(name) if name == "results" else self.value(name)
        return None if value is None else compiler.texts(value)

    def wanted(self, compiler: Compiler) -> Words:
        """The results that are asked for."""
        return _lowered(compiler.texts(self.given["results"]))


class IprevTest(_ResultTest):
    """iprev <results: string-list>."""

    word = "iprev"
    results = IPREV
    stages = ALWAYS
    args_definition = (strings("results"),)

    def compile(self, compiler: Compiler) -> Step:
        """Ask."""
        wanted = self.wanted(compiler)

        def test(run: Run) -> Asking:
            found = yield _IPREV
            return _holds(run, wanted, found)

        return test


class SpfTest(_ResultTest):
    """spf [":helo"] [":domain" <string-list>] <results: string-list>."""

    word = "spf"
    results = SPF
    stages = FROM_HELO
    args_definition = (tag("helo", ":helo"), tag("domain", ":domain", value=STRINGS), strings("results"))
    elsewhere = 'the HELO name is there from stage "helo" on, the sender from "mail" on'

    def compile(self, compiler: Compiler) -> Step:
        """Ask."""
        question = Authenticate("helo" if "helo" in self.tags else "spf")
        wanted, domains = self.wanted(compiler), self.list_of("domain", compiler)

        def test(run: Run) -> Asking:
            found = yield question
            if not _holds(run, wanted, found):
                return False
            if domains is None:
                return True
            inside = yield from _inside(run, domains, ["" if found is None else found.domain])
            return bool(inside)

        return test

    def check(self, checker: Checker) -> None:
        """Before MAIL there is the HELO name only."""
        super().check(checker)
        from mta.policy.sieve.stages import stage_of

        if "helo" not in self.tags and stage_of(self) in ("helo", "auth"):
            checker.error(self, "wrong-stage", "there is no sender before stage 'mail'", "write spf :helo")


class DkimTest(_ResultTest):
    """dkim [":aligned"] [":domain" <string-list>] [":selector" <string-list>] <results: string-list>."""

    word = "dkim"
    results = DKIM
    stages = FROM_DATA
    args_definition = (
        tag("aligned", ":aligned"),
        tag("domain", ":domain", value=STRINGS),
        tag("selector", ":selector", value=STRINGS),
        strings("results"),
    )

    def check(self, checker: Checker) -> None:
        """Only good signatures are taken for the author's."""
        super().check(checker)
        if "aligned" in self.tags:
            for text in texts(self.given["results"]):
                constant = checker.constant(text)
                if constant is not None and constant.lower() in DKIM and constant.lower() != "pass":
                    problem = f"no signature with '{constant}' counts for DMARC: this never holds"
                    checker.error(text, "never-aligned", problem, 'write dkim :aligned "pass"')

    def compile(self, compiler: Compiler) -> Step:
        """Ask, and look for one signature that is as wanted in all."""
        wanted = self.wanted(compiler)
        domains, named = self.list_of("domain", compiler), self.list_of("selector", compiler)
        selectors = None if named is None else _lowered(named)
        aligned = "aligned" in self.tags

        def test(run: Run) -> Asking:
            found = yield _DKIM
            results = wanted(run)
            if not found:
                return "none" in results and domains is None and selectors is None and not aligned
            near = (yield _DMARC) if aligned else None
            names = None if selectors is None else selectors(run)
            for one in found:
                run.spend(1)
                if one.result.value not in results:
                    continue
                if aligned and one.domain not in (() if near is None else near.dkim_aligned):
                    continue
                if names is not None and (one.signature is None or one.signature.selector not in names):
                    continue
                if domains is None or (yield from _inside(run, domains, [one.domain])):
                    return True
            return False

        return test


class DmarcTest(_ResultTest):
    """dmarc [":policy"] <results: string-list>."""

    word = "dmarc"
    results = DMARC
    stages = FROM_DATA
    args_definition = (tag("policy", ":policy"), strings("results"))

    def known_results(self) -> tuple[str, ...]:
        """Policies with :policy."""
        return POLICIES if "policy" in self.tags else DMARC

    def compile(self, compiler: Compiler) -> Step:
        """Ask."""
        results = compiler.texts(self.given["results"])
        wanted = _lowered(results)
        said = _disposition if "policy" in self.tags else _result
        words = _constant(results)
        return asking(
            _DMARC,
            lambda run, found: said(found) in wanted(run),
            None if words is None else lambda found: said(found) in words,
        )


class ArcTest(_ResultTest):
    """arc [":trusted" <string-list>] [":said" <string-list>] <results: string-list>."""

    word = "arc"
    results = ARC
    stages = FROM_DATA
    args_definition = (
        tag("trusted", ":trusted", value=STRINGS),
        tag("said", ":said", value=STRINGS),
        strings("results"),
    )

    def check(self, checker: Checker) -> None:
        """What a stranger's seal says counts only if the sealers are trusted."""
        super().check(checker)
        if "said" in self.tags and "trusted" not in self.tags:
            checker.error(
                self.tags["said"], "no-trusted", "anybody can say that: name whom you trust by :trusted"
            )

    def compile(self, compiler: Compiler) -> Step:
        """Ask; all sealers must be trusted, and the first of them must have said one of the results."""
        wanted = self.wanted(compiler)
        trusted, given = self.list_of("trusted", compiler), self.list_of("said", compiler)
        said = None if given is None else _lowered(given)

        def test(run: Run) -> Asking:
            found = yield _ARC
            if not _holds(run, wanted, found):
                return False
            if trusted is None:
                return True
            if found is None or not found.sets:
                return False
            for sealer in dict.fromkeys(found.sealers):
                run.spend(1)
                if not (yield from _inside(run, trusted, [sealer])):
                    return False
            return said is None or bool(found.said & said(run))

        return test


def _holds(run: Run, wanted: Words, found: Any) -> bool:
    """Whether a result is one of those that are wanted."""
    return _result(found) in wanted(run)


def _result(found: Any) -> str:
    """The result of a method; "none" where nobody has looked."""
    return "none" if found is None else str(getattr(found.result, "result", found.result).value)


def _disposition(found: Any) -> str:
    """What a domain wants done with forged mail."""
    return "none" if found is None else str(found.disposition.value)


def _inside(run: Run, listed: TemplateList, domains: Sequence[str]) -> Generator[Request, Any, bool]:
    """Whether one of some domains is in a list of domains and tables."""
    names = [domain for domain in domains if domain]
    tables: list[str] = []
    for text in listed.expand(run):
        run.spend(1)
        if text.lower().startswith(SCHEME):
            tables.append(text)
            continue
        below = text.startswith("*.")
        key = _key(text[2:] if below else text)
        if any(name.endswith(f".{key}") if below else name == key for name in names):
            return True
    if not tables or not names:
        return False
    return (yield ListLookup(tuple(tables), tuple(names))) is not None


def _key(text: str) -> str:
    try:
        return domain_key(text)
    except AddressError:
        return text.lower()


def _bad_domain(text: str, checker: Checker) -> str | None:
    if text.lower().startswith(SCHEME):
        known = checker.unit.settings.text(TABLES).split()
        name = text[len(SCHEME) :]
        return None if name in known else f"'{text}' is no table of tamis.toml"
    try:
        domain_key(text.removeprefix("*."))
    except AddressError as error:
        return f"'{text}' is no domain: {error}"
    return None


def _lowered(texts: TemplateList) -> Words:
    """Strings in lower case, made once if they do not depend on variables."""
    words = _constant(texts)
    if words is None:
        return lambda run: frozenset(text.lower() for text in texts.expand(run))
    return lambda run: words


def _constant(texts: TemplateList) -> frozenset[str] | None:
    """Strings in lower case; None if they depend on variables."""
    return None if texts.constant is None else frozenset(text.lower() for text in texts.constant)


CAPABILITIES = (
    Capability(
        "vnd.tamis.auth",
        words=(IprevTest, SpfTest, DkimTest, DmarcTest, ArcTest),
        specification="docs/policy/auth.md",
    ),
)
