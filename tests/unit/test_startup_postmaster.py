"""The check whether anybody gets the postmaster's mail."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.startup.postmaster import MEND
from mta.startup.result import Outcome, Result
from tests.unit.startup_kit import CONFIGURATION, answering, look, site

WORLD = "[outbound]\nenabled = true\n"
STORE = '[store]\nenabled = true\npath = "mail"\n[domains."good.test"]\nrecipients = "users"\n'
EMBEDDED = (
    CONFIGURATION[: CONFIGURATION.index("[domains.")]
    + CONFIGURATION[CONFIGURATION.index("[process]") :]
    + STORE
)


def users(folder: Path, text: str = "") -> None:
    path = folder / "users"
    path.write_text(text)
    path.chmod(0o600)


def told(folder: Path, more: str = "", text: str = CONFIGURATION) -> list[Result]:
    if not (folder / "users").exists():
        users(folder)
    return look("postmaster", site(folder, more, text), None)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"250 2.1.5 ok", Outcome.OK),
        (b"550 5.1.1 no such user", Outcome.WRONG),
        (b"452 4.2.2 full", Outcome.UNKNOWN),
    ],
)
@pytest.mark.parametrize("recipients", ["all", "ask"])
def test_the_back_end_is_asked(tmp_path: Path, reply: bytes, outcome: Outcome, recipients: str) -> None:
    with answering(b"220 hi", b"250 hi", b"250 ok", reply, b"250 reset", b"221 bye") as port:
        text = CONFIGURATION.replace(":24", f":{port}").replace(
            'recipients = "all"', f'recipients = "{recipients}"'
        )
        (result,) = told(tmp_path, text=text)
    assert (result.subject, result.outcome) == ("postmaster@good.test", outcome)
    assert result.asked == "RCPT TO:<postmaster@good.test> at [backends.store]"
    assert result.found == reply.decode()
    assert result.mend == (MEND if outcome is Outcome.WRONG else "")


def test_a_back_end_that_is_not_there(tmp_path: Path) -> None:
    with answering(b"421 4.3.2 busy") as port:
        (result,) = told(tmp_path, text=CONFIGURATION.replace(":24", f":{port}"))
    assert result.outcome is Outcome.UNKNOWN
    assert "421 4.3.2 busy" in result.found


def test_a_postmaster_elsewhere_is_not_asked_for(tmp_path: Path) -> None:
    text = CONFIGURATION.replace("[[listener]]", 'postmaster = "help@else.test"\n[[listener]]', 1)
    (result,) = told(tmp_path, WORLD, text)
    assert (result.outcome, result.found) == (Outcome.OK, "else.test is not: its mail goes there")


@pytest.mark.parametrize(
    ("line", "outcome", "found"),
    [
        ("", Outcome.WRONG, "no"),
        ("postmaster@good.test:!:\n", Outcome.OK, "yes"),
        ("post@good.test:!:\n", Outcome.WRONG, "no"),
        ("postmaster@good.test:!:disabled\n", Outcome.WRONG, "it is disabled"),
    ],
)
def test_the_embedded_store_has_its_users_file(
    tmp_path: Path, line: str, outcome: Outcome, found: str
) -> None:
    users(tmp_path, line)
    (result,) = told(tmp_path, text=EMBEDDED)
    assert (result.outcome, result.found) == (outcome, found), result
    if not line:
        assert result.mend.startswith("tamis user add postmaster@good.test, or ")


ALIASES = """
require ["vnd.tamis.stage", "vnd.tamis.envelope"];
stage "rcpt" { expand "table:aliases"; }
"""


@pytest.mark.parametrize(
    ("behind", "outcomes"),
    [
        ("root@good.test", {"postmaster@good.test: root@good.test": Outcome.OK}),
        (
            "root@good.test, help@else.test",
            {
                "postmaster@good.test: root@good.test": Outcome.OK,
                "postmaster@good.test: help@else.test": Outcome.OK,
            },
        ),
        ("nobody@good.test", {"postmaster@good.test": Outcome.WRONG}),
    ],
)
def test_aliases_are_followed(tmp_path: Path, behind: str, outcomes: dict[str, Outcome]) -> None:
    users(tmp_path, "root@good.test:!:\n")
    (tmp_path / "aliases").write_text(f"postmaster: {behind}\n")
    (tmp_path / "policy.sieve").write_text(ALIASES)
    more = '[policy]\nscripts = ["policy.sieve"]\n[tables.aliases]\ntype = "aliases"\nfile = "aliases"\n'
    results = told(tmp_path, more + WORLD, EMBEDDED)
    assert {result.subject: result.outcome for result in results} == outcomes
