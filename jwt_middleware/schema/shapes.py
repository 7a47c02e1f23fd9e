"""The three kinds of session class, behind one small interface: JSON in, typed session out, and back.

A dataclass and a msgspec Struct are built by msgspec, a pydantic model by pydantic, which is imported only where one
comes along. Everything is built from JSON bytes: what the token cache keeps is just what the first request was built
from, so that a session that could be built once can be built again.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Generic, Protocol

import msgspec

from ..errors import ConfigError
from ..types import S, TokenInfo
from .claims import NO_DEFAULT, Claim, Field

_encoder = msgspec.json.Encoder()


class Shape(Protocol[S]):
    """How one session class is taken apart and put together. Whatever does not fit raises some exception."""

    fields: tuple[Field, ...]

    def thaw(self, frozen: bytes) -> tuple[S, TokenInfo]:
        """The session and the token's facts from the bytes of :func:`freeze`."""

    def dump(self, session: S) -> dict[str, Any]:
        """The session as JSON values, by key."""

    def convert(self, field: Field, value: object) -> object:
        """A Python value as the JSON value of that field's type."""


def freeze(by_key: Mapping[str, Any], token: TokenInfo) -> bytes:
    """One JSON array of the session's claims by key, and the token's facts."""
    return _encoder.encode((by_key, token))


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
    raise ConfigError(f"{cls!r} is no session class: make it a dataclass, a msgspec Struct or a pydantic model")


class MsgspecShape(Generic[S]):
    def __init__(self, cls: type[S], fields: tuple[Field, ...]) -> None:
        self.fields = fields
        for field in fields:
            if isinstance(msgspec.inspect.type_info(field.type), msgspec.inspect.CustomType):
                raise ConfigError(
                    f"{cls.__name__}.{field.attribute} has a type that JSON cannot carry: use str, int, bool, float, "
                    "datetime, UUID, Decimal, Enum, a list, a dict or a dataclass"
                )
        self.thaw: Callable[[bytes], tuple[S, TokenInfo]] = msgspec.json.Decoder(tuple[cls, TokenInfo]).decode  # type: ignore[valid-type]  # the class is a value here
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
            encoded = _encoder.encode(converted)
            self._by_field[field.key](encoded)  # NaN and the like would not come back
            return msgspec.json.decode(encoded)
        raise ValueError


class PydanticShape(Generic[S]):
    def __init__(self, cls: type[S]) -> None:
        from pydantic import TypeAdapter  # noqa: PLC0415 - only who has a pydantic model pays for the import

        self.fields = _pydantic_fields(cls)
        self._split = msgspec.json.Decoder(tuple[msgspec.Raw, TokenInfo]).decode
        self._build = TypeAdapter(cls).validate_json
        self._adapters: dict[str, Any] = {field.key: TypeAdapter(field.type) for field in self.fields}

    def thaw(self, frozen: bytes) -> tuple[S, TokenInfo]:
        raw, token = self._split(frozen)
        return self._build(bytes(raw)), token

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
            return msgspec.json.decode(encoded)
        raise ValueError


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
