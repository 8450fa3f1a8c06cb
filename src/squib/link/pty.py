"""A terminal in a guest: a WebSocket over wsproto, binary both ways, with the size and the exit as text frames."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from squib.contracts import codec
from squib.contracts.errors import GuestUnreachable
from squib.contracts.guest import PtyControl, PtyExit
from squib.link import untrusted
from squib.link.pool import Pool
from squib.link.transport import READ_BYTES, connect

_MAX_TEXT = 64 * 1024  # characters of an unfinished text frame
_MAX_PROBLEM_BYTES = 256 * 1024


class Pty:
    """An open terminal. Iterate it for its output; once that ends, `exit` says how the command ended."""

    def __init__(self, ws: WSConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._ws, self._reader, self._writer = ws, reader, writer
        self._text = ""
        self.exit: PtyExit | None = None

    async def send(self, data: bytes) -> None:
        """Type these bytes. Raises GuestUnreachable where the terminal is gone."""
        await self._send(BytesMessage(data=data))

    async def resize(self, cols: int, rows: int) -> None:
        """Tell the terminal its new size, in characters."""
        await self._send(TextMessage(data=codec.dumps(PtyControl(cols, rows)).decode()))

    async def _send(self, event: Event) -> None:
        try:
            self._writer.write(self._ws.send(event))
            await self._writer.drain()
        except (OSError, ProtocolError) as error:
            raise GuestUnreachable("the terminal is closed") from error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Output as it arrives, until the command ends. Raises GuestUnreachable where the connection breaks."""
        while True:
            for event in self._ws.events():
                if isinstance(event, BytesMessage):
                    yield bytes(event.data)
                elif isinstance(event, TextMessage):
                    self._take_text(event)
                elif isinstance(event, Ping):
                    await self._send(event.response())
                elif isinstance(event, CloseConnection):
                    return
            data = await received(self._reader, self._ws)
            if not data and self.exit is None:
                raise GuestUnreachable("the terminal broke off")
            if not data:
                return

    def _take_text(self, event: TextMessage) -> None:
        self._text += event.data
        if len(self._text) > _MAX_TEXT:
            raise GuestUnreachable("the guest sent a text frame out of all bounds")
        if event.message_finished:
            self.exit = untrusted.load(PtyExit, self._text.encode("utf-8", "replace"))
            self._text = ""


async def received(reader: asyncio.StreamReader, ws: WSConnection) -> bytes:
    """Hand what arrives to `ws`; empty at the end. Raises GuestUnreachable."""
    try:
        data = await reader.read(READ_BYTES)
        ws.receive_data(data or None)
    except (OSError, ProtocolError) as error:
        raise GuestUnreachable("the terminal broke off") from error
    return data


@asynccontextmanager
async def open_pty(pool: Pool, target: str, seconds: float) -> AsyncIterator[Pty]:
    """Open a terminal at `target`, within `seconds`; leaving the block closes it, and the guest ends its command."""
    writer: asyncio.StreamWriter | None = None
    try:
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await connect(pool.endpoint, pool.uid)
                ws = await handshake(pool.endpoint.host, target, pool.headers, reader, writer)
        except TimeoutError as error:
            raise GuestUnreachable("the guest did not open the terminal in time") from error
        pty = Pty(ws, reader, writer)
        yield pty
    finally:
        if writer is not None:
            writer.transport.abort()


async def handshake(
    host: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> WSConnection:
    """Open a WebSocket. Raises what the refusal tells of, or GuestUnreachable; the caller limits the time."""
    ws = WSConnection(ConnectionType.CLIENT)
    extra = [(k.encode(), v.encode()) for k, v in headers if k != "Host"]
    writer.write(ws.send(Request(host=host, target=target, extra_headers=extra)))
    status, refusal = 0, b""
    while True:
        try:
            for event in ws.events():  # what follows the acceptance stays for the terminal to read
                if isinstance(event, AcceptConnection):
                    return ws
                if isinstance(event, RejectConnection):
                    status = event.status_code
                elif isinstance(event, RejectData):
                    refusal += event.data
                    if event.body_finished or len(refusal) > _MAX_PROBLEM_BYTES:
                        raise untrusted.error_of(status, refusal)
        except ProtocolError as error:
            raise GuestUnreachable("the guest opened no terminal") from error
        if not await received(reader, ws):
            raise GuestUnreachable("the guest closed the connection without an answer")
