"""Reading JSON from a guest, which may be hostile: numbers, characters, depth and claimed errors are checked."""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from squib.contracts import codec
from squib.contracts.errors import GuestUnreachable, InfrastructureError, InvalidRequest, SquibError, from_problem

T = TypeVar("T")

MAX_INT = 2**53  # what JSON numbers hold exactly; also well within every database's integers
_MAX_WORDS = 4000  # characters of an error's detail
#: A guest speaks for itself alone: it can't say that a lease is lost or that the database is away.
_ITS_ERRORS = frozenset(
    {
        "invalid_request",
        "path_escapes",
        "not_found",
        "conflict",
        "run_active",
        "no_repository",
        "too_large",
        "too_many_requests",
        "repository",
        "infrastructure",
        "guest_unreachable",  # a host's proxy says so for it
        "unsupported",
    }
)
#: What no database or UTF-8 encoder takes: NUL and lone surrogates.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _integer(text: str) -> int:
    value = int(text) if len(text) < 20 else MAX_INT
    if -MAX_INT < value < MAX_INT:
        return value
    raise ValueError("an integer is out of range")


def _float(text: str) -> float:
    value = float(text)
    if value - value == 0.0:  # false for infinities
        return value
    raise ValueError("a number is out of range")


_decoder = json.JSONDecoder(parse_constant=_constant, parse_int=_integer, parse_float=_float)


def parse(raw: bytes | bytearray, *, verbatim: bool = False) -> Any:
    """Parse JSON. Bytes that are no UTF-8 become U+FFFD, and so do NULs and lone surrogates unless `verbatim`.

    Raises GuestUnreachable.
    """
    # Only an escape can smuggle those characters in, and escapes of this kind are rare.
    sound = verbatim or not (b"\\u0000" in raw or b"\\ud" in raw or b"\\uD" in raw)
    try:
        value = _decoder.decode(raw.decode("utf-8", "replace"))
        return value if sound else _cleaned(value)
    except (ValueError, RecursionError) as error:
        raise GuestUnreachable(f"the guest sent what is no JSON: {str(error)[:200]}") from error


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_UNSTORABLE.sub("\ufffd", k): _cleaned(v) for k, v in value.items()}
    return [_cleaned(v) for v in value] if isinstance(value, list) else value


def load(kind: type[T], raw: bytes | bytearray, *, verbatim: bool = False) -> T:
    """Parse JSON into a contract type; fields that a newer guest may add are ignored. Raises GuestUnreachable."""
    try:
        return codec.decode(kind, parse(raw, verbatim=verbatim), lenient=True)
    except (InvalidRequest, RecursionError) as error:
        raise GuestUnreachable(f"the guest's answer is no {kind.__name__}: {str(error)[:200]}") from error


def error_of(status: int, raw: bytes | bytearray) -> SquibError:
    """The error that an answer with this status means. Never raises."""
    try:
        document = parse(raw)
    except GuestUnreachable:
        document = None
    if status in (401, 403):
        return GuestUnreachable("the guest does not accept its token")
    if not isinstance(document, Mapping):
        return GuestUnreachable(f"the guest answered with status {status}")
    words = {k: str(document.get(k) or "")[:_MAX_WORDS] for k in ("code", "title", "detail", "advice")}
    fields = document.get("fields")
    if isinstance(fields, dict):
        named = {str(k)[:200]: str(v)[:200] for k, v in list(fields.items())[:20]}
        error = from_problem({**words, "fields": named})
    else:
        error = from_problem(words)
    if error.code in _ITS_ERRORS:
        return error
    return InfrastructureError(f"the guest failed: {error.detail}")
