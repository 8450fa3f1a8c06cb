"""The machine's network device, as far as it is one: who connects to the machine's address reaches its guest.

It reads along for one thing: what the guest is told to be by POST /resume, a real machine remembers from then on.
Here it is put down in the guest's configuration, from which the guest starts again after a restore.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

INSIDE = "127.0.0.1"  # where the guest itself listens
_CHUNK = 64 * 1024
_PAUSE = 0.005  # seconds between looks whether the guest accepts connections
_RESUME = b"POST /resume "
_IDENTITY = ("sandbox_id", "token_sha256", "hostname")


class Nic:
    """Relays between the address in the configuration at `path` and the guest; `renamed` is told its new names."""

    def __init__(self, path: Path, renamed: Callable[[str], Awaitable[None]]):
        self._path, self._renamed = path, renamed
        scheme, _, address = self._config()["listen"].partition(":")
        self._host, _, port = address.rpartition(":")
        self._port = int(port) if scheme == "tcp" else 0

    def inside(self) -> bytes:
        """The configuration for the guest itself."""
        config = self._config()
        if self._port:
            config["listen"] = f"tcp:{INSIDE}:{self._port}"
        return json.dumps(config).encode()

    @property
    def name(self) -> str:
        """The machine's host name, as it is when it starts."""
        return str(self._config().get("hostname", "squib"))

    async def serve(self) -> None:
        """Relay once the guest accepts connections, until cancelled."""
        if not self._port:
            return
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(INSIDE, self._port)
                writer.close()
                break
            await asyncio.sleep(_PAUSE)
        async with await asyncio.start_server(self._accept, self._host, self._port) as server:
            await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far, near = await asyncio.open_connection(INSIDE, self._port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, near, watch=True), self._pump(far, writer, watch=False))

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, watch: bool) -> None:
        try:
            while chunk := await source.read(_CHUNK):
                if watch and chunk.startswith(_RESUME):
                    chunk = await self._note(chunk, source)
                target.write(chunk)
                await target.drain()
            target.write_eof()
        except (OSError, asyncio.IncompleteReadError):
            target.close()

    async def _note(self, request: bytes, source: asyncio.StreamReader) -> bytes:
        """Put down who the guest becomes; gives the whole request."""
        if b"\r\n\r\n" not in request:
            request += await source.readuntil(b"\r\n\r\n")
        head, _, body = request.partition(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        missing = int(headers.get(b"content-length", b"0")) - len(body)
        request += await source.readexactly(max(0, missing))
        with contextlib.suppress(ValueError):
            new: dict[str, Any] = json.loads(request.partition(b"\r\n\r\n")[2])
            config = self._config() | {name: new[name] for name in _IDENTITY if name in new}
            self._path.write_text(json.dumps(config))
            await self._renamed(self.name)
        return request

    def _config(self) -> dict[str, Any]:
        return dict(json.loads(self._path.read_bytes()))
