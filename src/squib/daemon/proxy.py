"""HTTP through to a guest and back, as it comes: nothing is read, kept or believed, and nobody is trusted more by it.

Where to is the host's own knowledge. Heads are parsed and written anew, so that nothing is smuggled past; bodies
stream with the pace of the slower side, so that neither a hostile guest nor a slow caller costs memory.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable

import h11
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response, StreamingResponse

from squib.contracts.errors import GuestUnreachable, InvalidRequest
from squib.contracts.host import guest_path
from squib.contracts.machine import Machine
from squib.link.connection import Body, Connection, Stale
from squib.link.transport import connect, parse_endpoint

CONNECT_SECONDS = 10.0
HEAD_SECONDS = 3600.0  # a guest may take so long before it answers: a command runs meanwhile
_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"proxy-connection",
    }
)
_OURS = frozenset({b"host", b"expect", b"content-length", b"date", b"server"})
Header = tuple[bytes, bytes]


def owner(machine: Machine) -> int:
    """The user whom the guest's socket must belong to."""
    return os.geteuid() if machine.uid is None else machine.uid


def target(connection: HTTPConnection, sandbox_id: str) -> str:
    """What is asked of the guest: the rest of the path, and the query, as they came. Raises InvalidRequest."""
    raw: bytes = connection.scope.get("raw_path") or connection.scope["path"].encode()
    rest = raw.partition(b"?")[0].removeprefix(guest_path(sandbox_id).encode())
    query: bytes = connection.scope["query_string"]
    found = rest + (b"?" + query if query else b"")
    if not found.startswith(b"/") or any(not 0x21 <= byte <= 0x7E for byte in found):
        raise InvalidRequest("the path of the guest's is none", fields={"path": "must be quoted ASCII from / on"})
    return found.decode("ascii")


async def passed(request: Request, machine: Machine, sandbox_id: str) -> Response:
    """The guest's answer to the request, its body still to come. Raises GuestUnreachable or InvalidRequest."""
    read = asyncio.Event()  # the request, to its end
    body, framing = _body(request, read)
    head = h11.Request(
        method=request.method,
        target=target(request, sandbox_id),
        headers=[(b"Host", b"guest"), *_end_to_end(request.headers.raw), *framing],
    )
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = Connection(*await connect(parse_endpoint(machine.endpoint), owner(machine)))
    except TimeoutError as error:
        raise GuestUnreachable("the guest takes no connection") from error
    try:
        answered = await _answered(_left(request, read), connection, head, body)
    except BaseException:
        connection.close()
        raise
    response = StreamingResponse(_rest(connection), answered.status_code)
    length = [(k, v) for k, v in answered.headers.raw_items() if k.lower() == b"content-length"]
    response.raw_headers = [*_end_to_end(answered.headers), *length]
    return response


def _body(request: Request, read: asyncio.Event) -> tuple[Body, list[Header]]:
    """The request's body, which sets `read` at its end, and how it is framed on the way to the guest."""
    length = request.headers.get("content-length", "0")
    if length != "0":
        return _pieces(request, read), [(b"Content-Length", length.encode())]
    if "transfer-encoding" in request.headers:
        return _pieces(request, read), [(b"Transfer-Encoding", b"chunked")]
    read.set()
    return b"", []


async def _pieces(request: Request, read: asyncio.Event) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
    read.set()


def _end_to_end(headers: Iterable[Header]) -> list[Header]:
    """Those that are not of one connection alone, nor written by us."""
    all_of_them = [(bytes(name).lower(), bytes(value)) for name, value in headers]
    named = {
        word.strip().lower() for name, value in all_of_them if name == b"connection" for word in value.split(b",")
    }
    return [(name, value) for name, value in all_of_them if name not in _HOP | _OURS | named]


async def _answered(
    left: Coroutine[None, None, None], connection: Connection, head: h11.Request, body: Body
) -> h11.Response:
    """The head of the guest's answer; given up where the caller leaves before. Raises GuestUnreachable."""
    asking, leaving = asyncio.ensure_future(connection.request(head, body)), asyncio.ensure_future(left)
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise ClientDisconnect
        return asking.result()
    except Stale as error:
        raise GuestUnreachable("the guest closed the connection without an answer") from error
    except TimeoutError as error:
        raise GuestUnreachable("the guest did not answer in time") from error
    finally:
        for task in (asking, leaving):
            task.cancel()
        await asyncio.gather(asking, leaving, return_exceptions=True)


async def _left(request: Request, read: asyncio.Event) -> None:
    """Return once the caller has closed the connection; while the body is being read, its reader finds out."""
    await read.wait()
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _rest(connection: Connection) -> AsyncGenerator[bytes, None]:
    """The answer's body. GuestUnreachable breaks the caller's answer off, by which the caller knows."""
    try:
        async with contextlib.aclosing(connection.chunks()) as chunks:
            async for chunk in chunks:
                yield chunk
    finally:
        connection.close()
