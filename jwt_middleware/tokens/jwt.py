"""From bytes to verified claims, and back: the rules of RFC 7515, RFC 7519 and RFC 8725, the cheapest first.

:meth:`Tokens.open` ends with a valid signature, :meth:`Tokens.check` with valid claims. They are two calls because the
caller reads the payload version in between, and counts under that version whatever ``check`` refuses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from .. import names
from ..counters import Counters
from ..errors import ConfigError, MintError, Reason, Refusal, refuse_numbers
from ..protocols import Clock, KeySource, VerificationKey
from ..types import SignedClaims, VerifiedToken, is_identifier
from . import jws
from .jws import to_base64url
from .keys import Key, KeyRing


def is_session(claims: Mapping[str, Any]) -> bool:
    """The default of ``Adoption.recognise``: False for refresh, reset and ID tokens of the same secret."""
    return not ("purpose" in claims or "nonce" in claims) and all(
        claims.get(name, "session") in ("access", "session") for name in ("type", "token_type", "token_use")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What is accepted from older tokens: those without ``sid``, which the app minted before it used this package.

    Raises:
        ConfigError: A value cannot work; the message says how to fix it.
    """

    iat_required: bool = True
    accepted_lifetime: timedelta | None = None
    """Longest life of such a token, in place of the window."""
    sessions: Literal["refuse", "marks"] = "refuse"
    """With a store: refuse such a token, or accept it until a mark on its user revokes it."""
    recognise: Callable[[Mapping[str, Any]], bool] = is_session
    """True for the claims of a session; an exception means False. Other tokens may be signed with the same secret."""

    def __post_init__(self) -> None:
        refuse_numbers(accepted_lifetime=timedelta(0) if self.accepted_lifetime is None else self.accepted_lifetime)
        if self.accepted_lifetime is not None and self.accepted_lifetime <= timedelta(0):
            raise ConfigError(
                f"accepted_lifetime must be positive, got {self.accepted_lifetime}; use timedelta(days=30)"
            )
        if self.sessions not in {"refuse", "marks"}:
            raise ConfigError(f"sessions must be 'refuse' or 'marks', got {self.sessions!r}")
        if not callable(self.recognise):
            raise ConfigError(f"recognise must be a function from claims to bool, got {type(self.recognise).__name__}")


_MAX_HEADERS: Final = 256
ADOPTION_RULES: Final = ("cookie", "key", "iat", "lifetime", "sid")
_NumericDate = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
"""Seconds since the epoch (RFC 7519 section 2): a finite number, not a bool."""


class _RegisteredClaims(msgspec.Struct, frozen=True, gc=False):
    """The claims that are checked here, with the types of RFC 7519 section 4.1. None is not a value of any."""

    exp: _NumericDate
    iat: _NumericDate | UnsetType = UNSET
    nbf: _NumericDate = -inf
    auth_time: _NumericDate | UnsetType = UNSET
    sid: str | UnsetType = UNSET
    sub: str | UnsetType = UNSET
    jti: str | UnsetType = UNSET
    iss: str | UnsetType = UNSET
    aud: str | Annotated[list[str], msgspec.Meta(min_length=1)] | UnsetType = UNSET


def _registered(claims: Mapping[str, Any]) -> _RegisteredClaims:
    """Read the registered claims; Refusal ``claims_invalid`` if one has another type or cannot name anything."""
    try:
        registered = msgspec.convert(claims, _RegisteredClaims)
    except msgspec.ValidationError:
        raise Refusal(Reason.CLAIMS_INVALID) from None
    sid, sub = registered.sid, registered.sub
    if not (sid is UNSET or is_identifier(sid)) or not (sub is UNSET or is_identifier(sub)):
        raise Refusal(Reason.CLAIMS_INVALID)
    return registered


class Unsigned(Refusal):
    """No key of the ring signed the token; ``kid`` is the one that its header names."""

    def __init__(self, reason: Reason, kid: str | None) -> None:
        super().__init__(reason)
        self.kid = kid


class Tokens:
    """Verifies and signs tokens. All times are in seconds.

    Raises:
        ConfigError: ``issuer`` or ``audience`` is empty.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        signing: Key | None,
        issuer: str | None,
        audience: str | Sequence[str] | None,
        window: float,
        leeway: float,
        adoption: Adoption,
        session_required: bool,
        clock: Clock,
        counters: Counters,
    ) -> None:
        if issuer == "" or (audience is not None and not (audience and all(audience))):
            raise ConfigError("issuer and audience must not be empty; use a name of at least one character, or None")
        self._keys: Final = keys
        self._signing: Final = signing
        self._issuer: Final = issuer
        self._audiences: Final = frozenset([audience] if isinstance(audience, str) else audience or ())
        self._leeway: Final = leeway
        self._longest: Final = window + leeway
        accepted = adoption.accepted_lifetime
        self._longest_adopted: Final = leeway + (window if accepted is None else accepted.total_seconds())
        self._adoption: Final = adoption
        self._session_required: Final = session_required
        self._clock: Final = clock
        self._counts: Final = counters.counts
        self._verified: Final = {
            key.id: counters.counter(names.VERIFICATIONS, {names.KEY_ID: key.id})
            for key in (keys.keys if isinstance(keys, KeyRing) else ())
        }
        self._verified_other: Final = counters.counter(names.VERIFICATIONS, {names.KEY_ID: "other"})
        # Only headers of tokens with a valid signature are cached: there are hardly more of them than keys.
        self._headers: Final[dict[bytes, tuple[str, str | None]]] = {}

    def open(self, token: bytes) -> SignedClaims:
        """Verify the signature, then parse the payload.

        Raises:
            Unsigned: ``key_unknown`` or ``keys_unavailable`` (worth another try after ``keys.refresh``),
                ``algorithm_mismatch``, ``signature_invalid``.
            Refusal: ``token_oversize``, ``token_malformed``, or ``claims_invalid`` if the payload is not a strict JSON
                object.
        """
        header, payload, signature = jws.split(token)
        cached = self._headers.get(header)
        alg, kid = cached or jws.parse_header(header)
        signing_input = token[: len(header) + 1 + len(payload)]
        try:
            key = self._signer(self._keys.find(kid, alg), signing_input, signature)
        except Refusal as refusal:
            raise Unsigned(refusal.reason, kid) from None
        if cached is None:
            jws.parse_header(header, signed=True)  # now strictly, whatever its length
            if len(self._headers) < _MAX_HEADERS:
                self._headers[header] = alg, kid
        self._counts[self._verified.get(key.id, self._verified_other)] += 1
        claims = jws.parse_payload(payload)
        return SignedClaims(
            claims=claims,
            key_id=key.id,
            key_until=key.until,
            key_adopted=key.adopted and (key.short or "sid" not in claims),
        )

    def check(self, signed: SignedClaims, *, payload_version: int, adopted_cookie: bool = False) -> VerifiedToken:
        """Check the registered claims. ``adopted_cookie``: the token came in a cookie of ``also_read``.

        Raises:
            Refusal: ``claims_invalid``, ``token_expired``, ``token_not_yet_valid``, ``issuer_mismatch``,
                ``audience_mismatch``, ``lifetime_exceeded``, or ``session_unknown`` if the token needs a ``sid``.
        """
        claims, now = _registered(signed.claims), self._clock.now()
        adopted = claims.sid is UNSET
        self._refuse_incomplete(claims, signed.claims)
        self._refuse_times(claims, now)
        self._refuse_parties(claims)
        lifetime = claims.exp - (now if claims.iat is UNSET else claims.iat)  # without iat: what remains
        if lifetime > (self._longest_adopted if adopted else self._longest):
            raise Refusal(Reason.LIFETIME_EXCEEDED)
        if adopted and self._session_required and self._adoption.sessions == "refuse":
            raise Refusal(Reason.SESSION_UNKNOWN)
        iat = None if claims.iat is UNSET else claims.iat
        auth_time = iat if claims.auth_time is UNSET else claims.auth_time
        if adopted:  # marks count its session as begun that early: every mark up to ``iat`` + leeway revokes it
            auth_time = None if iat is None else iat - self._leeway
        return VerifiedToken(
            claims=signed.claims,
            key_id=signed.key_id,
            payload_version=payload_version,
            issued_at=iat,
            expires_at=claims.exp,
            session_id=None if claims.sid is UNSET else claims.sid,
            auth_time=auth_time,
            valid_until=min(claims.exp + self._leeway, inf if signed.key_until is None else signed.key_until),
            adopted=self._adoption_rules(signed, lifetime, adopted=adopted, cookie=adopted_cookie),
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Sign a token of these claims with the first key.

        Raises:
            ConfigError: No key can sign.
            MintError: JSON cannot carry the claims, or the token would exceed 8 KiB.
        """
        if self._signing is None:
            raise ConfigError("no key of the ring can sign; put a secret or a private key first")
        header = {"alg": self._signing.alg, "typ": "JWT"}
        if self._signing.kid is not None:
            header["kid"] = self._signing.kid
        try:
            payload = jws.encode_object(dict(claims))
        except ValueError:
            raise MintError("the claims are not strict JSON; remove NaN, NUL, lone surrogates, depth over 32") from None
        signing_input = to_base64url(jws.encode_object(header)) + b"." + to_base64url(payload)
        token = signing_input + b"." + to_base64url(self._signing.sign(signing_input))
        if len(token) > jws.MAX_TOKEN:
            raise MintError(f"the token has {len(token)} bytes, the limit is {jws.MAX_TOKEN}; mint fewer claims")
        return token.decode("ascii")

    def _signer(self, candidates: Sequence[VerificationKey], signing_input: bytes, signature: bytes) -> VerificationKey:
        """The key that signed the input; a key that has ended counts as unknown."""
        reason = Reason.KEY_UNKNOWN
        for key in candidates:
            if key.until is None or self._clock.now() < key.until:
                if key.verify(signing_input, signature):
                    return key
                reason = Reason.SIGNATURE_INVALID
        raise Refusal(reason)

    def _adoption_rules(self, signed: SignedClaims, lifetime: float, *, adopted: bool, cookie: bool) -> tuple[str, ...]:
        """The rules of the adoption without which the token would be refused."""
        if not (adopted or cookie or signed.key_adopted):
            return ()  # nearly every token
        rules = {
            "cookie": cookie,
            "key": signed.key_adopted,
            "iat": "iat" not in signed.claims,
            "lifetime": lifetime > self._longest,
            "sid": adopted and self._session_required,
        }
        return tuple(rule for rule, needed in rules.items() if needed)

    def _refuse_incomplete(self, registered: _RegisteredClaims, claims: Mapping[str, Any]) -> None:
        if registered.sid is not UNSET:
            complete = registered.iat is not UNSET and not (self._session_required and registered.auth_time is UNSET)
        else:
            complete = self._recognises(claims) and not (self._adoption.iat_required and registered.iat is UNSET)
        if not complete:
            raise Refusal(Reason.CLAIMS_INVALID)

    def _recognises(self, claims: Mapping[str, Any]) -> bool:
        try:
            return bool(self._adoption.recognise(claims))
        except Exception:  # the app's code, given a payload of any shape
            return False

    def _refuse_times(self, claims: _RegisteredClaims, now: float) -> None:
        iat = now if claims.iat is UNSET else claims.iat
        if max(iat, claims.nbf) > now + self._leeway:  # -inf where there is no nbf
            raise Refusal(Reason.TOKEN_NOT_YET_VALID)
        if claims.auth_time is not UNSET and claims.auth_time > iat + self._leeway:
            raise Refusal(Reason.CLAIMS_INVALID)
        if now >= claims.exp + self._leeway:
            raise Refusal(Reason.TOKEN_EXPIRED)

    def _refuse_parties(self, claims: _RegisteredClaims) -> None:
        if self._issuer is not None and claims.iss != self._issuer:
            raise Refusal(Reason.ISSUER_MISMATCH)
        if claims.aud is UNSET and not self._audiences:
            return
        named = claims.aud if isinstance(claims.aud, list) else (claims.aud,)
        if self._audiences.isdisjoint(named):
            raise Refusal(Reason.AUDIENCE_MISMATCH)


pack: Final[Callable[[VerifiedToken], bytes]] = msgspec.json.Encoder().encode
"""Encode a verified token for a cache: bytes, which the garbage collector need not traverse."""
unpack: Final[Callable[[bytes], VerifiedToken]] = msgspec.json.Decoder(VerifiedToken).decode
"""Decode what ``pack`` encoded, into a new value each time."""
