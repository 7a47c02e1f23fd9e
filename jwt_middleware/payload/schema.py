"""What a payload looks like now, how it came to, and what an older one lacks. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal

from ..errors import ConfigError, MintError, Reason, Refusal
from ..types import S
from .fields import ENVELOPE, ClaimSpec, Shape, decode, encode, shape_of, spec_of, subject_key
from .versions import Step, Versions, is_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded:
    """A payload brought to today's version, and what it still lacks."""

    claims: dict[str, Any] = field(repr=False)
    """By wire name; the missing ones are absent."""
    subject: str = field(repr=False)
    missing: tuple[ClaimSpec, ...]
    label: str
    """The payload version as metrics spell it."""


class SessionSchema(Generic[S]):
    """Today's session class and its versions.

    Args:
        cls: A dataclass, msgspec Struct or pydantic model; :class:`Claim` in ``Annotated`` names and dates a claim.
        version: Today's payload version, an integer ≥ 1.
        subject: Wire name of the claim that says who the user is.
        mints: The version to mint, where readers of ``version`` roll out first; default ``version``.
        upgrades: ``{1: step}`` leads from version 1 to 2, for what adding a claim cannot express.
        downgrades: ``{2: step}`` leads from version 2 to 1, needed for ``mints`` below an upgrade.
        newer: What to do with a payload newer than ``version``: ``tolerate`` ignores claims it does not know.
        version_claim: Wire name of the version; a payload without it is of version 1.

    Raises:
        ConfigError: The class and the versions contradict each other.
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
    ) -> None:
        self.cls: Final = cls
        self.version: Final = version
        self.subject: Final = subject
        self.mints: Final = version if mints is None else mints
        self.newer: Final = newer
        self.version_claim: Final = version_claim
        self._shape: Final[Shape[S]] = shape_of(cls)
        self.build: Final = self._shape.build
        """A new session from what :meth:`freeze` made. Raises whatever the class raises: :meth:`thaw` is for others."""
        self._fields: Final = tuple((field, spec_of(self._shape, field)) for field in self._shape.fields)
        self.claims: Final = tuple(spec for _, spec in self._fields)
        self._by_name: Final = {spec.name: (field, spec) for field, spec in self._fields}
        self._keys: Final = tuple((spec.name, field.key) for field, spec in self._fields)
        self._refuse_ambiguous()
        if not isinstance(upgrades or {}, Mapping) or not isinstance(downgrades or {}, Mapping):
            raise ConfigError("upgrades and downgrades are steps by version: {1: step}")
        self._versions: Final = Versions(
            current=version,
            mints=self.mints,
            upgrades=upgrades or {},
            downgrades=downgrades or {},
            claims=self.claims,
        )

    @property
    def subject_attribute(self) -> str:
        """The attribute of the session class that holds the subject."""
        return self._by_name[self.subject][1].attribute

    def version_of(self, payload: Mapping[str, Any]) -> int:
        """The payload's version; absent means 1.

        Raises:
            Refusal: ``claims_invalid`` for anything but an integer ≥ 1.
        """
        version = payload.get(self.version_claim, 1)
        if not is_version(version):
            raise Refusal(Reason.CLAIMS_INVALID)
        return int(version)

    def label(self, version: int) -> str:
        """The version as metrics spell it: a number, or ``newer``."""
        return str(version) if version <= self.version else "newer"

    def upgrade(self, payload: Mapping[str, Any], version: int) -> Upgraded:
        """Bring verified claims of ``version`` to today's.

        Raises:
            Refusal: ``payload_newer``, ``payload_invalid`` (a step failed), ``claims_invalid`` (no usable subject).
        """
        if version > self.version and self.newer == "refuse":
            raise Refusal(Reason.PAYLOAD_NEWER)
        claims = self._versions.up(payload, version)
        missing = []
        for spec in self.claims:
            if spec.name not in claims:
                missing.append(spec)
            elif spec.is_empty(claims[spec.name]):
                del claims[spec.name]
                missing.append(spec)
        return Upgraded(
            claims=claims,
            subject=subject_key(claims.get(self.subject)),
            missing=tuple(missing),
            label=self.label(version),
        )

    def freeze(self, claims: Mapping[str, Any]) -> bytes:
        """What :meth:`thaw` builds a session from: today's claims under attribute names.

        Raises:
            Refusal: ``payload_invalid`` where JSON cannot carry the claims.
        """
        try:
            return encode({key: claims[name] for name, key in self._keys if name in claims})
        except Exception:  # an upgrade step may return what JSON cannot carry
            raise Refusal(Reason.PAYLOAD_INVALID) from None

    def subject_in(self, frozen: bytes) -> str:
        """The subject as the token spells it: a session may hold it as another type, or changed by its class."""
        return subject_key(decode(frozen)[dict(self._keys)[self.subject]])

    def thaw(self, frozen: bytes) -> S:
        """A new session, shared with nobody.

        Raises:
            Refusal: ``payload_invalid`` where the claims do not fit the session class.
        """
        try:
            return self.build(frozen)
        except Exception as error:  # the class may run code of the app's (__post_init__, validators)
            at = self._shape.misfit(error)
            claim = next((name for name, key in self._keys if key == at), None)
            raise Refusal(Reason.PAYLOAD_INVALID, claim=claim) from None

    def convert(self, claim: str, value: object) -> object:
        """A value from a row as JSON value of the claim's type.

        Raises:
            ValueError: It does not fit; without any text.
        """
        try:
            return self._shape.convert(self._by_name[claim][0], value)
        except Exception:  # vendors quote the value
            raise ValueError from None

    def mint(self, session: S) -> tuple[str, dict[str, Any]]:
        """The subject, and the claims to sign for a session: of the version that is minted, with the version claim.

        Raises:
            MintError: Not the session class, or a claim that is empty without having a default, or does not fit.
        """
        if not isinstance(session, self.cls):
            raise MintError(f"expected a {self.cls.__name__}, got a {type(session).__name__}")
        claims = self._dump(session)
        try:
            subject = subject_key(claims[self.subject])
        except Refusal:
            raise MintError(f"claim {self.subject!r} is no subject: use 1 to 255 printable characters") from None
        claims = self._versions.down(claims)
        claims[self.version_claim] = self.mints
        return subject, claims

    def refuse_unknown(self, claims: Iterable[str], version: int) -> None:
        """Find names that no payload of ``version`` has, as far as can be said: an upgrade step may read any.

        Raises:
            ConfigError: It names the claims of the class.
        """
        unknown = sorted(set(claims) - set(self._by_name) - ENVELOPE - {self.version_claim})
        if unknown and version <= self.version and not self._versions.begins_at(version):
            raise ConfigError(
                f"{unknown[0]!r} is no claim of {self.cls.__name__}: use {sorted(self._by_name)}, or a keyword "
                "argument for what the class does not know on purpose"
            )

    def refuse_unfillable(self, sourced: frozenset[str]) -> None:
        """Find claims an older token could never get.

        Raises:
            ConfigError: A claim was added after version 1 and has no default, no source and no upgrade step, or a
                source knows a claim that the class does not have.
        """
        if unknown := sorted(sourced - set(self._by_name)):
            raise ConfigError(
                f"a source knows {unknown[0]!r}, which is no claim of {self.cls.__name__}: use {sorted(self._by_name)}"
            )
        for spec in self.claims:
            if spec.since > 1 and not (spec.has_default or spec.name in sourced or self._versions.reaches(spec)):
                raise ConfigError(
                    f"claim {spec.name!r} came with version {spec.since} and older tokens could never get it: give it "
                    f"a default, a source, or an upgrade step upgrades={{{spec.since - 1}: …}}"
                )
        if self.subject in sourced:
            raise ConfigError(f"{self.subject!r} is the subject and cannot come from a source: it is the key to it")

    def _dump(self, session: S) -> dict[str, Any]:
        try:
            values = self._shape.dump(session)
        except Exception:  # vendors quote the value
            raise MintError(f"{self.cls.__name__} holds a value that JSON cannot carry") from None
        claims: dict[str, Any] = {}
        for source, spec in self._fields:
            value = values[source.key]
            if spec.is_empty(value):
                if not spec.has_default:
                    raise MintError(f"claim {spec.name!r} is empty and has no default")
                value = spec.default
            try:
                claims[spec.name] = self._shape.convert(source, value)
            except Exception:  # vendors quote the value
                raise MintError(f"claim {spec.name!r} does not fit its type") from None
        return claims

    def _refuse_ambiguous(self) -> None:
        if self.newer not in ("tolerate", "refuse"):
            raise ConfigError('newer must be "tolerate" or "refuse"')
        seen: set[str] = set()
        for spec in self.claims:
            if spec.name == self.version_claim or spec.name in ENVELOPE:
                raise ConfigError(
                    f"{self.cls.__name__}.{spec.attribute} is the claim {spec.name!r}, which every token carries "
                    "already: read it from request.state.token, or name yours otherwise with Claim(...)"
                )
            if spec.name in seen:
                raise ConfigError(f"two claims of {self.cls.__name__} are named {spec.name!r}: rename one: Claim(...)")
            seen.add(spec.name)
        if self.version_claim in ENVELOPE:
            raise ConfigError(f"version_claim={self.version_claim!r} is a registered claim: choose another name")
        if self.subject not in seen:
            raise ConfigError(f"subject={self.subject!r} is no claim of {self.cls.__name__}: use one of {sorted(seen)}")
        if self._by_name[self.subject][1].has_default:
            raise ConfigError(f"the subject {self.subject!r} has a default: a user without an id is nobody, drop it")
