"""Request bodies, read within a bound and only after the caller is known."""

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from email.message import Message
from typing import Any, TypeVar

from starlette.requests import Request

from squib.api.auth import User
from squib.api.problems import UnsupportedMediaType
from squib.api.services import Deps
from squib.contracts import codec
from squib.contracts.errors import InvalidRequest, TooLarge

T = TypeVar("T")
_MAX_DEPTH = 32
_MAX_INTEGER = 2**63 - 1


def media_type(request: Request) -> str:
    """The body's media type in lower case, without parameters; empty where there is no Content-Type."""
    header = request.headers.get("content-type")
    if not header:
        return ""
    message = Message()
    message["content-type"] = header
    return message.get_content_type()


async def chunks(request: Request, bound: int, *, setting: str) -> AsyncIterator[bytes]:
    """The body piece by piece. Raises TooLarge, which names the bound's `setting`, once it is over `bound` bytes."""
    error = TooLarge(f"the body is over {bound} bytes", advice=f"Send less, or raise {setting}.")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > bound):
        raise error
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bound:
            raise error
        if chunk:
            yield chunk


def check_plain(value: Any, path: str = "", depth: int = 0) -> None:
    """Refuse what JSON can say and no database keeps: NUL, lone surrogates, huge numbers, deep nesting."""
    if depth > _MAX_DEPTH:
        raise _bad(path, f"is nested deeper than {_MAX_DEPTH}")
    if isinstance(value, str):
        if "\x00" in value:
            raise _bad(path, "must not hold a NUL character")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise _bad(path, "must not hold half of a surrogate pair")
    elif isinstance(value, dict):
        for key, item in value.items():
            check_plain(key, path, depth)
            check_plain(item, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_plain(item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise _bad(path, "must be a finite number")
    elif isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise _bad(path, "is too large a number")


def _bad(path: str, message: str) -> InvalidRequest:
    name = path[:200].encode("utf-8", "backslashreplace").decode() or "body"
    return InvalidRequest(f"{name}: {message}", fields={name: message})


def _not_a_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _number(text: str) -> int | float:
    """JSON knows one kind of number: 2.0 is as good an integer as 2."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def decode_json(kind: type[T], raw: bytes) -> T:
    """Decode a JSON body into a contract. Raises InvalidRequest, which names the field by its dotted path."""
    try:
        document = json.loads(raw.decode("utf-8"), parse_float=_number, parse_constant=_not_a_number)
    except RecursionError:
        raise _bad("", f"is nested deeper than {_MAX_DEPTH}") from None
    except ValueError as error:  # bad UTF-8, bad JSON, an integer of thousands of digits
        raise InvalidRequest(f"the body is not JSON: {str(error)[:200]}", fields={"body": "is not JSON"}) from None
    check_plain(document)
    return codec.decode(kind, document)


def json_body(kind: type[T], *, optional: bool = False) -> Callable[..., Awaitable[T]]:
    """A dependency that gives the JSON body as `kind`; with `optional`, an empty body stands for `{}`."""

    async def read(request: Request, services: Deps, _: User) -> T:
        bound = services.config.max_body_bytes
        raw = b"".join([chunk async for chunk in chunks(request, bound, setting="the API's max_body_bytes")])
        if optional and not raw:
            return codec.decode(kind, {})
        kind_of_body = media_type(request)
        if kind_of_body != "application/json":
            raise UnsupportedMediaType(
                f"the body must be sent as application/json, not as {kind_of_body[:100] or 'nothing named'}"
            )
        return decode_json(kind, raw)

    return read
