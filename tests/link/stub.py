"""A small real HTTP server on a unix socket, to play a guest that may be anything from honest to hostile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h11

from squib.contracts import codec

Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Seen:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False  # end the connection after it, unannounced


@dataclass
class Stub:
    """Answers each request by `answer`; remembers what it saw and how many connections there were."""

    path: Path
    answer: Callable[[Seen], Reply]
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    @property
    def endpoint(self) -> str:
        return f"unix:{self.path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        conn = h11.Connection(h11.SERVER)
        request: Seen | None = None
        while True:
            event = conn.next_event()
            if event is h11.NEED_DATA:
                if not (data := await reader.read(65536)):
                    return
                conn.receive_data(data)
            elif isinstance(event, h11.Request):
                headers = {k.decode(): v.decode() for k, v in event.headers}
                request = Seen(event.method.decode(), event.target.decode(), headers)
            elif isinstance(event, h11.Data):
                request.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.seen.append(request)
                reply = self.answer(request)
                length = [] if reply.status == 204 else [("Content-Length", str(len(reply.body)))]
                head = h11.Response(status_code=reply.status, headers=[*length, *reply.headers.items()])
                writer.write(conn.send(head) + conn.send(h11.Data(reply.body)) + conn.send(h11.EndOfMessage()))
                if reply.close:
                    return
                conn.start_next_cycle()
            else:
                return


@asynccontextmanager
async def serving(path: Path, handler: Raw) -> AsyncIterator[str]:
    """Run `handler` for each connection to the socket at `path`; gives the endpoint."""
    open_now: set[asyncio.StreamWriter] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            open_now.discard(writer)
            writer.close()

    server = await asyncio.start_unix_server(one, path)
    try:
        yield f"unix:{path}"
    finally:
        server.close()
        for writer in list(open_now):
            writer.transport.abort()


def problem(error: Exception) -> Reply:
    return Reply(codec.dumps(error.problem()), error.status, {"Content-Type": "application/problem+json"})
