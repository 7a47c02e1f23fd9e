"""Today's payload, how older ones become it, and what they lack. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, Literal

from ..errors import ConfigError, MintError, Reason, Refusal
from ..types import S, Value, is_version
from .fields import ENVELOPE, ClaimSpec, Shape, decode, encode, shape_of, subject_key
from .versions import Step, Versions

_ABSENT: Final = object()
UNKNOWN_VERSION: Final = "unknown"
"""The payload version of a token whose signature holds and whose version claim cannot be read."""


class Upgraded(Value, frozen=True, kw_only=True, gc=False):
    """A payload brought to today's version, and what it lacks."""

    claims: dict[str, Any]
    """By wire name, without the missing ones."""
    subject: str
    token_subject: str | None
    """The subject that the token itself has, if an upgrade step changed it."""
    missing: tuple[ClaimSpec, ...]
    label: str
    """The payload version as metrics spell it."""


class SessionSchema(Generic[S]):
    """Today's session class and its versions.

    Args:
        cls: A dataclass, msgspec Struct or pydantic model; :class:`Claim` in ``Annotated`` names and dates a claim.
        version: Today's payload version, an integer ≥ 1.
        subject: Wire name of the claim that identifies the user.
        mints: The version to mint; default ``version``. A lower one lets readers of ``version`` roll out first.
        upgrades: ``{1: step}`` leads from version 1 to 2, if more changed than an added claim.
        downgrades: ``{2: step}`` leads from version 2 to 1; required if ``mints`` is below an upgrade.
        newer: ``tolerate`` reads a payload newer than ``version`` without the claims the class does not have.
        version_claim: Wire name of the version; a payload without it has version 1.
        oldest: The oldest version that is read; a token of an older one is refused. Raise it once those are gone.

    Raises:
        ConfigError: The class and the versions contradict each other; the message explains how to fix it.
    """

    def __init__(
        self,
        cls: type[S],
        *,
        version: int,
        subject: str,
        mints: int | None = None,
        upgrades: Mapping[int, Step] | None = None,
        downgrades: Mapping[int, Step] | None = None,
        newer: Literal["tolerate", "refuse"] = "tolerate",
        version_claim: str = "version",
        oldest: int = 1,
    ) -> None:
        self.cls: Final = cls
        self.version: Final = version
        self.subject: Final = subject
        self.mints: Final = version if mints is None else mints
        self.newer: Final = newer
        self.version_claim: Final = version_claim
        self.oldest: Final = oldest
        self._shape: Final[Shape[S]] = shape_of(cls)
        self.build: Final = self._shape.build
        """A new session from the JSON of :meth:`assemble`: no two requests share one. Raises what the class raises."""
        self.claims: Final = self._shape.claims
        self._by_name: Final = {spec.name: spec for spec in self.claims}
        self._refuse_ambiguous()
        self._sub_is_text: Final = "sub" not in self._by_name or self._fits("sub", "text")
        if not isinstance(upgrades or {}, Mapping) or not isinstance(downgrades or {}, Mapping):
            raise ConfigError("upgrades and downgrades must be steps by version: {1: step}")
        self._versions: Final = Versions(
            current=version,
            mints=self.mints,
            upgrades=upgrades or {},
            downgrades=downgrades or {},
            since={spec.name: spec.since for spec in self.claims},
        )
        if not is_version(oldest) or oldest > self.mints:
            raise ConfigError(f"oldest must be an integer from 1 to what is minted ({self.mints}), got {oldest!r}")

    @property
    def subject_attribute(self) -> str:
        """The attribute of the session class that holds the subject."""
        return self._by_name[self.subject].attribute

    def label_of(self, payload: Mapping[str, Any]) -> str:
        """The version of a payload that is not checked yet, as metrics spell it; ``unknown`` if it cannot be read."""
        version = payload.get(self.version_claim, 1)
        return self.label(version) if is_version(version) else UNKNOWN_VERSION

    def own_subject(self, payload: Mapping[str, Any]) -> str | None:
        """The subject that a payload of any version has itself, before an upgrade; None if it has no such claim."""
        try:
            return subject_key(payload.get(self.subject))
        except Refusal:
            return None

    def label(self, version: int) -> str:
        """The version as metrics spell it: a number, or ``newer``."""
        return str(version) if version <= self.version else "newer"

    def upgrade(self, payload: Mapping[str, Any], version: int) -> Upgraded:
        """Bring verified claims of ``version`` to today's version, and find what is missing.

        Raises:
            Refusal: ``payload_newer``, ``payload_too_old``, ``payload_invalid`` (a step failed), ``claims_invalid`` (no
                valid subject).
        """
        if version < self.oldest:
            raise Refusal(Reason.PAYLOAD_TOO_OLD)
        if version > self.version and self.newer == "refuse":
            raise Refusal(Reason.PAYLOAD_NEWER)
        claims = self._versions.up(payload, version)
        if not self._sub_is_text and (number := _integer(claims.get("sub"))) is not None:
            claims["sub"] = claims["sub"] if self._fits("sub", claims["sub"]) else number
        missing = []
        for spec in self.claims:
            value = claims.get(spec.name, _ABSENT)
            if value is _ABSENT:
                missing.append(spec)
            elif not value and spec.is_empty(value):  # most values are not even falsy
                del claims[spec.name]
                missing.append(spec)
        subject, token_subject = subject_key(claims.get(self.subject)), None
        if claims.get(self.subject) is not payload.get(self.subject):
            token_subject = self.own_subject(payload)
        return Upgraded(
            claims=claims,
            subject=subject,
            token_subject=None if token_subject == subject else token_subject,
            missing=tuple(missing),
            label=self.label(version),
        )

    def assemble(self, claims: Mapping[str, Any]) -> tuple[bytes, S]:
        """Today's claims as JSON, and a session that is built from it, as later requests build theirs.

        Raises:
            Refusal: ``payload_invalid`` if JSON cannot carry the claims, or they do not fit the session class.
        """
        try:
            encoded = encode({spec.key: claims[spec.name] for spec in self.claims if spec.name in claims})
        except Exception:  # an upgrade step may return what JSON cannot carry
            raise Refusal(Reason.PAYLOAD_INVALID) from None
        try:
            return encoded, self.build(encoded)
        except Exception as error:  # the class may run code of the app (__post_init__, validators)
            key = self._shape.misfit(error)
            claim = next((spec.name for spec in self.claims if spec.key == key), None)
            raise Refusal(Reason.PAYLOAD_INVALID, claim=claim) from None

    def subject_in(self, encoded: bytes) -> str:
        """The subject in the JSON of :meth:`assemble`, as in the token: the class of the session may change it."""
        return subject_key(decode(encoded)[self._by_name[self.subject].key])

    def convert(self, claim: str, value: object) -> object:
        """A value from a row as the JSON value of the claim's type.

        Raises:
            ValueError: It does not fit; without text.
        """
        try:
            return self._shape.convert(self._by_name[claim].key, value)
        except Exception:  # from None: vendors quote the value
            raise ValueError from None

    def mint(self, session: S) -> tuple[str, dict[str, Any]]:
        """The subject of a session, and the claims to sign: of the version to mint, with the version claim.

        Raises:
            MintError: The session is not of the session class; or a claim does not fit, or is empty without a default.
        """
        if not isinstance(session, self.cls):
            raise MintError(f"expected a {self.cls.__name__}, got a {type(session).__name__}")
        claims = self._dump(session)
        try:
            subject = subject_key(claims[self.subject])
        except Refusal:
            raise MintError(f"claim {self.subject!r} must be an integer, or 1 to 255 printable characters") from None
        claims = self._versions.down(claims)
        if isinstance(claims.get("sub"), int):  # a StringOrURI (RFC 7519 section 4.1.2)
            claims["sub"] = str(claims["sub"])
        claims[self.version_claim] = self.mints
        return subject, claims

    def refuse_unknown(self, claims: Iterable[str], version: int) -> None:
        """Find names that no payload of ``version`` has; an upgrade step may read any name.

        Raises:
            ConfigError: There is one; the message lists the claims of the class.
        """
        unknown = sorted(set(claims) - set(self._by_name) - ENVELOPE - {self.version_claim})
        if unknown and version <= self.version and not self._versions.has_step_from(version):
            raise ConfigError(
                f"{self.cls.__name__} has no claim {unknown[0]!r}: use one of {sorted(self._by_name)}, or a keyword "
                "argument for a claim that the class does not have on purpose"
            )

    def refuse_unfillable(self, sourced: frozenset[str]) -> None:
        """Find claims that older tokens can never get.

        Raises:
            ConfigError: A claim was added after version 1 and has no default, no source and no upgrade step; or a
                source provides the subject, or a claim that the class does not have.
        """
        if unknown := sorted(sourced - set(self._by_name)):
            raise ConfigError(
                f"a source provides {unknown[0]!r}, but {self.cls.__name__} has no such claim: use one of "
                f"{sorted(self._by_name)}"
            )
        for spec in self.claims:
            older = spec.since - 1
            if older >= self.oldest and not (
                spec.has_default or spec.name in sourced or self._versions.has_step_from(older)
            ):
                raise ConfigError(
                    f"claim {spec.name!r} came with version {spec.since}, and older tokens can never get it: give it "
                    f"a default, a source, or an upgrade step upgrades={{{older}: …}}"
                )
        if self.subject in sourced:
            raise ConfigError(f"{self.subject!r} is the subject and must not come from a source: it is the key to it")

    def _fits(self, claim: str, value: object) -> bool:
        try:
            self.convert(claim, value)
        except ValueError:
            return False
        return True

    def _dump(self, session: S) -> dict[str, Any]:
        try:
            values = self._shape.dump(session)
        except Exception:  # from None: vendors quote the value
            raise MintError(f"{self.cls.__name__} holds a value that JSON cannot carry") from None
        claims: dict[str, Any] = {}
        for spec in self.claims:
            value = values[spec.key]
            if spec.is_empty(value):
                if not spec.has_default:
                    raise MintError(f"claim {spec.name!r} is empty and has no default")
                value = spec.default
            try:
                claims[spec.name] = self._shape.convert(spec.key, value)
            except Exception:  # from None: vendors quote the value
                raise MintError(f"claim {spec.name!r} does not fit its type") from None
        return claims

    def _refuse_ambiguous(self) -> None:
        if self.newer not in ("tolerate", "refuse"):
            raise ConfigError(f'newer must be "tolerate" or "refuse", got {self.newer!r}')
        if self.version_claim in ENVELOPE:
            raise ConfigError(f"version_claim={self.version_claim!r} is a registered claim: choose another name")
        names: set[str] = set()
        for spec in self.claims:
            if spec.name in ENVELOPE or spec.name == self.version_claim:
                raise ConfigError(
                    f"{self.cls.__name__}.{spec.attribute} is the claim {spec.name!r}, which every token has already: "
                    "read it from request.state.token, or rename yours with Claim(…)"
                )
            if spec.name in names:
                raise ConfigError(f"{self.cls.__name__} has two claims named {spec.name!r}: rename one with Claim(…)")
            names.add(spec.name)
        if self.subject not in names:
            raise ConfigError(f"subject={self.subject!r} is not a claim of {self.cls.__name__}: use {sorted(names)}")
        if self._by_name[self.subject].has_default:
            raise ConfigError(f"the subject claim {self.subject!r} must not have a default: every user has an id")


def _integer(text: object) -> int | None:
    """The integer of its canonical spelling, as a token carries it in ``sub``."""
    if not isinstance(text, str) or not text.removeprefix("-").isdecimal() or len(text) > 20:
        return None
    number = int(text)
    return number if str(number) == text else None
