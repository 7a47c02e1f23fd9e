"""From bytes to verified claims, and back: the rules of RFC 7515, 7519 and 8725, the cheapest first.

``open`` ends with a signature that holds, ``check`` with claims that hold; between the two the caller learns the
payload's version, so that whatever ``check`` refuses is counted with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import inf, isfinite
from typing import Any, Final, Literal

import msgspec

from .. import names
from ..counters import Counters
from ..errors import ConfigError, MintError, Reason, Refusal, refuse_numbers
from ..protocols import Clock, KeySource, VerificationKey
from ..types import SignedClaims, VerifiedToken
from . import jws
from .jws import from_base64url, to_base64url
from .keys import Key, KeyRing


def is_session(claims: Mapping[str, Any]) -> bool:
    """The default of ``Adoption.recognise``: neither a refresh, reset or ID token of the same secret."""
    return not ("purpose" in claims or "nonce" in claims) and all(
        claims.get(name, "session") in ("access", "session") for name in ("type", "token_type", "token_use")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What is forgiven to tokens minted before this package came: to those without ``sid``, and to no others.

    Raises:
        ConfigError: A value that cannot work.
    """

    iat_required: bool = True
    accepted_lifetime: timedelta | None = None
    """Instead of the window."""
    sessions: Literal["refuse", "marks"] = "refuse"
    """With a store: whether a token without ``sid`` is refused, or revoked by marks alone."""
    recognise: Callable[[Mapping[str, Any]], bool] = is_session
    """Keeps other tokens of the same secret from becoming sessions; an exception means no."""

    def __post_init__(self) -> None:
        refuse_numbers(accepted_lifetime=timedelta(0) if self.accepted_lifetime is None else self.accepted_lifetime)
        if self.accepted_lifetime is not None and self.accepted_lifetime <= timedelta(0):
            raise ConfigError("accepted_lifetime must be positive: the life of the old tokens, as timedelta(days=30)")
        if self.sessions not in {"refuse", "marks"}:
            raise ConfigError("sessions says what a token without sid gets: use 'refuse' or 'marks'")
        if not callable(self.recognise):
            raise ConfigError("recognise must be a function from claims to bool")


ADOPTION_RULES: Final = ("cookie", "key", "iat", "lifetime", "sid")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def name_in(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim of 1 to 255 characters without control characters, or None where it is absent.

    Raises:
        Refusal: ``claims_invalid``.
    """
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, str) or not 0 < len(value) <= 255 or (not value.isprintable() and _CONTROL.search(value)):
        raise Refusal(Reason.CLAIMS_INVALID)
    return value


def refuse_types(claims: Mapping[str, Any]) -> None:
    """``iss``, ``jti`` and ``aud`` have the types of RFC 7519 section 4.1.

    Raises:
        Refusal: ``claims_invalid``.
    """
    if not (isinstance(claims.get("iss", ""), str) and isinstance(claims.get("jti", ""), str)):
        raise Refusal(Reason.CLAIMS_INVALID)
    audience = claims.get("aud", "")
    if not isinstance(audience, str) and not (
        isinstance(audience, list) and audience and all(isinstance(each, str) for each in audience)
    ):
        raise Refusal(Reason.CLAIMS_INVALID)


def time_in(claims: Mapping[str, Any], name: str) -> float | None:
    """A ``NumericDate`` (RFC 7519 section 2), or None where it is absent; a flag or a text is none.

    Raises:
        Refusal: ``claims_invalid``.
    """
    if name not in claims:
        return None
    value = claims[name]
    if type(value) is not int and (type(value) is not float or not isfinite(value)):
        raise Refusal(Reason.CLAIMS_INVALID)
    return float(value)


_MOST_HEADERS: Final = 256


class Unsigned(Refusal):
    """No key of ours signed the token; ``kid`` is the one it names."""

    def __init__(self, reason: Reason, kid: str | None) -> None:
        super().__init__(reason)
        self.kid = kid


class Tokens:
    """Verifies and signs. All times in seconds.

    Raises:
        ConfigError: A value that cannot work.
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
            raise ConfigError("issuer and audience are names: leave them out, or give each at least one character")
        self._keys: Final = keys
        self._signing: Final = signing
        self._issuer: Final = issuer
        self._audience: Final = frozenset([audience] if isinstance(audience, str) else audience or ())
        self._longest: Final = window + leeway
        self._longest_adopted: Final = (
            self._longest if adoption.accepted_lifetime is None else adoption.accepted_lifetime.total_seconds() + leeway
        )
        self._leeway: Final = leeway
        self._adoption: Final = adoption
        self._session_required: Final = session_required
        self._clock: Final = clock
        self._counts: Final = counters.counts
        self._verified: Final = {
            key.id: counters.counter(names.VERIFICATIONS, {names.KEY_ID: key.id})
            for key in (keys.keys if isinstance(keys, KeyRing) else ())
        }
        self._verified_other: Final = counters.counter(names.VERIFICATIONS, {names.KEY_ID: "other"})
        self._headers: Final[dict[bytes, tuple[str, str | None]]] = {}

    def open(self, token: bytes) -> SignedClaims:
        """Everything up to the signature, then the payload.

        Raises:
            Unsigned: ``key_unknown`` or ``keys_unavailable`` (worth another try after ``keys.refresh``),
                ``algorithm_mismatch``, ``signature_invalid``.
            Refusal: ``token_oversize``, ``token_malformed``, or ``claims_invalid`` for a payload that is no strict
                JSON object.
        """
        header, payload, signature = jws.split(token)
        known = self._headers.get(header)
        alg, kid = named = known or jws.header_of(header)
        signing_input = token[: len(header) + 1 + len(payload)]
        try:
            key = self._signer(self._keys.find(kid, alg), signing_input, signature)
        except Refusal as refusal:
            raise Unsigned(refusal.reason, kid) from None
        if known is None:
            jws.header_of(header, signed=True)
            if len(self._headers) < _MOST_HEADERS:  # of tokens that were signed: nearly as few as keys
                self._headers[header] = named
        self._counts[self._verified.get(key.id, self._verified_other)] += 1
        claims = jws.parse_object(from_base64url(payload), Reason.CLAIMS_INVALID)
        return SignedClaims(
            claims=claims,
            key_id=key.id,
            key_until=key.until,
            key_adopted=key.adopted and (key.short or "sid" not in claims),
        )

    def check(self, signed: SignedClaims, *, payload_version: int, adopted_cookie: bool = False) -> VerifiedToken:
        """The claims themselves.

        Raises:
            Refusal: ``claims_invalid``, ``token_expired``, ``token_not_yet_valid``, ``issuer_mismatch``,
                ``audience_mismatch``, ``lifetime_exceeded``, ``session_unknown`` where it has no ``sid`` and needs one.
        """
        claims = signed.claims
        session_id, _ = name_in(claims, "sid"), name_in(claims, "sub")
        refuse_types(claims)
        exp, iat = time_in(claims, "exp"), time_in(claims, "iat")
        nbf, auth_time = time_in(claims, "nbf"), time_in(claims, "auth_time")
        adopted = session_id is None
        if exp is None or (adopted and not self._recognises(claims)):
            raise Refusal(Reason.CLAIMS_INVALID)
        if (iat is None and (self._adoption.iat_required or not adopted)) or (
            auth_time is None and self._session_required and not adopted
        ):
            raise Refusal(Reason.CLAIMS_INVALID)
        now = self._clock.now()
        self._refuse_times(now, exp=exp, iat=iat, nbf=nbf, auth_time=auth_time)
        self._refuse_parties(claims)
        lifetime = exp - (now if iat is None else iat)
        if lifetime > (self._longest_adopted if adopted else self._longest):
            raise Refusal(Reason.LIFETIME_EXCEEDED)
        if adopted and self._session_required and self._adoption.sessions == "refuse":
            raise Refusal(Reason.SESSION_UNKNOWN)
        if adopted:  # its session began here as far as marks go: those up to ``iat`` + leeway revoke it
            auth_time = None if iat is None else iat - self._leeway
        return VerifiedToken(
            claims=claims,
            key_id=signed.key_id,
            payload_version=payload_version,
            issued_at=iat,
            expires_at=exp,
            session_id=session_id,
            auth_time=iat if auth_time is None else auth_time,
            valid_until=min(exp + self._leeway, inf if signed.key_until is None else signed.key_until),
            adopted=self._rules(signed, lifetime, adopted=adopted, cookie=adopted_cookie),
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token of these claims, by the first key.

        Raises:
            ConfigError: No key can sign.
            MintError: JSON cannot carry the claims, or the token would exceed 8 KiB.
        """
        if self._signing is None:
            raise ConfigError("no key of the ring can sign: put a secret or a private key first")
        header = {"alg": self._signing.alg, "typ": "JWT"}
        if self._signing.kid is not None:
            header["kid"] = self._signing.kid
        try:
            payload = jws.encode_object(dict(claims))
        except ValueError:
            raise MintError("the claims are no strict JSON: no NaN, NUL, lone surrogate, or depth over 32") from None
        signing_input = to_base64url(jws.encode_object(header)) + b"." + to_base64url(payload)
        token = signing_input + b"." + to_base64url(self._signing.sign(signing_input))
        if len(token) > jws.MAX_TOKEN:
            raise MintError(f"the token would have {len(token)} bytes, over {jws.MAX_TOKEN}: mint fewer claims")
        return token.decode("ascii")

    def _signer(self, candidates: Sequence[VerificationKey], signing_input: bytes, signature: bytes) -> VerificationKey:
        """The key that signed it; one whose end has come is as good as unknown."""
        reason = Reason.KEY_UNKNOWN
        for key in candidates:
            if key.until is None or self._clock.now() < key.until:
                if key.verify(signing_input, signature):
                    return key
                reason = Reason.SIGNATURE_INVALID
        raise Refusal(reason)

    def _rules(self, signed: SignedClaims, lifetime: float, *, adopted: bool, cookie: bool) -> tuple[str, ...]:
        """What of the adoption it needed; nearly always nothing."""
        if not (adopted or cookie or signed.key_adopted):
            return ()
        rules = {
            "cookie": cookie,
            "key": signed.key_adopted,
            "iat": "iat" not in signed.claims,
            "lifetime": lifetime > self._longest,
            "sid": adopted and self._session_required,
        }
        return tuple(rule for rule, needed in rules.items() if needed)

    def _recognises(self, claims: Mapping[str, Any]) -> bool:
        try:
            return bool(self._adoption.recognise(claims))
        except Exception:  # the app's own code, on a payload of whoever held that secret
            return False

    def _refuse_times(
        self, now: float, *, exp: float, iat: float | None, nbf: float | None, auth_time: float | None
    ) -> None:
        if max(iat or now, nbf or now) > now + self._leeway:
            raise Refusal(Reason.TOKEN_NOT_YET_VALID)
        if auth_time is not None and auth_time > (now if iat is None else iat) + self._leeway:
            raise Refusal(Reason.CLAIMS_INVALID)
        if now >= exp + self._leeway:
            raise Refusal(Reason.TOKEN_EXPIRED)

    def _refuse_parties(self, claims: Mapping[str, Any]) -> None:
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise Refusal(Reason.ISSUER_MISMATCH)
        named = claims.get("aud")
        if named is None and not self._audience:
            return
        if self._audience.isdisjoint([named] if named is None or isinstance(named, str) else named):
            raise Refusal(Reason.AUDIENCE_MISMATCH)


pack: Final[Callable[[VerifiedToken], bytes]] = msgspec.json.Encoder().encode
"""A verified token as bytes, which the garbage collector does not look into."""
unpack: Final[Callable[[bytes], VerifiedToken]] = msgspec.json.Decoder(VerifiedToken).decode
"""What ``pack`` packed, a new one each time."""
