"""HTTP to a VMM's socket: one connection, one request at a time, everything bounded.

The socket lies in a directory of the VMM's own user, whom a guest may have become: the name is opened without
following a link, the owner is looked at, and what is connected to is the very inode that was looked at.
"""

import asyncio
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

import h11

from squib.host.firecracker.errors import VmmBusy, VmmEnded, VmmGarbled, VmmSilent

MAX_ANSWER = 1024 * 1024  # bytes; the longest is the whole configuration
_READ = 64 * 1024
_BACKLOG_FULL_PAUSE = 0.005  # seconds; connect(2) on a unix socket with a full backlog can't be waited for


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `deprecated`: the request had a field that a later Firecracker will not know."""

    status: int
    body: bytes
    deprecated: bool = False


class Wire:
    """A VMM's socket. `uid` is who must own it; None: not looked at. Requests wait for one another."""

    def __init__(self, path: Path, uid: int | None = None):
        self.path, self._uid = path, uid
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def exchange(self, method: str, target: str, body: bytes | None, seconds: float) -> Answer:
        """Send a request, wait at most `seconds` for its answer. Never sent twice.

        Raises VmmEnded, VmmSilent, VmmGarbled or VmmBusy; the next request then opens a connection of its own.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(seconds):
                    return await self._exchange(method, target, body)
            except TimeoutError as error:
                self.close()
                raise VmmSilent(f"Firecracker did not answer {method} {target} within {seconds:g} s") from error
            except BaseException:
                self.close()
                raise

    async def open(self) -> None:
        """Have a connection. Raises VmmEnded where nothing listens, VmmGarbled where what does is not the VMM's."""
        if self._streams is None:
            self._streams = await self._connect()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _exchange(self, method: str, target: str, body: bytes | None) -> Answer:
        await self.open()
        assert self._streams is not None
        reader, writer = self._streams
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_READ)
        headers = [("Host", "localhost"), ("Accept", "application/json")]
        if body is not None:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        packet = connection.send(h11.Request(method=method, target=target, headers=headers)) or b""
        if body is not None:
            packet += connection.send(h11.Data(body)) or b""
        writer.write(packet + (connection.send(h11.EndOfMessage()) or b""))
        try:
            answer = await _receive(connection, reader)
        except ConnectionError as error:
            raise VmmEnded(f"Firecracker broke off {method} {target}") from error
        except h11.RemoteProtocolError as error:
            broke = reader.at_eof()
            raise (VmmEnded if broke else VmmGarbled)(f"no answer to {method} {target}: {error}") from error
        unparsed = answer.status >= 400 and b"fault_message" not in answer.body  # who knows what is read next
        if connection.their_state is not h11.DONE or connection.trailing_data[0] or unparsed:
            self.close()
        if answer.status == 503:
            raise VmmBusy(f"Firecracker has no connection left for {method} {target}")
        return answer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            sock = await self._dialled()
        except OSError as error:
            raise VmmEnded(f"Firecracker does not listen at {self.path}: {error.strerror or error}") from error
        try:
            return await asyncio.open_unix_connection(sock=sock, limit=_READ)
        except BaseException:
            sock.close()
            raise

    async def _dialled(self) -> socket.socket:
        handle = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(handle)
            if not stat.S_ISSOCK(found.st_mode) or self._uid not in (None, found.st_uid):
                raise VmmGarbled(f"{self.path} is no socket of this VMM's")
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                await _dial(sock, f"/proc/self/fd/{handle}")  # which also bears paths over 107 bytes
            except BaseException:
                sock.close()
                raise
            return sock
        finally:
            os.close(handle)


async def _dial(sock: socket.socket, path: str) -> None:
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError:
            await asyncio.sleep(_BACKLOG_FULL_PAUSE)


async def _receive(connection: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    """Raises ConnectionError, h11.RemoteProtocolError or VmmGarbled."""
    status, deprecated, body = 0, False, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ))
        elif isinstance(event, h11.Response):
            status = event.status_code
            deprecated = (b"deprecation", b"true") in [(name, held.lower()) for name, held in event.headers]
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_ANSWER:
                raise VmmGarbled(f"Firecracker's answer is over {MAX_ANSWER} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, bytes(body), deprecated)
        else:
            raise VmmEnded("Firecracker closed the connection before it answered")
