"""Which back end a user belongs to: weighted rendezvous hashing. Pure.

Each back end draws a number for each user from a hash; the best one, its weight considered, gets the user. So
every node finds the same without asking, the shares follow the weights, and a change moves no user that it
need not: a back end that leaves gives away its own users only, one that comes takes its share and leaves all
others where they are (Thaler and Ravishankar; with weights: Schindler's logarithmic method).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from hashlib import blake2b

_SPAN = 2.0**64


def choose(user: str, weights: Mapping[str, int], without: Collection[str] = ()) -> str:
    """The back end of `user`; "" when none has a weight. `without` are passed over.

    The time is linear in the number of back ends: a microsecond or two for each.
    """
    best, best_score = "", -1.0
    for name, weight in weights.items():
        if weight <= 0 or name in without:
            continue
        score = weight / -math.log(_draw(user, name))
        if score > best_score or (score == best_score and name < best):
            best, best_score = name, score
    return best


def _draw(user: str, name: str) -> float:
    """A number between 0 and 1, neither of them."""
    octets = blake2b(f"{name}\0{user}".encode(), digest_size=8).digest()
    return (int.from_bytes(octets) + 0.5) / _SPAN
