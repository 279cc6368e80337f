"""The jobs that wait for one site: who is next.

Order. A job's place is its due time minus `AGE_STEP` for each level of priority: a level is worth ten minutes
of waiting. The order of two jobs never changes, so a heap is enough, and nobody starves: what came later than
the lowest priority by more than 18 levels' worth is behind it.

Passing. The first in order has the next delivery, except that the smallest waiting job may pass it when it
needs at most half as many deliveries and does not have a lower priority. Every `PASS_COST` deliveries in
order allow one to pass, and at most `PASS_CREDIT` are saved up. So in any stretch, n deliveries in order are
delayed by at most n / `PASS_COST` + `PASS_CREDIT` others, however much small mail there is; and small mail
behind a list of any length has its delivery after at most `PASS_COST` others for each such mail in front of
it.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from mailqueue.schedule.values import Job

AGE_STEP = 600.0
"""Seconds of waiting that one level of priority is worth."""
PASS_COST = 5
"""Deliveries in order that earn one delivery out of order: a list loses at most a fifth of its pace."""
PASS_CREDIT = 3
"""Deliveries out of order that can be saved up."""
SPARE = 64
"""Entries that a heap may keep of jobs that are gone, beside as many as are alive, before it is swept."""


class Entry:
    """A job in the dispatcher: how far it is."""

    __slots__ = ("given", "group", "job", "key", "number", "open", "total", "waiting")

    def __init__(self, job: Job, group: int, key: float, number: int) -> None:
        self.job = job
        self.group = group
        """Recipients in one delivery."""
        self.key = key
        self.number = number
        """Of arrival; makes the order total."""
        self.total = len(job.recipients)
        self.given = 0
        """Recipients given out."""
        self.open = 0
        """Deliveries under way."""
        self.waiting = True
        """Some recipients are still to be given out."""

    @property
    def slots(self) -> int:
        """Deliveries that it still needs."""
        return -((self.given - self.total) // self.group)


class ReadyQueue:
    """The jobs of one lane: a site, by one source."""

    __slots__ = ("_credit", "_order", "_small", "jobs", "recipients")

    def __init__(self) -> None:
        self._order: list[tuple[float, int, Entry]] = []
        self._small: list[tuple[int, int, float, int, Entry]] = []
        self._credit = PASS_COST * PASS_CREDIT
        self.jobs = 0
        """That wait."""
        self.recipients = 0
        """That wait."""

    def push(self, entry: Entry) -> None:
        """Take a job in."""
        heappush(self._order, (entry.key, entry.number, entry))
        heappush(self._small, (-entry.job.priority, entry.slots, entry.key, entry.number, entry))
        self.jobs += 1
        self.recipients += entry.total - entry.given

    def pick(self) -> tuple[Entry, int, int]:
        """The job that has the next delivery, and which of its recipients: from, to. The queue must have
        jobs."""
        order = self._order
        while not order[0][2].waiting:
            heappop(order)
        chosen = head = order[0][2]
        if self._credit >= PASS_COST:
            small = self._small
            while not small[0][4].waiting:
                heappop(small)
            other = small[0][4]
            # The head is in this heap too, so what comes up has at least its priority.
            if 2 * other.slots <= head.slots:
                chosen = other
        if chosen is head:
            self._credit = min(self._credit + 1, PASS_COST * PASS_CREDIT)
        else:
            self._credit -= PASS_COST
        start = chosen.given
        end = min(start + chosen.group, chosen.total)
        chosen.given = end
        self.recipients -= end - start
        if end == chosen.total:
            self._leave(chosen)
        return chosen, start, end

    def remove(self, entry: Entry) -> None:
        """Take a waiting job out, with the recipients it had still to give."""
        self.recipients -= entry.total - entry.given
        self._leave(entry)

    def entries(self) -> list[Entry]:
        """The jobs that wait, in no order; for administrators and when the site dies, not for each
        delivery."""
        return [item[2] for item in self._order if item[2].waiting]

    def _leave(self, entry: Entry) -> None:
        """Forget a job; its heap entries go when they come up or when too many have gathered."""
        entry.waiting = False
        self.jobs -= 1
        most = 2 * self.jobs + SPARE
        if len(self._order) > most:
            self._order = [item for item in self._order if item[2].waiting]
            heapify(self._order)
        if len(self._small) > most:
            self._small = [item for item in self._small if item[4].waiting]
            heapify(self._small)
