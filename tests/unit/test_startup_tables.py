"""The check whether databases and other servers answer for tables, and what other checks ask of them."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest

from mta.startup.claims import Site
from mta.startup.result import Outcome
from tests.unit.startup_kit import answering, look, site

SCRIPT = 'require ["vnd.tamis.stage", "vnd.tamis.envelope"]; stage "rcpt" { expand "table:aliases"; }'
POLICY = '[policy]\nscripts = ["policy.sieve"]\n'


def with_database(folder: Path, table: str = "", more: str = "") -> Site:
    """A site whose aliases are in a database, with more lines for the table."""
    (folder / "users").write_text("")
    (folder / "users").chmod(0o600)
    (folder / "policy.sieve").write_text(SCRIPT)
    with sqlite3.connect(folder / "aliases.db") as database:
        database.execute("CREATE TABLE alias (address TEXT, target TEXT)")
        database.execute("INSERT INTO alias VALUES ('postmaster@good.test', 'help@else.test')")
    query = "" if "query" in table else 'query = "SELECT target FROM alias WHERE address = {key}"\n'
    section = f'[tables.aliases]\ntype = "sqlite"\nfile = "aliases.db"\n{query}{table}'
    return site(folder, section + POLICY + "[outbound]\nenabled = true\n" + more)


def test_a_table_that_answers(tmp_path: Path) -> None:
    (result,) = look("tables", with_database(tmp_path), None)
    assert (result.subject, result.outcome) == ("tables.aliases", Outcome.OK)
    assert (result.asked, result.found) == ("a lookup of postmaster@good.test", "answers")


@pytest.mark.parametrize("on_error", ["defer", "ignore"])
def test_a_table_that_cannot_answer(tmp_path: Path, on_error: str) -> None:
    lines = f'query = "SELECT target FROM alias WHERE adress = {{key}}"\non_error = "{on_error}"\n'
    where = with_database(tmp_path, lines + 'search = "address"\ncache_negative = "1h"\n')
    sqlite3.connect(tmp_path / "aliases.db").execute("ALTER TABLE alias RENAME TO names")
    (result,) = look("tables", where, None)
    assert (result.subject, result.outcome) == ("tables.aliases", Outcome.UNKNOWN)
    assert result.found == "SQLite: no such table: alias"
    assert result.mend == "start its server, or mend [tables.aliases]"


def test_a_server_that_is_not_there_or_answers_nonsense(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        more = f'[tables.m]\ntype = "memcache"\naddress = "127.0.0.1:{closed.getsockname()[1]}"\n'
        (result,) = look("tables", site(tmp_path, more), None)
    assert (result.subject, result.outcome) == ("tables.m", Outcome.UNKNOWN)
    assert result.found.startswith("no connection: ")
    with answering(b"", b"250 this is no memcached") as port:
        more = f'[tables.m]\ntype = "memcache"\naddress = "127.0.0.1:{port}"\ntimeout = "1s"\n'
        (result,) = look("tables", site(tmp_path, more), None)
    assert result.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ('bind_dn = "cn=a"\npassword_file = "gone"\n', "gone: No such file or directory"),
        ('tls = "verify"\ntls_ca = "gone"\n', "gone: No such file or directory"),
        ('tls = "verify"\ntls_ca = "users"\n', "users: [X509: NO_CERTIFICATE_OR_CRL_FOUND] "),
    ],
)
def test_a_file_that_a_table_needs_is_named_and_hides_no_other_table(
    tmp_path: Path, lines: str, found: str
) -> None:
    directory = '[tables.d]\ntype = "ldap"\nurl = "ldap://127.0.0.1/dc=x?mail"\nquery = "(mail={key})"\n'
    results = look("tables", with_database(tmp_path, more=directory + lines), None)
    assert [(one.subject, one.outcome) for one in results] == [
        ("tables.aliases", Outcome.OK),
        ("tables.d", Outcome.WRONG),
    ]
    assert results[1].found.startswith(f"{tmp_path}/{found}")


def test_tables_of_files_are_the_business_of_check_config(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a b\n")
    (result,) = look("tables", site(tmp_path, '[tables.t]\nfile = "list"\n'), None)
    assert (result.outcome, result.found) == (Outcome.OK, "none is on a server")


def test_an_address_is_looked_up_where_one_is_meant(tmp_path: Path) -> None:
    more = '[tables.m]\ntype = "memcache"\naddress = "127.0.0.1:9"\nquery = "{reversed}"\n'
    (result,) = look("tables", site(tmp_path, more), None)
    assert result.asked == "a lookup of 192.0.2.99"


def test_the_open_relay_check_asks_tables_on_servers(tmp_path: Path) -> None:
    results = look("open_relay", with_database(tmp_path), None)
    assert [result.outcome for result in results] == [Outcome.OK, Outcome.OK]
    assert results[0].found == "550 5.7.1 relaying denied"


def test_the_postmaster_is_looked_for_in_tables_on_servers(tmp_path: Path) -> None:
    (result,) = look("postmaster", with_database(tmp_path), None)
    assert result.subject == "postmaster@good.test: help@else.test"
    assert (result.outcome, result.found) == (Outcome.OK, "else.test is not: its mail goes there")


def test_checks_say_what_they_cannot_know_without_a_table(tmp_path: Path) -> None:
    where = with_database(tmp_path)
    sqlite3.connect(tmp_path / "aliases.db").execute("DROP TABLE alias")
    (result,) = look("postmaster", where, None)
    assert (result.outcome, result.settled) == (Outcome.UNKNOWN, False)
    assert result.found.startswith("451 4.7.1 ")
    results = look("open_relay", where, None)
    assert [result.outcome for result in results] == [Outcome.UNKNOWN, Outcome.OK]  # 25, and 465 with a login
