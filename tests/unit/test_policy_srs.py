"""SRS: vectors that Mail::SRS 0.31 has made, what does not lead back, rotation, time; and the file of
secrets."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta import config
from mta.address import AddressError, parse_address
from mta.config.rules_forwarding import read_secrets
from mta.daemon_policy import _srs_services
from mta.policy.ground import Ground
from mta.policy.srs import DAY, Srs, SrsError, SrsExpired, SrsSettings

NOW = 1_700_000_000.0
SECRET, OLDER = "topsecret-of-the-site", "an older one, with blanks"
DOMAIN = "fwd.example.org"
CHAIN = "abcd=TT=far.example=carol"


def srs(*secrets: str, length: int = 4, separator: str = "=", days: int = 21) -> Srs:
    """One that makes addresses in `DOMAIN`."""
    return Srs(SrsSettings(secrets or (SECRET,), DOMAIN, separator, days, length))


def back(made: Srs, address: str, days: float = 0.0) -> str | None:
    """Where an address leads back to, some days later."""
    found = made.reverse(parse_address(address), NOW + days * DAY)
    return None if found is None else found.text


@pytest.mark.parametrize(
    ("secret", "length", "separator", "sender", "made"),
    [
        (SECRET, 4, "=", "ann@example.net", "SRS0=U3SY=G3=example.net=ann"),
        (SECRET, 4, "=", "Bob.Smith+x=y@Sub.Example.NET", "SRS0=3GEJ=G3=Sub.Example.NET=Bob.Smith+x=y"),
        (SECRET, 4, "=", f"SRS0={CHAIN}@relay.example", f"SRS1=wqMs=relay.example=={CHAIN}"),
        (SECRET, 4, "=", f"SRS0+{CHAIN}@relay.example", f"SRS1=piCi=relay.example=+{CHAIN}"),
        (
            SECRET,
            4,
            "=",
            f"SRS1=wxyz=first.example=={CHAIN}@second.example",
            f"SRS1=CMlO=first.example=={CHAIN}",
        ),
        (SECRET, 8, "+", "ann@example.net", "SRS0+U3SY+RYT=G3=example.net=ann"),
        (SECRET, 8, "+", f"SRS0+{CHAIN}@relay.example", f"SRS1+piCi/VHo=relay.example=+{CHAIN}"),
        (OLDER, 4, "-", "ann@example.net", "SRS0-Z9WR=G3=example.net=ann"),
        (OLDER, 4, "-", f"SRS0={CHAIN}@relay.example", f"SRS1-lLNj=relay.example=={CHAIN}"),
    ],
)
def test_vectors(secret: str, length: int, separator: str, sender: str, made: str) -> None:
    one = srs(secret, length=length, separator=separator)
    address = one.forward(parse_address(sender), NOW)
    assert address.text == f"{made}@{DOMAIN}"
    wanted = sender if "first" not in sender else f"SRS0={CHAIN}@first.example"
    assert back(one, address.text) == wanted


def test_secrets_may_change() -> None:
    old = srs(OLDER).forward(parse_address("ann@example.net"), NOW).text
    assert back(srs(SECRET, OLDER), old) == "ann@example.net"
    with pytest.raises(SrsError, match="not made here"):
        back(srs(SECRET), old)
    assert srs(SECRET, OLDER).forward(parse_address("ann@example.net"), NOW).text != old


@pytest.mark.parametrize(
    "address",
    [
        "SRS0=AAAA=G3=example.net=ann",
        "SRS0=U3SY=G3=example.net=bob",
        "SRS0=U3SY=G3=example.com=ann",
        "SRS0=U3SY=G4=example.net=ann",
        "SRS0=U3S=G3=example.net=ann",
        "SRS0==G3=example.net=ann",
        "SRS0=U3SY=G3=example.net=",
        "SRS0=U3SY=G3=example.net",
        "SRS0=x",
        "SRS1=wqMs=relay.example",
        "SRS1=wqMs=relay.example=abcd",
        "SRS1=AAAA=relay.example==abcd=TT=far.example=carol",
    ],
)
def test_does_not_lead_back(address: str) -> None:
    with pytest.raises(SrsError):
        back(srs(), f"{address}@{DOMAIN}")


def test_case_does_not_count() -> None:
    assert back(srs(), f"srs0=u3sy=g3=EXAMPLE.NET=Ann@{DOMAIN}") == "Ann@EXAMPLE.NET"


@pytest.mark.parametrize("address", ["ann", "SRS", "SRS0", "srs0ann", "SRS2=x=y=z=u"])
def test_other_addresses_are_left_alone(address: str) -> None:
    assert back(srs(), f"{address}@{DOMAIN}") is None


def test_time() -> None:
    one = srs()
    address = one.forward(parse_address("ann@example.net"), NOW).text
    for days in (-1, 0, 21):
        assert back(one, address, days) == "ann@example.net"
    for days in (22, 500, -2):
        with pytest.raises(SrsExpired):
            back(one, address, days)
    chained = one.forward(parse_address(f"SRS0={CHAIN}@relay.example"), NOW).text
    assert back(one, chained, 900) is not None, "how long it lives is said by who has made the first one"


def test_a_domain_beyond_ascii_goes_as_a_labels() -> None:
    made = srs().forward(parse_address("ann@bücher.example"), NOW).text
    assert made.endswith(f"=xn--bcher-kva.example=ann@{DOMAIN}")
    assert back(srs(), made) == "ann@xn--bcher-kva.example"


def test_what_cannot_be_rewritten() -> None:
    with pytest.raises(SrsError, match="too long"):
        srs().forward(parse_address(f"{'x' * 120}@example.net"), NOW)
    with pytest.raises(SrsError, match="not ASCII"):
        srs().forward(parse_address("b\u00fc@example.net"), NOW)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40))
def test_every_sender_comes_back(local: str) -> None:
    try:
        sender = parse_address("x@example.net").with_local(local)
        made = srs().forward(sender, NOW)
    except (AddressError, SrsError):
        return
    found = srs().reverse(made, NOW)
    assert found is not None
    assert found.key == sender.key or local[:4].upper() in ("SRS0", "SRS1")
    forged = made.with_local(made.local.replace("example.net", "example.com"))
    if forged != made:
        with pytest.raises(SrsError):
            srs(length=12).reverse(forged, NOW)


@given(st.text(alphabet="SRSrs01=+-ABab.@ ", max_size=40))
def test_anything_may_come_in(local: str) -> None:
    try:
        address = parse_address("x@example.net").with_local(local)
    except AddressError:
        return
    try:
        assert srs(length=12).reverse(address, NOW) is None
    except SrsError:
        assert local[:3].upper() == "SRS"


@pytest.mark.parametrize(
    ("octets", "wrong"),
    [
        (b"", ": there is none"),
        (b"\n  \n", ": there is none"),
        (b"0123456789abcdef\nshort\n", ":2: the secret has less"),
        (b"0123456789abcdef\n\xff\n", ":2: it is not UTF-8"),
        (b"x" * 70_000, ": it is too large"),
    ],
)
def test_bad_secrets(octets: bytes, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        read_secrets(octets)


def test_secrets() -> None:
    assert read_secrets(b"0123456789abcdef\r\n\nanother one here\n") == [
        "0123456789abcdef",
        "another one here",
    ]


def test_a_worker_names_the_file_whose_secrets_it_cannot_read(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_bytes(b"\xff\n")
    site = '[domains."fwd.example.org"]\n[backends.b]\naddresses = ["127.0.0.1:1"]\n'
    settings = config.parse(f'{site}[srs]\nsecrets_file = "{file}"\ndomain = "{DOMAIN}"\n')
    with pytest.raises(ValueError, match=f"^{file}:1: it is not UTF-8"):
        _srs_services(settings, cast(Ground, None))
