"""Start-up checks of certificates, ports and TLSA: ok, wrong and unknown, as the administrator reads it."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mta.config import Inet
from mta.net.httpwire import Response
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.fake import FakeResolver
from mta.startup.claims import Service
from mta.startup.mtasts import judge_policy
from mta.startup.probe import Seen
from mta.startup.publish import records, zone_file
from mta.startup.result import Outcome, Result
from mta.startup.srv import judge_target
from mta.startup.starttls import judge_service
from mta.startup.tlsa import tlsa_value
from tests.peers.certificates import PAST, Authority, authority
from tests.unit.startup_kit import CONFIGURATION, HOST, certify, good_dns, look, site

NAMES = ("_25._tcp.mx.good.test", "_465._tcp.mx.good.test")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def ours(tmp_path: Path, ca: Authority) -> Authority:
    """The authority, writing into the folder of the site, which has its certificate."""
    here = Authority(tmp_path, ca.ca)
    certify(tmp_path, here)
    (tmp_path / "ca.pem").write_text(Path(ca.file).read_text())
    return here


def der(folder: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(
        (folder / "main.pem").read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n"
    )


def published(folder: Path, *values: str) -> FakeResolver:
    dns = good_dns()
    for name in NAMES:
        dns.add(name, "TLSA", *(values or (tlsa_value(der(folder)),)))
    return dns


def one(results: list[Result], outcome: Outcome) -> Result:
    found = [result for result in results if result.outcome is outcome]
    assert found, results
    return found[0]


def test_good_certificate(tmp_path: Path, ours: Authority) -> None:
    results = look("certificates", site(tmp_path), None)
    assert [result.outcome for result in results] == [Outcome.OK, Outcome.OK]
    assert results[0].found.startswith("for mx.good.test; ends on ")


def test_no_certificate(tmp_path: Path) -> None:
    text = CONFIGURATION.replace('[certificates.main]\nchain = "main.pem"\nkey = "main.key"\n', "")
    text = text.replace('protocol = "submission"\ntls = "implicit"\n', 'name = "more"\n')
    (result,) = look("certificates", site(tmp_path, text=text), None)
    assert result.outcome is Outcome.WRONG
    assert "get one for mx.good.test" in result.mend
    results = look("starttls", site(tmp_path, text=text), None)
    assert (
        one(results, Outcome.WRONG).mend == '[[listener]] smtp: tls = "starttls", with a [certificates.NAME]'
    )
    (result,) = look("chain", site(tmp_path, text=text), None)
    assert (result.outcome, result.found) == (Outcome.UNKNOWN, "no listener has TLS")
    (result,) = look("tlsa", site(tmp_path, text=text), good_dns())
    assert (result.outcome, result.found) == (Outcome.WRONG, "no listener has TLS")


def test_certificate_that_is_over(tmp_path: Path, ours: Authority) -> None:
    ours.issue("main", HOST, not_after=PAST + timedelta(days=2))
    (result,) = look("certificates", site(tmp_path), None)
    assert result.outcome is Outcome.WRONG
    assert "expired on 2020-01-03" in result.found
    assert result.mend == "renew it, or mend the files in [certificates.main]"


def test_key_of_another_certificate(tmp_path: Path, ours: Authority) -> None:
    ours.issue("other", HOST)
    (tmp_path / "other.key").rename(tmp_path / "main.key")
    result = one(look("certificates", site(tmp_path), None), Outcome.WRONG)
    assert "not the key of the certificate in" in result.found


def test_certificate_for_another_name(tmp_path: Path, ours: Authority) -> None:
    ours.issue("main", "www.good.test")
    result = one(look("certificates", site(tmp_path), None), Outcome.WRONG)
    assert result.found == "www.good.test: not mx.good.test"
    assert result.mend == "get a certificate for mx.good.test"


def test_certificate_that_ends_soon_is_an_alarm_and_no_reason_to_stay_down(
    tmp_path: Path, ours: Authority
) -> None:
    ours.issue("main", HOST, not_after=datetime.now(UTC) + timedelta(days=3))
    result = one(look("certificates", site(tmp_path), None), Outcome.UNKNOWN)
    assert result.settled
    assert result.found.endswith("and has not been renewed")


def test_chain_to_an_authority(tmp_path: Path, ours: Authority) -> None:
    trusted = site(tmp_path, '[checks]\ntls_ca = "ca.pem"\n')
    assert {result.outcome for result in look("chain", trusted, None)} == {Outcome.OK}
    result = one(look("chain", site(tmp_path), None), Outcome.WRONG)
    assert "unable to get local issuer certificate" in result.found
    assert "[checks] tls_ca" in result.mend
    missing = site(tmp_path, '[checks]\ntls_ca = "missing.pem"\n')
    assert "missing.pem" in one(look("chain", missing, None), Outcome.WRONG).found


def test_tls_of_each_port(tmp_path: Path, ours: Authority) -> None:
    results = look("starttls", site(tmp_path), None)
    assert [result.subject for result in results] == ["smtp 127.0.0.1:25", "submissions 127.0.0.1:465"]
    assert {result.outcome for result in results} == {Outcome.OK}


BALANCED = 'addresses = ["127.0.0.1:2525"]\nproxy_protocol_from = ["192.0.2.7"]'
INDIRECT = {
    "systemd": ('addresses = ["fd:smtp"]', 'addresses = ["fd:submissions"]'),
    "balancer": (BALANCED, BALANCED.replace("2525", "2465")),
    "balancer, Unix socket": (
        BALANCED.replace("127.0.0.1:2525", "unix:/run/tamis/in"),
        BALANCED.replace("127.0.0.1:2525", "unix:/run/tamis/secure"),
    ),
}


@pytest.mark.parametrize("kind", INDIRECT)
def test_what_stands_before_us_has_the_ports_that_others_look_for(
    kind: str, tmp_path: Path, ours: Authority
) -> None:
    smtp, submissions = INDIRECT[kind]
    text = CONFIGURATION.replace('addresses = ["127.0.0.1:25"]', smtp)
    here = site(tmp_path, text=text.replace('addresses = ["127.0.0.1:465"]', submissions))
    assert here.ports == {"smtp": (25,), "submissions": (465,)}
    dns = published(tmp_path)
    results = look("tlsa", here, dns)
    assert [(result.outcome, result.asked) for result in results] == [
        (Outcome.OK, f"TLSA {name}") for name in NAMES
    ]
    assert [result.outcome for result in look("srv", here, dns)] == [Outcome.OK] * 4
    lines = zone_file(records(here, (), (), {HOST: (der(tmp_path),)}))
    assert "_submissions._tcp.good.test. 3600 IN SRV 0 1 465 mx.good.test." in lines
    for name in NAMES:
        assert f"{name}. 3600 IN TLSA {tlsa_value(der(tmp_path))}" in lines


def test_a_port_that_lets_load_balancers_in_alone_is_not_tried(tmp_path: Path, ours: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        port = listening.getsockname()[1]
        text = CONFIGURATION.replace('addresses = ["127.0.0.1:25"]', BALANCED.replace("2525", str(port)))
        results = look("starttls", site(tmp_path, text=text), None, live=True)
        assert (results[0].subject, results[0].outcome) == (f"smtp 127.0.0.1:{port}", Outcome.OK)
        assert results[0].found == "the configuration serves it"
        with pytest.raises(TimeoutError):
            listening.accept()


SERVICE = Service("smtp", "smtp", Inet("0.0.0.0", 25), 25, "starttls")


@pytest.mark.parametrize(
    ("outside", "outcome", "found"),
    [
        (Seen(b"mine"), Outcome.OK, "the certificate of the configuration"),
        (Seen(b"old"), Outcome.WRONG, "another certificate than the configuration's"),
        (Seen(error="STARTTLS is not offered"), Outcome.WRONG, "STARTTLS is not offered"),
        (Seen(error="greeting: 421 4.3.2 busy"), Outcome.UNKNOWN, "greeting: 421 4.3.2 busy"),
        (Seen(error="Connection refused", reached=False), Outcome.OK, "in memory; nobody listens"),
    ],
)
def test_port_of_a_running_server(outside: Seen, outcome: Outcome, found: str) -> None:
    result = judge_service(SERVICE, Seen(b"mine"), outside)
    assert result.outcome is outcome
    assert found in result.found


def test_tlsa_that_matches(tmp_path: Path, ours: Authority) -> None:
    results = look("tlsa", site(tmp_path), published(tmp_path))
    assert [result.outcome for result in results] == [Outcome.OK, Outcome.OK]
    assert [result.asked for result in results] == [f"TLSA {name}" for name in NAMES]
    authority_record = "2 0 1 " + "00" * 32
    results = look("tlsa", site(tmp_path), published(tmp_path, tlsa_value(der(tmp_path)), authority_record))
    assert "1 of 2 match (as in a rollover)" in results[0].found


def test_tlsa_of_another_certificate(tmp_path: Path, ours: Authority) -> None:
    results = look("tlsa", site(tmp_path), published(tmp_path, "3 1 1 " + "ab" * 32))
    assert results[0].outcome is Outcome.WRONG
    assert results[0].found == "3 1 1 abababababababab...: none matches the certificate"
    assert results[0].mend == f"{NAMES[0]}. 3600 IN TLSA {tlsa_value(der(tmp_path))}"


def test_tlsa_is_missing_or_silent_or_not_signed(tmp_path: Path, ours: Authority) -> None:
    results = look("tlsa", site(tmp_path), good_dns())
    assert results[0].found == "no TLSA record"
    assert results[0].mend == f"{NAMES[0]}. 3600 IN TLSA {tlsa_value(der(tmp_path))}"
    dns = published(tmp_path)
    dns.fail(NAMES[0], reason="SERVFAIL")
    results = look("tlsa", site(tmp_path), dns)
    assert (results[0].outcome, results[0].found) == (Outcome.UNKNOWN, "SERVFAIL")
    dns = published(tmp_path)
    dns.status("test", Status.INSECURE)
    result = one(look("tlsa", site(tmp_path), dns), Outcome.WRONG)
    assert result.found == "the records are not signed, so that nobody may use them"


@pytest.mark.parametrize("usage", ["0 1 1 ", "1 1 1 "])
def test_usages_of_the_web_do_not_count(usage: str, tmp_path: Path, ours: Authority) -> None:
    value = usage + tlsa_value(der(tmp_path)).split()[-1]
    assert one(look("tlsa", site(tmp_path), published(tmp_path, value)), Outcome.WRONG)


def test_srv_of_our_services(tmp_path: Path, ours: Authority) -> None:
    results = look("srv", site(tmp_path), good_dns())
    assert [result.outcome for result in results] == [Outcome.OK] * 4
    assert results[0].found == "0 0 0 .: deliberately absent"
    assert results[1].found == "signed, and its certificate is good"


@pytest.mark.parametrize(
    ("name", "values", "found", "mend"),
    [
        (
            "_submissions",
            (),
            "no SRV record",
            "_submissions._tcp.good.test. 3600 IN SRV 0 1 465 mx.good.test.",
        ),
        ("_submission", (), "no SRV record", "_submission._tcp.good.test. 3600 IN SRV 0 0 0 ."),
        ("_submissions", ("0 0 0 .",), "0 0 0 .: but we offer it", "SRV 0 1 465 mx.good.test."),
        ("_submissions", ("0 1 466 mx.good.test.",), "no listener for submissions has port 466", "465"),
        (
            "_submissions",
            ("0 1 465 away.good.test.",),
            "away.good.test has no address",
            "away.good.test. 3600 IN A",
        ),
        (
            "_imaps",
            (),
            "no SRV record",
            "_imaps._tcp.good.test. 3600 IN SRV 0 1 993 mx.good.test. or, without it:"
            " _imaps._tcp.good.test. 3600 IN SRV 0 0 0 .",
        ),
        ("_imaps", ("0 0 0 .", "0 1 993 mx.good.test."), "stands alone or not at all", "_imaps"),
    ],
)
def test_srv_that_is_wrong(
    name: str, values: tuple[str, ...], found: str, mend: str, tmp_path: Path, ours: Authority
) -> None:
    dns = good_dns()
    dns.remove(f"{name}._tcp.good.test", "SRV")
    if values:
        dns.add(f"{name}._tcp.good.test", "SRV", *values)
    result = one(look("srv", site(tmp_path), dns), Outcome.WRONG)
    assert found in result.found
    assert mend in result.mend


def test_srv_whose_target_is_not_signed_or_not_covered(tmp_path: Path, ours: Authority) -> None:
    dns = good_dns()
    dns.status(HOST, Status.INSECURE)
    assert (
        one(look("srv", site(tmp_path), dns), Outcome.WRONG).found
        == "the address of mx.good.test is not signed"
    )
    ours.issue("main", "www.good.test")
    result = one(look("srv", site(tmp_path), good_dns()), Outcome.WRONG)
    assert result.found == "the certificate is for www.good.test"
    dns = good_dns()
    dns.fail("_imap._tcp.good.test")
    assert one(look("srv", site(tmp_path), dns), Outcome.UNKNOWN).found == "SERVFAIL"


def test_srv_target_that_does_not_answer() -> None:
    there = Answer(Status.SECURE, (), exists=True)
    dns = good_dns()
    a = dns._answer(HOST, "A")
    secure = Answer(Status.SECURE, a.records)
    seen = Seen(error="Connection refused", reached=False)
    result = judge_target("_imaps._tcp.good.test", HOST, 993, secure, there, seen)
    assert (result.outcome, result.found) == (Outcome.UNKNOWN, "Connection refused")


GOOD_POLICY = "version: STSv1\r\nmode: enforce\r\nmx: *.good.test\r\nmax_age: 86400\r\n"


def page(body: str, status: int = 200, kind: str = "text/plain; charset=utf-8") -> Response:
    return Response(status, {"content-type": kind}, body.encode())


@pytest.mark.parametrize(
    ("outcome", "expected", "found"),
    [
        (page(GOOD_POLICY), Outcome.OK, "mode enforce, mx *.good.test"),
        (page(GOOD_POLICY.replace("*.good", "mx.bad")), Outcome.WRONG, "mx: mx.bad.test; not mx.good.test"),
        (page("<html>"), Outcome.WRONG, "no policy: a line is no field"),
        (page(GOOD_POLICY.replace("STSv1", "stsv1")), Outcome.WRONG, "no policy: version is not STSv1"),
        (
            page(GOOD_POLICY.replace("max_age: 86400", "")),
            Outcome.WRONG,
            "no policy: max_age is missing or no number",
        ),
        (page(GOOD_POLICY, kind="text/html"), Outcome.WRONG, "of type text/html, and not text/plain"),
        (page(GOOD_POLICY, kind=""), Outcome.WRONG, "of no type, and not text/plain"),
        (page("", 301), Outcome.WRONG, "status 301"),
        (page("", 404), Outcome.WRONG, "status 404"),
        (page("", 503), Outcome.UNKNOWN, "status 503"),
        (ConnectionRefusedError(111, "Connection refused"), Outcome.UNKNOWN, "Connection refused"),
    ],
)
def test_mta_sts_policy(outcome: Response | OSError, expected: Outcome, found: str) -> None:
    result = judge_policy("good.test", HOST, outcome)
    assert (result.outcome, result.found) == (expected, found)
    if expected is Outcome.WRONG:
        assert "serve at https://mta-sts.good.test/.well-known/mta-sts.txt:\nversion: STSv1" in result.mend


SIEVE = """
[[listener]]
name = "sieve"
protocol = "managesieve"
addresses = ["127.0.0.1:4190"]
"""


@pytest.mark.parametrize(
    ("records", "outcome", "found"),
    [
        ((), None, ""),  # RFC 5804 does without
        (("0 1 4190 mx.good.test.",), Outcome.OK, "signed, and its certificate is good"),
        (("0 1 4191 mx.good.test.",), Outcome.WRONG, "no listener for sieve has port 4191"),
        (("0 0 0 .",), Outcome.WRONG, "but we offer it"),
        (("0 1 4190 away.good.test.",), Outcome.WRONG, "away.good.test has no address"),
    ],
)
def test_srv_of_managesieve(
    records: tuple[str, ...], outcome: Outcome | None, found: str, tmp_path: Path, ours: Authority
) -> None:
    dns = good_dns()
    if records:
        dns.add("_sieve._tcp.good.test", "SRV", *records)
    results = [r for r in look("srv", site(tmp_path, SIEVE), dns) if "_sieve" in r.asked]
    assert [r.outcome for r in results] == ([] if outcome is None else [outcome])
    assert all(found in r.found for r in results), results


def test_srv_of_a_managesieve_certificate_for_somebody_else(tmp_path: Path, ours: Authority) -> None:
    ours.issue("main", "www.good.test")
    dns = good_dns()
    dns.add("_sieve._tcp.good.test", "SRV", "0 1 4190 mx.good.test.")
    (result,) = (r for r in look("srv", site(tmp_path, SIEVE), dns) if "_sieve" in r.asked)
    assert result.found == "the certificate is for www.good.test"
