"""A login is one when the policy agrees, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import pytest

from mta.login import Admit, LoginDialog
from mta.policy.verdict import CONTINUE, Verdict
from mta.reply import Reply
from mta.session import Session
from mta.smtp.auth import CANCELLED, CREDENTIALS_INVALID, TEMPORARY_FAILURE, Challenge, Failure, Login, Step
from tests.unit.policy_tables import session

NO = Verdict(Reply(535, "5.7.8", "from inside only"))


class Exchange:
    """The password is right."""

    def step(self, response: bytes | None) -> Login:
        return Login("ann@x.test", "PLAIN", ("@x.test",))

    def cancel(self) -> None:
        raise AssertionError("it is over")


class Everybody:
    """Lets everybody log in, and is the server session that is answered."""

    def __init__(self) -> None:
        self.answers: list[Reply | None] = []

    def mechanisms(self, session: Session, channel_binding_types: frozenset[str]) -> tuple[str, ...]:
        return ("PLAIN",)

    def begin(self, mechanism: str, session: Session, channel_bindings: Mapping[str, bytes]) -> Exchange:
        return Exchange()

    def owns(self, session: Session, sender: object) -> bool:
        return True

    def answer(self, reply: Reply | None = None) -> None:
        self.answers.append(reply)

    def challenge(self, data: bytes) -> None:
        raise AssertionError("nothing is asked")


def login(admit: Admit) -> tuple[Session, list[Reply | None]]:
    """A session after the login, and what the client was told."""
    client, party = session(), Everybody()
    dialog = LoginDialog(party, client, party, lambda mechanism, refusal: None, admit)

    async def main() -> None:
        work = dialog.start("PLAIN", b"")
        if work is not None:
            await work

    try:
        asyncio.run(main())
    except KeyError:
        party.answers.append(Reply(451, "4.3.0", "a bug"))
    return client, party.answers


def late(admit: Admit) -> Admit:
    """The same, later."""

    async def ask(session: Session) -> Verdict:
        await asyncio.sleep(0)
        verdict = admit(session)
        assert isinstance(verdict, Verdict)
        return verdict

    return ask


def fails(session: Session) -> Verdict | Awaitable[Verdict]:
    raise KeyError("a bug")


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    ("admit", "user"),
    [(lambda session: CONTINUE, "ann@x.test"), (lambda session: NO, ""), (fails, "")],
    ids=["agrees", "refuses", "fails"],
)
def test_who_is_logged_in(admit: Any, user: str, is_late: bool) -> None:
    client, answers = login(late(admit) if is_late else admit)
    assert (client.user, client.addresses) == (user, ("@x.test",) if user else ())
    assert (answers == [None]) is bool(user)


class SlowExchange:
    """Ends as it is told to, when it is told to."""

    def __init__(self, end: Step) -> None:
        self.end = end
        self.cancelled = 0

    async def step(self, response: bytes | None) -> Step:
        await asyncio.sleep(0)
        return self.end

    def cancel(self) -> None:
        self.cancelled += 1


ANN = Login("ann@x.test", "PLAIN", ("@x.test",))


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (ANN, [("PLAIN", None, "ann@x.test")]),
        (Failure(CREDENTIALS_INVALID), [("PLAIN", CREDENTIALS_INVALID, "")]),
        (Failure(TEMPORARY_FAILURE), [("PLAIN", TEMPORARY_FAILURE, "")]),
        (Failure(CANCELLED), []),
        (Challenge(b"more"), []),
        (Challenge(b"why", refused=True), [("PLAIN", CREDENTIALS_INVALID, "")]),
    ],
)
def test_a_client_that_leaves_while_it_is_checked(
    end: Step, told: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What became of it is told; it is no login, is not answered, and no policy is asked."""
    exchange = SlowExchange(end)
    monkeypatch.setattr(Everybody, "begin", lambda self, mechanism, session, bindings: exchange)
    client, party = session(), Everybody()
    heard: list[object] = []
    dialog = LoginDialog(
        party, client, party, lambda mechanism, reply: heard.append((mechanism, reply, client.user)), fails
    )

    async def main() -> None:
        work = dialog.start("PLAIN", b"x")
        assert work is not None
        dialog.cancel()
        dialog.cancel()
        await work

    asyncio.run(main())
    assert heard == told
    assert (client.user, client.auth_mechanism, client.addresses) == ("", "", ())
    assert party.answers == []
    assert exchange.cancelled == 1
