"""Parts of local parts (RFC 5233)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sieve_ext.extensions.subaddress import split_local


@pytest.mark.parametrize(
    ("local", "delimiters", "user", "detail"),
    [
        ("ken+sieve", "+", "ken", "sieve"),
        ("ken", "+", "ken", None),
        ("ken+", "+", "ken", ""),
        ("+sieve", "+", "", "sieve"),
        ("ken+a+b", "+", "ken", "a+b"),
        ("ken-a+b", "+", "ken-a", "b"),
        ("ken-a+b", "-+", "ken", "a+b"),
        ("ken+a-b", "-+", "ken", "a-b"),
        ("ken+a", "", "ken+a", None),
        ("", "+", "", None),
    ],
)
def test_splitting(local: str, delimiters: str, user: str, detail: str | None) -> None:
    assert split_local(local, delimiters) == (user, detail)


@given(st.text("ab+-_", max_size=12), st.text("+-_", max_size=3))
def test_the_parts_make_the_whole(local: str, delimiters: str) -> None:
    user, detail = split_local(local, delimiters)
    assert not set(user) & set(delimiters)
    if detail is None:
        assert user == local
    else:
        assert local[len(user)] in delimiters
        assert local == user + local[len(user)] + detail
