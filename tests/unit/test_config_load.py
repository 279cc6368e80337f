"""Whole configurations: bad ones with their messages, good ones with their defaults, the reference pages."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import socket
import time
import tomllib
from pathlib import Path

import pytest

from mta.config import (
    Config,
    ConfigError,
    Inet,
    Inherited,
    Machine,
    RecipientSource,
    Unix,
    check,
    examine,
    from_json,
    load,
    parse,
    reference,
    suggest,
    this_machine,
    to_json,
)

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILE = "/etc/tamis/tamis.toml"
BAD = sorted((HERE / "bad_config").glob("*.toml"))

MAPPED = "::ffff:0:0/96"


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_configurations_say_what_is_wrong(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(path.read_text(encoding="utf-8"), FILE)
    messages = str(caught.value).replace(f"{FILE}:", "tamis.toml:")
    expected = path.with_suffix(".expected").read_text(encoding="utf-8")
    # Python 3.13 writes mapped addresses another way.
    assert messages + "\n" == expected.replace(MAPPED, str(ipaddress.ip_network(MAPPED)))


def test_there_are_bad_configurations_and_each_has_its_message() -> None:
    assert len(BAD) >= 60
    assert {path.stem for path in BAD} == {path.stem for path in (HERE / "bad_config").glob("*.expected")}


def test_what_is_suggested_for_words_of_others_is_there() -> None:
    keys = {f"{section.key}.{option.name}" for section in reference.sections() for option in section.options}
    for section, words in suggest.MEANT.items():
        for word, meant in words.items():
            there = {meant.replace(".NAME", ""), f"{section}.{meant}"}
            assert meant.startswith("[") or there & keys, meant
            assert f"{section}.{word}" not in keys, word


def test_an_empty_file_is_a_server_on_port_25_for_nobody() -> None:
    config = parse("", FILE, Machine("mail.example.org"))
    (listener,) = config.listener
    assert listener.name == "smtp"
    assert listener.addresses == (Inet("0.0.0.0", 25), Inet("::", 25))
    assert (listener.tls, listener.auth) == ("none", "none")
    assert config.identity.hostname == "mail.example.org"
    assert config.identity.postmaster == "postmaster@mail.example.org"
    assert config.domains == {}
    assert config.policy.trusted_networks == ("127.0.0.0/8", "::1/128")
    assert config.auth.users_file == "/etc/tamis/users"


def test_without_ipv6_nothing_listens_on_it_by_default() -> None:
    text = (ROOT / "conf/examples/dovecot.toml").read_text(encoding="utf-8")
    config = parse(text, FILE, Machine("mail.example.org", has_ipv6=False))
    assert [one.addresses for one in config.listener] == [(Inet("0.0.0.0", port),) for port in (25, 587, 465)]
    named = parse('[[listener]]\naddresses = ["[::]:25"]\n', FILE, Machine("m.example", has_ipv6=False))
    assert named.listener[0].addresses == (Inet("::", 25),)


def test_a_machine_says_whether_it_has_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_six(family: int, kind: int) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    monkeypatch.setattr(socket, "socket", no_six)
    assert not this_machine("mail.example.org").has_ipv6


def test_certificates_and_users_open_the_submission_ports() -> None:
    text = (ROOT / "conf/examples/dovecot.toml").read_text(encoding="utf-8")
    config = parse(text, FILE)
    found = [(one.name, one.addresses[0], one.tls, one.auth, one.certificates) for one in config.listener]
    assert found == [
        ("smtp", Inet("0.0.0.0", 25), "starttls", "none", ("main",)),
        ("submission", Inet("0.0.0.0", 587), "required", "required", ("main",)),
        ("submissions", Inet("0.0.0.0", 465), "implicit", "required", ("main",)),
    ]
    assert config.domains["example.org"].backend == "dovecot"
    assert config.domains["example.org"].recipients == RecipientSource("ask")
    assert config.relays["provider"].password_file == "/etc/tamis/provider.password"
    assert config.metrics.listen == Inet("127.0.0.1", 9025)


def test_the_embedded_store_is_a_back_end() -> None:
    config = parse((ROOT / "conf/examples/minimal.toml").read_text(encoding="utf-8"), FILE)
    assert config.domains["example.org"].backend == "store"
    assert config.backends["store"].addresses == (Unix("/run/tamis/store"),)
    assert config.store.listen == Unix("/run/tamis/store")
    assert config.store.path == "/var/lib/tamis/mail"
    assert config.identity.postmaster == "postmaster@example.org"


def test_a_listener_takes_over_limits_and_overrides_some() -> None:
    config = parse(
        """
        [limits]
        sessions_per_client = 7
        idle_commands = 9
        [[listener]]
        name = "a"
        limits = { sessions_per_client = 50 }   # the default, said on purpose
        [[listener]]
        name = "b"
        addresses = ["fd:b"]
        """
    )
    a, b = config.listener
    assert (a.limits.sessions_per_client, a.limits.idle_commands) == (50, 9)
    assert (b.limits.sessions_per_client, b.limits.idle_commands) == (7, 9)
    assert b.addresses == (Inherited("b"),)


def test_names_are_normal_and_paths_absolute() -> None:
    config = parse(
        """
        [identity]
        hostname = "Mail.Example.ORG."
        postmaster = "Chief@BÜCHER.example"
        [domains."BÜCHER.example"]
        recipients = "table:lists/recipients"
        [backends.a]
        addresses = ["IMAP.example.org:24", "[2001:DB8:0::1]:24", "unix:lmtp"]
        """,
        FILE,
    )
    assert config.identity.hostname == "mail.example.org"
    assert config.identity.postmaster == "Chief@xn--bcher-kva.example"
    assert config.domains["xn--bcher-kva.example"].recipients.file == "/etc/tamis/lists/recipients"
    assert [str(a) for a in config.backends["a"].addresses] == [
        "imap.example.org:24",
        "[2001:db8::1]:24",
        "unix:/etc/tamis/lmtp",
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "conf/examples").glob("*.toml")), ids=lambda path: path.stem)
def test_examples_load_and_survive_json(path: Path) -> None:
    config = parse(path.read_text(encoding="utf-8"), FILE)
    assert from_json(to_json(config)) == config


def test_json_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="another version than what is installed, restart it"):
        from_json(b'{"no_such": {}}')


def test_json_has_no_option_that_nobody_uses() -> None:
    """A worker of a version that does not know the option starts in spite of it, and only then."""
    unused = '[auth]\nbackend = "users"\n'
    assert "default_domain" not in json.loads(to_json(parse(unused, FILE)))["auth"]
    used = json.loads(to_json(parse(f'{unused}default_domain = "example.org"\n', FILE)))
    assert used["auth"]["default_domain"] == "example.org"
    assert not {"srs", "filters", "director"} & json.loads(to_json(parse("", FILE))).keys()


# --- the reference pages ---


def uncommented(text: str) -> str:
    lines = []
    for line in text.splitlines():
        option = line.startswith("#") and len(line) > 1 and line[1] not in " #"
        lines.append(line[1:] if option else line)
    return "\n".join(lines)


def test_thousands_of_names_in_capitals() -> None:
    """Each is found under its normal form; the supervisor serves nobody while it reads."""
    text = "".join(f'[domains."D{number}.Example"]\nbackend = "b"\n' for number in range(8000))
    text = f'[backends.b]\naddresses = ["127.0.0.1:24"]\n{text}recipients = "nobody"\n'
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        parse(text, FILE)
    assert time.process_time() - began < 10
    (problem,) = caught.value.problems
    assert (problem.line, problem.key) == (16003, 'domains."d7999.example".recipients')


def test_the_annotated_file_is_what_the_schema_says() -> None:
    assert (ROOT / "conf/tamis.toml").read_text(encoding="utf-8") == reference.toml()


def test_the_annotated_file_as_it_is_changes_nothing() -> None:
    assert parse(reference.toml(), FILE) == parse("", FILE)


def test_the_annotated_file_has_every_option_with_its_default() -> None:
    document = tomllib.loads(uncommented((ROOT / "conf/tamis.toml").read_text(encoding="utf-8")))
    for section in reference.sections():
        table = document[section.key]
        if section.header.startswith("[["):
            (table,) = table
        elif section.title.endswith(".NAME]"):
            (table,) = table.values()
        assert set(table) == {option.name for option in section.options}, section.title
        assert all(option.text for option in section.options)
    # Every default, read back, is the one that the program has: an empty file gives the same sections.
    text = uncommented(reference.toml()).replace('returns_to = "filtered"', 'returns_to = "smtp"')
    config = parse(text, FILE)
    empty = parse("", FILE)
    for name in ("identity", "tls", "auth", "policy", "message", "delivery", "limits", "timeouts"):
        if name == "identity":
            continue  # its postmaster is at the first domain, and the file has one
        assert getattr(config, name) == getattr(empty, name), name
    for name in ("process", "log", "metrics", "control", "store"):
        assert getattr(config, name) == getattr(empty, name), name
    assert config.listener[0].limits == empty.listener[0].limits
    assert from_json(to_json(config)) == config


def test_the_page_of_the_options_is_current() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert reference.replace_tables(page) == page
    for section in reference.sections():
        assert section.title in page


def test_messages_shown_on_the_page_are_real() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    text = "\n" * 6 + '[[listener]]\nprotocol = "smpt"\naddresses = ["25"]\n[timeouts]\ncommand = 300\n'
    text += '[identity]\nhostnme = "x"\n[domains."example.org"]\nbackend = "dovcot"\n'
    text += '[backends.dovecot]\naddresses = ["[::1]:24"]\n'
    with pytest.raises(ConfigError) as caught:
        parse(text, FILE)
    assert len(caught.value.problems) == 5
    for problem in caught.value.problems:
        assert str(problem).partition(": ")[2] in page


# --- files ---


def test_load_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tamis.toml"
    path.write_text(
        f"""
        [identity]
        hostname = "mail.example.org"
        [process]
        state_directory = "{tmp_path}"
        runtime_directory = "{tmp_path}"
        spill_directory = "{tmp_path}"
        """,
        encoding="utf-8",
    )
    config = load(str(path))
    assert isinstance(config, Config)
    assert config.auth.users_file == str(tmp_path / "users")
    report = examine(str(path))
    assert report.config == config
    assert not report.errors
    assert "there is no domain" in "\n".join(map(str, report.warnings))
    assert check(str(path)) == report.problems


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "tamis.toml"
    path.write_bytes(b'\xef\xbb\xbf[log]\r\nlevel = "inof"\r\n')
    with pytest.raises(ConfigError, match=r"tamis\.toml:2: log\.level: "):
        load(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory; --config FILE or TAMIS_CONFIG"),
        (b'a = "x"\nb = "\xff"', ":2: is no UTF-8 (the encoding of TOML)"),
        (b"#" * (4 * 1024 * 1024 + 1), "is larger than 4 MiB"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "tamis.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert message in str(caught.value)


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(os.fspath(tmp_path))


def test_a_machine_without_a_full_name_gets_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    monkeypatch.setattr("socket.getfqdn", lambda name: name)
    path = tmp_path / "tamis.toml"
    text = f'[process]\nruntime_directory = "{tmp_path}"\nstate_directory = "{tmp_path}"\n'
    path.write_text(text, encoding="utf-8")
    report = examine(str(path))
    assert report.config is not None
    assert report.config.identity.hostname == "box.localdomain"
    assert any("box.localdomain is used" in str(problem) for problem in report.warnings)


def test_a_configured_name_costs_no_question_to_the_dns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(name: str = "") -> str:
        raise AssertionError("asked for the name of the machine")

    monkeypatch.setattr("socket.gethostname", ask)
    monkeypatch.setattr("socket.getfqdn", ask)
    path = tmp_path / "tamis.toml"
    text = f'process.runtime_directory = "{tmp_path}"\nprocess.state_directory = "{tmp_path}"\n'
    path.write_text(f'identity.hostname = "mx.example.org"\n{text}', encoding="utf-8")
    assert load(str(path)).identity.hostname == "mx.example.org"
