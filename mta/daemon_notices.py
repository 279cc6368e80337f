"""Messages of the server to its postmaster: the part of `mta.daemon` about them.

They go through the queue as all mail does, signed, and are never answered by a report.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from mta import config
from mta.address import parse_address

if TYPE_CHECKING:
    from mailqueue.queue import MailQueue
    from mta.spool.reports import Route, Sign


async def send_notice(
    settings: config.Config,
    queue: Callable[[], MailQueue | None],
    route: Route,
    added: Callable[[str], None],
    sign: Sign | None,
    data: dict[str, Any],
) -> dict[str, Any]:
    """Queue a message of `data["subject"]`, `data["lines"]` and `data["results"]` to the postmaster.

    Raises ValueError when the queue cannot keep it.
    """
    # Here, for it happens once a day at the most.
    from mta.dsn.decide import Kind
    from mta.reporting.daily import NotNow
    from mta.reporting.mail import Attachment, MailSubmitter, ReportMail

    hostname = settings.identity.hostname
    postmaster = parse_address(settings.identity.postmaster)
    mail = ReportMail(
        postmaster,
        (postmaster,),
        f"{hostname}: {data['subject']}",
        [
            f"Tamis on {hostname} has looked at its set-up. What has changed:",
            "",
            *(line.encode("ascii", "backslashreplace").decode() for line in data["lines"]),
            "",
            "`tamis check` shows all of it.",
        ],
        Attachment("application/json", "checks.json", msgspec.json.encode(data["results"])),
        kind=Kind.NOTICE,
    )
    submitter = MailSubmitter(hostname, queue, route, added, sign, now=time.time)
    try:
        return {"name": await submitter.submit(mail)}
    except NotNow as error:
        raise ValueError(str(error)) from error
