"""One HTTP/1.1 connection to a guest, over h11: a request at a time, kept alive, response sizes bounded."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import h11

from squib.contracts.errors import GuestUnreachable, SquibError
from squib.link.transport import READ_BYTES

_MAX_HEAD_BYTES = 64 * 1024
_AT_ONCE = 64 * 1024  # a body up to this size goes out with its head, unwatched
Body = bytes | AsyncIterator[bytes]


class Stale(Exception):
    """The peer closed the connection before it said anything: a kept-alive one that had ended meanwhile."""


class Connection:
    """Not safe for two requests at once; the pool in `client` sees to that. The caller sets time limits."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader, self._writer = reader, writer
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._heard = False
        self.idle_since: float | None = None  # the loop's time at which it went back into the pool

    async def request(self, head: h11.Request, body: Body) -> h11.Response:
        """Send a request and wait for the answer's head. Raises Stale or GuestUnreachable."""
        self._heard = False
        packet = self._h11.send(head) or b""
        if isinstance(body, bytes) and len(body) <= _AT_ONCE:
            packet += (self._h11.send(h11.Data(body)) or b"") + (self._h11.send(h11.EndOfMessage()) or b"")
            self._writer.write(packet)
            return await self._head()
        self._writer.write(packet)
        return await self._upload(_pieces(body) if isinstance(body, bytes) else body)

    async def _upload(self, body: AsyncIterator[bytes]) -> h11.Response:
        """Send while listening: a guest that refuses a body says so before it has read all of it."""
        sending, hearing = asyncio.ensure_future(self._send(body)), asyncio.ensure_future(self._head())
        try:
            await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done():
                sending.result()  # the source's own error ends the request
            return await hearing
        finally:
            for task in (sending, hearing):
                task.cancel()
            await asyncio.gather(sending, hearing, return_exceptions=True)

    async def _send(self, body: AsyncIterator[bytes]) -> None:
        async for piece in body:
            self._writer.write(self._h11.send(h11.Data(piece)) or b"")
            try:
                await self._writer.drain()
            except ConnectionError:
                return  # the answer, or its absence, tells why
        self._writer.write(self._h11.send(h11.EndOfMessage()) or b"")

    async def _head(self) -> h11.Response:
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise GuestUnreachable("the guest broke off before it answered")

    async def _next(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._parsed()) is h11.NEED_DATA:
            await self._fill()
        return event  # type: ignore[return-value]

    def _parsed(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise GuestUnreachable(f"the guest broke off or sent no HTTP: {error}") from error

    async def _fill(self) -> None:
        try:
            data = await self._reader.read(READ_BYTES)
        except ConnectionError:
            data = b""
        if not data and not self._heard:
            raise Stale
        self._heard = True
        try:
            self._h11.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise GuestUnreachable(f"the guest broke off or sent no HTTP: {error}") from error

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The answer's body, all that has arrived at a time. Raises GuestUnreachable where it breaks off."""
        ready: list[bytes] = []
        while True:
            event = self._parsed()
            if isinstance(event, h11.Data):
                ready.append(bytes(event.data))
                continue
            if ready:
                yield b"".join(ready)
                ready.clear()
            if event is not h11.NEED_DATA:
                break
            await self._fill()
        if not isinstance(event, h11.EndOfMessage):
            raise GuestUnreachable("the guest broke off in the middle of an answer")

    async def read(self, max_bytes: int, over: type[SquibError] = GuestUnreachable) -> bytes:
        """The answer's whole body. Raises `over` where there are more than `max_bytes`."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > max_bytes:
                raise over(f"the guest's answer is over {max_bytes} bytes")
        return bytes(body)

    def recycle(self) -> bool:
        """Make it ready for the next request; False where it must be closed instead."""
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE and not self.ended:
            self._h11.start_next_cycle()
            return not self._h11.trailing_data[0]
        return False

    @property
    def ended(self) -> bool:
        """Whether the peer is known to have closed it."""
        return self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        """Close it at once, whatever is under way."""
        self._writer.transport.abort()


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), READ_BYTES):
        yield body[start : start + READ_BYTES]
