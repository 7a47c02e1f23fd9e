"""The claims of a session class of any of the three kinds, behind one small interface: JSON in, session out, and back.

msgspec builds dataclasses and Structs, pydantic builds models; pydantic is imported only for a model. Sessions are
built from JSON bytes, which the token cache keeps: what was built once can be built again.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Generic, Protocol

import msgspec

from ..errors import ConfigError, Reason, Refusal
from ..types import S, is_identifier

NO_DEFAULT: Final = object()
ENVELOPE: Final = frozenset({"iat", "exp", "nbf", "iss", "aud", "sid", "auth_time"})
"""Claims that this package mints and checks (RFC 7519 section 4.1; ``sid``, ``auth_time``: OpenID Connect Core)."""
encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder().decode
_PATH: Final = re.compile(r" - at `\$\.([^.\[`]+)[^`]*`\Z")
"""Where msgspec says what does not fit: ``Expected `str`, got `int` - at `$.user_id` ``."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Names and dates the claim of an attribute: ``email: Annotated[str, Claim("mail", since=2)]``.

    Args:
        name: The wire name (RFC 7519 section 4); None means the class's own alias or rename, else the attribute's name.
        since: The payload version that added the claim, an integer ≥ 1.

    Raises:
        ConfigError: The name is not a string.
    """

    name: str | None = None
    since: int = dataclasses.field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if self.name is not None and not isinstance(self.name, str):
            raise ConfigError(
                f"the name of a Claim must be a str, got {self.name!r}; for a version use Claim(since={self.name!r})"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSpec:
    """One claim of today's payload."""

    attribute: str
    key: str
    """The name under which the session class itself encodes the attribute."""
    name: str
    """Wire name."""
    since: int
    nullable: bool
    """Its type accepts None."""
    default: object = dataclasses.field(default=NO_DEFAULT, repr=False)
    """The default as a JSON value, or ``NO_DEFAULT``."""

    @property
    def has_default(self) -> bool:
        return self.default is not NO_DEFAULT

    def is_empty(self, value: object) -> bool:
        """True if the value counts as missing: None if the type refuses it, and ``""`` unless it is the default."""
        return (value is None and not self.nullable) or (value == "" and self.default != "")


def subject_key(value: object) -> str:
    """The subject as text: the key of lookups and of the session table.

    Raises:
        Refusal: ``claims_invalid`` unless it is an integer, or 1 to 255 characters without control characters.
    """
    if is_identifier(value):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise Refusal(Reason.CLAIMS_INVALID)


class Shape(Protocol[S]):
    """What a session class can do with JSON. A value that does not fit raises an exception of any class."""

    claims: tuple[ClaimSpec, ...]
    build: Callable[[bytes], S]
    """A new session from the JSON object of its claims, by key."""

    def dump(self, session: S) -> dict[str, Any]:
        """The session as JSON values, by key."""

    def convert(self, key: str, value: object) -> object:
        """A Python value as the JSON value of the key's type."""

    def misfit(self, error: Exception) -> object:
        """The key that an exception of :attr:`build` is about; None if it does not say."""


def shape_of(cls: type[S]) -> Shape[S]:
    """Recognise the kind of class.

    Raises:
        ConfigError: It is none of the three, or an attribute's type or default does not work.
    """
    if isinstance(cls, type) and issubclass(cls, msgspec.Struct):
        return MsgspecShape(cls, _struct_fields(cls))
    if isinstance(cls, type) and dataclasses.is_dataclass(cls):
        return MsgspecShape(cls, _dataclass_fields(cls))
    if isinstance(cls, type) and hasattr(cls, "model_fields") and hasattr(cls, "__pydantic_core_schema__"):
        return PydanticShape(cls, _pydantic_fields(cls))
    named = getattr(cls, "__name__", f"an object of {type(cls).__name__}")
    raise ConfigError(f"the session class must be a dataclass, a msgspec Struct or a pydantic model, got {named}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """An attribute as a session class declares it."""

    attribute: str
    key: str
    type: Any
    claim: Claim
    default: object
    """The default as a Python value, or ``NO_DEFAULT``."""


class MsgspecShape(Generic[S]):
    """A dataclass or a msgspec Struct."""

    def __init__(self, cls: type[S], fields: tuple[_Field, ...]) -> None:
        for field in fields:
            if isinstance(msgspec.inspect.type_info(field.type), msgspec.inspect.CustomType):
                raise ConfigError(
                    f"{cls.__name__}.{field.attribute} has a type that JSON cannot carry: use str, int, bool, float, "
                    "datetime, UUID, Decimal, Enum, a list, a dict or a dataclass"
                )
        self.build: Callable[[bytes], S] = msgspec.json.Decoder(cls).decode
        self._types = {field.key: field.type for field in fields}
        self._decoders = {field.key: msgspec.json.Decoder(field.type).decode for field in fields}
        self.claims = tuple(_spec(self, field) for field in fields)

    def dump(self, session: S) -> dict[str, Any]:
        values: dict[str, Any] = msgspec.to_builtins(session)
        return values

    def convert(self, key: str, value: object) -> object:
        for candidate in _candidates(value):
            try:
                converted = msgspec.convert(candidate, self._types[key])
            except (msgspec.ValidationError, TypeError):
                continue
            encoded = encode(converted)
            self._decoders[key](encoded)  # NaN, for one, is encoded as null and does not come back
            return decode(encoded)
        raise ValueError

    def misfit(self, error: Exception) -> object:
        path = _PATH.search(str(error)) if isinstance(error, msgspec.ValidationError) else None
        return path and path[1]


class PydanticShape(Generic[S]):
    """A pydantic model."""

    def __init__(self, cls: type[S], fields: tuple[_Field, ...]) -> None:
        from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - an app without pydantic does not need it

        self.build: Callable[[bytes], S] = TypeAdapter(cls).validate_json
        self._error = ValidationError
        self._attributes = {field.key: field.attribute for field in fields}
        self._adapters: dict[str, Any] = {field.key: TypeAdapter(field.type) for field in fields}
        self.claims = tuple(_spec(self, field) for field in fields)

    def dump(self, session: S) -> dict[str, Any]:
        values: dict[str, Any] = session.model_dump(mode="json")  # type: ignore[attr-defined]  # shape_of saw a model
        return {key: values[attribute] for key, attribute in self._attributes.items()}

    def convert(self, key: str, value: object) -> object:
        adapter = self._adapters[key]
        for candidate in _candidates(value):
            try:
                encoded = adapter.dump_json(adapter.validate_python(candidate))
            except ValueError:
                continue
            adapter.validate_json(encoded)
            return decode(encoded)
        raise ValueError

    def misfit(self, error: Exception) -> object:
        if not isinstance(error, self._error):
            return None
        path = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]
        return path[0] if path else None


def _spec(shape: Shape[S], field: _Field) -> ClaimSpec:
    """The claim that an attribute is.

    Raises:
        ConfigError: Its default does not fit its type.
    """
    try:
        nullable = shape.convert(field.key, None) is None
    except Exception:  # any exception means that it does not fit
        nullable = False
    default = field.default
    if default is not NO_DEFAULT:
        try:
            default = shape.convert(field.key, default)
        except Exception:  # from None: vendors quote the value
            raise ConfigError(f"the default of {field.attribute!r} does not fit its type: change one of them") from None
    return ClaimSpec(
        attribute=field.attribute,
        key=field.key,
        name=field.claim.name or field.key,
        since=field.claim.since,
        nullable=nullable,
        default=default,
    )


def _candidates(value: object) -> Iterator[object]:
    """The value, and what a row may mean by it: a UUID or enum for a string, an integer for a string or a flag."""
    yield value
    if isinstance(value, Decimal):
        yield float(value)
    yield msgspec.to_builtins(value)
    if isinstance(value, int) and not isinstance(value, bool):
        yield str(value)
        if value in (0, 1):
            yield bool(value)


def _hints(cls: type[Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):
        raise ConfigError(
            f"the annotations of {cls.__name__} cannot be resolved: define the class and the types it names at module "
            "level, and import them outside `if TYPE_CHECKING`"
        ) from None


def _claim_in(metadata: typing.Iterable[object]) -> Claim:
    return next((extra for extra in metadata if isinstance(extra, Claim)), Claim())


def _dataclass_fields(cls: type[Any]) -> tuple[_Field, ...]:
    hints = _hints(cls)
    return tuple(
        _field(field, field.name, hints[field.name], dataclasses.MISSING)
        for field in dataclasses.fields(cls)
        if field.init
    )


def _struct_fields(cls: type[msgspec.Struct]) -> tuple[_Field, ...]:
    if cls.__struct_config__.array_like or cls.__struct_config__.tag is not None:
        raise ConfigError(f"{cls.__name__} is array_like or tagged; a payload is a plain JSON object: drop the option")
    hints = _hints(cls)
    return tuple(
        _field(field, field.encode_name, hints[field.name], msgspec.NODEFAULT) for field in msgspec.structs.fields(cls)
    )


def _field(field: Any, key: str, hint: Any, absent: object) -> _Field:
    """Dataclasses and Structs declare fields alike; ``absent`` is their sign for no default."""
    default = NO_DEFAULT if field.default is absent else field.default
    return _Field(
        attribute=field.name,
        key=key,
        type=hint,
        claim=_claim_in(getattr(hint, "__metadata__", ())),
        default=default if field.default_factory is absent else field.default_factory(),
    )


def _pydantic_fields(cls: type[Any]) -> tuple[_Field, ...]:
    fields = []
    hints = _hints(cls)
    for name, info in cls.model_fields.items():
        if info.validation_alias is not None and not isinstance(info.validation_alias, str):
            raise ConfigError(f"{cls.__name__}.{name} has several aliases: give it one, or name it with Claim(…)")
        default = info.get_default(call_default_factory=True, validated_data={})
        fields.append(
            _Field(
                attribute=name,
                key=info.validation_alias or name,
                type=hints[name],
                claim=_claim_in(info.metadata),
                default=NO_DEFAULT if info.is_required() else default,
            )
        )
    return tuple(fields)
