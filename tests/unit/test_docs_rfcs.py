"""The table of standards against the page, the code and the pages: nothing is claimed that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mta.assembly_offer import QUEUE_OFFER, SMTP_OFFER, SUBMISSION_OFFER
from mta.policy.sieve.dialect import policy_dialect
from mta.smtp.extensions import DEFAULT_OFFER, EXTENSIONS, Extension
from mta.standards import PAGE, TABLE, Standard, module_path, page, standards
from sieve_ext import all_capabilities, standard_dialect

ROOT = Path(__file__).parents[2]
CODE = sorted(
    path for folder in ("mta", "sieve_ext", "queue", "milter") for path in (ROOT / folder).rglob("*.py")
)
PAGES = [*sorted((ROOT / "conf").rglob("*.*")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]
ENTRIES = {entry.name: entry for entry in standards()}

NO_ONE_PLACE = {
    "RFC 5248": "a registry of numbers; the test of enhanced codes below holds it",
    "RFC 5598": "a vocabulary",
}
"""Kept everywhere, so no module is named."""

PUTS_OFF = re.compile(r"\b(yet|planned|soon|so far|for now|at the moment|will be|still to)\b", re.IGNORECASE)
"""Words of a note that nobody will take back when it has become untrue."""

REGISTERED = {0: 0, 1: 10, 2: 4, 3: 6, 4: 7, 5: 6, 6: 10, 7: 30}
"""The greatest detail of each subject in the registry of enhanced status codes (RFC 5248)."""


def named(text: str) -> set[str]:
    """The RFCs that a text speaks of: "RFC 5321", also the later ones of "RFC 5321, 6409 and 2033"."""
    found: set[str] = set()
    for match in re.finditer(r"\bRFC[ \n]+(?:# )?(\d{3,5}(?:(?:, | and )\d{4}(?![\d,.]*\d))*)", text):
        found |= {f"RFC {number}" for number in re.findall(r"\d+", match[1])}
    return found


CAPABILITIES: dict[str, set[str]] = {}
"""Names of the capabilities of Sieve by the RFC that specifies them."""
for _one in all_capabilities():
    for _rfc in named(_one.specification):
        CAPABILITIES.setdefault(_rfc, set()).add(_one.name)


def test_named_finds_lists() -> None:
    assert named("RFC 5321, 6409, 2033") == {"RFC 5321", "RFC 6409", "RFC 2033"}
    assert named("RFC 2045 and 2046.") == {"RFC 2045", "RFC 2046"}
    assert named("(RFC 5321 4.5.3.1.8, RFC 2033 5)") == {"RFC 5321", "RFC 2033"}
    assert named("RFC 4954, 12,288 octets") == {"RFC 4954"}


def test_page_is_current() -> None:
    assert (ROOT / PAGE).read_text() == page(), "run: python -m mta.standards"


def test_names_are_unique_and_rfcs_are_sorted_into_one_section() -> None:
    names = [entry.name for entries in TABLE.values() for entry in entries]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("entry", list(ENTRIES.values()), ids=lambda entry: entry.name)
def test_modules_exist_and_name_the_standard(entry: Standard) -> None:
    for module in entry.modules:
        text = (ROOT / module_path(module)).read_text()
        mentioned = entry.name in (named(text) if entry.name.startswith("RFC ") else text)
        assert mentioned, f"{module} does not speak of {entry.name}"
    assert entry.modules or entry.status == "no" or entry.name in NO_ONE_PLACE


@pytest.mark.parametrize("entry", list(ENTRIES.values()), ids=lambda entry: entry.name)
def test_notes_say_what_is_missing(entry: Standard) -> None:
    if entry.status != "yes":
        assert entry.note
    assert not PUTS_OFF.search(entry.note), "what is to come stands in docs/roadmap.md"


@pytest.mark.parametrize(
    "entry", [one for one in ENTRIES.values() if one.status == "no"], ids=lambda one: one.name
)
def test_what_is_not_kept_is_named_where_the_row_says(entry: Standard) -> None:
    """A module that names it besides may well keep it by now."""
    naming = {
        path for path in CODE if "standards" not in path.parts and entry.name in named(path.read_text())
    }
    assert naming <= {ROOT / module_path(module) for module in entry.modules}


@pytest.mark.parametrize("path", [*CODE, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_rfc_that_is_named_stands_in_the_table(path: Path) -> None:
    missing = named(path.read_text(encoding="utf-8")) - ENTRIES.keys()
    assert not missing, f"add to mta/standards: {', '.join(sorted(missing))}"


@pytest.mark.parametrize("rfc", sorted(CAPABILITIES))
def test_capabilities_of_sieve_say_which_scripts_may_use_them(rfc: str) -> None:
    note, names = ENTRIES[rfc].note, CAPABILITIES[rfc]
    assert ("policy files" in note) == any(name in policy_dialect().capabilities for name in names)
    assert ("users' scripts" in note) == any(name in standard_dialect().capabilities for name in names)


@pytest.mark.parametrize("extension", EXTENSIONS, ids=lambda extension: extension.keyword)
def test_keywords_of_ehlo_have_the_right_status(extension: Extension) -> None:
    """Offered, by itself or with the queue: at least partial. Not offered: no "yes"."""
    found = [
        entry
        for name, entry in ENTRIES.items()
        if name == extension.rfc or (name in extension.rfc and not name.startswith("RFC "))
    ]
    assert len(found) == 1, f"{extension.rfc} is not in the table"
    is_offered = extension.keyword in DEFAULT_OFFER | QUEUE_OFFER | SMTP_OFFER | SUBMISSION_OFFER
    assert found[0].status != ("no" if is_offered else "yes")
    assert found[0].modules, extension.keyword


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_enhanced_codes_are_registered(path: Path) -> None:
    for code in re.findall(r'"([245]\.\d{1,3}\.\d{1,3})"', path.read_text()):
        _, subject, detail = map(int, code.split("."))
        assert detail <= REGISTERED.get(subject, -1), code
