"""Signing what leaves: DKIM for mail of our own, an ARC set for what is passed on for others.

A message is signed once, after all edits and before anybody gets it or it is queued. Mail of somebody we
vouch for (logged in, or in a trusted network) is signed with the keys of its author's domain, or else its
sender's, or else the listener's. Mail from outside that goes outside again gets an ARC set, which carries on
what was found out about it when it came; what users' scripts redirect of it is neither signed nor sealed. A
policy may order otherwise in stage "sign".

With `required` mail of our own that leaves is signed or refused. Hashing and signing take the event loop a
millisecond at the most; larger messages are signed in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mta.address import AddressError, domain_key
from mta.authn.arcseal import seal_message
from mta.authn.authresults import render
from mta.authn.dkimkeys import KeyFileError, SigningKey
from mta.authn.dkimsign import SigningError, sign, sign_message
from mta.authn.dmarcauthor import find_author
from mta.authn.evaluation import Authentication
from mta.authn.keysource import FirstWithKeys, KeySource, nearest_keys
from mta.authn.signorder import Method, SignatureOrder
from mta.content import SpillError
from mta.envelope import Envelope
from mta.passedon import came, is_redirected
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message

NO_KEY = Reply(451, "4.7.5", "the message cannot be signed now, try again later")
BAD_KEY = Reply(451, "4.3.5", "the message cannot be signed now, try again later")
UNREADABLE = Reply(451, "4.3.0", "the message cannot be read, try again later")
UNSIGNABLE = Reply(550, "5.6.0", "the message cannot be signed")


@dataclass(slots=True, frozen=True)
class SignerSettings:
    """What is signed, and with which keys."""

    authserv_id: str
    required: bool = True
    """Mail of our own that leaves is signed or refused."""
    listener_domains: Mapping[str, str] = field(default_factory=dict)
    """The domain that signs when author and sender have no keys, by listener."""
    default_domain: str = ""
    """The same for all other listeners; "" for none."""
    seal_domains: tuple[str, ...] = ()
    """The first of them that has keys seals."""
    lifetime: int = 0
    """Seconds until a signature expires; 0: never."""


@dataclass(slots=True, frozen=True)
class Signed:
    """What signing came to."""

    fields: bytes = b""
    """Whole header fields, to be put in front of the message."""
    by: tuple[str, ...] = ()
    """For log and metrics: "dkim" or "arc", a blank, domain and selector."""
    refusal: Reply | None = None


UNSIGNED = Signed()


class Signer:
    """Signs for a worker."""

    def __init__(
        self,
        settings: SignerSettings,
        source: KeySource,
        is_vouched: Callable[[Session], bool],
        now: Callable[[], float],
        is_trusted: Callable[[str], bool] = lambda address: False,
    ) -> None:
        """`is_vouched` tells whether mail is our own; `now` is in seconds of the epoch.

        `is_trusted` tells whether an address is in a trusted network.
        """
        self._is_trusted = is_trusted
        self._settings = settings
        self._source = source
        self._is_vouched = is_vouched
        self._now = now
        self._sealing = FirstWithKeys(source, settings.seal_domains)

    async def sign(
        self,
        session: Session,
        envelope: Envelope,
        message: Message,
        authentication: Authentication | None,
        signing: Sequence[object] = (),
        *,
        leaves: bool,
    ) -> Signed:
        """Sign `message` as it stands; `leaves` says that somebody outside gets it.

        `signing` is what the policy wants: what has a `SignatureOrder` as its attribute `order`; empty for
        what is usual. Raises nothing but CancelledError.
        """
        orders = [
            order for one in signing if isinstance(order := getattr(one, "order", None), SignatureOrder)
        ]
        if any(order.method is Method.NONE for order in orders):
            return UNSIGNED
        try:
            signed = await self._sign(session, envelope, message, orders, leaves=leaves)
            if signed.refusal is not None:
                return signed
            return await self._seal(session, message, authentication, orders, signed, leaves=leaves)
        except KeyFileError as error:
            return Signed(refusal=replace(BAD_KEY, cause=str(error)))
        except SigningError as error:
            return Signed(refusal=Reply(UNSIGNABLE.code, UNSIGNABLE.enhanced, f"{UNSIGNABLE.text}: {error}"))
        except (OSError, SpillError) as error:
            return Signed(refusal=replace(UNREADABLE, cause=str(error)))

    def sign_own(self, message: Message, domain: str) -> bytes:
        """Signatures for a message that we have written ourselves, from an address of `domain`.

        Empty when there are no keys for it. Raises KeyFileError, SigningError and what reading raises.
        """
        keys = nearest_keys(self._source, domain)
        return sign(message, keys, now=self._now()) if keys else b""

    # --- DKIM --------------------------------------------------------------------------------------

    async def _sign(
        self,
        session: Session,
        envelope: Envelope,
        message: Message,
        orders: Sequence[SignatureOrder],
        *,
        leaves: bool,
    ) -> Signed:
        wanted = [order for order in orders if order.method is Method.DKIM]
        # What a user's script sends on comes from this machine, but who has written it may be anybody.
        redirected = not session.user and is_redirected(message)
        if not wanted:
            if orders or not self._is_vouched(session):
                return UNSIGNED
            if redirected and came(message, self._is_trusted).from_outside:
                return UNSIGNED
            wanted = [SignatureOrder(Method.DKIM)]
        domains = self._usual_domains(session, envelope, message)
        keys: list[SigningKey] = []
        for one in wanted:
            found = self._keys(one, domains)
            if not found and (one.domain or one.selector):
                name = f"{one.selector}._domainkey.{one.domain}" if one.selector else one.domain
                return Signed(refusal=replace(NO_KEY, cause=f"no key {name}"))
            keys += (key for key in found if key not in keys)
        if not keys:
            if self._settings.required and leaves and not redirected:
                named = ", ".join(domains) or "the author"
                return Signed(refusal=replace(NO_KEY, cause=f"no active key for {named}"))
            return UNSIGNED
        fields = await sign_message(message, keys, now=self._now(), lifetime=self._settings.lifetime)
        return Signed(fields, tuple(f"dkim {key.domain} {key.selector}" for key in keys))

    def _usual_domains(self, session: Session, envelope: Envelope, message: Message) -> list[str]:
        """Whose keys are looked for, in order."""
        settings = self._settings
        author = find_author(message)
        found = [author.domain or next(iter(author.domains), ""), _key(envelope.sender.domain)]
        found.append(settings.listener_domains.get(session.listener) or settings.default_domain)
        return [domain for domain in dict.fromkeys(found) if domain and not domain.startswith("[")]

    def _keys(self, order: SignatureOrder, usual: list[str]) -> tuple[SigningKey, ...]:
        if order.domain:
            keys = self._source.signing_keys(order.domain)
        else:
            keys = next((keys for domain in usual if (keys := nearest_keys(self._source, domain))), ())
        if order.selector:
            keys = tuple(key for key in keys if key.selector == order.selector)
        return keys

    # --- ARC ---------------------------------------------------------------------------------------

    async def _seal(
        self,
        session: Session,
        message: Message,
        authentication: Authentication | None,
        orders: Sequence[SignatureOrder],
        signed: Signed,
        *,
        leaves: bool,
    ) -> Signed:
        if authentication is None or not authentication.examined:
            return signed  # what nobody has looked at cannot be vouched for
        order = next((one for one in orders if one.method is Method.ARC), None)
        if order is None and (orders or not leaves or self._is_vouched(session)):
            return signed
        keys = await self._seal_keys(order)
        if not keys:
            return signed
        results = await authentication.results()
        chain = await authentication.arc()
        key = keys[0]  # a set has one signature, and RSA is what all verifiers know
        payload = render(self._settings.authserv_id, results)
        try:
            fields = await seal_message(message, chain, payload, key, now=self._now())
        except SigningError:
            if order is not None:
                raise
            return signed  # not ours to refuse: without a set it fares as with a chain that has ended
        if not fields:
            return signed
        return Signed(fields + signed.fields, (*signed.by, f"arc {key.domain} {key.selector}"))

    async def _seal_keys(self, order: SignatureOrder | None) -> tuple[SigningKey, ...]:
        selector = "" if order is None else order.selector
        if order is None or not order.domain:
            return await (self._sealing.with_selector(selector) if selector else self._sealing.keys())
        keys = nearest_keys(self._source, order.domain)
        return tuple(key for key in keys if key.selector == selector) if selector else keys


def _key(domain: str) -> str:
    try:
        return domain_key(domain) if domain else ""
    except AddressError:
        return ""
