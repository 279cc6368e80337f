"""States of the recipients of one message that has several: 23 octets each, in columns."""

from __future__ import annotations

from array import array

LIVE_MAX = 2
"""The largest number of a `Status` that is live; the column knows numbers only."""
HELD = 2


class Recipients:
    """Columns of one message. Sites and replies are numbers of the index's tables."""

    __slots__ = ("attempts", "due", "last", "reply", "site", "status")

    def __init__(self) -> None:
        """No recipients yet."""
        self.site = array("I")
        self.status = bytearray()
        self.due = array("d")
        self.attempts = array("H")
        self.reply = array("I")
        self.last = array("I")

    def __len__(self) -> int:
        return len(self.status)

    def append(self, site: int, status: int, due: float, attempts: int, reply: int, last: int) -> None:
        """One more."""
        self.site.append(site)
        self.status.append(status)
        self.due.append(due)
        self.attempts.append(attempts)
        self.reply.append(reply)
        self.last.append(last)

    def live(self) -> int:
        """How many are live."""
        count = self.status.count
        return sum(count(number) for number in range(LIVE_MAX + 1))

    def status_of_all(self) -> int:
        """DEFERRED if any is, else QUEUED if any is, else HELD if any is, else the first one's."""
        for number in (1, 0, 2):
            if number in self.status:
                return number
        return self.status[0]

    def due_of_all(self) -> float:
        """The earliest due time of one that may be tried, infinity when there is none."""
        return min(
            (due for due, status in zip(self.due, self.status, strict=True) if status < HELD),
            default=float("inf"),
        )

    def waiting(self) -> list[tuple[int, int, float, float]]:
        """Position, site, due time and last attempt of those that may be tried."""
        return [
            (position, self.site[position], self.due[position], float(self.last[position]))
            for position, status in enumerate(self.status)
            if status < HELD
        ]

    def common_site(self) -> int:
        """The site of all that are live, -1 when there are several."""
        sites = {s for s, status in zip(self.site, self.status, strict=True) if status <= LIVE_MAX}
        return sites.pop() if len(sites) == 1 else -1

    def copy(self) -> Recipients:
        """The same in new columns."""
        new = Recipients()
        for name in self.__slots__:
            setattr(new, name, getattr(self, name)[:])
        return new
