"""Large pages for what a worker has in memory once it has started and served its first clients.

A message passes through code, types and tables that lie on thousands of small pages, of which the processor
remembers the places of few; of large ones (2 MiB on most machines) it remembers all. Linux puts small pages
together on request since 6.1 (madvise(2), MADV_COLLAPSE), unless the machine's setting of
`transparent_hugepage` is "never". Where it does not, nothing is different.
"""

from __future__ import annotations

import ctypes
import mmap
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_SIZE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
_MADV_COLLAPSE = 25
_ENTRY = 8
"""Octets in which /proc/self/pagemap tells of one page (Documentation/admin-guide/mm/pagemap.rst)."""
_PRESENT = 1 << 63


def collapse() -> int:
    """Put our memory together in large pages, where at least half of one is used; octets that are now."""
    done = 0
    try:
        size = int(_SIZE.read_text())
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        with open("/proc/self/maps") as maps, open("/proc/self/pagemap", "rb") as pages:
            for start in list(whole_pages(maps, size)):
                pages.seek(start // mmap.PAGESIZE * _ENTRY)
                there = array("Q", pages.read(size // mmap.PAGESIZE * _ENTRY))
                if is_worth_it(there) and advise(start, size, _MADV_COLLAPSE) == 0:
                    done += size
    except (OSError, ValueError, AttributeError):  # another system: /proc is closed, or libc lacks it
        return done
    return done


def whole_pages(maps: Iterable[str], size: int) -> Iterator[int]:
    """Where large pages of `size` octets find room in memory of our own: lines of /proc/self/maps (proc(5)).

    >>> [hex(start) for start in whole_pages(["1ff000-600000 rw-p 00000000 00:00 0  [heap]"], 0x200000)]
    ['0x200000', '0x400000']
    """
    for line in maps:
        area, mode, _, _, _, *name = line.split()
        if mode == "rw-p" and name in ([], ["[heap]"]):
            start, end = (int(number, 16) for number in area.split("-"))
            yield from range(-(-start // size) * size, end - size + 1, size)


def is_worth_it(pages: Sequence[int]) -> bool:
    """Whether at least half of the small pages are there; stacks of threads, say, are mostly not."""
    return 2 * sum(page >= _PRESENT for page in pages) >= len(pages) > 0
