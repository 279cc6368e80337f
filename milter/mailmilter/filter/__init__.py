"""Write a milter: subclass `Milter`, override what you want to hear of, `serve` it.

See docs/milter-library.md.
"""

from mailmilter.filter.answers import (
    ACCEPT,
    CONNECTION_FAILURE,
    CONTINUE,
    DISCARD,
    REJECT,
    SHUTDOWN,
    SKIP,
    TEMPFAIL,
    Answer,
    reply,
)
from mailmilter.filter.base import Milter, listens
from mailmilter.filter.context import Context, NotNegotiated
from mailmilter.filter.server import FilterServer, run, serve
from mailmilter.message import Field
from mailmilter.requests import Client, Family

__all__ = [
    "ACCEPT",
    "CONNECTION_FAILURE",
    "CONTINUE",
    "DISCARD",
    "REJECT",
    "SHUTDOWN",
    "SKIP",
    "TEMPFAIL",
    "Answer",
    "Client",
    "Context",
    "Family",
    "Field",
    "FilterServer",
    "Milter",
    "NotNegotiated",
    "listens",
    "reply",
    "run",
    "serve",
]
