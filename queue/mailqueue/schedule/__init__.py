"""When a message is tried and in which order: pure decisions; the time is a parameter, in seconds.

`timetable` knows when each message is due, `retry` when it is due next. What is due is offered to the
`dispatcher`, which gives out one delivery after the other: fair between sites, by priority within a site,
never more than `sites` allows. The first try of a message, while its client waits, asks the same `sites` by
`Dispatcher.try_acquire`. Nothing here waits, reads a clock or knows a message's content.
"""

from mailqueue.schedule.dispatcher import Dispatcher
from mailqueue.schedule.limits import Limits, Rate
from mailqueue.schedule.retry import Deadlines, RetryPolicy, Step, next_step
from mailqueue.schedule.timetable import Timetable
from mailqueue.schedule.values import Assignment, Busy, Dead, Job, Later, Postponed, Result, SiteStats, Token

__all__ = [
    "Assignment",
    "Busy",
    "Dead",
    "Deadlines",
    "Dispatcher",
    "Job",
    "Later",
    "Limits",
    "Postponed",
    "Rate",
    "Result",
    "RetryPolicy",
    "SiteStats",
    "Step",
    "Timetable",
    "Token",
    "next_step",
]
