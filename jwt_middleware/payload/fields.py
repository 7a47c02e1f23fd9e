"""The three kinds of session class, behind one small interface: JSON in, typed session out, and back.

A dataclass and a msgspec Struct are built by msgspec, a pydantic model by pydantic, which is imported only where one
comes along. Everything is built from JSON bytes: what the token cache keeps is just what the first request was built
from, so that a session that could be built once can be built again.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Generic, Protocol

import msgspec

from ..errors import ConfigError, Reason, Refusal
from ..types import S

NO_DEFAULT: Final = object()
ENVELOPE: Final = frozenset({"iat", "exp", "nbf", "iss", "aud", "sid", "auth_time"})
"""Claims this package mints and checks itself (RFC 7519 section 4.1; ``sid``, ``auth_time``: OpenID Connect Core)."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Claim:
    """Says of an attribute how it stands in the payload: ``email: Annotated[str, Claim("mail", since=2)]``.

    Args:
        name: The wire name (RFC 7519 section 4); None means the class's own alias or rename, else the attribute's.
        since: The payload version that added the claim, an integer ≥ 1.

    Raises:
        ConfigError: The name is none.
    """

    name: str | None = None
    since: int = dataclasses.field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if self.name is not None and not isinstance(self.name, str):
            raise ConfigError(f"Claim({self.name!r}) is no name of a claim: did you mean Claim(since={self.name!r})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSpec:
    """One claim of today's payload."""

    attribute: str
    name: str
    """Wire name."""
    since: int
    nullable: bool
    """Its type accepts None."""
    default: object = dataclasses.field(default=NO_DEFAULT, repr=False)
    """The default as it stands in JSON, or ``NO_DEFAULT``."""

    @property
    def has_default(self) -> bool:
        return self.default is not NO_DEFAULT

    def is_empty(self, value: object) -> bool:
        """Null where the type refuses None, or ``""`` unless that is the default: as good as absent."""
        return (value is None and not self.nullable) or (value == "" and self.default != "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """An attribute as the session class declares it, whatever kind of class that is."""

    attribute: str
    key: str
    """The name under which the class encodes it itself."""
    type: Any
    claim: Claim
    default: object = NO_DEFAULT
    """The default as a Python value, or ``NO_DEFAULT``."""


def subject_key(value: object) -> str:
    """The subject as text: what lookups and the session table are asked by.

    Raises:
        Refusal: ``claims_invalid`` unless it is an integer, or 1 to 255 characters without control characters.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and 0 < len(value) <= 255 and not _CONTROL.search(value):
        return value
    raise Refusal(Reason.CLAIMS_INVALID)


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode
_PATH: typing.Final = re.compile(r" - at `\$\.([^.\[`]+)[^`]*`\Z")
"""How msgspec says where something does not fit: ``Expected `str`, got `int` - at `$.user_id` ``."""


class Shape(Protocol[S]):
    """How one session class is taken apart and put together. Whatever does not fit raises some exception."""

    fields: tuple[Field, ...]

    build: Callable[[bytes], S]
    """A new session from the JSON object of its claims, by key."""

    def dump(self, session: S) -> dict[str, Any]:
        """The session as JSON values, by key."""

    def convert(self, field: Field, value: object) -> object:
        """A Python value as the JSON value of that field's type."""

    def misfit(self, error: Exception) -> object:
        """The key that an exception of :attr:`build` is about, where it says one."""


def shape_of(cls: type[S]) -> Shape[S]:
    """Recognise the kind of class.

    Raises:
        ConfigError: It is none of the three, or has a type that JSON cannot carry.
    """
    if isinstance(cls, type) and issubclass(cls, msgspec.Struct):
        return MsgspecShape(cls, _struct_fields(cls))
    if isinstance(cls, type) and dataclasses.is_dataclass(cls):
        return MsgspecShape(cls, _dataclass_fields(cls))
    if isinstance(cls, type) and hasattr(cls, "model_fields") and hasattr(cls, "__pydantic_core_schema__"):
        return PydanticShape(cls)
    named = getattr(cls, "__name__", f"an object of {type(cls).__name__}")
    raise ConfigError(f"{named} is no session class: make it a dataclass, a msgspec Struct or a pydantic model")


class MsgspecShape(Generic[S]):
    def __init__(self, cls: type[S], fields: tuple[Field, ...]) -> None:
        self.fields = fields
        for field in fields:
            if isinstance(msgspec.inspect.type_info(field.type), msgspec.inspect.CustomType):
                raise ConfigError(
                    f"{cls.__name__}.{field.attribute} has a type that JSON cannot carry: use str, int, bool, float, "
                    "datetime, UUID, Decimal, Enum, a list, a dict or a dataclass"
                )
        self.build: Callable[[bytes], S] = msgspec.json.Decoder(cls).decode
        self._by_field = {field.key: msgspec.json.Decoder(field.type).decode for field in fields}

    def dump(self, session: S) -> dict[str, Any]:
        values: dict[str, Any] = msgspec.to_builtins(session)
        return values

    def convert(self, field: Field, value: object) -> object:
        for candidate in _candidates(value):
            try:
                converted = msgspec.convert(candidate, field.type)
            except (msgspec.ValidationError, TypeError):
                continue
            encoded = encode(converted)
            self._by_field[field.key](encoded)  # NaN and the like would not come back
            return decode(encoded)
        raise ValueError

    def misfit(self, error: Exception) -> object:
        found = _PATH.search(str(error)) if isinstance(error, msgspec.ValidationError) else None
        return found and found[1]


class PydanticShape(Generic[S]):
    def __init__(self, cls: type[S]) -> None:
        from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - only who has a pydantic model pays for the import

        self.fields = _pydantic_fields(cls)
        self.build: Callable[[bytes], S] = TypeAdapter(cls).validate_json
        self._error = ValidationError
        self._adapters: dict[str, Any] = {field.key: TypeAdapter(field.type) for field in self.fields}

    def dump(self, session: S) -> dict[str, Any]:
        values: dict[str, Any] = session.model_dump(mode="json")  # type: ignore[attr-defined]  # shape_of saw a model
        return {field.key: values[field.attribute] for field in self.fields}

    def convert(self, field: Field, value: object) -> object:
        adapter = self._adapters[field.key]
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


def spec_of(shape: Shape[S], declared: Field) -> ClaimSpec:
    """The claim that an attribute is.

    Raises:
        ConfigError: Its default does not fit its type.
    """
    try:
        nullable = shape.convert(declared, None) is None
    except Exception:  # whatever the vendor raises means no
        nullable = False
    default = declared.default
    if default is not NO_DEFAULT:
        try:
            default = shape.convert(declared, default)
        except Exception:  # vendors quote the value
            raise ConfigError(f"the default of {declared.attribute!r} does not fit its own type: mend one") from None
    return ClaimSpec(
        attribute=declared.attribute,
        name=declared.claim.name or declared.key,
        since=declared.claim.since,
        nullable=nullable,
        default=default,
    )


def _candidates(value: object) -> typing.Iterator[object]:
    """The value, and what a row may mean by it: a UUID or an enum for a string, an integer for a string or a flag."""
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


def _annotated(hint: Any) -> Claim:
    found = [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Claim)]
    return found[0] if found else Claim()


def _dataclass_fields(cls: type[Any]) -> tuple[Field, ...]:
    hints = _hints(cls)
    return tuple(
        Field(
            attribute=field.name,
            key=field.name,
            type=hints[field.name],
            claim=_annotated(hints[field.name]),
            default=_default(field.default, field.default_factory, dataclasses.MISSING),
        )
        for field in dataclasses.fields(cls)
        if field.init
    )


def _struct_fields(cls: type[msgspec.Struct]) -> tuple[Field, ...]:
    if cls.__struct_config__.array_like or cls.__struct_config__.tag is not None:
        raise ConfigError(f"{cls.__name__} is array_like or tagged: a payload is a plain JSON object, drop the option")
    hints = _hints(cls)
    return tuple(
        Field(
            attribute=field.name,
            key=field.encode_name,
            type=hints[field.name],
            claim=_annotated(hints[field.name]),
            default=_default(field.default, field.default_factory, msgspec.NODEFAULT),
        )
        for field in msgspec.structs.fields(cls)
    )


def _pydantic_fields(cls: type[Any]) -> tuple[Field, ...]:
    fields = []
    hints = _hints(cls)
    for name, info in cls.model_fields.items():
        if info.validation_alias is not None and not isinstance(info.validation_alias, str):
            raise ConfigError(f"{cls.__name__}.{name} has several aliases: give it one, or name it with Claim(...)")
        required = info.is_required()
        fields.append(
            Field(
                attribute=name,
                key=info.validation_alias or name,
                type=hints[name],
                claim=next((extra for extra in info.metadata if isinstance(extra, Claim)), Claim()),
                default=NO_DEFAULT if required else info.get_default(call_default_factory=True, validated_data={}),
            )
        )
    return tuple(fields)


def _default(value: object, factory: Any, absent: object) -> object:
    if factory is not absent:
        return factory()
    return NO_DEFAULT if value is absent else value
