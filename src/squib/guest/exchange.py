"""One request and its response, as a handler sees them: query, headers, streamed bodies, back-pressure."""

import json
import os
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, unquote

import h11

from squib.contracts import codec
from squib.contracts.errors import InvalidRequest, SquibError, TooLarge

if TYPE_CHECKING:
    from squib.guest.connection import Connection

T = TypeVar("T")
MAX_JSON_BYTES = 16 * 1024 * 1024
_FILE_BYTES = 256 * 1024
_LINGER_BYTES = 8 * 1024 * 1024  # of a refused request's body that are read, so that its answer is seen


class Exchange:
    """One request on a connection. Begin the response with `start` or answer at once with `reply`."""

    def __init__(self, connection: "Connection", head: h11.Request):
        self._connection = connection
        self.head = head
        self.method = head.method.decode("ascii")
        path, _, query = head.target.decode("ascii").partition("?")
        self.path = unquote(path)
        self.headers: dict[bytes, bytes] = dict(head.headers)
        self.started = False
        self._query = query
        self._body_over = False

    # --- the request ---

    def admit(self) -> None:
        """Its connection is the host's: it carried the token."""
        self._connection.admitted = True

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, each given once. Raises InvalidRequest for one that is given twice."""
        try:
            pairs = parse_qsl(self._query, keep_blank_values=True, max_num_fields=32, errors="strict")
        except (ValueError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"the query cannot be read: {error}", fields={"query": "unreadable"}) from error
        found = dict(pairs)
        if len(found) != len(pairs):
            raise InvalidRequest("a query parameter is given twice", fields={"query": "give each once"})
        return found

    def number(self, name: str, default: int | None, least: int, most: int, base: int = 10) -> int | None:
        """A whole number of the query, `least` to `most`. Raises InvalidRequest, which names it."""
        text = self.query.get(name)
        if text is None:
            return default
        try:
            value = int(text, base)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            message = f"must be a whole number from {least} to {most}" if base == 10 else "must be octal digits"
            raise InvalidRequest(f"{name}: {message}", fields={name: message})
        return value

    async def body(self) -> AsyncIterator[bytes]:
        """The request's body, piece by piece. Raises InvalidRequest where the client breaks it off."""
        if self._connection.wants_continue:
            self._connection.write(h11.InformationalResponse(status_code=100, headers=[]))
        while not self._body_over:
            event = await self._connection.next_event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                self._body_over = True
                if not isinstance(event, h11.EndOfMessage):
                    raise ConnectionResetError("the client went away within its request")

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises TooLarge over `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        async for part in self.body():
            size += len(part)
            if size > limit:
                raise TooLarge(f"the body is over {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    async def document(self, kind: type[T]) -> T:
        """The body as a contract type. Raises InvalidRequest, which names the field, or TooLarge."""
        return codec.loads(kind, await self.read(MAX_JSON_BYTES))

    async def linger(self) -> bool:
        """After an answer that came early: read the rest of the body, within a bound; say whether it ended."""
        size = 0
        async for part in self.body():
            size += len(part)
            if size > _LINGER_BYTES:
                return False
        return True

    # --- the response ---

    def start(self, status: int, content_type: str, headers: list[tuple[str, str]] | None = None) -> None:
        """Begin a response whose body is streamed, chunked unless `headers` tell its length."""
        self._connection.write(self._begin(status, content_type, headers or []))

    def _begin(self, status: int, content_type: str, headers: list[tuple[str, str]]) -> h11.Response:
        self.started = True
        return h11.Response(status_code=status, headers=[("content-type", content_type), *headers])

    def send(self, data: bytes) -> None:
        """Send a piece of the body; then `await drain()` where `blocked`."""
        self._connection.write(h11.Data(data=data))

    @property
    def blocked(self) -> bool:
        """Whether the client does not keep up: send no more until `drain` returns."""
        return self._connection.blocked

    async def drain(self) -> None:
        """Wait until the client has taken enough. Raises ConnectionResetError where it is gone."""
        if self._connection.blocked:
            await self._connection.drained()

    def when_writable(self, resume: Callable[[], None]) -> None:
        """Call `resume` once, when the client has taken enough."""
        self._connection.when_writable(resume)

    def finish(self) -> None:
        """End the response's body."""
        self._connection.write(h11.EndOfMessage())

    async def send_file(self, fd: int, content_type: str, headers: list[tuple[str, str]] | None = None) -> None:
        """Answer 200 with all of a file of the guest's own."""
        size, offset = os.fstat(fd).st_size, 0
        self.start(200, content_type, [("content-length", str(size)), *(headers or [])])
        while data := os.pread(fd, _FILE_BYTES, offset):
            self.send(data)
            await self.drain()
            offset += len(data)
        self.finish()

    def reply(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: list[tuple[str, str]] | None = None,
    ) -> None:
        """Answer with a whole body."""
        length = [] if status == 204 else [("content-length", str(len(body)))]
        head = self._begin(status, content_type, [*length, *(headers or [])])
        content = [h11.Data(data=body)] if body else []
        self._connection.write(head, *content, h11.EndOfMessage())

    def answer(self, value: object, status: int = 200) -> None:
        """Answer with a contract type as JSON."""
        self.reply(status, codec.dumps(value))

    def refuse(self, error: SquibError) -> None:
        """Answer with the error's problem document."""
        body = json.dumps(error.problem()).encode()
        self.reply(error.status, body, "application/problem+json")

    def upgrade(self, receive: Callable[[bytes], None]) -> bytes:
        """Leave HTTP: from now on `receive` gets the raw bytes (b"": the end). Gives those that came already."""
        return self._connection.upgrade(receive)

    def write_raw(self, data: bytes) -> None:
        """After `upgrade`: send these bytes."""
        self._connection.write_raw(data)
