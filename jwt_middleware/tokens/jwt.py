"""From bytes to verified claims, and back: the rules of RFC 7515, RFC 7519 and RFC 8725, the cheapest first.

:meth:`Tokens.open` ends with a valid signature, :meth:`Tokens.check` with valid claims. They are two calls because the
caller looks at the payload version in between, and counts under that version whatever ``check`` refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import UNSET

from .. import names
from ..counters import Counters
from ..errors import ConfigError, MintError, Reason, Refusal
from ..protocols import Clock, KeySource, VerificationKey
from ..types import RawToken, SignedClaims, VerifiedToken, is_version
from . import jws
from .jws import to_base64url
from .keys import Key, KeyRing
from .rules import PLAIN_TYP, AcceptedRules, Rules, as_own, normal_typ, read_registered

_MAX_HEADERS: Final = 256


class Unsigned(Refusal):
    """No key of the ring signed the token; ``kid`` is the one that its header names."""

    def __init__(self, reason: Reason, kid: str | None) -> None:
        super().__init__(reason)
        self.kid = kid


class Tokens:
    """Verifies and signs tokens. All times are in seconds.

    Args:
        keys: Finds the keys.
        signing: Signs; None if no key can.
        rules: Which tokens are accepted.
        typ: Of minted tokens.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        signing: Key | None,
        rules: AcceptedRules,
        typ: str,
        clock: Clock,
        counters: Counters,
    ) -> None:
        self._keys: Final = keys
        self._signing: Final = signing
        self._rules: Final = rules
        self._typ: Final = typ
        self._leeway: Final = rules.today.leeway
        self._own_typs: Final = rules.own_typs
        self._own_kids: Final = rules.own_kids
        self._clock: Final = clock
        self._counts: Final = counters.counts
        self._verified: Final = {
            key.id: counters.counter(names.VERIFICATIONS, {names.KEY_ID: key.id})
            for key in (keys.keys if isinstance(keys, KeyRing) else ())
        }
        self._verified_other: Final = counters.counter(names.VERIFICATIONS, {names.KEY_ID: "other"})
        self._last_used: Final[dict[str, float]] = {}
        for key in keys.keys if isinstance(keys, KeyRing) else ():
            at = {names.KEY_ID: key.id}
            counters.gauge(names.KEY_LAST_USED, partial(self._last_used.get, key.id), at)
            if key.until is not None:
                counters.gauge(names.KEY_END, partial(float, key.until), at)
        # Only headers of tokens with a valid signature are cached: there are hardly more of them than keys.
        self._headers: Final[dict[bytes, tuple[str, str | None, str]]] = {}

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
        alg, kid, typ = cached or jws.parse_header(header)
        signing_input = token[: len(header) + 1 + len(payload)]
        try:
            key = self._signer(self._keys.find(kid, alg), signing_input, signature)
        except Refusal as refusal:
            raise Unsigned(refusal.reason, kid) from None
        if cached is None:
            jws.parse_header(header, signed=True)  # now strictly, whatever its length
            typ = normal_typ(typ)
            if len(self._headers) < _MAX_HEADERS:
                self._headers[header] = alg, kid, typ
        self._counts[self._verified.get(key.id, self._verified_other)] += 1
        return SignedClaims(
            claims=jws.parse_payload(payload),
            key_id=key.id,
            typ=typ,
            own=typ in self._own_typs and not key.foreign and (self._own_kids is None or key.kid in self._own_kids),
            key_until=key.until,
            key_foreign=key.foreign,
        )

    def check(self, signed: SignedClaims, raw: RawToken) -> VerifiedToken:
        """Check the registered claims, and all else that surrounds the payload.

        Args:
            signed: What :meth:`open` returned.
            raw: The token; where it came from is a rule too.

        Raises:
            NotAdmitted: ``issuer_mismatch``, ``audience_mismatch``, ``lifetime_exceeded``, ``session_unknown`` (the
                token has no ``sid``), ``token_foreign``, or ``claims_invalid`` (no ``iat``).
            Refusal: ``claims_invalid``, ``token_expired``, ``token_not_yet_valid``.
        """
        now, own, claims = self._clock.now(), signed.own, signed.claims
        if not own:
            claims = as_own(claims)
        registered = read_registered(claims)
        rules, needed = self._rules.admitting(signed, registered, raw, now)
        self._last_used[signed.key_id] = now
        iat = None if registered.iat is UNSET else registered.iat
        sid = None if registered.sid is UNSET else registered.sid
        auth_time = registered.auth_time if registered.auth_time is not UNSET else iat if own else None
        valid_until = registered.exp + self._leeway
        if signed.key_until is not None:
            valid_until = min(valid_until, signed.key_until)
        token = VerifiedToken(
            claims=claims,
            key_id=signed.key_id,
            payload_version=_version(claims, rules.version_claim),
            issued_at=iat,
            expires_at=registered.exp,
            session_id=sid,
            auth_time=auth_time,
            began_at=auth_time if sid is not None else self._earliest_beginning(auth_time or iat),
            valid_until=valid_until,
        )
        return token if rules is self._rules.today else self._of_line(token, signed, raw, rules, needed)

    def _of_line(
        self, token: VerifiedToken, signed: SignedClaims, raw: RawToken, rules: Rules, needed: tuple[str, ...]
    ) -> VerifiedToken:
        """What else is known of a token that is not one of today's own."""
        return token.replace(
            valid_until=min(token.valid_until, rules.ends_at),
            typ=signed.typ,
            own=signed.own,
            envelope=None if rules.kind == "today" else rules.name,
            needed=needed,
            replaceable=signed.own and self._is_safe(raw.cookie),
            version_claim=None if rules.version_claim == self._rules.today.version_claim else rules.version_claim,
        )

    def identify(self, signed: SignedClaims) -> VerifiedToken:
        """An own token as a log-out sees it: its session is known, whatever rule refuses it here.

        Raises:
            Refusal: ``claims_invalid``: no instance accepts it.
        """
        registered = read_registered(signed.claims)
        iat = None if registered.iat is UNSET else registered.iat
        auth_time = iat if registered.auth_time is UNSET else registered.auth_time
        if auth_time is None:
            raise Refusal(Reason.CLAIMS_INVALID)
        version = signed.claims.get(self._rules.today.version_claim or "", 1)
        return VerifiedToken(
            claims=signed.claims,
            key_id=signed.key_id,
            payload_version=version if is_version(version) else 1,
            issued_at=iat,
            expires_at=registered.exp,
            session_id=None if registered.sid is UNSET else registered.sid,
            auth_time=auth_time,
            began_at=auth_time,
            valid_until=registered.exp + self._leeway,
        )

    def sign(self, claims: Mapping[str, Any], *, typ: str | None = None) -> str:
        """Sign a token of these claims with the first key; ``typ`` is that of its header, in any case; default today's.

        Raises:
            ConfigError: No key can sign.
            MintError: JSON cannot carry the claims, or the token would exceed 8 KiB.
        """
        if self._signing is None:
            raise ConfigError("no key of the ring can sign; put a secret or a private key first")
        if typ in (None, "", normal_typ(self._typ)):
            typ = self._typ
        header = {"alg": self._signing.alg, "typ": "JWT" if typ == PLAIN_TYP else typ}
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

    def _earliest_beginning(self, moment: float | None) -> float | None:
        """When the session of a token without a row began, so that every mark up to then + leeway revokes it.

        The moment is by the clock of the app that minted the token, a mark by the store's.
        """
        return None if moment is None else moment - self._leeway

    def _is_safe(self, cookie: str | None) -> bool:
        """No sibling host can have put the token there, unless it could do so with today's cookie too."""
        if cookie is None or cookie.lower().startswith("__host-"):
            return True
        return not self._rules.today.cookie.name.lower().startswith("__host-")


def _version(claims: Mapping[str, Any], claim: str | None) -> int:
    """The payload version: 1 if it is absent; Refusal ``claims_invalid`` unless it is an integer of at least 1."""
    version: int = 1 if claim is None else claims.get(claim, 1)
    if type(version) is not int or version < 1:
        raise Refusal(Reason.CLAIMS_INVALID)
    return version


pack: Final[Callable[[VerifiedToken], bytes]] = msgspec.json.Encoder().encode
"""Encode a verified token for a cache: bytes, which the garbage collector need not traverse."""
unpack: Final[Callable[[bytes], VerifiedToken]] = msgspec.json.Decoder(VerifiedToken).decode
"""Decode what ``pack`` encoded, into a new value each time."""
