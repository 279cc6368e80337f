"""The invariants of the fuzzers of both protocols, with generated octets."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mailmilter.constants import Command, Response
from mailmilter.packets import packet
from tests.fuzz import fuzz_milter, fuzz_policyserver, fuzz_programs

words = st.lists(
    st.sampled_from([b"X-A", b"v", b"a@b", b"", b"a\nb", b"<a@b>", b"550 5.7.1 x"]), max_size=3
).map(lambda found: b"".join(one + b"\0" for one in found))
indexed = st.tuples(st.integers(0, 3), words).map(lambda found: found[0].to_bytes(4, "big") + found[1])
data = st.one_of(st.just(b""), words, indexed, st.binary(max_size=12))
packets = st.lists(
    st.builds(packet, st.sampled_from([*Response, *Command]), data) | st.binary(max_size=8), max_size=8
).map(b"".join)


@given(st.binary(min_size=5, max_size=5), packets)
@settings(max_examples=200, deadline=None)
def test_the_invariant_of_the_milter_fuzzer(way: bytes, stream: bytes) -> None:
    fuzz_milter.check(way + stream)


known = st.sampled_from([b"action=REJECT 5.1.1 no", b"x=1", b"", b"action=450", b"=", b"\r", b"junk"])
lines = st.lists(known | st.binary(max_size=9), max_size=6).map(b"\n".join)


@given(st.binary(min_size=1, max_size=1), lines)
@settings(max_examples=150, deadline=None)
def test_the_invariant_of_the_policy_fuzzer(way: bytes, stream: bytes) -> None:
    fuzz_policyserver.check(way + stream)


edits = st.lists(
    st.builds(
        packet,
        st.sampled_from(
            [
                Response.ADD_HEADER,
                Response.INSERT_HEADER,
                Response.CHANGE_HEADER,
                Response.ADD_RECIPIENT,
                Response.CHANGE_SENDER,
                Response.DELETE_RECIPIENT,
                Response.REPLACE_BODY,
            ]
        ),
        data,
    ),
    max_size=6,
).map(lambda found: b"".join(found) + packet(Response.CONTINUE))
actions = st.sampled_from(
    [b"PREPEND X-A: 1", b"HOLD", b"DISCARD", b"REDIRECT o@x.test", b"BCC c@x.test", b"FILTER smtp:[::1]:1",
     b"DEFER_IF_PERMIT later", b"DEFER_IF_REJECT later", b"421 4.3.2 bye", b"PREPEND A: \xc2\x85b: c"]
)  # fmt: skip


@given(st.binary(min_size=1, max_size=1), packets | edits | lines | actions | st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_the_invariant_of_the_fuzzer_of_programs(way: bytes, stream: bytes) -> None:
    fuzz_programs.check(way + stream)
