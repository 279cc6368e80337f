"""DMARC policy records (RFC 9989 sections 4.7 and 4.8)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.authn.dmarcrecord import DmarcRecord, Policy, is_dmarc, parse_record
from tests.peers.cost import processor_seconds

NONE, QUARANTINE, REJECT = Policy.NONE, Policy.QUARANTINE, Policy.REJECT
R = "rua=mailto:r@d.test"


def parse(text: str | bytes) -> DmarcRecord:
    record = parse_record(text.encode() if isinstance(text, str) else text)
    assert record is not None
    return record


@pytest.mark.parametrize(
    "text",
    # Only the value is in one case (%s"DMARC1" in the grammar).
    [
        "v=DMARC1",
        "v=DMARC1;",
        "v=DMARC1; p=none",
        "v = DMARC1 ; p=none",
        "v=DMARC1;;",
        " v=DMARC1",
        "V=DMARC1",
    ],
)
def test_is_a_record(text: str) -> None:
    assert is_dmarc(text.encode())


@pytest.mark.parametrize(
    "text",
    ["", "v=dmarc1", "v=DMARC", "v=DMARC10", "v=DMARC1p=none", "v=DMARC1 p=none", "p=none; v=DMARC1",
     "V=dmarc1", "DMARC1", "v:DMARC1", "\0v=DMARC1", "v=DMARC1,p=none", "vv=DMARC1;", "v==DMARC1;"],
)  # fmt: skip
def test_is_no_record(text: str) -> None:
    assert not is_dmarc(text.encode())
    assert parse_record(text.encode()) is None


TABLE: list[tuple[str, dict[str, Any]]] = [
    ("v=DMARC1; p=none", {"p": NONE, "applies": True, "problems": ()}),
    ("v=DMARC1; p=quarantine", {"p": QUARANTINE}),
    ("v=DMARC1;p=reject", {"p": REJECT}),
    ("v=DMARC1; P=Reject", {"p": REJECT}),
    ("v=DMARC1; p = reject ;", {"p": REJECT}),
    ("v=DMARC1; sp=none; p=reject", {"p": REJECT, "sp": NONE}),
    ("v=DMARC1; p=reject; np=quarantine", {"p": REJECT, "np": QUARANTINE, "sp": None}),
    (f"v=DMARC1; {R}", {"p": NONE, "applies": True, "problems": ("p: missing",)}),
    ("v=DMARC1", {"p": NONE, "applies": False}),
    ("v=DMARC1; sp=reject", {"p": NONE, "sp": None, "applies": False}),
    ("v=DMARC1; p=nonsense", {"p": NONE, "applies": False}),
    (f"v=DMARC1; p=nonsense; sp=reject; {R}", {"p": NONE, "sp": None, "applies": True}),
    ("v=DMARC1; p=reject; sp=nonsense", {"p": NONE, "applies": False}),
    (f"v=DMARC1; p=reject; sp=nonsense; {R}", {"p": NONE, "applies": True}),
    (f"v=DMARC1; p=reject; np=; {R}", {"p": NONE, "np": None, "applies": True}),
    ("v=DMARC1; p=reject; np=x; rua=notauri", {"applies": False}),
    ("v=DMARC1; p=none; adkim=s; aspf=S", {"strict_dkim": True, "strict_spf": True}),
    ("v=DMARC1; p=none; adkim=x", {"strict_dkim": False, "problems": ("adkim: not one of r, s",)}),
    ("v=DMARC1; p=none; psd=y", {"psd": "y"}),
    ("v=DMARC1; p=none; psd=N", {"psd": "n"}),
    ("v=DMARC1; p=none; psd=maybe", {"psd": "u", "problems": ("psd: not one of y, n, u",)}),
    ("v=DMARC1; p=none; t=y", {"testing": True}),
    ("v=DMARC1; p=none; t=", {"testing": False}),
    ("v=DMARC1; p=none; pct=50", {"percent": 50, "problems": (), "obsolete": ("pct: removed by RFC 9989",)}),
    ("v=DMARC1; p=none; pct=101", {"percent": 100}),
    ("v=DMARC1; p=none; pct=-1", {"percent": 100}),
    ("v=DMARC1; p=none; pct=\u0665", {"percent": 100}),
    ("v=DMARC1; p=reject; p=none", {"p": REJECT, "problems": ("p: given twice, the first one counts",)}),
    ("v=DMARC1; p=reject; x-new=1", {"p": REJECT}),
    ("v=DMARC1; p=reject; nonsense", {"p": REJECT, "problems": ("a part that is no tag",)}),
    ("v=DMARC1; ;; p=reject;;;", {"p": REJECT, "problems": ()}),
    ("v=DMARC1; p=reject; fo=1:d:s", {"fo": ("1", "d", "s")}),
    ("v=DMARC1; p=reject; fo=z", {"fo": ("0",), "problems": ("fo: not of 0, 1, d, s, each once",)}),
    (f"v=DMARC1; p=none; {R}", {"rua": ("mailto:r@d.test",), "problems": ()}),
    (
        "v=DMARC1; p=none; rua=mailto:a@b.test , https://x.test/y!10m",
        {
            "rua": ("mailto:a@b.test", "https://x.test/y"),
            "problems": (),
            "obsolete": ("rua: a size, removed by RFC 9989",),
        },
    ),
    ("v=DMARC1; p=none; rua=a@b.test", {"rua": (), "problems": ("rua: not a URI",)}),
    ("v=DMARC1; p=none; rua=mailto:a@b.test!zz", {"rua": ()}),
    ("v=DMARC1; p=none; ruf=mailto:f@d.test", {"ruf": ("mailto:f@d.test",)}),
    ("v=DMARC1; p=none; rua=" + ",".join(["mailto:a@b.test"] * 50), {"rua": ("mailto:a@b.test",) * 20}),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_record(text: str, expected: dict[str, Any]) -> None:
    record = parse(text)
    assert {name: getattr(record, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "inherited", "exists", "policy"),
    [
        ("p=reject; sp=quarantine; np=none", False, True, REJECT),
        ("p=reject; sp=quarantine; np=none", False, False, REJECT),
        ("p=reject; sp=quarantine; np=none", True, True, QUARANTINE),
        ("p=reject; sp=quarantine; np=none", True, False, NONE),
        ("p=reject; sp=quarantine", True, False, QUARANTINE),
        ("p=reject; np=none", True, True, REJECT),
        ("p=reject; np=none", True, False, NONE),
        ("p=reject", True, False, REJECT),
    ],
)
def test_which_policy_counts(text: str, inherited: bool, exists: bool, policy: Policy) -> None:
    assert parse("v=DMARC1; " + text).policy_for(inherited=inherited, exists=exists) is policy


def test_test_mode_lowers_by_one() -> None:
    assert [policy.lowered for policy in (NONE, QUARANTINE, REJECT)] == [NONE, NONE, QUARANTINE]


@pytest.mark.parametrize(
    "text", [";" * 500_000, "a=" * 250_000, "p=none;" * 80_000, " " * 500_000, "rua=" + "," * 500_000]
)
def test_large_records_take_no_time(text: str) -> None:
    assert processor_seconds(lambda: (parse("v=DMARC1;" + text), is_dmarc(text.encode())), 0.3) < 0.3


@given(st.binary(max_size=200))
def test_any_octets_can_be_read(octets: bytes) -> None:
    record = parse(b"v=DMARC1;" + octets)
    assert record.p in Policy
    assert all(problem.isprintable() for problem in record.problems)
