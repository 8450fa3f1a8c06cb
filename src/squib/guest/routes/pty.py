"""`WS /terminal/pty`: a shell on a real terminal, its bytes in binary frames, its size in text frames."""

import asyncio
from typing import TYPE_CHECKING, Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from squib.contracts import codec
from squib.contracts.errors import InvalidRequest, SquibError
from squib.contracts.guest import PtyControl, PtyExit
from squib.guest import environment
from squib.guest.exchange import Exchange
from squib.guest.routes.terminal import origin
from squib.guest.terminal import MAX_SIDE, PseudoTerminal

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor

_MAX_MESSAGE = 1024 * 1024


async def pty(guest: "Supervisor", exchange: Exchange) -> None:
    """Serve the terminal until the program exits or the client goes away, which ends the program's tree."""
    if b"websocket" not in exchange.headers.get(b"upgrade", b"").lower():
        raise InvalidRequest("this is a WebSocket", fields={"upgrade": "must be websocket"})
    query = exchange.query
    cols = exchange.number("cols", 80, 1, MAX_SIDE) or 80
    rows = exchange.number("rows", 24, 1, MAX_SIDE) or 24
    argv = [environment.shell(), "-i"] if not query.get("command") else ["sh", "-c", query["command"]]
    if any("\0" in word for word in argv):
        raise InvalidRequest("command: holds a NUL", fields={"command": "must hold no NUL"})
    env = environment.build(guest.config, origin(), term="xterm-256color")
    socket = _Socket(exchange)
    try:
        terminal = PseudoTerminal(
            guest.children, argv, env=env, cwd=guest.workspace.fd, cols=cols, rows=rows, sink=socket.show
        )
    except OSError as error:
        raise SquibError(f"no terminal can be had: {error.strerror or error}") from error
    async with terminal:
        socket.open(terminal)
        ending: asyncio.Future[Any] = asyncio.ensure_future(terminal.wait())
        try:
            await asyncio.wait((ending, socket.gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
        if ending.done() and not ending.cancelled():
            socket.close(ending.result())


class _Socket:
    """The WebSocket's protocol over the exchange's raw bytes."""

    def __init__(self, exchange: Exchange):
        self._exchange = exchange
        self._socket = WSConnection(ConnectionType.SERVER)
        self._terminal: PseudoTerminal | None = None
        self._text: list[str] = []
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def open(self, terminal: PseudoTerminal) -> None:
        """Accept the client. Raises InvalidRequest where it speaks no WebSocket."""
        self._terminal = terminal
        try:
            self._socket.initiate_upgrade_connection(list(self._exchange.head.headers), self._exchange.head.target)
        except ProtocolError as error:
            raise InvalidRequest(f"this is no WebSocket: {error}") from error
        early = self._exchange.upgrade(self._receive)
        for event in self._socket.events():
            if isinstance(event, Request):
                self._send(AcceptConnection())
        if early:
            self._receive(early)

    def show(self, data: bytes) -> None:
        """Send what the terminal shows, no faster than the client takes it."""
        self._send(BytesMessage(data=data))
        if self._exchange.blocked and self._terminal is not None:
            self._terminal.pump.pause()
            self._exchange.when_writable(self._terminal.pump.resume)

    def close(self, code: int) -> None:
        """Say how the program ended, and that no more comes."""
        ended = PtyExit(exit_code=code if code >= 0 else None, signal=-code if code < 0 else None)
        self._send(TextMessage(data=codec.dumps(ended).decode()))
        self._send(CloseConnection(code=1000))

    def _send(self, event: Any) -> None:
        if self.gone.done():
            return
        try:
            self._exchange.write_raw(self._socket.send(event))
        except (ConnectionError, ProtocolError):
            self._leave()

    def _leave(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def _receive(self, data: bytes) -> None:
        try:
            self._socket.receive_data(data or None)
            for event in self._socket.events():
                self._take(event)
        except (ProtocolError, SquibError):
            self._leave()

    def _take(self, event: Any) -> None:
        assert self._terminal is not None
        if isinstance(event, BytesMessage):
            self._terminal.enter(bytes(event.data))
        elif isinstance(event, TextMessage):
            self._text.append(event.data)
            if sum(map(len, self._text)) > _MAX_MESSAGE:
                self._leave()
            elif event.message_finished:
                control = codec.loads(PtyControl, "".join(self._text))
                self._text.clear()
                self._terminal.resize(_side(control.cols), _side(control.rows))
        elif isinstance(event, Ping):
            self._send(event.response())
        elif isinstance(event, CloseConnection):
            self._send(event.response())
            self._leave()


def _side(cells: int) -> int:
    return max(1, min(cells, MAX_SIDE))
