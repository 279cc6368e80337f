"""DNSSEC: our zones are signed, so that DANE can protect mail to us (RFC 7672 section 2.2)."""

from __future__ import annotations

import asyncio

from mta.net.resolver.base import Answer, Status
from mta.startup.answers import unusable
from mta.startup.claims import Site
from mta.startup.result import Result, ok, wrong
from mta.startup.world import World

_MEND = (
    "sign the zone of {name} and give its DS record to the zone above; if it is signed, the resolver does not"
    " validate or a DS record is missing (`delv {name} {rdtype}`)"
)


async def dnssec(site: Site, world: World) -> list[Result]:
    """The MX of each of our domains, the addresses of our host."""
    questions = [(domain, "MX") for domain in site.domains] + [(site.hostname, "A")]
    answers = await asyncio.gather(*(world.ask(*question) for question in questions))
    return [judge_dnssec(*question, answer) for question, answer in zip(questions, answers, strict=True)]


def judge_dnssec(name: str, rdtype: str, answer: Answer) -> Result:
    """Whether the zone of a name is signed."""
    asked = f"{rdtype} {name}"
    found = unusable(name, asked, answer)
    if found is not None:
        return found
    if answer.status is Status.SECURE:
        return ok(name, asked, "signed, and validates")
    return wrong(name, asked, "the answer is not signed", _MEND.format(name=name, rdtype=rdtype))
