"""How many stores prove something, against all the sets of stores there are."""

from __future__ import annotations

from itertools import combinations

import pytest

from mailqueue.store.certainty import certainty


def some(shared: int, private: int, copies: int) -> list[set[int]]:
    """The sets of stores that an acknowledged entry may be on, shared ones first."""
    return [set(found) for found in combinations(range(shared + private), copies)]


@pytest.mark.parametrize("shared", [1, 2, 3, 4])
@pytest.mark.parametrize("private", [0, 1, 2])
@pytest.mark.parametrize("copies", [1, 2, 3, 4])
def test_fewest_that_miss_no_acknowledged_entry(shared: int, private: int, copies: int) -> None:
    if shared + private < 2 or copies > shared + private:
        with pytest.raises(ValueError, match=r"two stores|copies: \d"):
            certainty(shared, private, copies, lossy=True)
        return
    proof = certainty(shared, private, copies, lossy=True)
    entries = some(shared, private, copies)
    assert proof.alone == any(min(entry) >= shared for entry in entries)

    def miss_none(asked: int) -> bool:
        return all(entry & set(these) for these in combinations(range(shared), asked) for entry in entries)

    enough = [asked for asked in range(shared + 1) if miss_none(asked)]
    assert proof.needed == (shared if proof.alone else min(enough))


@pytest.mark.parametrize(("shared", "private", "copies", "least"), [(2, 0, 1, 2), (1, 1, 1, 2), (2, 2, 2, 3)])
def test_few_copies_are_refused(shared: int, private: int, copies: int, least: int) -> None:
    with pytest.raises(ValueError, match=f"expected at least {least}: what was accepted has to outlive"):
        certainty(shared, private, copies)
    certainty(shared, private, copies, lossy=True)
    certainty(shared, private, least)
