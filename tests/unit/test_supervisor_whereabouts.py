"""Where the queue was, and what is said when it is somewhere else."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from mailqueue.store.file import FileStore
from mta import config
from mta.supervisor.plan import Plan
from mta.supervisor.planning import plan
from mta.supervisor.whereabouts import FILE_NAME, MARK, left_store

TEXT = """
identity.hostname = "mail.example.org"
process.state_directory = "{folder}"
"""
STORES = """
[queue]
stores = [{names}]
copies = 1
[queue_stores.disk]
url = "file:{folder}/disk"
[queue_stores.bucket]
url = "s3://mail-queue/example"
"""
OFF = "[queue]\nenabled = false\n"
DISK, BUCKET = "file:{folder}/disk", "s3://mail-queue/example"


class Node:
    """A state directory, and what its supervisor warns of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warnings: list[tuple[str, dict[str, Any]]] = []
        self.disk = folder / "disk"
        self.disk.mkdir()

    def serve(self, names: str) -> str:
        """Serve with these stores, or without a queue; what is left, with `{folder}` for ours."""
        quoted = ", ".join(f'"{name}"' for name in names.split())
        more = STORES.replace("{names}", quoted) if names else OFF
        made: Plan = plan(config.parse((TEXT + more).replace("{folder}", str(self.folder))))
        return left_store(made, self.warn).replace(str(self.folder), "{folder}")

    def warn(self, event: str, **fields: object) -> None:
        self.warnings.append((event, fields))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        ("disk", "disk", ""),
        ("disk", "bucket", DISK),
        ("disk", "disk bucket", DISK),  # the bucket decides
        ("disk", "", DISK),
        ("disk bucket", "bucket", ""),
        ("disk bucket", "disk", BUCKET),
        ("", "disk", ""),
    ],
)
def test_another_store_leaves_mail(node: Node, before: str, after: str, left: str) -> None:
    assert node.serve(before) == ""
    assert node.warnings == []
    assert node.serve(after) == left
    assert [event for event, _ in node.warnings] == ["the queue has another store"] * bool(left)


def test_it_is_said_once(node: Node) -> None:
    node.serve("disk")
    assert node.serve("bucket") == DISK
    assert node.serve("bucket") == ""


def test_without_a_queue_it_is_said_until_there_is_one(node: Node) -> None:
    node.serve("disk")
    assert node.serve("") == node.serve("") == DISK
    assert node.serve("disk") == ""


def test_another_folder_in_its_place(node: Node) -> None:
    """As when its disk is not mounted: an empty folder below the mount point has its name."""
    node.serve("disk")
    kept = node.folder / "mounted"
    node.disk.rename(kept)
    node.disk.mkdir()
    assert node.serve("disk") == f"{DISK} (another folder is there now: is its disk mounted?)"
    shutil.rmtree(node.disk)
    kept.rename(node.disk)
    assert "is its disk mounted?" in node.serve("disk"), "mail may be in the other one by now"
    assert node.serve("disk") == ""


def test_a_copy_of_the_folder_is_the_same_store(node: Node) -> None:
    node.serve("disk")
    copy = node.folder / "copy"
    shutil.copytree(node.disk, copy)
    shutil.rmtree(node.disk)
    copy.rename(node.disk)
    assert node.serve("disk") == ""


def test_a_folder_that_nobody_could_open_yet_is_not_compared(node: Node) -> None:
    node.serve("disk")
    kept = node.folder / "mounted"
    node.disk.rename(kept)
    assert node.serve("disk") == ""
    kept.rename(node.disk)
    assert node.serve("disk") == ""
    assert node.warnings == []


def test_a_damaged_note_is_replaced(node: Node) -> None:
    node.serve("disk")
    (node.folder / FILE_NAME).write_text("{")
    assert node.serve("bucket") == ""
    assert node.serve("disk") == BUCKET


def test_a_note_that_cannot_be_written_is_told(node: Node) -> None:
    (node.folder / FILE_NAME).mkdir()
    assert node.serve("disk") == ""
    ((event, fields),) = node.warnings
    assert event == "store of the queue not noted"
    assert fields["file"] == str(node.folder / FILE_NAME)


def test_the_mark_is_no_object_of_the_store(node: Node) -> None:
    node.serve("disk")
    assert (node.disk / MARK).exists()

    async def names() -> list[str]:
        store = FileStore(node.disk)
        try:
            return await store.list_after("")
        finally:
            await store.close()

    assert asyncio.run(names()) == []


def test_without_a_state_directory_nothing_is_noted(node: Node) -> None:
    made = plan(config.parse((TEXT + OFF).replace("{folder}", str(node.folder))))
    object.__setattr__(made, "state_directory", "")
    assert left_store(made, node.warn) == ""
    assert not (node.folder / FILE_NAME).exists()
