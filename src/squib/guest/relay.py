"""The gateway relay: 127.0.0.1:PORT in the sandbox to where the gateway listens, bytes for bytes.

The way there is opened anew for each client: a restarted host binds it anew.
"""

import asyncio
import logging
from typing import cast

log = logging.getLogger("squib.guest")
_MAX_CLIENTS = 128


class _Side(asyncio.Protocol):
    """One end of a relayed connection; `other` is the far end. Nothing is read while the other end is full."""

    def __init__(self, relay: "Relay"):
        self.relay = relay
        self.other: _Side | None = None
        self.ended = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take part."""
        self.transport = cast(asyncio.Transport, transport)
        self.relay.transports.add(self.transport)

    def data_received(self, data: bytes) -> None:
        """Hand the bytes over."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Hand the half-close over; after the second one nothing is left to relay."""
        self.ended = True
        if self.other is None or self.other.transport is None or self.other.ended:
            return False
        self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """This end is full."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """This end has room again."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other end too, once it has sent what it holds."""
        if self.transport is not None:
            self.relay.transports.discard(self.transport)
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Client(_Side):
    """The sandbox's end: it is read once the gateway's end is there."""

    early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to connect to the gateway."""
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self.relay.dial(self)

    def data_received(self, data: bytes) -> None:
        """Keep what comes before the far end is there: CPython 3.11.2 reads although it was told to pause."""
        if self.other is not None or self.transport is None:
            super().data_received(data)
            return
        self.early += data
        self.transport.resume_reading()  # pausing what counts as paused already would change nothing
        self.transport.pause_reading()


class Relay:
    """Listens within its `async with` block, if there is a gateway (`unix:PATH` or `tcp:HOST:PORT`) at all."""

    def __init__(self, gateway: str | None, port: int):
        self.gateway, self._port = gateway, port
        self.transports: set[asyncio.Transport] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str | None:
        """What the agent is told, if the relay runs."""
        return f"http://127.0.0.1:{self._port}" if self._server is not None else None

    async def __aenter__(self) -> "Relay":
        if self.gateway is not None:
            loop = asyncio.get_running_loop()
            try:
                self._server = await loop.create_server(lambda: _Client(self), "127.0.0.1", self._port)
            except OSError as error:
                log.error("the gateway's relay cannot listen: %s", error)
        return self

    def dial(self, client: _Client) -> None:
        """Connect a client to the gateway; drop it where that fails."""
        if len(self._dials) >= _MAX_CLIENTS or len(self.transports) > 2 * _MAX_CLIENTS:
            log.warning("the gateway's relay has too many clients")
            if client.transport is not None:
                client.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._dial(client))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, client: _Client) -> None:
        far = _Side(self)
        try:
            await self._connect(far)
        except (OSError, ValueError) as error:
            log.warning("the gateway does not answer: %s", error)
            if client.transport is not None:
                client.transport.close()
            return
        if client.transport is None:
            if far.transport is not None:
                far.transport.close()
            return
        client.other, far.other = far, client
        if client.early and far.transport is not None:
            far.transport.write(client.early)
        client.transport.resume_reading()

    async def _connect(self, far: _Side) -> None:
        loop = asyncio.get_running_loop()
        kind, _, place = (self.gateway or "").partition(":")
        if kind == "tcp":
            host, _, port = place.rpartition(":")
            await loop.create_connection(lambda: far, host, int(port))
        else:
            await loop.create_unix_connection(lambda: far, place)

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._dials:
            task.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        for transport in list(self.transports):
            transport.abort()
