"""Start-up checks in a signed world of our own, with nsd, Unbound and a real `tamis serve`."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest

from mta.startup.table import NAMES
from tests.peers.checkedsite import CheckedSite, certificate, outcomes, replace_file, running_site
from tests.peers.needs import needs
from tests.peers.running import until

pytestmark = pytest.mark.scenario
OFF = {"identity", "clock", "mta_sts"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckedSite]:
    needs("nsd", "unbound")
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(autouse=True)
def as_it_was(site: CheckedSite) -> Iterator[None]:
    """The configuration and the certificate as they should be, for each test."""
    kept = {name: (site.folder / name).read_bytes() for name in ("main.pem", "main.key")}
    site.configure()
    yield
    for name, octets in kept.items():
        replace_file(site.folder / name, octets)


def test_good_set_up_is_all_ok(site: CheckedSite) -> None:
    done = site.tamis("check", "--json")
    found = outcomes(done)
    assert set(found) == set(NAMES) - OFF
    assert all(ones == {"ok"} for ones in found.values()), done.stdout
    assert done.returncode == 0
    assert json.loads(done.stdout)["seconds"] < 10
    table = site.tamis("check").stdout
    assert "wrong" not in table
    assert "unknown" not in table


def test_good_set_up_starts_and_is_checked_while_it_runs(site: CheckedSite) -> None:
    with site.serving():
        until(lambda: "supervisor: ready" in site.log or None, lambda: site.log)
        found = outcomes(site.tamis("check", "--json", "--only", "starttls", "--only", "tlsa"))
        assert found == {"starttls": {"ok"}, "tlsa": {"ok"}}
        page = urllib.request.urlopen(f"http://127.0.0.1:{site.ports['metrics']}/metrics", timeout=20).read()
        assert b'tamis_setup_checks{check="mx",outcome="ok"} 1.0' in page


def test_wrong_set_up_refuses_the_start_and_says_why(site: CheckedSite) -> None:
    site.ca.issue("main", "mx.ours.test")  # no TLSA record is for its key
    with site.serving() as process:
        assert process.wait(60) == 1  # the records may be those of a cache: systemd tries again
    record = f"_{site.ports['smtp']}._tcp.mx.ours.test. 3600 IN TLSA 3 1 1 "
    line = next(line for line in site.log.splitlines() if ": check tlsa: " in line)
    assert "none matches the certificate; to mend it: " + record in line
    assert "the start is refused; `tamis check` shows all of it" in site.log


def test_what_is_only_warned_of_starts(site: CheckedSite) -> None:
    site.ca.issue("main", "mx.ours.test")
    site.configure('tlsa = "warn"\n')
    with site.serving():
        until(lambda: "supervisor: ready" in site.log or None, lambda: site.log)
    assert "check tlsa: " in site.log


def test_silent_resolver_is_unknown_and_starts_with_an_alarm(site: CheckedSite) -> None:
    site.world.pause("unbound")
    try:
        site.configure('unknown = "refuse"\n', timeout='"0.2s"')
        with site.serving() as process:
            assert process.wait(90) == 1
        assert "check mx: ours.test: unknown: MX ours.test:" in site.log
    finally:
        site.world.resume("unbound")


def test_reload_is_refused_for_a_certificate_that_no_record_matches(site: CheckedSite) -> None:
    with site.serving():
        until(lambda: "supervisor: ready" in site.log or None, lambda: site.log)
        before = certificate(site.folder)
        site.ca.issue("main", "mx.ours.test")
        assert certificate(site.folder) != before
        # The files may be read half-written first, and refused for that.
        until(lambda: "check tlsa: " in site.log or None, lambda: site.log)
        assert "certificate refused, keeping the old one" in site.log
        done = site.tamis("reload")
        assert done.returncode == 78
        assert "none matches the certificate" in done.stderr
        found = outcomes(site.tamis("check", "--json", "--only", "starttls"))
        assert found == {"starttls": {"wrong"}}  # the old certificate is served, not the one of the file


def test_change_in_a_running_server_is_mailed_to_the_postmaster(site: CheckedSite) -> None:
    site.configure('interval = "0.5s"\n')
    with site.serving():
        until(lambda: "supervisor: ready" in site.log or None, lambda: site.log)
        site.ca.issue("main", "mx.ours.test")
        until(lambda: "set-up changed" in site.log or None, lambda: site.log)

        def mail() -> str:
            found = [path.read_text() for path in (site.folder / "state" / "mail").rglob("new/*")]
            return next((text for text in found if "the set-up needs you" in text), "")

        text = until(mail, lambda: site.log)
        assert "To: <boss@ours.test>" in text
        assert "Auto-Submitted: auto-generated" in text
        assert "DKIM-Signature: " in text
        assert "-> wrong" in text
        assert f"_{site.ports['smtp']}._tcp.mx.ours.test. 3600 IN TLSA 3 1 1 " in text
        assert site.tamis("status").returncode == 0  # it goes on
