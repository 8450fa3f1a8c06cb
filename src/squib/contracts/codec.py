"""JSON to and from frozen dataclasses, with the standard library alone and errors that name the field.

Supports what the contracts use: str, int, float, bool, None, Any, Literal, StrEnum, Optional and other unions,
list, tuple[X, ...], dict[str, X] and nested dataclasses. Unknown keys are refused unless `lenient`.
"""

import dataclasses
import enum
import functools
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from squib.contracts.errors import InvalidRequest

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Turn a contract value into plain JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    return value.value if isinstance(value, enum.Enum) else value


def dumps(value: Any) -> bytes:
    """Encode a contract value as compact UTF-8 JSON on one line."""
    return json.dumps(encode(value), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def loads(kind: type[T], raw: bytes | str, *, lenient: bool = False) -> T:
    """Decode JSON text into `kind`. Raises InvalidRequest for bad JSON, a bad type or an unknown key."""
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {error}", fields={"body": "not JSON"}) from error
    return decode(kind, document, lenient=lenient)


def decode(kind: type[T], document: Any, *, lenient: bool = False) -> T:
    """Check plain JSON types against `kind` and build it. Raises InvalidRequest, which names the field."""
    return typing.cast(T, _value(kind, document, "", lenient))


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _bad(path: str, message: str) -> InvalidRequest:
    name = path or "body"
    return InvalidRequest(f"{name}: {message}", fields={name: message})


def _value(kind: Any, value: Any, path: str, lenient: bool) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _union(kind, value, path, lenient)
    if origin is typing.Literal:
        if value in typing.get_args(kind):
            return value
        raise _bad(path, f"must be one of {', '.join(map(str, typing.get_args(kind)))}")
    if origin in (list, tuple, dict) or kind in (list, tuple, dict):
        return _container(kind, origin or kind, value, path, lenient)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, path, lenient)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(value)
        except ValueError:
            raise _bad(path, f"must be one of {', '.join(str(m.value) for m in kind)}") from None
    return _scalar(kind, value, path)


def _scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is types.NoneType:
        kind = type(None)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _bad(path, f"must be {kind.__name__}, not {type(value).__name__}")
    return value


def _union(kind: Any, value: Any, path: str, lenient: bool) -> Any:
    arms = typing.get_args(kind)
    if value is None and type(None) in arms:
        return None
    failure: InvalidRequest | None = None
    for arm in arms:
        if arm is not type(None):
            try:
                return _value(arm, value, path, lenient)
            except InvalidRequest as error:
                failure = error
    raise failure or _bad(path, "has the wrong type")


def _container(kind: Any, origin: Any, value: Any, path: str, lenient: bool) -> Any:
    arguments = typing.get_args(kind)
    if origin is dict:
        if not isinstance(value, dict):
            raise _bad(path, "must be an object")
        item = arguments[1] if arguments else Any
        return {k: _value(item, v, f"{path}.{k}" if path else str(k), lenient) for k, v in value.items()}
    if not isinstance(value, list):
        raise _bad(path, "must be a list")
    item = arguments[0] if arguments else Any
    return origin(_value(item, v, f"{path}[{i}]", lenient) for i, v in enumerate(value))


def _dataclass(kind: type, value: Any, path: str, lenient: bool) -> Any:
    if not isinstance(value, dict):
        raise _bad(path, "must be an object")
    hints, prefix = _hints(kind), f"{path}." if path else ""
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    if not lenient and (unknown := set(value) - set(fields)):
        name = min(map(str, unknown))
        raise _bad(prefix + name, "is not a known field")
    built = {n: _value(hints[n], value[n], prefix + n, lenient) for n in fields if n in value}
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in built and not optional:
            raise _bad(prefix + name, "is required")
    try:
        return kind(**built)
    except InvalidRequest as error:
        if not prefix:
            raise
        fields_ = {prefix + n: m for n, m in error.fields.items()}
        raise type(error)(f"{path}: {error.detail}", advice=error.advice, fields=fields_) from error
