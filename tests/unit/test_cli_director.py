"""`tamis director`: a user is meant, however its address is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mta.cli_director import make_app

CONFIGURATION = """
[identity]
hostname = "mx.example.test"
[domains."example.test"]
backend = "stores"
recipients = "all"
subaddress_delimiter = "+-"
[domains."other.test"]
backend = "a"
recipients = "all"
[director.stores]
backends = ["a", "b"]
[backends.a]
addresses = ["127.0.0.1:24"]
[backends.b]
addresses = ["127.0.0.1:25"]
[process]
state_directory = "state"
runtime_directory = "run"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    path = tmp_path / "tamis.toml"
    path.write_text(CONFIGURATION)
    return path


def tamis(path: Path, *words: str) -> Result:
    done = CliRunner().invoke(make_app(lambda: str(path)), [*words])
    assert done.exit_code == 0, done.output
    return done


def test_the_detail_of_an_address_is_no_part_of_the_user(path: Path) -> None:
    where = tamis(path, "where", "ann@example.test").stdout.strip()
    for number in range(8):  # of so many addresses some hash elsewhere
        assert tamis(path, "where", f"Ann+list{number}@Example.test").stdout.strip() == where
    other = "b" if where == "a" else "a"
    tamis(path, "move", "ann-list@example.test", other)
    assert json.loads(tamis(path, "status", "--json").stdout)["moved"] == {"ann@example.test": other}
    assert tamis(path, "where", "ann@example.test").stdout.strip() == other
    tamis(path, "move", "ann+x@example.test")
    assert json.loads(tamis(path, "status", "--json").stdout)["moved"] == {}


@pytest.mark.parametrize("user", ["ann@exmaple.test", "ann@other.test"])
def test_a_domain_that_does_not_use_the_director_is_told(path: Path, user: str) -> None:
    domain = user.partition("@")[2]
    for words in (("where", user), ("move", user, "b")):
        assert f'warning: no [domains."{domain}"] has the backend "stores"' in tamis(path, *words).stderr
    assert tamis(path, "where", "ann@example.test").stderr == ""
