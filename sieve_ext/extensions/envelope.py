"""envelope (RFC 5228 section 5.4) with the parts from, to and - as Dovecot has it - auth and orig_to.

Status: complete. The null sender is the empty string, whatever part of the address is asked for.
"""

from __future__ import annotations

from sieve_ext.extend import (
    ADDRESS_PART,
    MATCHING,
    AddressPart,
    Capability,
    Checker,
    Compiler,
    Envelope,
    EnvelopePart,
    Run,
    Step,
    Test,
    address_part,
    strings,
    suggest,
    texts,
    warn_of_addresses,
    warn_of_wildcards,
)
from sieve_ext.message import parse_addresses


def split_address(address: str) -> tuple[str, str]:
    """Local part, without quotation marks, and domain of an address of an envelope."""
    if address.startswith('"'):
        found, _ = parse_addresses(address.encode("utf-8", "replace"))
        if found:
            return found[0].local, found[0].domain
    local, at, domain = address.rpartition("@")
    return (local, domain) if at else (address, "")


class EnvelopeTest(Test):
    """envelope [COMPARATOR] [ADDRESS-PART] [MATCH-TYPE] <parts: string-list> <keys: string-list>."""

    word = "envelope"
    compares_only = True
    args_definition = (ADDRESS_PART, *MATCHING, strings("envelope-part"), strings("keys"))

    def check(self, checker: Checker) -> None:
        """The parts are known; :localpart and its like are only for addresses."""
        for text in texts(self.given["envelope-part"]):
            name = checker.constant(text)
            if name is None:
                continue
            part, capability = checker.dialect.envelope_parts.get(name.lower(), (None, ""))
            if part is None or not checker.has(capability):
                hint = f'it needs: require "{capability}"' if part else ""
                checker.error(
                    text, "unknown-part",
                    f"specified envelope part '{name}' is not supported by the envelope test",
                    hint or suggest(name, checker.dialect.envelope_parts) or _known(checker),
                )  # fmt: skip
            elif not part.is_address and self.has_tag("address-part"):
                checker.error(
                    text, "no-address",
                    f"envelope part '{name}' is no address, so {self.tags['address-part'].tag} cannot be"
                    " used with it",
                )  # fmt: skip
        warn_of_wildcards(self, checker, alone=True)
        warn_of_addresses(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Compare what the parts hold."""
        names = compiler.texts(self.given["envelope-part"])
        part = address_part(compiler, self)
        known = {
            name: one
            for name, (one, capability) in compiler.dialect.envelope_parts.items()
            if compiler.has(capability)
        }

        def values(run: Run) -> list[str]:
            found: list[str] = []
            for name in names.expand(run):
                wanted = known.get(name.lower())
                if wanted is not None:
                    held = wanted.of(run.envelope)
                    found += _parts(run, part, held) if wanted.is_address else held
            return found

        return compiler.match(self, values)


def _known(checker: Checker) -> str:
    known = checker.dialect.envelope_parts.items()
    return f"there are: {', '.join(name for name, (_, capability) in known if checker.has(capability))}"


def _parts(run: Run, part: AddressPart, addresses: list[str]) -> list[str]:
    found: list[str] = []
    for address in addresses:
        value = part.of(run, *split_address(address)) if address else ""
        if value is not None:
            found.append(value)
    return found


def _sender(envelope: Envelope) -> list[str]:
    return [] if envelope.sender is None else [envelope.sender]


def _recipient(envelope: Envelope) -> list[str]:
    return [envelope.recipient] if envelope.recipient else []


def _original(envelope: Envelope) -> list[str]:
    address = envelope.original_recipient or envelope.recipient
    return [address] if address else []


def _user(envelope: Envelope) -> list[str]:
    return [envelope.user] if envelope.user else []


CAPABILITIES = (
    Capability(
        "envelope",
        words=(EnvelopeTest,),
        envelope_parts=(
            EnvelopePart("from", _sender, is_address=True),
            EnvelopePart("to", _recipient, is_address=True),
            EnvelopePart("orig_to", _original, is_address=True),
            EnvelopePart("auth", _user),
        ),
        specification="RFC 5228 section 5.4",
    ),
)
