"""What the tables of policy tests have in common: a script's decision for a session, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mta.address import NULL, parse_address
from mta.envelope import Envelope, Recipient
from mta.policy.ground import Ground, PolicySettings
from mta.policy.sieve.asking import Asking, Services, finish
from mta.policy.sieve.decision import Decision, decide
from mta.policy.sieve.facts import FROM_DATA, FROM_MAIL, STAGES, Facts, Surroundings
from mta.policy.sieve.milter import MILTERS
from mta.policy.sieve.outcome import Outcome
from mta.policy.sieve.policy import script_envelope
from mta.policy.sieve.policyserver import POLICY_SERVERS
from mta.policy.sieve.program import FileDiagnostic, Program, load, settings_for
from mta.policy.sieve.route import SOURCES
from mta.policy.sieve.scan import SCANNERS
from mta.policy.sieve.tables import Lists
from mta.session import Session, TlsInfo
from mta.tables.text import TextTable
from sieve_ext.message import Message

REQUIRE = (
    'require ["vnd.tamis.stage", "vnd.tamis.net", "vnd.tamis.reply", "vnd.tamis.envelope", "vnd.tamis.route",'
    ' "vnd.tamis.queue", "vnd.tamis.milter", "envelope", "editheader", "variables", "extlists", "reject",'
    ' "ereject", "body", "date", "relational", "comparator-i;ascii-numeric", "ihave",'
    ' "vnd.tamis.tables", "vnd.tamis.scan", "vnd.tamis.policy_server", "vnd.tamis.auth", "vnd.tamis.sign",'
    ' "subaddress"];\n'
)
ROUTES = ("backend:store", "relay:out", "mx")
TABLES = ("vip",)
NAMES = {MILTERS: ("rspamd",), POLICY_SERVERS: ("postgrey",), SCANNERS: ("clamav",), SOURCES: ("bulk",)}
"""Names of sections of the configuration, by the setting that lists them."""
GROUND = Ground(
    PolicySettings({}, parse_address("postmaster@mx.test"), is_trusted=lambda address: address == "192.0.2.7")
)
MESSAGE = b"From: Ann <a@x.test>\r\nTo: b@example.test\r\nSubject: Frop!\r\n\r\nFriep!\r\n"


@dataclass
class Case:
    """A session as a script sees it."""

    session: Session = field(default_factory=lambda: session())
    sender: str = "a@x.test"
    recipients: tuple[str, ...] = ("b@example.test",)
    message: bytes = MESSAGE


def session() -> Session:
    """A client with everything."""
    made = Session("abcdefghijk", "smtp", "smtp", "192.0.2.7", 40000, "198.51.100.1", 25)
    made.helo = "client.x.test"
    made.esmtp = True
    made.tls = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, "mx.test", "peer.x.test")
    made.transactions = 1
    return made


def read(*scripts: str, queue: bool = True) -> tuple[Program | None, list[FileDiagnostic]]:
    """Load scripts, which have no `require` of their own yet, as files a.sieve, b.sieve..."""
    sources = [(f"/p/{chr(97 + n)}.sieve", (REQUIRE + text).encode()) for n, text in enumerate(scripts)]
    return load(sources, settings_for(ROUTES, TABLES, has_queue=queue, names=NAMES))


def faults(*scripts: str, queue: bool = True) -> list[str]:
    """What is wrong as "line:column code", 1 the first line behind `require`; warnings in parentheses."""
    out = []
    for one in read(*scripts, queue=queue)[1]:
        text = f"{one.diagnostic.line - 1}:{one.diagnostic.column} {one.diagnostic.code}"
        out.append(f"({text})" if one.is_warning else text)
    return out


def program(*scripts: str) -> Program:
    """A program without errors."""
    made, found = read(*scripts)
    assert made is not None, [str(one) for one in found]
    return made


def ran(running: Asking[Outcome], services: Services, facts: Facts) -> Outcome:
    """A run to its end, with answers that come at once."""
    outcome = finish(running, services, facts)
    assert isinstance(outcome, Outcome)
    return outcome


def decision(script: str, stage: str = "", case: Case | None = None, folder: Path | None = None) -> Decision:
    """What the script decides; `stage` is by default the first one that it has.

    Table "vip" is the file of that name in `folder`.
    """
    made = program(script)
    services: Services = {}
    if folder is not None:
        services = Lists({"vip": TextTable(str(folder / "vip"), "", lambda: 0.0)}).services
    stage = stage or next(one for one in STAGES if made.has(one))
    case = case or Case()
    sender = parse_address(case.sender) if case.sender else NULL
    envelope = Envelope(sender, [Recipient(parse_address(one)) for one in case.recipients])
    seen = envelope if stage in FROM_MAIL else None
    recipient = envelope.recipients[0] if stage in ("rcpt", "route") else None
    message = Message(case.message) if stage in FROM_DATA else None
    facts = Facts(stage, case.session, "mx.test", seen, recipient, message, ground=GROUND)
    running = made.run(stage, Surroundings(facts), script_envelope(case.session, seen, recipient), message)
    return decide(ran(running, services, facts))


def holds(test: str, stage: str = "data", case: Case | None = None, folder: Path | None = None) -> bool:
    """Whether a test holds at a stage."""
    found = decision(f'stage "{stage}" {{ if {test} {{ reply "yes"; }} }}', stage, case, folder)
    assert found.reply is None or found.reply.text == "yes", found.reply
    return found.reply is not None
