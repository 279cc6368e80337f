"""Invariant: octets give values without control characters, which survive being sent on, or SyntaxProblem.

Run ``python -m tests.fuzz.fuzz_syntax -dict=tests/fuzz/syntax.dict [-max_total_time=SECONDS] [CORPUS]``.
`check` is also run with generated octets by the unit tests. No other exception than SyntaxProblem is allowed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from mta.address import has_controls
from mta.envelope import Envelope, Recipient
from mta.reply import MAX_REPLY_LINE, Reply
from mta.smtp.parameter_encoding import encode_mail_parameters, encode_rcpt_parameters
from mta.smtp.parameters import apply_mail_parameters, apply_rcpt_parameters
from mta.smtp.syntax import (
    SyntaxProblem,
    parse_auth_argument,
    parse_auth_response,
    parse_bdat_argument,
    parse_etrn_argument,
    parse_helo_argument,
    parse_lookup_argument,
    parse_mail,
    parse_rcpt,
    split_command,
)
from mta.smtp.xclient import encode_attributes, parse_xclient, parse_xforward

ALL = frozenset(
    {"8BITMIME", "AUTH", "BINARYMIME", "CHUNKING", "DELIVERBY", "DSN", "FUTURERELEASE"}
    | {"MT-PRIORITY", "PRDR", "REQUIRETLS", "SIZE", "SMTPUTF8"}
)
CODES = frozenset({501, 553, 555})


def check(data: bytes) -> None:
    """Hold every function of the grammar to the invariant."""
    verb, argument = split_command(data)
    assert verb.isascii()
    assert verb == verb.upper()
    for rest in (data, argument):
        for target in TARGETS:
            try:
                target(rest)
            except SyntaxProblem as problem:
                _refusal(problem.reply)


def _refusal(reply: Reply) -> None:
    assert reply.code in CODES
    encoded = reply.encode()
    assert encoded.count(b"\n") == 1
    assert len(encoded) <= MAX_REPLY_LINE
    assert encoded.isascii()


def _mail(argument: bytes) -> None:
    envelope = _read_mail(argument)
    size = envelope.size or None
    written = f"FROM:<{envelope.sender}>{encode_mail_parameters(envelope, ALL, size=size)}"
    assert not has_controls(written)
    again = _read_mail(written.encode("utf-8"))
    if len(envelope.envid or "") > 33 or len(envelope.auth or "") > 80:
        again.envid, again.auth = envelope.envid, envelope.auth  # these may be left out for their length
    assert again == envelope


def _read_mail(argument: bytes) -> Envelope:
    sender, parameters = parse_mail(argument, smtputf8_ok=True)
    assert not has_controls(sender.local)
    envelope = Envelope(sender)
    apply_mail_parameters(envelope, parameters, ALL)
    return envelope


def _rcpt(argument: bytes) -> None:
    recipient = _read_rcpt(argument)
    assert not recipient.address.is_null
    for smtputf8 in (True, False):
        parameters = encode_rcpt_parameters(recipient, ALL, smtputf8=smtputf8)
        assert smtputf8 or parameters.isascii()
        written = f"TO:<{recipient.address}>{parameters}"
        assert not has_controls(written)
        again = _read_rcpt(written.encode("utf-8"))
        if recipient.original is not None and len(recipient.original.address) > 40:
            again.original = recipient.original  # may be left out for its length
        assert again == recipient


def _read_rcpt(argument: bytes) -> Recipient:
    address, parameters = parse_rcpt(argument, smtputf8_ok=True)
    assert not has_controls(address.local)
    recipient = Recipient(address)
    apply_rcpt_parameters(recipient, parameters, ALL)
    return recipient


def _ascii_mail(argument: bytes) -> None:
    sender, _ = parse_mail(argument, smtputf8_ok=False)
    assert argument.isascii()
    assert not sender.is_utf8


def _helo(argument: bytes) -> None:
    host = parse_helo_argument(argument)
    assert host
    assert not has_controls(host)


def _bdat(argument: bytes) -> None:
    size, last = parse_bdat_argument(argument)
    assert 0 <= size < 10**19
    assert parse_bdat_argument(f"{size}{' LAST' if last else ''}".encode()) == (size, last)


def _auth(argument: bytes) -> None:
    mechanism, _ = parse_auth_argument(argument)
    assert mechanism.isascii()
    assert mechanism == mechanism.upper()


def _auth_response(line: bytes) -> None:
    parse_auth_response(line)


def _lookup(argument: bytes) -> None:
    for smtputf8_ok in (True, False):
        text, utf8 = parse_lookup_argument(argument, smtputf8_ok=smtputf8_ok)
        assert utf8 or text.isascii()
        assert smtputf8_ok or not utf8
        assert not has_controls(text)


def _etrn(argument: bytes) -> None:
    target = parse_etrn_argument(argument)
    assert parse_etrn_argument((target.prefix + target.name).encode()) == target


def _attributes(command: str, parse: Callable[[bytes], dict[str, str]], argument: bytes) -> None:
    attributes = parse(argument)
    assert not any(has_controls(value) for value in attributes.values())
    again: dict[str, str] = {}
    for line in encode_attributes(command, attributes):
        assert len(line) <= 510
        again |= parse(line.removeprefix(command).encode())
    for name, value in attributes.items():
        assert again[name] == value or len(value) > 80


def _xclient(argument: bytes) -> None:
    _attributes("XCLIENT", parse_xclient, argument)


def _xforward(argument: bytes) -> None:
    _attributes("XFORWARD", parse_xforward, argument)


TARGETS: tuple[Callable[[bytes], None], ...] = (
    _mail,
    _rcpt,
    _ascii_mail,
    _helo,
    _bdat,
    _auth,
    _auth_response,
    _lookup,
    _etrn,
    _xclient,
    _xforward,
)


def main() -> None:
    """Fuzz until a failure or the end of ``-runs`` or ``-max_total_time``."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
