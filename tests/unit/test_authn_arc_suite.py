"""The public suite of ARC, 171 validations and 17 seals, where it is. Our own cases: `test_authn_arc.py`."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from mta.authn.arc import Chain, validate
from mta.authn.arcseal import seal
from mta.authn.dkimkeys import SigningKey, parse_key
from mta.authn.results import Result
from mta.net.resolver.fake import FakeResolver
from sieve_ext.message import Message
from tests.unit.arc_suite import FOLDER, cases, merged_results, octets, records

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the public suite of ARC is not here")

NOW = 1_483_500_000.0
"""When the suite was written; its signatures are of 1970."""


def load(name: str) -> list[Any]:
    """The cases as parameters; none where there is no suite."""
    found = cases(name) if FOLDER.is_dir() else []
    return [pytest.param(test, document, id=name) for name, test, document in found]


def validated(message: Message, document: dict[str, Any]) -> Chain:
    dns = FakeResolver()
    for name, text in records(document).items():
        dns.text(name, text)
    return asyncio.run(validate(message, dns, now=NOW))


def tags(text: str) -> dict[str, str]:
    found = (part.partition("=") for part in re.sub(r"\s", "", text).strip(";").split(";"))
    return {name: value for name, _, value in found}


VALIDATIONS = load("arc-draft-validation-tests.yml")
SEALS = load("arc-draft-sign-tests.yml")


def test_the_suite_is_read_whole() -> None:
    assert len(VALIDATIONS) == 171
    assert len(SEALS) == 17


@pytest.mark.parametrize(("test", "document"), VALIDATIONS)
def test_validation(test: dict[str, str], document: dict[str, Any]) -> None:
    chain = validated(Message(octets(test["message"])), document)
    expected = test["cv"].strip().lower()
    # The suite has an empty status for a chain that a seal has ended; RFC 8617 calls it failed.
    assert (chain.result.value, chain.ended) == (expected or "fail", not expected), chain.reason


@pytest.mark.parametrize(("test", "document"), SEALS)
def test_sealing(test: dict[str, str], document: dict[str, Any]) -> None:
    message = Message(octets(test["message"]))
    chain = validated(message, document)
    payload = merged_results(message.all("authentication-results"), test["srv-id"])
    stated = re.search(r"arc=(\w+)", payload)
    if stated is not None and stated[1] != chain.result:
        # The header of the case says what a verifier found; its seals are not all good ones.
        chain = Chain(Result(stated[1]), sets=chain.sets, ended=chain.ended)
    key = SigningKey(document["domain"], document["sel"], parse_key(document["privatekey"].encode(), "suite"))
    names = test["sig-headers"].split(":")
    sealed = Message(seal(message, chain, payload, key, now=int(test["t"]), names=names) + b"\r\n")
    if not test["AS"].strip():
        assert sealed.field_count == 0
        return
    for name, wanted in (("arc-seal", test["AS"]), ("arc-message-signature", test["AMS"])):
        field = sealed.get(name)
        assert field is not None
        assert tags(field.unfolded.decode()) == tags(wanted), name
    results = sealed.get("arc-authentication-results")
    assert results is not None
    assert re.sub(r"\s", "", results.unfolded.decode()) == re.sub(r"\s", "", test["AAR"])
