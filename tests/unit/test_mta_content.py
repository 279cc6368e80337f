"""The octets of a message: in memory, in a file, with fields in front, abandoned."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mta.content import MEMORY_LIMIT, SMALL, AbandonedError, MessageBuffer, Rendered, SpillError


def filled(octets: bytes, step: int, folder: Path) -> MessageBuffer:
    content = MessageBuffer(str(folder))
    for start in range(0, len(octets), step):
        content.append(octets[start : start + step])
    return content


@pytest.mark.parametrize("size", [0, 1, 4096, MEMORY_LIMIT, MEMORY_LIMIT + 1, 3 * MEMORY_LIMIT + 7])
@pytest.mark.parametrize("step", [1000, 65536, 10**9])
def test_octets_come_back_as_they_went_in(tmp_path: Path, size: int, step: int) -> None:
    octets = (b"0123456789abcde\n" * (size // 16 + 1))[:size]
    content = filled(octets, step, tmp_path)
    assert content.size == size
    assert b"".join(content.chunks()) == octets
    assert b"".join(content.chunks()) == octets, "chunks may be read twice"
    assert content.head == octets[:MEMORY_LIMIT]
    assert content.read(5, 10) == octets[5:15]
    assert content.spilled == (size > MEMORY_LIMIT)
    assert list(tmp_path.iterdir()) == [], "a temporary file has no name"
    content.close()
    assert content.size == 0


def test_large_and_small_chunks_in_any_order(tmp_path: Path) -> None:
    content = MessageBuffer(str(tmp_path))
    octets = b""
    for number, size in enumerate((1, 5000, 1, 1, SMALL, SMALL - 1, 70_000, 3, 0, 9000)):
        chunk = bytes((65 + number,)) * size
        content.append(chunk)
        octets += chunk
        if number % 4 == 3:
            assert content.head == octets, "looking does not change what comes later"
    assert content.head == octets
    assert content.size == len(octets)
    assert b"".join(content.chunks()) == octets


def test_8bit_is_seen_wherever_it_stands(tmp_path: Path) -> None:
    for at in (0, 500, 2 * MEMORY_LIMIT):
        octets = bytearray(b"x" * (2 * MEMORY_LIMIT + 1))
        octets[at] = 200
        content = filled(bytes(octets), 65536, tmp_path)
        assert content.has_8bit
        content.close()
    assert not filled(b"x", 1, tmp_path).has_8bit


def test_a_folder_that_cannot_be_written_is_a_spill_error(tmp_path: Path) -> None:
    content = MessageBuffer(str(tmp_path / "missing"))
    with pytest.raises(SpillError, match="creating a temporary file"):
        content.append(b"x" * (MEMORY_LIMIT + 1))


def test_a_full_disk_is_a_spill_error(tmp_path: Path) -> None:
    content = filled(b"x" * (MEMORY_LIMIT + 1), 10**9, tmp_path)
    os.dup2(os.open("/dev/full", os.O_WRONLY | os.O_CLOEXEC), content._fd)
    with pytest.raises(SpillError, match="No space left"):
        content.append(b"y")
    content.close()


@pytest.mark.parametrize("size", [100, 2 * MEMORY_LIMIT])
def test_fields_in_front(tmp_path: Path, size: int) -> None:
    content = filled(b"x" * size, 65536, tmp_path)
    rendered = Rendered(b"A: 1\r\n", content)
    assert rendered.size == size + 6
    assert b"".join(rendered.chunks()) == b"A: 1\r\n" + b"x" * size
    assert rendered.head.startswith(b"A: 1\r\nxxx")
    content.close()


@pytest.mark.parametrize("size", [100, 2 * MEMORY_LIMIT])
def test_an_abandoned_message_never_comes_to_its_end(tmp_path: Path, size: int) -> None:
    alive = [True]
    content = filled(b"x" * size, 65536, tmp_path)
    rendered = Rendered(b"A: 1\r\n", content, lambda: alive[0])
    large = size > MEMORY_LIMIT
    pieces = rendered.chunks()
    if large:
        next(pieces)
        next(pieces)
    alive[0] = False
    with pytest.raises(AbandonedError):
        next(pieces if large else rendered.chunks())
    content.close()
