"""The policy delegation protocol of Postfix: requests, answers, actions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmilter.policy.actions import Decision, Kind, parse_action
from mailmilter.policy.request import NAMES, PolicyRequest, instance_id
from mailmilter.policy.wire import BlockReader, PolicyProtocolError

DENIED = "Access denied"


@pytest.mark.parametrize(
    ("text", "decision"),
    [
        ("DUNNO", Decision(Kind.DUNNO)),
        ("dunno", Decision(Kind.DUNNO)),
        ("DUNNO with a comment", Decision(Kind.DUNNO, "with a comment")),
        ("OK", Decision(Kind.OK)),
        ("12345", Decision(Kind.OK)),
        ("250 fine", Decision(Kind.OK, "fine")),
        ("REJECT", Decision(Kind.REJECT, DENIED, 554, "5.7.1")),
        ("REJECT go away", Decision(Kind.REJECT, "go away", 554, "5.7.1")),
        ("reject 5.1.1 no such user", Decision(Kind.REJECT, "no such user", 554, "5.1.1")),
        ("REJECT 4.7.1 class does not fit", Decision(Kind.REJECT, "4.7.1 class does not fit", 554, "5.7.1")),
        ("DEFER", Decision(Kind.DEFER, DENIED, 450, "4.7.1")),
        ("DEFER 4.2.0 later", Decision(Kind.DEFER, "later", 450, "4.2.0")),
        ("DEFER_IF_PERMIT Greylisted", Decision(Kind.DEFER_IF_PERMIT, "Greylisted", 450, "4.7.1")),
        ("DEFER_IF_REJECT x", Decision(Kind.DEFER_IF_REJECT, "x", 450, "4.7.1")),
        ("550 no", Decision(Kind.REJECT, "no", 550, "5.7.1")),
        ("550 5.1.1 no", Decision(Kind.REJECT, "no", 550, "5.1.1")),
        ("550", Decision(Kind.REJECT, DENIED, 550, "5.7.1")),
        ("450 4.3.2 busy", Decision(Kind.DEFER, "busy", 450, "4.3.2")),
        ("421 4.7.0 bye", Decision(Kind.DEFER, "bye", 421, "4.7.0")),
        ("521 no mail", Decision(Kind.REJECT, "no mail", 521, "5.7.1")),
        ("HOLD", Decision(Kind.HOLD)),
        ("HOLD for a look", Decision(Kind.HOLD, "for a look")),
        ("DISCARD quietly", Decision(Kind.DISCARD, "quietly")),
        ("PREPEND X-A: b c", Decision(Kind.PREPEND, "X-A: b c")),
        ("REDIRECT a@b", Decision(Kind.REDIRECT, "a@b")),
        ("BCC a@b", Decision(Kind.BCC, "a@b")),
        ("FILTER smtp:[127.0.0.1]:10025", Decision(Kind.FILTER, "smtp:[127.0.0.1]:10025")),
        ("WARN look", Decision(Kind.WARN, "look")),
        ("WARNING look", Decision(Kind.WARN, "look")),
        ("INFO look", Decision(Kind.INFO, "look")),
        ("  REJECT   spaced  ", Decision(Kind.REJECT, "spaced", 554, "5.7.1")),
        ("REJECT a\x00b\rc", Decision(Kind.REJECT, "a b c", 554, "5.7.1")),
        ("", Decision(Kind.UNKNOWN)),
        ("permit_mynetworks", Decision(Kind.UNKNOWN, "permit_mynetworks")),
        ("PREPEND no header", Decision(Kind.UNKNOWN, "PREPEND no header")),
        ("PREPEND", Decision(Kind.UNKNOWN, "PREPEND")),
        ("REDIRECT nobody", Decision(Kind.UNKNOWN, "REDIRECT nobody")),
        ("REDIRECT a@b c@d", Decision(Kind.UNKNOWN, "REDIRECT a@b c@d")),
        ("BCC", Decision(Kind.UNKNOWN, "BCC")),
        ("FILTER smtp", Decision(Kind.UNKNOWN, "FILTER smtp")),
    ],
)
def test_actions(text: str, decision: Decision) -> None:
    assert parse_action(text) == decision


@pytest.mark.parametrize(
    ("text", "closes"), [("421 x", True), ("521 x", True), ("450 x", False), ("OK", False)]
)
def test_which_replies_close_the_session(text: str, closes: bool) -> None:
    assert parse_action(text).disconnects is closes


@given(st.text(max_size=60))
def test_any_text_is_a_decision_of_one_line(text: str) -> None:
    decision = parse_action(text)
    assert decision.text.isprintable()
    assert decision.code == 0 or decision.enhanced[0] == str(decision.code)[0]
    assert (decision.code >= 400) is (decision.kind.value.startswith(("reject", "defer")))


def test_the_attributes_and_their_order() -> None:
    request = PolicyRequest(
        "RCPT", client_address="192.0.2.1", sender="a@b", results={"spf_result": "pass", "tls_sni": "mx"}
    )
    lines = request.encode().decode().split("\n")
    assert lines[0] == "request=smtpd_access_policy"
    assert [line.partition("=")[0] for line in lines[1:]] == [*NAMES, "spf_result", "tls_sni", "", ""]
    assert "client_address=192.0.2.1" in lines
    assert "sasl_username=" in lines
    assert "client_name=unknown" in lines


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("sender", "a\nrequest=junk\n\n@b", "sender=a?request=junk??@b"),
        ("helo_name", "x\r\0\x7f", "helo_name=x???"),
        ("sender", "ä@b", "sender=ä@b"),
        ("ccert_subject", "A B+C=D ä", "ccert_subject=A+20B+2BC+3DD+20+C3+A4"),
        ("ccert_issuer", "CA", "ccert_issuer=CA"),
    ],
)
def test_values_stay_in_their_line(field: str, value: str, line: str) -> None:
    values: dict[str, Any] = {field: value}
    text = replace(PolicyRequest("RCPT"), **values).encode().decode()
    assert f"\n{line}\n" in text
    assert text.count("\n\n") == 1


@pytest.mark.parametrize("name", ["", "a=b", "sender", "request", "a\nb"])
def test_names_that_are_not_free(name: str) -> None:
    with pytest.raises(ValueError, match="no name for an attribute"):
        PolicyRequest("RCPT", results={name: "x"}).encode()


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_is_sent_is_read_back(sender: str, context: str) -> None:
    request = PolicyRequest("RCPT", sender=sender, policy_context=context)
    reader = BlockReader()
    reader.feed(request.encode())
    found = reader.next()
    assert found is not None
    assert set(found) == {"request", *NAMES}
    assert reader.next() is None
    assert reader.empty


def test_instances_differ() -> None:
    assert len({instance_id() for _ in range(100)}) == 100


OCTETS = b"action=DUNNO\n\nx=1\r\ny = a=b \r\nx=2\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 100])
def test_blocks_are_read_however_they_are_cut(size: int) -> None:
    reader = BlockReader()
    found = []
    for at in range(0, len(OCTETS), size):
        reader.feed(OCTETS[at : at + size])
        while (block := reader.next()) is not None:
            found.append(block)
    assert found == [{"action": "DUNNO"}, {"x": "2", "y": "a=b"}]
    assert reader.empty


@pytest.mark.parametrize("octets", [b"\n", b"no equals\n\n", b"=x\n\n", b"HTTP/1.1 400 Bad\n", b"x" * 101])
def test_blocks_that_are_none(octets: bytes) -> None:
    reader = BlockReader(limit=100)
    reader.feed(octets)
    with pytest.raises(PolicyProtocolError):
        reader.next()


@given(st.binary(max_size=80))
def test_any_octets_are_blocks_or_an_error(octets: bytes) -> None:
    reader = BlockReader(limit=40)
    reader.feed(octets)
    try:
        while (found := reader.next()) is not None:
            assert found
    except PolicyProtocolError:
        pass
