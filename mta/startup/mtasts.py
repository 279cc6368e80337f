"""MTA-STS: senders without DNSSEC learn that TLS is to be had and for which hosts (RFC 8461).

Record and policy are read as we read those of other domains (`mta.delivery.security.stspolicy`).
"""

from __future__ import annotations

import asyncio
import ssl

from mta.delivery.security.stspolicy import MAX_POLICY, WELL_KNOWN, PolicyError, read_id, read_policy
from mta.net.https import MAX_ADDRESSES, HttpsError, Request, request
from mta.net.httpwire import HttpError, Response
from mta.net.resolver.base import Answer
from mta.net.tls import CertificateError, client_context, failure_text
from mta.startup.answers import line, quoted, shown, unusable, values
from mta.startup.claims import Site
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World


async def mta_sts(site: Site, world: World) -> list[Result]:
    """The record, and behind it the policy, of each domain."""
    return await asyncio.gather(*(_domain(site, world, domain) for domain in site.domains))


async def _domain(site: Site, world: World, domain: str) -> Result:
    record = await world.ask(f"_mta-sts.{domain}", "TXT")
    result = judge_record(domain, record)
    if result is not None:
        return result
    host = f"mta-sts.{domain}"
    a, aaaa = await world.addresses(host)
    for answer in (a, aaaa):
        result = unusable(domain, f"A and AAAA {host}", answer)
        if result is not None:
            return result
    if not values(a) and not values(aaaa):
        return wrong(
            domain, f"A and AAAA {host}", "no address",
            line(host, "A", "192.0.2.1") + " (the address of a web server)",
        )  # fmt: skip
    try:
        context = client_context("verify", ca_file=site.settings.checks.tls_ca or None)
    except CertificateError as error:
        return unknown(domain, host, str(error))
    outcome = await fetch(host, world, context)
    return judge_policy(domain, site.hostname, outcome)


def policy_text(hostname: str) -> str:
    """The policy to serve."""
    return f"version: STSv1\nmode: enforce\nmx: {hostname}\nmax_age: 604800\n"


def judge_record(domain: str, answer: Answer) -> Result | None:
    """The TXT record; None when it is good."""
    name = f"_mta-sts.{domain}"
    result = unusable(domain, f"TXT {name}", answer)
    if result is not None:
        return result
    mend = line(name, "TXT", quoted("v=STSv1; id=1")) + " (a new id with each change of the policy)"
    if not any(text.startswith(b"v=STSv1") for text in answer.texts):
        return wrong(domain, f"TXT {name}", "no MTA-STS record", mend)
    if read_id(answer.texts) is None:
        return wrong(domain, f"TXT {name}", shown(answer), mend)
    return None


Fetched = Response | OSError | HttpError
"""What was answered, or why nothing was: a server that is not reached or not trusted, or speaks no HTTP."""


async def fetch(host: str, world: World, context: ssl.SSLContext) -> Fetched:
    """The policy over HTTPS. Redirects are not followed."""
    assert world.resolver is not None  # it has said where the host is
    deadline = asyncio.get_running_loop().time() + MAX_ADDRESSES * world.seconds
    what = Request(host, WELL_KNOWN, world.https_port)
    try:
        return await request(what, world.resolver, context, limit=MAX_POLICY, deadline=deadline)
    except HttpsError as error:
        cause = error.__cause__
        return cause if isinstance(cause, OSError | HttpError) else OSError(str(error))


def judge_policy(domain: str, hostname: str, outcome: Fetched) -> Result:
    """What the web server gave."""
    url = f"https://mta-sts.{domain}{WELL_KNOWN}"
    mend = f"serve at {url}:\n{policy_text(hostname)}".rstrip()
    if isinstance(outcome, ssl.SSLCertVerificationError):
        return wrong(
            domain, url, outcome.verify_message, f"a certificate for mta-sts.{domain} that is trusted"
        )
    if isinstance(outcome, ssl.SSLError):
        return wrong(domain, url, failure_text(outcome), mend)
    if isinstance(outcome, HttpError):
        return wrong(domain, url, f"no HTTP: {outcome}", mend)
    if isinstance(outcome, OSError):
        return unknown(
            domain, url, outcome.strerror or str(outcome), f"does the web server of mta-sts.{domain} run?"
        )
    if outcome.status >= 500:
        return unknown(domain, url, f"status {outcome.status}")
    if outcome.status != 200:
        return wrong(domain, url, f"status {outcome.status}", mend)
    if outcome.media_type != "text/plain":  # senders should look (RFC 8461 section 3.2), and we do
        kind = f"of type {outcome.media_type}" if outcome.media_type else "of no type"
        return wrong(domain, url, f"{kind}, and not text/plain", mend)
    try:
        policy = read_policy(outcome.body)
    except PolicyError as error:
        return wrong(domain, url, f"no policy: {error}", mend)
    if policy.mode != "none" and not policy.matches(hostname):
        return wrong(domain, url, f"mx: {', '.join(policy.mx)}; not {hostname}", mend)
    return ok(domain, url, f"mode {policy.mode}, mx {', '.join(policy.mx)}")
