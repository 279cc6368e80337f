"""DMARC aggregate reports through the daemon: counted, written, due the next day, signed, sent by mail."""

from __future__ import annotations

import gzip
import re
import time
from base64 import b64decode
from collections import Counter
from pathlib import Path

from mta.reporting.store import day_of
from tests.dialog.queueing import eventually, queue_of
from tests.dialog.senders import Zone, authenticating, deliver, stranger
from tests.dialog.server import run
from tests.dialog.test_authn_signing import make_keys, relaying, verified

PLAIN = b"From: Alice <alice@reports.test>\r\nSubject: hi\r\n\r\nhello\r\n"


def test_a_day_becomes_a_report(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "mx.test", "example.test")

    async def main() -> None:
        zone = Zone()
        zone.add("_dmarc.reports.test", "TXT", '"v=DMARC1; p=none; rua=mailto:dmarc@reports.test"')
        async with relaying(tmp_path, queue="enabled = true", trusted="", zone=zone) as (server, relay):
            client = await stranger(server, "198.51.100.7")
            for _ in range(2):
                assert (await deliver(client, PLAIN, sender="a@reports.test")).startswith("250")
            reports = server.daemon._dmarc_reports
            assert reports is not None
            taken = reports._store.take()
            ((kind, _, subject, row),) = taken
            reports._store.put_back(Counter({(kind, "2026-01-01", subject, row): taken.total()}))
            reports.daily._spread = 0
            await reports.daily.write()
            await reports.daily.send_due()
            await reports.daily.send_due()
            await eventually(lambda: relay.delivered, "the report")
            (got,) = relay.delivered
            assert got.recipient == "dmarc@reports.test"
            # By the domain in From, or DMARC would not let it pass (RFC 9990 section 3.5.2).
            assert b"From: Mail reports <postmaster@example.test>" in got.octets
            signatures = await verified(got.octets, keys)
            assert [(name.split()[0], good) for name, good in signatures] == [("example.test", True)] * 2
            encoded = re.search(rb'xml\.gz"\r\n\r\n(.*?)\r\n--', got.octets, re.DOTALL)
            assert encoded is not None
            xml = gzip.decompress(b64decode(encoded[1])).decode()
            assert "<count>2</count>" in xml
            assert "<source_ip>198.51.100.7</source_ip>" in xml
            assert "<disposition>none</disposition>" in xml
            assert "alice" not in xml

    run(main)


def test_a_server_that_only_takes_mail_in_sends_none(tmp_path: Path) -> None:
    """Nor does its postmaster get one of each domain, each day."""

    async def main() -> None:
        zone = Zone()
        zone.add("_dmarc.reports.test", "TXT", '"v=DMARC1; p=none; rua=mailto:dmarc@reports.test"')
        async with authenticating(tmp_path, zone, queue="enabled = true") as server:
            client = await stranger(server, "198.51.100.7")
            assert (await deliver(client, PLAIN, sender="a@reports.test")).startswith("250")
            reports = server.daemon._dmarc_reports
            assert reports is not None
            day = day_of(time.time() - 2 * 86400)
            ((kind, _, subject, row),) = reports._store.take()
            reports._store.put_back(Counter({(kind, day, subject, row): 1}))
            reports.daily._spread = 0
            await reports.daily.write()
            await reports.daily.send_due()
            outcome = reports._store.outcome(kind, day, subject)
            assert outcome == "not sent: 550 5.4.4 this server has no route to other domains"
            assert len(queue_of(server).live) == 0

    run(main)
