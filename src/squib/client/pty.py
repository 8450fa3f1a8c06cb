"""An interactive terminal over a WebSocket: bytes both ways, sizes in, the exit status last."""

from collections.abc import AsyncIterator

import wsproto.events
from httpx2.websockets import AsyncWebSocketSession, WebSocketDisconnect, WebSocketNetworkError

from squib.client.errors import ServerUnreachable
from squib.contracts import codec
from squib.contracts.guest import PtyControl, PtyExit

#: The most that one message of the server may hold.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class AsyncPty:
    """One open terminal. Iterate over it for what the program prints; then `exit` says how it ended."""

    def __init__(self, socket: AsyncWebSocketSession):
        self._socket = socket
        self.exit: PtyExit | None = None

    async def send(self, data: bytes) -> None:
        """Type these bytes."""
        await self._socket.send_bytes(data)

    async def resize(self, cols: int, rows: int) -> None:
        """Tell the program of the terminal's new size."""
        await self._socket.send_text(codec.dumps(PtyControl(cols, rows)).decode())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while self.exit is None:
                event = await self._socket.receive()
                if isinstance(event, wsproto.events.BytesMessage):
                    yield bytes(event.data)
                elif isinstance(event, wsproto.events.TextMessage):
                    self.exit = codec.loads(PtyExit, event.data, lenient=True)
        except WebSocketDisconnect:
            return  # closed without an exit status: the sandbox has ended
        except WebSocketNetworkError as error:
            raise ServerUnreachable("the terminal's connection broke") from error
