"""Quotas: how full a mailbox is, kept right while many deliver into it and others delete from it.

The count lives in the mailbox's file `maildirsize` (the Maildir++ format that other servers and mail
readers know): the quota in the first line ("1000000S,500C": octets and messages), then lines of
"octets messages" to be summed, the first of them from a count of all folders.

Reserve, write, keep
    A delivery holds a shared lock on the mailbox, appends its own line, reads the whole file again, and goes
    on only if the sum, with what all others reserved before it, is within the quota. When writing fails the
    line is taken back by a negative one. So the quota holds with any number of threads and processes, and
    no delivery waits for another one's disk.

Count again
    A mailbox is counted under an exclusive lock (no delivery is between its reservation and its file then)
    when it would refuse a message and its folders have changed since they were last counted; when this
    process has not counted it yet; when a count is older than `RECOUNT_AFTER` and folders changed; and when
    `maildirsize` is missing, damaged, longer than `LONGEST_FILE`, or states another quota. A full mailbox in
    which nothing was deleted is therefore refused without reading it again, and a user who deletes gets the
    next message.

Locks are `flock` on the mailbox folder itself; they end with the process. They need a local file system.
Failure: `OSError` as the file system raised it, `TimeoutError` (an OSError) when a lock is not free within
`LOCK_TIMEOUT`, `OverQuota` when there is no room. The functions block; call them in a thread.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from mta.folders import FOLDER_FLAGS
from mta.store.maildir import Maildir, size_in_name

FILE = "maildirsize"
LONGEST_FILE = 5120
"""Octets after which the file is written anew (the length that Maildir++ fixes): about 400 deliveries."""
RECOUNT_AFTER = 900.0
"""Seconds after which changes made by others are counted even where nothing was refused (Maildir++)."""
LOCK_TIMEOUT = 10.0
"""Seconds to wait for a lock; a delivery holds it for two disk flushes, a count for one listing."""
LOCK_POLL_FIRST, LOCK_POLL_LAST = 0.0005, 0.01
"""Seconds between two tries to lock; doubled each time."""
TRIES = 5
"""Times that a delivery counts a mailbox and then reserves, before it gives up against faster ones."""
CLOCK_GRAIN = 0.1
"""Seconds: two changes of a folder closer than this may bear the same time stamp."""
REMEMBERED = 10_000
"""Mailboxes whose last count a process remembers; one that is forgotten is just counted again."""

Signature = tuple[tuple[str, int], ...]


class OverQuota(Exception):
    """There is no room for the message."""


@dataclass(slots=True, frozen=True)
class Quota:
    """Limits of a mailbox; 0 is no limit."""

    octets: int = 0
    messages: int = 0

    @property
    def limited(self) -> bool:
        """True when there is a limit at all."""
        return self.octets > 0 or self.messages > 0

    def allows(self, usage: Usage) -> bool:
        """True when `usage` is within both limits."""
        return not (
            (self.octets and usage.octets > self.octets) or (self.messages and usage.messages > self.messages)
        )

    def __str__(self) -> str:
        """The first line of `maildirsize`."""
        limits = []
        if self.octets:
            limits.append(f"{self.octets}S")
        if self.messages:
            limits.append(f"{self.messages}C")
        return ",".join(limits)


@dataclass(slots=True, frozen=True)
class Usage:
    """What is in a mailbox."""

    octets: int
    messages: int

    def plus(self, octets: int) -> Usage:
        """With one more message of so many octets."""
        return Usage(self.octets + octets, self.messages + 1)


@dataclass(slots=True, frozen=True)
class _Count:
    signature: Signature | None
    """Time stamps of all folders before the count; None when a change might hide behind equal stamps."""
    at: float
    usage: Usage


class Ledger:
    """All quota accounting of one process."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
        lock_timeout: float = LOCK_TIMEOUT,
    ) -> None:
        """`clock` in seconds, for ages; `wall` in nanoseconds, compared with time stamps of folders."""
        self._clock = clock
        self._wall = wall
        self._lock_timeout = lock_timeout
        self._counts: dict[str, _Count] = {}

    @contextmanager
    def reserve(self, path: str, maildir: Maildir, quota: Quota, octets: int) -> Iterator[None]:
        """Hold room for one message of `octets` while the block writes it.

        `path` names the mailbox, `maildir` is its open root. Kept when the block ends, given back when it
        raises. Raises OverQuota, OSError.
        """
        if not quota.limited:
            yield
            return
        if not quota.allows(Usage(octets, 1)):
            raise OverQuota  # larger than the whole mailbox: no count can help
        for _ in range(TRIES):
            with _locked(maildir.root, fcntl.LOCK_SH, self._lock_timeout):
                if not self._count_is_due(path, maildir) and self._take(maildir, quota, octets):
                    with _given_back_on_error(maildir, octets):
                        yield
                    return
            since = self._clock()
            with _locked(maildir.root, fcntl.LOCK_EX, self._lock_timeout):
                usage = self._counted(path, maildir, quota, octets, since)
            if not quota.allows(usage.plus(octets)):
                raise OverQuota
        raise OverQuota  # there was room each time we counted, and each time others were faster

    def is_roomy(self, path: str, quota: Quota, octets: int) -> bool:
        """True when a message of `octets` fits without doubt, by what was last counted; never waits."""
        last = self._counts.get(path)
        if last is None or self._clock() - last.at >= RECOUNT_AFTER:
            return False
        return quota.allows(Usage(2 * (last.usage.octets + octets), 2 * (last.usage.messages + 1)))

    def check(self, path: str, maildir: Maildir, quota: Quota, octets: int) -> Usage:
        """See whether one message of `octets` (0: not known) would have room now; nothing is reserved.

        Raises OverQuota, OSError.
        """
        if quota.limited and not quota.allows(Usage(octets, 1)):
            raise OverQuota
        with _locked(maildir.root, fcntl.LOCK_SH, self._lock_timeout):
            usage = None if self._count_is_due(path, maildir) else read(maildir.root, quota)
            if usage is not None and _has_room(quota, usage, octets):
                return usage
        since = self._clock()
        with _locked(maildir.root, fcntl.LOCK_EX, self._lock_timeout):
            usage = self._counted(path, maildir, quota, octets, since)
        if not _has_room(quota, usage, octets):
            raise OverQuota
        return usage

    def _take(self, maildir: Maildir, quota: Quota, octets: int) -> bool:
        """Append a reservation and see whether it holds. False: nothing was reserved, count first."""
        try:
            fd = os.open(FILE, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=maildir.root)
        except FileNotFoundError:
            return False
        try:
            # One write call: lines of several processes do not mix. Not flushed: a crash leads to a count.
            os.write(fd, b"%d 1\n" % octets)
            found = _parse(os.pread(fd, LONGEST_FILE + 1, 0))
            if found is not None and found[0] == quota and quota.allows(found[1]):
                return True
            os.write(fd, b"%d -1\n" % -octets)
        finally:
            os.close(fd)
        return False

    def _count_is_due(self, path: str, maildir: Maildir) -> bool:
        count = self._counts.get(path)
        if count is None:
            return True
        if self._clock() - count.at < RECOUNT_AFTER:
            return False
        if count.signature is not None and count.signature == _signature(maildir.root):
            self._counts[path] = _Count(count.signature, self._clock(), count.usage)
            return False
        return True

    def _counted(self, path: str, maildir: Maildir, quota: Quota, octets: int, since: float) -> Usage:
        """The usage, counted now unless the last count still holds. Needs the exclusive lock.

        It holds when nothing changed after it, or when it leaves room for `octets` and was made after
        `since`, while we waited for the lock.
        """
        signature = _signature(maildir.root)
        last = self._counts.get(path)
        usage = read(maildir.root, quota)
        if usage is not None and last is not None:
            unchanged = last.signature is not None and last.signature == signature
            if unchanged or (last.at >= since and quota.allows(usage.plus(octets))):
                return usage
        usage = count(maildir.root)
        _replace(maildir, quota, usage)
        newest = max((stamp for _, stamp in signature), default=0)
        settled = newest < self._wall() - int(CLOCK_GRAIN * 1e9)
        if len(self._counts) >= REMEMBERED:
            self._counts.clear()
        self._counts[path] = _Count(signature if settled else None, self._clock(), usage)
        return usage


def read(root: int, quota: Quota | None = None) -> Usage | None:
    """The sums in `maildirsize` of the open mailbox `root`.

    None when it is missing, damaged, too long, or, with `quota` given, states another one. Raises OSError.
    """
    found = read_with_quota(root)
    if found is None or (quota is not None and found[0] != quota):
        return None
    return found[1]


def read_with_quota(root: int) -> tuple[Quota, Usage] | None:
    """Quota and sums in `maildirsize`; None when it is missing, damaged or too long. Raises OSError."""
    try:
        fd = os.open(FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root)
    except FileNotFoundError:
        return None
    try:
        return _parse(os.read(fd, LONGEST_FILE + 1))
    finally:
        os.close(fd)


def count(root: int) -> Usage:
    """Count all messages in `cur` and `new` of the open mailbox `root` and of its folders. Raises OSError."""
    octets = messages = 0
    for folder in _message_folders(root):
        try:
            fd = os.open(folder, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=root)
        except FileNotFoundError:
            continue  # a folder that was deleted meanwhile
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    size = size_in_name(entry.name)
                    if size is None:
                        try:
                            size = entry.stat(follow_symlinks=False).st_size
                        except FileNotFoundError:
                            continue  # deleted or renamed while we looked
                    octets += size
                    messages += 1
        finally:
            os.close(fd)
    return Usage(octets, messages)


def _has_room(quota: Quota, usage: Usage, octets: int) -> bool:
    # Without a size a message has at least one octet: a mailbox that is exactly full refuses it.
    return quota.allows(usage.plus(max(octets, 1)))


def _parse(data: bytes) -> tuple[Quota, Usage] | None:
    if len(data) > LONGEST_FILE or not data.endswith(b"\n"):
        return None
    first, _, rest = data.partition(b"\n")
    try:
        quota = _parse_quota(first)
        numbers = [int(number) for number in rest.split()]
    except ValueError:
        return None
    octets, messages = sum(numbers[::2]), sum(numbers[1::2])
    if len(numbers) != 2 * rest.count(b"\n") or octets < 0 or messages < 0:
        return None
    return quota, Usage(octets, messages)


def _parse_quota(line: bytes) -> Quota:
    octets = messages = 0
    for limit in line.decode("ascii").split(","):
        match limit[-1:]:
            case "S":
                octets = int(limit[:-1])
            case "C":
                messages = int(limit[:-1])
            case _:
                raise ValueError("a limit ends with S or C")
    return Quota(octets, messages)


def _message_folders(root: int) -> list[str]:
    """`cur` and `new` of the mailbox and of its folders, as paths below `root`."""
    folders = ["cur", "new"]
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                folders += (f"{entry.name}/cur", f"{entry.name}/new")
    return folders


def _signature(root: int) -> Signature:
    """Names and time stamps of all message folders: differs after any delivery, deletion or move."""
    stamps: list[tuple[str, int]] = []
    for folder in _message_folders(root):
        with suppress(FileNotFoundError):
            status = os.stat(folder, dir_fd=root, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                stamps.append((folder, status.st_mtime_ns))
    stamps.sort()
    return tuple(stamps)


def _replace(maildir: Maildir, quota: Quota, usage: Usage) -> None:
    name = f"{FILE}.{os.getpid()}.{time.monotonic_ns()}"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=maildir.tmp)
    try:
        try:
            os.write(fd, b"%s\n%d %d\n" % (str(quota).encode("ascii"), usage.octets, usage.messages))
        finally:
            os.close(fd)
        os.rename(name, FILE, src_dir_fd=maildir.tmp, dst_dir_fd=maildir.root)
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=maildir.tmp)
        raise


@contextmanager
def _given_back_on_error(maildir: Maildir, octets: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        give_back(maildir, octets)
        raise


def give_back(maildir: Maildir, octets: int) -> None:
    """One message of `octets` that `Ledger.reserve` has counted is not there, or not any more.

    When even this fails (full disk) the mailbox looks fuller than it is, until it is counted.
    """
    with suppress(OSError):
        fd = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=maildir.root)
        try:
            os.write(fd, b"%d -1\n" % -octets)
        finally:
            os.close(fd)


@contextmanager
def _locked(root: int, kind: int, timeout: float) -> Iterator[None]:
    """Lock an open mailbox. Each delivery opens it anew, so two threads exclude each other too."""
    deadline = time.monotonic() + timeout
    pause = LOCK_POLL_FIRST
    while True:
        try:
            fcntl.flock(root, kind | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError("the mailbox stayed locked by another process") from None
            time.sleep(pause)
            pause = min(2 * pause, LOCK_POLL_LAST)
    try:
        yield
    finally:
        fcntl.flock(root, fcntl.LOCK_UN)
