"""Our listings against those of a real Postfix, character by character."""

from __future__ import annotations

import json
import smtplib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from mta.mailq.postqueue import postqueue_json, postqueue_text
from mta.mailq.rows import QueueRecipient, QueueRow
from mta.mailq.shape import shape
from tests.peers.needs import program
from tests.peers.postfix import Postfix, running_postfix

pytestmark = pytest.mark.scenario

SERVICES = """\
showq unix n - n - - showq
smtp unix - - n - - smtp
retry unix - - n - - error
scache unix - - n - 1 scache
"""


def run(name: str, folder: Path, *arguments: str) -> str:
    words = [program(name), "-c", str(folder / "etc"), *arguments]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def send(postfix: Postfix, sender: str, recipients: list[str], size: int = 10) -> None:
    with smtplib.SMTP("127.0.0.1", postfix.port) as client:
        client.ehlo()
        options = [] if (sender + recipients[0]).isascii() else ["SMTPUTF8"]
        client.sendmail(sender, recipients, b"Subject: x\r\n\r\n" + b"x" * size + b"\r\n", options)


def row(line: str) -> QueueRow:
    """A row of ours with what Postfix says of one of its messages."""
    found = json.loads(line)
    sender = found["sender"]
    return QueueRow(
        found["queue_id"],
        found["message_size"],
        found["arrival_time"],
        "" if sender == "MAILER-DAEMON" else sender,
        tuple(
            QueueRecipient(
                each["address"],
                "deferred" if "delay_reason" in each else "queued",
                each.get("delay_reason", ""),
            )
            for each in found["recipients"]
        ),
        active=found["queue_name"] == "active",
        held=found["queue_name"] == "hold",
        expiring=found["forced_expire"],
    )


@pytest.fixture(scope="module", params=["no", "yes"], ids=["short ids", "long ids"])
def postfix(request: pytest.FixtureRequest) -> Iterator[Postfix]:
    """Postfix with messages that are held, deferred, being delivered and forced to expire."""
    chain = trustme.CA().issue_cert("relay.test").private_key_and_cert_chain_pem.bytes()
    with running_postfix(chain) as server, socket.create_server(("127.0.0.1", 0)) as silent:
        etc = server.folder / "etc"
        port = silent.getsockname()[1]
        refused = "smtp:[127.0.0.1]:1"
        settings = [
            f"enable_long_queue_ids={request.param}",
            f"default_transport={refused}",
            f"relay_transport={refused}",
            f"transport_maps=inline:{{silent.test=smtp:[127.0.0.1]:{port}}}",
            "smtpd_recipient_restrictions=check_recipient_access inline:{held.test=HOLD}",
        ]
        run("postconf", server.folder, "-e", *settings)
        with (etc / "master.cf").open("a") as file:
            file.write(SERVICES)
        run("postfix", server.folder, "reload")
        send(server, "alice@example.org", ["bob@example.net"])
        send(server, "", ["bob@example.net", "carol@example.com"], 5000)
        send(
            server, "a-long-sender-address-with-much-before-its@subdomain.of.a.long.example.org", ["z@x.test"]
        )
        send(server, '"a b"@example.org', ['"c d"@example.net', '"e\\"f"@example.net'], 200_000)
        send(server, "josé@example.org", ["пётр@example.net"])
        send(server, "alice@example.org", ["bob@held.test"])
        send(server, "alice@example.org", ["bob@silent.test", "eve@silent.test"])
        wait_for(server, {"hold": 1, "active": 1, "deferred": 5})
        listed = map(json.loads, run("postqueue", server.folder, "-j").splitlines())
        held = next(each["queue_id"] for each in listed if each["queue_name"] == "deferred")
        run("postsuper", server.folder, "-h", held)
        wait_for(server, {"hold": 2, "active": 1, "deferred": 4})
        yield server


def wait_for(postfix: Postfix, wanted: dict[str, int]) -> None:
    limit = time.monotonic() + 20
    names: list[str] = []
    while time.monotonic() < limit:
        names = [
            json.loads(line)["queue_name"] for line in run("postqueue", postfix.folder, "-j").splitlines()
        ]
        if {name: names.count(name) for name in names} == wanted:
            return
        time.sleep(0.1)
    raise AssertionError(f"{names}, wanted {wanted}: {postfix.log()}")


def test_listings_are_those_of_postfix(postfix: Postfix) -> None:
    lines = run("postqueue", postfix.folder, "-j")
    text = run("postqueue", postfix.folder, "-p")
    assert lines == run("postqueue", postfix.folder, "-j"), "the queue changed meanwhile"
    rows = [row(line) for line in lines.splitlines()]
    assert len(rows) == 7
    assert [*postqueue_json(rows)] == lines.splitlines()
    assert [*postqueue_text(rows)] == text.splitlines()


def test_shape_is_that_of_qshape(postfix: Postfix) -> None:
    rows = [row(line) for line in run("postqueue", postfix.folder, "-j").splitlines()]
    counted = shape([each for each in rows if not each.held and not each.active], time.time())
    theirs = [line.split() for line in run("qshape", postfix.folder, "deferred").splitlines()]
    assert theirs[0][1:-1] == [f"{bound / 60:.0f}" for bound in counted.bounds]
    ours = {"TOTAL": counted.total, **counted.domains}
    assert {line[0]: tuple(map(int, line[2:])) for line in theirs[1:]} == ours


def test_empty_queue(postfix: Postfix) -> None:
    run("postsuper", postfix.folder, "-d", "ALL")
    assert run("postqueue", postfix.folder, "-p").splitlines() == [*postqueue_text([])]
    assert run("postqueue", postfix.folder, "-j") == "".join(postqueue_json([]))
