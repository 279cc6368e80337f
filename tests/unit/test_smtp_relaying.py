"""What a next hop is told about our client; the rest of this module is tested by `test_smtp_mailing`."""

from __future__ import annotations

import pytest

from mta.session import Session
from mta.smtp.relaying import client_attributes


def session(**rest: object) -> Session:
    made = Session("id", "mx", "smtp", "192.0.2.1", client_port=4711)
    for name, value in rest.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("made", "attributes"),
    [
        (session(), {"ADDR": "192.0.2.1", "PORT": "4711", "PROTO": "SMTP"}),
        (
            session(helo="c.test", esmtp=True, user="u"),
            {"ADDR": "192.0.2.1", "PORT": "4711", "PROTO": "ESMTP", "HELO": "c.test", "LOGIN": "u"},
        ),
        (session(client_address="unix", client_port=0, protocol="lmtp"), {"PROTO": "LMTP"}),
        (session(client_address="unknown", client_port=0), {"PROTO": "SMTP"}),
        (
            session(client_name="c.test", client_port=0),
            {"NAME": "c.test", "ADDR": "192.0.2.1", "PROTO": "SMTP"},
        ),
        (
            session(
                client_name="filter.test",
                helo="filter.test",
                forwarded={"ADDR": "2001:db8::1", "NAME": "first.test", "PROTO": ""},
            ),
            {"ADDR": "2001:db8::1", "NAME": "first.test"},
        ),
    ],
)
def test_client_attributes(made: Session, attributes: dict[str, str]) -> None:
    assert client_attributes(made) == attributes
