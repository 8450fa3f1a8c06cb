"""JSON both ways: bodies in, within a bound of bytes and of seconds; contracts out."""

import asyncio
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from squib.contracts import codec
from squib.contracts.errors import InvalidRequest, TooLarge

T = TypeVar("T")
MAX_BYTES = 1024 * 1024
SECONDS = 30.0  # for a whole body to arrive


async def read(kind: type[T], request: Request) -> T:
    """The body as `kind`. Raises InvalidRequest, or TooLarge over MAX_BYTES."""
    raw = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > MAX_BYTES:
                    raise TooLarge(f"the body is over {MAX_BYTES} bytes")
    except TimeoutError as error:
        raise InvalidRequest(f"the body did not arrive within {SECONDS:g} s") from error
    try:
        return codec.loads(kind, bytes(raw))
    except (UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("the body is not JSON", fields={"body": "not JSON"}) from error


def answer(value: Any) -> Response:
    """An answer whose body is this contract."""
    return Response(codec.dumps(value), media_type="application/json")
