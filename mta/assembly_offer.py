"""From the configuration to the extensions that listeners offer: pure mapping, as `mta.assembly`.

Apart from the settings of the queue (`mta.assembly_queue`), which bring the queue itself with them: whoever
only looks at a configuration, as the checks do, starts without it.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from mta import config
from mta.smtp.extensions import DEFAULT_OFFER
from mta.smtp.parameters import NO_LIMITS, ParameterLimits

MAX_HOLD = 30 * 86400
"""Seconds for which FUTURERELEASE may keep a message by HOLDFOR."""
LATEST_HOLD = 366
"""Days from the start of the worker up to which HOLDUNTIL may name a date."""

QUEUE_OFFER = frozenset({"DSN", "DELIVERBY"})
"""Extensions that need a queue."""
SMTP_OFFER = frozenset({"ETRN"})
"""Extensions that need a queue and are for other servers."""
SUBMISSION_OFFER = frozenset({"FUTURERELEASE", "MT-PRIORITY"})
"""Extensions that need a queue and are for our own users only (RFC 4865 section 2, RFC 6710 section 5)."""


def offered(settings: config.Config, protocol: str) -> frozenset[str]:
    """The extensions that a listener offers, before the configuration takes some away."""
    if not settings.queue.enabled:
        return DEFAULT_OFFER
    offer = DEFAULT_OFFER | QUEUE_OFFER
    match protocol:
        case "submission":
            return offer | SUBMISSION_OFFER
        case "smtp":
            return offer | SMTP_OFFER
    return offer


def parameter_limits(settings: config.Config, now: float) -> ParameterLimits:
    """Bounds of the parameters of those extensions."""
    if not settings.queue.enabled:
        return NO_LIMITS
    latest = datetime.fromtimestamp(math.floor(now), UTC) + timedelta(days=LATEST_HOLD)
    return ParameterLimits(max_hold_seconds=MAX_HOLD, latest_hold_until=latest, min_by_seconds=1)
