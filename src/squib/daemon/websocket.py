"""A WebSocket through to a guest: whole messages both ways, bounded; whichever side ends first ends the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from wsproto import WSConnection
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import ProtocolError

from squib.contracts.errors import GuestUnreachable
from squib.contracts.machine import Machine
from squib.daemon.proxy import CONNECT_SECONDS, owner, target
from squib.link.pty import handshake, received
from squib.link.transport import connect, parse_endpoint

MAX_MESSAGE = 1024 * 1024  # bytes or characters of one message of the guest's
_TOO_BIG, _GUEST_GONE = 1009, 1011  # close codes of RFC 6455


class _TooBig(Exception):
    """The guest's message is over MAX_MESSAGE."""


class _Guest:
    """The guest's side."""

    def __init__(self, ws: WSConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._ws, self._reader, self._writer = ws, reader, writer

    async def send(self, event: Event) -> None:
        """Raises GuestUnreachable."""
        try:
            self._writer.write(self._ws.send(event))
            await self._writer.drain()
        except (OSError, ProtocolError) as error:
            raise GuestUnreachable("the guest closed the WebSocket") from error

    async def events(self) -> AsyncIterator[Event]:
        """What the guest sends, up to its close. Raises GuestUnreachable where there is none."""
        while True:
            for event in self._ws.events():
                yield event
                if isinstance(event, CloseConnection):
                    return
            if not await received(self._reader, self._ws):
                raise GuestUnreachable("the WebSocket broke off")


async def relay(websocket: WebSocket, machine: Machine, sandbox_id: str) -> None:
    """Open the guest's, then ours, and carry messages. Raises what the guest refuses with, before ours is open."""
    async with _opened(machine, target(websocket, sandbox_id), websocket.headers["authorization"]) as guest:
        await websocket.accept()
        code = 1000
        try:
            async with asyncio.TaskGroup() as group:
                upstream = group.create_task(_up(websocket, guest))
                code = await _down(websocket, guest)
                upstream.cancel()
        except* GuestUnreachable:
            code = _GUEST_GONE
        except* _TooBig:
            code = _TOO_BIG
        except* (_Left, WebSocketDisconnect):
            pass  # nobody is left to be told
        if WebSocketState.DISCONNECTED not in (websocket.client_state, websocket.application_state):
            await websocket.close(code)


@asynccontextmanager
async def _opened(machine: Machine, where: str, authorization: str) -> AsyncIterator[_Guest]:
    writer: asyncio.StreamWriter | None = None
    try:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await connect(parse_endpoint(machine.endpoint), owner(machine))
                headers = [("Authorization", authorization)]
                ws = await handshake("guest", where, headers, reader, writer)
        except TimeoutError as error:
            raise GuestUnreachable("the guest did not open the WebSocket in time") from error
        yield _Guest(ws, reader, writer)
    finally:
        if writer is not None:
            writer.transport.abort()


class _Left(Exception):
    """The caller has closed its side."""


async def _up(websocket: WebSocket, guest: _Guest) -> None:
    while (message := await websocket.receive())["type"] != "websocket.disconnect":
        if (data := message.get("bytes")) is not None:
            await guest.send(BytesMessage(data=data))
        else:
            await guest.send(TextMessage(data=message.get("text") or ""))
    raise _Left


async def _down(websocket: WebSocket, guest: _Guest) -> int:
    """Carry the guest's messages; the code that it closed with."""
    text, data = "", bytearray()
    async for event in guest.events():
        if isinstance(event, TextMessage):
            text += event.data
            if event.message_finished:
                await websocket.send_text(text)
                text = ""
        elif isinstance(event, BytesMessage):
            data += event.data
            if event.message_finished:
                await websocket.send_bytes(bytes(data))
                data.clear()
        elif isinstance(event, Ping):
            await guest.send(event.response())
        elif isinstance(event, CloseConnection):
            return event.code if event.code in (1000, 1001, 1008, 1011) else 1000
        if len(text) + len(data) > MAX_MESSAGE:
            raise _TooBig
    raise GuestUnreachable("the WebSocket broke off")
