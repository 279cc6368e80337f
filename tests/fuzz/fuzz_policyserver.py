"""Invariant: whatever a policy server or client sends, it is attributes or one error, the same whole and cut.

Run ``python -m tests.fuzz.fuzz_policyserver [-max_total_time=SECONDS] [CORPUS]``. `check` is also run with
generated octets by the unit tests. Only PolicyProtocolError is allowed; a decision is always one line with
codes that fit each other, and a request always one block.
"""

from __future__ import annotations

import sys

from mailmilter.policy import Kind, PolicyRequest, parse_action
from mailmilter.policy.wire import BlockReader, PolicyProtocolError

REFUSING = (Kind.REJECT, Kind.DEFER, Kind.DEFER_IF_PERMIT, Kind.DEFER_IF_REJECT)


def blocks(stream: bytes, cut: int) -> tuple[list[dict[str, str]], bool]:
    """The blocks in a stream, and whether it ended in an error."""
    reader = BlockReader(limit=200)
    found: list[dict[str, str]] = []
    try:
        for start in range(0, len(stream), cut):
            reader.feed(stream[start : start + cut])
            while (one := reader.next()) is not None:
                found.append(one)
    except PolicyProtocolError:
        return found, True
    return found, False


def check(data: bytes) -> None:
    """Take the cut from the first octet, the stream from the rest."""
    if not data:
        return
    stream = data[1:]
    whole, error = blocks(stream, len(stream) or 1)
    cut, cut_error = blocks(stream, data[0] % 16 + 1)
    assert whole == cut
    # A stream that is over the limit, or breaks off, may be found wrong earlier when it comes in pieces.
    assert error or not cut_error or len(stream) > 200
    texts = [one.get("action", "") for one in whole] + [stream.decode("utf-8", "replace")]
    for text in texts:
        decision = parse_action(text)
        assert decision.text.isprintable()
        assert (decision.code >= 400) is (decision.kind in REFUSING)
        assert not decision.code or decision.enhanced[0] == str(decision.code)[0]
        request = PolicyRequest("RCPT", sender=text, ccert_subject=text, policy_context=text)
        octets = request.encode()
        assert octets.count(b"\n\n") == 1
        assert octets.endswith(b"\n\n")


def main() -> None:
    """Fuzz."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
