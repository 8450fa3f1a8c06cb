"""A client's connection: h11 over an asyncio transport, one request after the other, bounded both ways."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import h11

from squib.contracts.errors import InvalidRequest, SquibError
from squib.guest.exchange import Exchange

log = logging.getLogger("squib.guest")
MAX_HEAD_BYTES = 64 * 1024
STALL_SECONDS = 60.0  # a client that takes nothing for this long is gone
_UNREAD_BYTES = 256 * 1024  # received and not yet taken by a handler: then the socket is left alone
_UNSENT_BYTES = 256 * 1024  # handed over and not yet taken by the socket: then the handler waits
Handler = Callable[[Exchange], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One connection. Its task is in the server's group, and is cancelled when the client goes away."""

    def __init__(self, handle: Handler, group: asyncio.TaskGroup, connections: "set[Connection]", limit: int):
        self._handle, self._group, self._connections, self._limit = handle, group, connections, limit
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._more: asyncio.Future[None] | None = None
        self._waiting: list[Callable[[], None]] = []
        self._stall: asyncio.TimerHandle | None = None
        self._raw: Callable[[bytes], None] | None = None
        self._unread = 0
        self._reading = True
        self._born = self._loop.time()
        self.blocked = False
        self.admitted = False  # a request on it has carried the token

    # --- asyncio's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve. Where there are too many already, the oldest that nobody has vouched for goes."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        if len(self._connections) >= self._limit and not self._make_room():
            self._transport.abort()
            return
        self._connections.add(self)
        self._task = self._group.create_task(self._serve())

    def _make_room(self) -> bool:
        """The agent can open as many as it likes: they must not keep the host out."""
        strangers = [connection for connection in self._connections if not connection.admitted]
        if strangers:
            oldest = min(strangers, key=lambda connection: connection._born)
            self._connections.discard(oldest)
            oldest.abort()
        return bool(strangers)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._raw is not None:
            self._raw(data)
            return
        self._http.receive_data(data)
        self._unread += len(data)
        if self._unread > _UNREAD_BYTES and self._reading and self._transport is not None:
            self._transport.pause_reading()
            self._reading = False
        self._wake()

    def eof_received(self) -> bool:
        """The client sends no more: whoever closes its side is not waiting for an answer."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request that runs, if one does."""
        self._connections.discard(self)
        self._transport = None
        if self._task is not None:
            self._task.cancel()
        self.resume_writing()
        if self._raw is not None:
            self._raw(b"")

    def pause_writing(self) -> None:
        """The client is behind; one that stays so holds nothing up any longer."""
        self.blocked = True
        self._stall = self._loop.call_later(STALL_SECONDS, self.abort)

    def resume_writing(self) -> None:
        """The client has caught up, or is gone."""
        self.blocked = False
        if self._stall is not None:
            self._stall.cancel()
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    # --- the exchange's side ---

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends its body."""
        return self._http.they_are_waiting_for_100_continue

    def write(self, *events: Any) -> None:
        """Send events of h11's as one piece. Raises ConnectionResetError where the client is gone."""
        self.write_raw(b"".join([self._http.send(event) or b"" for event in events]))

    def write_raw(self, data: bytes) -> None:
        """Send bytes. Raises ConnectionResetError where the client is gone."""
        if self._transport is None:
            raise ConnectionResetError("the client is gone")
        if data:
            self._transport.write(data)

    def when_writable(self, resume: Callable[[], None]) -> None:
        """Call `resume` once the client has caught up, or is gone."""
        self._waiting.append(resume)

    async def drained(self) -> None:
        """Wait until not `blocked`. Raises ConnectionResetError where the client is gone."""
        if self.blocked:
            caught_up = asyncio.Event()
            self.when_writable(caught_up.set)
            await caught_up.wait()
        if self._transport is None:
            raise ConnectionResetError("the client is gone")

    async def next_event(self) -> Any:
        """The next event of the request: waits for data as needed. Raises InvalidRequest for what is no HTTP."""
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise InvalidRequest(f"this is not HTTP: {error}") from error
            if event is not h11.NEED_DATA:
                return event
            self._unread = 0
            if not self._reading and self._transport is not None:
                self._transport.resume_reading()
                self._reading = True
            self._more = self._loop.create_future()
            await self._more

    def upgrade(self, receive: Callable[[bytes], None]) -> bytes:
        """Leave HTTP for raw bytes."""
        self._raw = receive
        if not self._reading and self._transport is not None:
            self._transport.resume_reading()
            self._reading = True
        return bytes(self._http.trailing_data[0])

    def abort(self) -> None:
        """Drop the client, and with it the request that runs."""
        if self._transport is not None:
            self._transport.abort()
        if self._task is not None:
            self._task.cancel()

    # --- the loop ---

    async def _serve(self) -> None:
        try:
            while await self._cycle():
                pass
        except (ConnectionError, h11.LocalProtocolError) as error:
            log.debug("connection ended: %s", error)
        except Exception:
            log.exception("a connection failed")
        finally:
            if self._transport is not None:
                self._transport.close()

    async def _cycle(self) -> bool:
        """Serve one request; say whether another may follow."""
        try:
            head = await self.next_event()
        except SquibError as error:
            self._refuse(error)
            return False
        if not isinstance(head, h11.Request):
            return False
        exchange = Exchange(self, head)
        await self._handle(exchange)
        if self._raw is not None:
            return False
        if self._http.their_state is h11.SEND_BODY and not await exchange.linger():
            return False
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def _refuse(self, error: SquibError) -> None:
        hint = getattr(error.__cause__, "error_status_hint", 400)
        body = str(error).encode()
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            fields = [("content-type", "text/plain"), ("content-length", str(len(body))), ("connection", "close")]
            head = h11.Response(status_code=hint, headers=fields)
            self.write(head, h11.Data(data=body), h11.EndOfMessage())
