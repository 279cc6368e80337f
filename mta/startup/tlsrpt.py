"""TLS-RPT: senders tell us when TLS with us fails (RFC 8460)."""

from __future__ import annotations

import asyncio

from mta.delivery.security.tlsrpt import read_record
from mta.net.resolver.base import Answer
from mta.startup.answers import line, quoted, shown, unusable
from mta.startup.claims import Site
from mta.startup.result import Result, ok, wrong
from mta.startup.world import World


async def tls_rpt(site: Site, world: World) -> list[Result]:
    """Each of our domains."""
    answers = await asyncio.gather(*(world.ask(f"_smtp._tls.{domain}", "TXT") for domain in site.domains))
    return [
        judge_tls_rpt(domain, site.postmaster, answer)
        for domain, answer in zip(site.domains, answers, strict=True)
    ]


def judge_tls_rpt(domain: str, postmaster: str, answer: Answer) -> Result:
    """Whether there is one record with a place for reports."""
    name = f"_smtp._tls.{domain}"
    asked = f"TXT {name}"
    result = unusable(domain, asked, answer)
    if result is not None:
        return result
    mend = line(name, "TXT", quoted(f"v=TLSRPTv1; rua=mailto:{postmaster}"))
    records = [text for text in answer.texts if text.startswith(b"v=TLSRPTv1")]
    if not records:
        return wrong(domain, asked, "no TLS-RPT record", mend)
    if not read_record(answer.texts):
        return wrong(domain, asked, shown(answer), mend)
    return ok(domain, asked, records[0].decode("ascii", "backslashreplace"))
