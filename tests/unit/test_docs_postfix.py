"""docs/postfix.md is true: its names are known, its keys exist, its policy files do what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mta import config
from mta.cli_explain import explain
from mta.config.postfix import POSTFIX, POSTFIX_PREFIXES
from mta.config.read import sections_of
from mta.config.schema import Config
from mta.explain.given import Given
from mta.policy.sieve.loading import load_policy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "postfix.md").read_text(encoding="utf-8")
RELAY, BACKUP, SITE, MAILMAN = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
USUAL, DNS, LIMITS = re.findall(r"^```sieve\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
STRANGER = "198.51.100.7"
FILES = {
    "main.sieve": USUAL,
    "client_access": "192.0.2.0/24  your network is blocked\n",
    "sender_access": "spam@example.net  we do not want you\nbulk.example  nor your domain\n",
    "sender_login": "ann@example.org  ann\nsales@example.org  bob, ann\nold@example.org  x.n\n"
    "a@shop.example ann\n",
    "sender_canonical": "sales@example.org  ann@example.org\n",
    "relocated": "gone@example.org  gone@example.net\n",
    "virtual": "all@example.org  ann@example.org, bob@example.org\n@aliases.example  bob@example.org\n",
    "aliases": "postmaster: ann\n",
    "sender_bcc": "ann@example.org  bob@example.org\n",
    "recipient_bcc": "bob@example.org  boss@far.example\n",
    "partners": "partner.example\n",
    "nobody": "",
    "people": "".join(f"{name}@example.org\n" for name in ("ann", "bob", "archive", "staff", "gone")),
}


def names() -> set[str]:
    """Settings of Postfix in the first column of the tables."""
    rows = re.findall(r"^\| (.*?) \|", PAGE.partition("## Maps")[0], re.MULTILINE)
    found = {name for row in rows for name in re.findall(r"`([a-z][a-z0-9_A-Z]+)`", row)}
    return {name for name in found if not re.match(r"(reject|check|permit)_", name)}


def test_check_config_knows_every_name_of_the_page() -> None:
    assert len(names()) > 120
    assert names() - POSTFIX.keys() == set()


def test_the_page_has_every_name_that_check_config_knows() -> None:
    assert {name for name in POSTFIX if f"`{name}`" not in PAGE} == set()


@pytest.mark.parametrize("name", sorted(POSTFIX))
def test_a_name_of_postfix_is_told_as_one(name: str) -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.parse(f'{name} = "x"\n')
    (problem,) = [one for one in caught.value.problems if not one.warning]
    assert problem.reason.startswith("a name of Postfix")
    assert problem.suggestion == POSTFIX[name]


def test_its_keys_exist() -> None:
    sections = sections_of(Config)
    text = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    named = re.findall(
        r"`([a-z_]+(?:\.NAME)?)\.([a-z_0-9]+)(?: =[^`]*)?`", " ".join([text, *POSTFIX.values()])
    )
    named += re.findall(r"(?:^| )([a-z_]+(?:\.NAME)?)\.([a-z_0-9]+)", " ".join(POSTFIX.values()))
    files = {("policy", "sieve"), ("tamis", "toml"), ("main", "cf"), ("master", "cf")}
    wrong = [
        f"{section}.{key}"
        for section, key in named
        if (section, key) not in files and key not in sections.get(section, ())
    ]
    assert len(named) > 60
    assert wrong == []


def test_names_by_their_beginning() -> None:
    beginnings = [key for fields in sections_of(Config).values() for key in fields]
    assert [key for key in beginnings if key.startswith(POSTFIX_PREFIXES)] == []


def test_the_relay() -> None:
    settings = config.parse(RELAY, "/etc/tamis/tamis.toml")
    assert settings.policy.relay == "provider"


def test_the_backup(tmp_path: Path) -> None:
    (tmp_path / "backup").write_text("ann@example.net\n")
    settings = config.parse(BACKUP, str(tmp_path / "tamis.toml"))
    assert settings.domains["example.net"].backend == "primary"
    assert settings.backends["primary"].protocol == "smtp"


def test_mailman(tmp_path: Path) -> None:
    lists = tmp_path / "postfix_lmtp"
    lists.write_text("# Aliases\ntest@lists.example.org        lmtp:[127.0.0.1]:8024\n")
    text = MAILMAN.replace("/var/lib/mailman3/data/postfix_lmtp", str(lists))
    (tmp_path / "tamis.toml").write_text(text)
    for recipient, there in (("test", True), ("test+token", True), ("other", False)):
        given = Given("127.0.0.1", "vm", "", "a@example.net", (f"{recipient}@lists.example.org",))
        assert (explain(str(tmp_path / "tamis.toml"), given) == 0) is there


@pytest.fixture
def site(tmp_path: Path) -> Path:
    people = 'recipients = "table:people"\n'
    text = SITE.replace('[domains."example.org"]\n', f'[domains."example.org"]\n{people}')
    text += 'people = { file = "people" }\n[[listener]]\naddresses = ["127.0.0.1:25"]\n'
    (tmp_path / "tamis.toml").write_text(
        f'{text}[[listener]]\nprotocol = "submission"\ntls = "none"\naddresses = ["127.0.0.1:587"]\n'
        .replace("[auth]\n", "[auth]\nrequire_tls = false\n")
    )  # fmt: skip
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def told(
    site: Path, capsys: pytest.CaptureFixture[str], given: Given, message: bytes = b""
) -> dict[str, list[Any]]:
    (site / "message").write_bytes(message)
    explain(
        str(site / "tamis.toml"),
        given,
        message=str(site / "message") if message else "",
        listener="submission" if given.user else "",
        as_machine=True,
    )
    found: dict[str, list[Any]] = json.loads(capsys.readouterr().out)
    return found


def last(found: dict[str, list[Any]]) -> tuple[str, str]:
    return found["stages"][-1]["stage"], found["stages"][-1]["reply"]


ANN = "ann@example.org"
REFUSED = [
    (Given("192.0.2.9"), ("connect", "554 5.7.1 your network is blocked")),
    (Given(STRANGER, "vm"), ("helo", "550 5.7.1 say your full name in EHLO")),
    (Given(STRANGER, "a.example", "", "spam@example.net"), ("mail", "550 5.7.1 we do not want you")),
    (Given(STRANGER, "a.example", "", "any@bulk.example"), ("mail", "550 5.7.1 nor your domain")),
    (Given(STRANGER, "a.example", "", "any@mx1.bulk.example"), ("mail", "550 5.7.1 nor your domain")),
    (
        Given(STRANGER, "vm", "ann", "bob@example.org"),
        ("mail", "553 5.7.1 bob@example.org does not belong to you"),
    ),
    (
        Given(STRANGER, "vm", "xan", "old@example.org"),
        ("mail", "553 5.7.1 old@example.org does not belong to you"),
    ),
    (Given(STRANGER, "a.example", "", "spam+x@example.net"), ("mail", "550 5.7.1 we do not want you")),
    (
        Given(STRANGER, "a.example", "", "x@example.net", ("gone+x@example.org",)),
        ("rcpt", "551 5.1.6 has moved to gone@example.net"),
    ),
    (Given(STRANGER, "vm", "an", ANN), ("mail", f"553 5.7.1 {ANN} does not belong to you")),
    (
        Given(STRANGER, "a.example", "", "x@example.net", ("gone@example.org",)),
        ("rcpt", "551 5.1.6 has moved to gone@example.net"),
    ),
    (Given(STRANGER, "a.example", "", "", ("staff@example.org",)), ("rcpt", "550 5.7.1 for members only")),
    (Given(STRANGER, "a.example", "", "", ("nobody@example.org",)), ("rcpt", "550 5.1.1 no such user")),
    (Given(STRANGER, "a.example", "", "", ("x@example.com",)), ("rcpt", "550 5.7.1 relaying denied")),
]


@pytest.mark.parametrize(("given", "reply"), REFUSED)
def test_what_the_usual_rules_refuse(
    site: Path, capsys: pytest.CaptureFixture[str], given: Given, reply: tuple[str, str]
) -> None:
    assert last(told(site, capsys, given)) == reply


ROUTES = [
    (Given(STRANGER, "a.example", "", "", ("all@example.org",)), {ANN, "bob@example.org"}, "backend:dovecot"),
    (Given(STRANGER, "a.example", "", "", ("any@aliases.example",)), {"bob@example.org"}, "backend:dovecot"),
    (Given(STRANGER, "vm", "ann", ANN, ("x@partner.example",)), {"x@partner.example"}, "relay:partner"),
    (Given(STRANGER, "vm", "ann", ANN, ("x@example.com",)), {"x@example.com"}, "relay:provider"),
    (Given(STRANGER, "vm", "ann", "a@shop.example", ("x@example.com",)), {"x@example.com"}, "relay:shop"),
    (Given(STRANGER, "vm", "ann", ANN, ("staff@example.org",)), {"staff@example.org"}, "backend:dovecot"),
]


@pytest.mark.parametrize(("given", "who", "next_hop"), ROUTES)
def test_where_mail_goes(
    site: Path, capsys: pytest.CaptureFixture[str], given: Given, who: set[str], next_hop: str
) -> None:
    found = told(site, capsys, given, b"From: x@example.net\r\n\r\nx\r\n")
    routes = {one["recipient"]: one["next_hop"] for one in found["routes"]}
    assert {address: routes.get(address) for address in who} == dict.fromkeys(who, next_hop)
    assert routes["archive@example.org"].startswith("backend:dovecot from <>")


def test_who_gets_a_copy_of_a_recipients_mail(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for recipient in ("bob@example.org", "bob+x@example.org", ANN):
        found = told(
            site, capsys, Given(STRANGER, "a.example", "", "", (recipient,)), b"Subject: x\r\n\r\nx\r\n"
        )
        routes = {one["recipient"]: one["next_hop"] for one in found["routes"]}
        copied = None if recipient == ANN else "relay:provider from <>"
        assert routes.get("boss@far.example") == copied


def test_what_becomes_of_a_message(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sales = Given(STRANGER, "vm", "ann", "sales@example.org", ("x@example.com",))
    head = b"From: Sales <sales@example.org>\r\nX-Internal-Route: 1\r\nX-Mailer: BulkSender 2\r\n"
    found = told(site, capsys, sales, head + b"\r\nx\r\n")
    data = next(one for one in found["stages"] if one["stage"] == "data")
    assert any(order.startswith("held in the queue: ") for order in data["orders"])
    for order in (
        "<archive@example.org> is added",
        "<bob@example.org> is added",
        "header - From: Sales <sales@example.org>",
        "header + From: Sales <ann@example.org>",
        "header - X-Internal-Route: 1",
    ):
        assert order in data["orders"]
    refused = told(site, capsys, sales, b"Subject: Cheap Watches\r\n\r\nx\r\n")
    assert last(refused) == ("data", "550 5.7.1 we have a watch")
    dropped = told(site, capsys, sales, b"From: a@example.net\r\n\r\nClick here to win!\r\n")
    assert any(order.startswith("discarded: ") for order in dropped["stages"][-1]["orders"])


@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        ("sales@example.org", "<ann@example.org>"),
        ('"Sales, Inc." <sales@example.org>', '"Sales, Inc." <ann@example.org>'),
        ("=?utf-8?q?Z=C3=B6e?= <sales@example.org>", "=?utf-8?b?WsO2ZQ==?= <ann@example.org>"),
        ("=?utf-8?q?Sales=2C_Inc=2E?= <sales@example.org>", "<ann@example.org>"),  # would be two addresses
    ],
)
def test_the_name_before_a_rewritten_address_stays(
    site: Path, capsys: pytest.CaptureFixture[str], written: str, becomes: str
) -> None:
    sales = Given(STRANGER, "vm", "ann", "sales@example.org", ("x@example.com",))
    found = told(site, capsys, sales, f"From: {written}\r\n\r\nx\r\n".encode())
    data = next(one for one in found["stages"] if one["stage"] == "data")
    assert [one for one in data["orders"] if one.startswith("header + From")] == [f"header + From: {becomes}"]


def test_the_rules_that_ask_the_dns_load(tmp_path: Path) -> None:
    (tmp_path / "dns.sieve").write_text(DNS)
    settings = config.parse('[dns]\nresolvers = ["127.0.0.1"]\n')
    program = load_policy(settings, [str(tmp_path / "dns.sieve")])
    assert program.has("connect")
    assert program.has("mail")


def test_the_limit_for_users_asks_about_users_alone(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "main.sieve").write_text(LIMITS)
    for user, asked in (("ann", True), ("", False)):  # `explain` counts nothing, and says so
        given = Given(STRANGER, "a.example", user, ANN if user else "", (ANN,))
        (stage,) = [one for one in told(site, capsys, given)["stages"] if one["stage"] == "rcpt"]
        assert any("test rate" in line for _, line in stage["lines"]) is asked
