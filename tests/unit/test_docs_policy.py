"""docs/policy is true: every word, item and capability is on its page, and every script loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.policy import everything as example_in_full
from mta import config
from mta.policy.sieve import (
    auth,
    envelope,
    greylist,
    local,
    log,
    milter,
    net,
    policyserver,
    queue,
    rate,
    reply,
    route,
    scan,
    sign,
    srs,
    stages,
    tables,
)
from mta.policy.sieve.dialect import OWN, STANDARD, policy_dialect
from mta.policy.sieve.facts import ITEMS, STAGES
from mta.policy.sieve.loading import load_policy
from mta.policy.sieve.program import load, settings_for
from tests.unit.policy_tables import NAMES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "policy"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
OF = {
    "stage.md": stages,
    "site.md": local,
    "net.md": net,
    "auth.md": auth,
    "sign.md": sign,
    "srs.md": srs,
    "reply.md": reply,
    "envelope.md": envelope,
    "route.md": route,
    "queue.md": queue,
    "tables.md": tables,
    "rate.md": rate,
    "greylist.md": greylist,
    "log.md": log,
    "milter.md": milter,
    "policy_server.md": policyserver,
    "scan.md": scan,
}
EXAMPLE = ROOT / "conf" / "policy.sieve"


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def mistakes(script: str) -> list[str]:
    settings = settings_for(
        ["backend:archive", "relay:smarthost", "mx"],
        ["aliases", "blocked", "vip"],
        has_queue=True,
        names=NAMES,
    )
    return [str(one) for one in load([("page", script.encode())], settings)[1]]


def items() -> str:
    """The table of items."""
    rows = ["| item | from stage | what it is |", "|---|---|---|"]
    for name, item in ITEMS.items():
        first = next(stage for stage in STAGES if stage in item.stages)
        rows.append(f"| `{name}` | {first} | {item.meaning} |")
    return "\n" + "\n".join(rows) + "\n\n"


def test_the_table_of_items_is_that_of_the_program() -> None:
    begin, end = "<!-- begin: items -->", "<!-- end: items -->"
    assert PAGES["stage.md"].partition(begin)[2].partition(end)[0] == items()


@pytest.mark.parametrize("name", [name for name in PAGES if name != "README.md"])
def test_scripts_of_a_page_load(name: str) -> None:
    scripts = blocks(PAGES[name], "sieve")
    assert scripts
    assert len(blocks(PAGES[name], "smtp")) == len(scripts)
    assert [mistakes(script) for script in scripts] == [[]] * len(scripts)


def test_every_module_has_its_page() -> None:
    assert set(OF.values()) == set(OWN)


@pytest.mark.parametrize("name", OF)
def test_every_word_is_on_its_page_and_in_the_overview(name: str) -> None:
    for capability in OF[name].CAPABILITIES:
        assert f"`{capability.name}`" in PAGES["README.md"]
        for word in capability.words:
            assert re.search(rf"^{word.word}\b|`{word.word}`", PAGES[name], re.MULTILINE), word.word
            assert f"`{word.word}`" in PAGES["README.md"], word.word


def test_the_overview_names_what_there_is_of_the_standard() -> None:
    for name in STANDARD - {""}:
        assert f"`{name}`" in PAGES["README.md"], name
    stages_told = PAGES["stage.md"].partition("## The session")[0]
    assert list(STAGES) == re.findall(r"^\| `(\w+)` \|", stages_told, re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s#]+)\)", PAGES[name]):
        if not re.match(r"[a-z]+:", target):
            assert (FOLDER / target).exists(), target


def test_every_page_is_in_the_overview() -> None:
    for name in PAGES:
        assert name == "README.md" or f"({name})" in PAGES["README.md"]


def test_every_error_that_a_page_names_exists() -> None:
    folders = (ROOT / "mta" / "policy" / "sieve", ROOT / "sieve_ext")
    source = "".join(path.read_text(encoding="utf-8") for one in folders for path in one.rglob("*.py"))
    for name, text in PAGES.items():
        for code in re.findall(r"`([a-z]+-[a-z]+)`", text.partition("## Errors")[2]):
            assert f'"{code}"' in source, (name, code)


def test_the_example_file_loads_as_it_is_and_with_everything_on() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert mistakes(text) == []
    everything = example_in_full()
    assert mistakes(everything) == []
    assert not re.search(r"^#(?! \S)", everything.partition("\nrequire ")[2], re.MULTILINE)
    for word in ("ip_in", "rewrite_recipient", "addheader", "hold", "add_recipient", "tarpit"):
        assert re.search(rf"^ .*\b{word}\b", everything, re.MULTILINE), word


def test_a_configuration_with_the_example_file(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("")
    (tmp_path / "policy.sieve").write_text(EXAMPLE.read_text(encoding="utf-8"))
    text = f'[policy]\nscripts = ["{tmp_path}/policy.sieve"]\n[tables.blocked]\nfile = "{tmp_path}/blocked"'
    settings = config.parse(text)
    program = load_policy(settings, settings.policy.scripts)
    assert program.files[0].name == "policy.sieve"
    assert not program.has("connect")


def test_the_dialect_is_made_once() -> None:
    assert policy_dialect() is policy_dialect()
