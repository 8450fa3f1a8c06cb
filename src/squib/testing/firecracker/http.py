"""The HTTP server: a unix socket, ten connections, and answers as Firecracker's own server writes them."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

MAX_CONNECTIONS = 10
_MAX_HEAD = 64 * 1024
_METHODS = ("GET", "PUT", "PATCH", "DELETE")
_FULL = (
    b"HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\nContent-Length: 40\r\n\r\n"
    b'{ "error": "Too many open connections" }'
)


@dataclass(frozen=True)
class Answer:
    """What goes back. Without a document the body is empty."""

    status: int
    document: Any = None
    deprecated: bool = False
    last: bool = False  # the process ends once this is sent

    def encode(self) -> bytes:
        """The answer's bytes."""
        body = None if self.document is None else json.dumps(self.document, separators=(",", ":")).encode()
        return _encode(self.status, body, self.deprecated)


class _Unparseable(Exception):
    """A request that is no HTTP, or too long."""


@dataclass(frozen=True)
class _Head:
    method: str
    path: str
    length: int


Handler = Callable[[str, str, bytes], Awaitable[Answer]]


class Server:
    """Serves requests of at most `limit` bytes each; `ended` is set once the last answer is out."""

    def __init__(self, handler: Handler, limit: int):
        self._handler, self._limit = handler, limit
        self._connections = 0
        self.ended = asyncio.Event()

    async def listen(self, sock: socket.socket) -> asyncio.Server:
        """Take connections on a bound socket."""
        return await asyncio.start_unix_server(self._accept, sock=sock, limit=_MAX_HEAD)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections == MAX_CONNECTIONS:
            writer.write(_FULL)
            writer.close()
            return
        self._connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._connections -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; False where there will be no further one."""
        try:
            head = _parse((await reader.readuntil(b"\r\n\r\n"))[:-4])
            if head.length > self._limit:
                raise _Unparseable(
                    f"Request payload with size {head.length} is larger than the limit of {self._limit} "
                    "allowed by server."
                )
        except _Unparseable as error:
            text = f'{{ "error": "{error}\nAll previous unanswered requests will be dropped." }}'
            writer.write(_encode(400, text.encode(), False))
            return False
        answer = await self._handler(head.method, head.path, await reader.readexactly(head.length))
        writer.write(answer.encode())
        await writer.drain()
        if answer.last:
            self.ended.set()
        return not answer.last


def _parse(raw: bytes) -> _Head:
    first, *lines = raw.decode("utf-8", "replace").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3:
        raise _Unparseable("Invalid request.")
    method, uri, version = parts
    if method not in _METHODS:
        raise _Unparseable("Invalid HTTP Method: Unsupported HTTP method.")
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise _Unparseable("Invalid HTTP Version: Unsupported HTTP version.")
    headers = {name.lower().strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise _Unparseable(f"Invalid header. Reason: Invalid value. Key:Content-Length; Value:{length}")
    path = uri.removeprefix("http://")
    return _Head(method, path if path.startswith("/") else path[path.find("/") :], int(length))


def _encode(status: int, body: bytes | None, deprecated: bool) -> bytes:
    head = f"HTTP/1.1 {status} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
    head += "Deprecation: true\r\n" if deprecated else ""
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + (body or b"")
