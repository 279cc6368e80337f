"""Start-up checks of what is published: ok, wrong and unknown, as the administrator reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mta.net.resolver.base import Status
from mta.net.resolver.fake import FakeResolver
from mta.startup.identity import judge_name
from mta.startup.result import Outcome, Result, worst
from mta.startup.verdict import explain
from tests.unit.startup_kit import DOMAIN, HOST, good_dns, look, publish_keys, site

Spoil = Callable[[FakeResolver], object]


def replaced(name: str, rdtype: str, *values: str) -> Spoil:
    """Other records in the place of those that are right; none: they are gone."""

    def spoil(dns: FakeResolver) -> None:
        dns.remove(name, rdtype)
        for value in values:
            if rdtype == "TXT":
                dns.text(name, value)
            else:
                dns.add(name, rdtype, value)

    return spoil


def silent(name: str, rdtype: str = "") -> Spoil:
    """No answer."""
    return lambda dns: dns.fail(name, rdtype, reason="no answer in time")


def bogus(name: str, rdtype: str = "") -> Spoil:
    """An answer that does not validate."""
    return lambda dns: dns.fail(name, rdtype, Status.BOGUS, "signature expired")


def unsigned(name: str) -> Spoil:
    """Answers of a zone that is not signed."""
    return lambda dns: dns.status(name, Status.INSECURE)


def blind(dns: FakeResolver) -> None:
    """A resolver that does not validate."""
    dns.status("iana.org", Status.INSECURE)
    dns.remove("iana.org", "SOA")


def believing(dns: FakeResolver) -> None:
    """A resolver that takes a wrong signature for a right one."""
    dns._broken.clear()
    dns.add("dnssec-failed.org", "A", "192.0.2.7")


PTR = "1.2.0.192.in-addr.arpa"
WRONG: list[tuple[str, Spoil, str, str]] = [
    (
        "forward",
        replaced(HOST, "A"),
        "no address record",
        "mx.good.test. 3600 IN A 192.0.2.1 (with your address)",
    ),
    ("forward", bogus(HOST, "A"), "does not validate (DNSSEC): signature expired", "sign the zone anew"),
    ("reverse", replaced(PTR, "PTR"), "no such record", f"{PTR}. 3600 IN PTR mx.good.test."),
    ("reverse", replaced(PTR, "PTR", "other.test."), "other.test", f"{PTR}. 3600 IN PTR mx.good.test."),
    ("mx", replaced(DOMAIN, "MX"), "no MX record", "good.test. 3600 IN MX 10 mx.good.test."),
    (
        "mx",
        replaced(DOMAIN, "MX", "0 ."),
        "takes no mail (RFC 7505)",
        "good.test. 3600 IN MX 10 mx.good.test.",
    ),
    (
        "mx",
        replaced(DOMAIN, "MX", "5 a.test.", "9 b.test."),
        "a.test, b.test; mx.good.test is not among",
        "MX 10",
    ),
    (
        "dnssec",
        unsigned("good.test"),
        "the answer is not signed",
        "sign the zone of good.test and give its DS",
    ),
    ("spf", replaced(DOMAIN, "TXT"), "no SPF record", 'good.test. 3600 IN TXT "v=spf1 mx -all"'),
    (
        "spf",
        replaced(DOMAIN, "TXT", "v=spf1 ip4:198.51.100.0/24 ~all"),
        "192.0.2.1: softfail",
        'good.test. 3600 IN TXT "v=spf1 ip4:192.0.2.1 ip4:198.51.100.0/24 ~all"',
    ),
    ("spf", replaced(DOMAIN, "TXT", "v=spf1 mx -all", "v=spf1 -all"), "permerror", "good.test. 3600 IN TXT"),
    (
        "dmarc",
        replaced(f"_dmarc.{DOMAIN}", "TXT"),
        "no DMARC record",
        '_dmarc.good.test. 3600 IN TXT "v=DMARC1; p=quarantine; rua=mailto:postmaster@good.test"',
    ),
    (
        "dmarc",
        replaced(f"_dmarc.{DOMAIN}", "TXT", "v=DMARC1; p=none", "v=DMARC1; p=none"),
        "2 records",
        "_dmarc.",
    ),
    ("dmarc", replaced(f"_dmarc.{DOMAIN}", "TXT", "v=DMARC1; p=refuse"), "asks for nothing", "_dmarc."),
    (
        "tls_rpt",
        replaced(f"_smtp._tls.{DOMAIN}", "TXT"),
        "no TLS-RPT record",
        '_smtp._tls.good.test. 3600 IN TXT "v=TLSRPTv1; rua=mailto:postmaster@good.test"',
    ),
    (
        "tls_rpt",
        replaced(f"_smtp._tls.{DOMAIN}", "TXT", "v=TLSRPTv1; rua=nowhere"),
        "rua=nowhere",
        "TLSRPTv1",
    ),
    (
        "tls_rpt",
        replaced(f"_smtp._tls.{DOMAIN}", "TXT", "v=TLSRPTv1; rua=mailto:postmaster"),
        "rua=mailto:postmaster",
        "TLSRPTv1",
    ),
    (
        "mta_sts",
        replaced(f"_mta-sts.{DOMAIN}", "TXT"),
        "no MTA-STS record",
        '_mta-sts.good.test. 3600 IN TXT "v=STSv1; id=1"',
    ),
    ("mta_sts", replaced(f"_mta-sts.{DOMAIN}", "TXT", "v=STSv1; id=not-so"), "id=not-so", "v=STSv1; id=1"),
    (
        "mta_sts",
        replaced(f"_mta-sts.{DOMAIN}", "TXT", "v=STSv1; id=1; x=of-a-version-to-come"),
        "no address",
        "mta-sts.good.test. 3600 IN A 192.0.2.1",
    ),
    (
        "mta_sts",
        lambda dns: None,
        "no address",
        "mta-sts.good.test. 3600 IN A 192.0.2.1 (the address of a web",
    ),
    (
        "capability",
        replaced(f"_25._smtp.{HOST}", "SVCB"),
        "no capability record",
        '_25._smtp.mx.good.test. 3600 IN SVCB 1 . key65280="1.2" ',
    ),
    (
        "capability",
        replaced(f"_25._smtp.{HOST}", "SVCB", '1 . key65280="1.3" key65282 key65283="TELEPATHY"'),
        "it promises TLS 1.3, TELEPATHY, which we do not keep",
        '_25._smtp.mx.good.test. 3600 IN SVCB 1 . key65280="1.2" ',
    ),
    ("capability", unsigned(HOST), "the record is not signed", "sign the zone of _25._smtp.mx.good.test"),
    (
        "resolver",
        blind,
        "iana.org, ietf.org: answered, not validated",
        "let the resolver validate: Unbound's `auto-trust-anchor-file`",
    ),
    (
        "resolver",
        believing,
        "192.0.2.7: a wrong signature is believed",
        "let the resolver validate",
    ),
]
FINE: list[tuple[str, Spoil]] = [
    (
        "tls_rpt",
        replaced(
            f"_smtp._tls.{DOMAIN}",
            "TXT",
            "v=TLSRPTv1; x=of-a-version-to-come; rua=mailto:postmaster@good.test",
        ),
    ),
]
UNKNOWN: list[tuple[str, Spoil, str]] = [
    ("forward", silent(HOST), "A and AAAA mx.good.test: no answer in time"),
    ("reverse", silent(PTR), f"PTR {PTR}: no answer in time"),
    ("reverse", silent(HOST), "A and AAAA mx.good.test: no answer in time"),
    ("mx", silent(DOMAIN, "MX"), "MX good.test: no answer in time"),
    ("dnssec", silent(DOMAIN, "MX"), "MX good.test: no answer in time"),
    ("spf", silent(DOMAIN, "TXT"), "192.0.2.1: temperror"),
    ("spf", silent(HOST), "the address of mx.good.test: no answer in time"),
    ("dmarc", silent(f"_dmarc.{DOMAIN}"), "no answer in time"),
    ("dkim", silent(f"one._domainkey.{DOMAIN}"), "no answer in time"),
    ("tls_rpt", silent(f"_smtp._tls.{DOMAIN}"), "no answer in time"),
    ("mta_sts", silent(f"_mta-sts.{DOMAIN}"), "no answer in time"),
    ("capability", silent(f"_25._smtp.{HOST}"), "no answer in time"),
    ("resolver", silent("iana.org"), "ietf.org"),
    ("resolver", silent("dnssec-failed.org"), "A dnssec-failed.org: no answer in time"),
]
PUBLISHED = (
    "forward",
    "reverse",
    "mx",
    "dnssec",
    "spf",
    "dkim",
    "dmarc",
    "tls_rpt",
    "capability",
    "resolver",
)


def bad(results: list[Result], outcome: Outcome) -> Result:
    found = [result for result in results if result.outcome is outcome]
    assert found, results
    return found[0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_published_well_is_ok(name: str, tmp_path: Path) -> None:
    dns = good_dns()
    publish_keys(tmp_path, dns)
    results = look(name, site(tmp_path), dns)
    assert results
    assert all(result.outcome is Outcome.OK for result in results), results
    assert all(result.check == name and result.found and result.asked for result in results)


@pytest.mark.parametrize(("name", "spoil"), FINE)
def test_what_is_otherwise_and_just_as_good_is_ok(name: str, spoil: Spoil, tmp_path: Path) -> None:
    dns = good_dns()
    spoil(dns)
    assert worst(look(name, site(tmp_path), dns)) is Outcome.OK


@pytest.mark.parametrize(("name", "spoil", "found", "mend"), WRONG)
def test_what_is_wrong_is_told_with_the_record_to_publish(
    name: str, spoil: Spoil, found: str, mend: str, tmp_path: Path
) -> None:
    dns = good_dns()
    spoil(dns)
    result = bad(look(name, site(tmp_path), dns), Outcome.WRONG)
    assert found in result.found
    assert mend in result.mend
    line = explain(result)
    assert line.startswith(f"check {name}: ")
    assert "; to mend it: " in line
    assert "\n" not in line


@pytest.mark.parametrize(("name", "spoil", "found"), UNKNOWN)
def test_what_does_not_answer_is_unknown(name: str, spoil: Spoil, found: str, tmp_path: Path) -> None:
    dns = good_dns()
    publish_keys(tmp_path, dns)
    dns.remove("iana.org", "SOA") if "ietf" in found else None
    spoil(dns)
    if name == "resolver" and "ietf" in found:
        dns.fail("ietf.org")
    results = look(name, site(tmp_path), dns)
    assert worst(results) is Outcome.UNKNOWN, results
    assert found in explain(bad(results, Outcome.UNKNOWN))


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_a_resolver_nothing_is_said_to_be_well(name: str, tmp_path: Path) -> None:
    publish_keys(tmp_path, good_dns())
    text_only = site(tmp_path)
    results = look(name, text_only, None)
    told = [result for result in results if result.subject != "resolver"]
    assert all("no resolver is configured" in result.found for result in told), results
    assert all(result.outcome is Outcome.UNKNOWN for result in told)


def test_resolver_must_be_ours(tmp_path: Path) -> None:
    from tests.unit.startup_kit import CONFIGURATION

    far = site(tmp_path, text=CONFIGURATION.replace('["127.0.0.1"]', '["192.0.2.53"]'))
    result = bad(look("resolver", far, good_dns()), Outcome.WRONG)
    assert result.found == "192.0.2.53: not on this machine, so its word on DNSSEC can be forged"
    assert result.mend == 'run Unbound on this machine; [dns] resolvers = ["127.0.0.1"]'
    none = site(tmp_path, text=CONFIGURATION.replace('["127.0.0.1"]', "[]"))
    result = bad(look("resolver", none, None), Outcome.WRONG)
    assert result.found == "none is configured, so nothing can be asked of the DNS"


def test_resolvers_of_the_system_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit.startup_kit import CONFIGURATION

    file = tmp_path / "resolv.conf"
    monkeypatch.setattr("mta.net.resolver.system.RESOLV_CONF", str(file))
    where = site(tmp_path, text=CONFIGURATION.replace('["127.0.0.1"]', '["system"]'))
    file.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.53\n")
    result = bad(look("resolver", where, good_dns()), Outcome.WRONG)
    assert result.found == "192.0.2.53: not on this machine, so its word on DNSSEC can be forged"
    file.write_text("nameserver ::1\n")
    results = look("resolver", where, good_dns())
    assert (results[0].outcome, results[0].found) == (Outcome.OK, "::1")


def test_a_resolver_that_is_known_by_its_key_is_as_good_as_ours(tmp_path: Path) -> None:
    from tests.unit.startup_kit import CONFIGURATION

    key = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    resolvers = f'["tls://192.0.2.53"]\ntls_keys = ["{key}"]'
    far = site(tmp_path, text=CONFIGURATION.replace('["127.0.0.1"]', resolvers))
    results = look("resolver", far, good_dns())
    assert [result.outcome for result in results] == [Outcome.OK] * 3
    assert results[0].found == "tls://192.0.2.53:853"


def test_address_of_another_machine_is_not_taken_for_ours(tmp_path: Path) -> None:
    (result,) = look("forward", site(tmp_path), good_dns(), ours=lambda address: False)
    assert result.outcome is Outcome.UNKNOWN
    assert result.settled
    assert result.found == "192.0.2.1 is no address of this machine"
    assert result.mend == 'mend the record; or, behind NAT, in [checks]: addresses = ["192.0.2.1"]'


def test_addresses_that_the_administrator_names_are_held_against_the_dns(tmp_path: Path) -> None:
    told = site(tmp_path, '[checks]\naddresses = ["192.0.2.1", "2001:db8::25"]\n')
    (result,) = look("forward", told, good_dns(), ours=lambda address: False)
    assert result.outcome is Outcome.WRONG
    assert result.found == "192.0.2.1; 2001:db8::25 is not there"
    assert result.mend == "mx.good.test. 3600 IN AAAA 2001:db8::25"
    results = look("reverse", told, good_dns())
    assert [one.outcome for one in results] == [Outcome.OK, Outcome.WRONG]
    dns = good_dns()
    dns.add(HOST, "AAAA", "2001:db8::25")
    (result,) = look("forward", told, dns, ours=lambda address: False)
    assert result.outcome is Outcome.OK


def test_domain_without_keys_is_told_how_to_make_them(tmp_path: Path) -> None:
    (result,) = look("dkim", site(tmp_path), good_dns())
    assert result.outcome is Outcome.WRONG
    assert result.mend == "tamis dkim new good.test; publish what it prints; tamis dkim rotate good.test"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "there is no record"),
        ("v=DKIM1; k=ed25519; p=", "the record says that it is revoked"),
        ("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "the record has another key"),
    ],
)
def test_key_that_is_published_wrongly(text: str, found: str, tmp_path: Path) -> None:
    dns = good_dns()
    publish_keys(tmp_path, dns)
    dns.remove("one._domainkey.good.test", "TXT")
    if text:
        dns.text("one._domainkey.good.test", text)
    (result,) = look("dkim", site(tmp_path), dns)
    assert result.outcome is Outcome.WRONG
    assert result.found == found
    assert result.mend.startswith('one._domainkey.good.test. 3600 IN TXT "v=DKIM1; k=ed25519; p=')


def test_signing_that_is_off_is_wrong(tmp_path: Path) -> None:
    from tests.unit.startup_kit import CONFIGURATION

    (result,) = look("dkim", site(tmp_path, text=CONFIGURATION.replace('keys = "dkim"', "")), good_dns())
    assert (result.outcome, result.found) == (Outcome.WRONG, "not set: mail is not signed")
    assert result.mend == 'tamis dkim new DOMAIN; in [signing]: keys = "dkim"'


def test_key_that_others_can_read_is_wrong(tmp_path: Path) -> None:
    dns = good_dns()
    publish_keys(tmp_path, dns)
    (tmp_path / "dkim" / DOMAIN / "one.pem").chmod(0o644)
    results = look("dkim", site(tmp_path), dns)
    assert "has mode 0644" in bad(results, Outcome.WRONG).found


def test_domain_inherits_the_dmarc_record_above_it(tmp_path: Path) -> None:
    from tests.unit.startup_kit import CONFIGURATION

    where = site(tmp_path, text=CONFIGURATION.replace('domains."good.test"', 'domains."lists.good.test"'))
    (result,) = look("dmarc", where, good_dns())
    assert result.outcome is Outcome.OK
    assert result.found == "inherits the record of good.test"


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("v=DMARC1; p=reject; rua=mailto:a@good.test; pct=100", "pct: removed by RFC 9989"),
        ("v=DMARC1; p=none; rf=afrf; ri=86400", "rf: removed by RFC 9989; ri: removed by RFC 9989"),
        ("v=DMARC1; p=none; rua=mailto:a@good.test!10m", "rua: a size, removed by RFC 9989"),
    ],
)
def test_dmarc_record_of_2015_is_no_mistake(tmp_path: Path, text: str, noted: str) -> None:
    dns = good_dns()
    replaced(f"_dmarc.{DOMAIN}", "TXT", text)(dns)
    (result,) = look("dmarc", site(tmp_path), dns)
    assert result.outcome is Outcome.OK
    assert result.found == f"{text} ({noted})"


def test_dmarc_record_with_a_mistake_is_wrong(tmp_path: Path) -> None:
    dns = good_dns()
    replaced(f"_dmarc.{DOMAIN}", "TXT", "v=DMARC1; p=none; pct=100; rua=a@good.test")(dns)
    assert bad(look("dmarc", site(tmp_path), dns), Outcome.WRONG).found.endswith("rua: not a URI")


@pytest.mark.parametrize("name", ["mail.local", "mx.example.org", "mail", "mx.home.arpa", "a.invalid"])
def test_names_that_nobody_can_publish(name: str) -> None:
    result = judge_name(name)
    assert result.outcome is Outcome.WRONG
    assert result.found == "nobody else can look up a name like this (RFC 6761)"


def test_name_that_can_be_published() -> None:
    assert judge_name("mx.testing.eu").outcome is Outcome.OK
