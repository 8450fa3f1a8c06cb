"""The gateway: one listening unix socket per machine, all served by this process."""

import asyncio
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from squib.gateway.proxy import Exchange
from squib.gateway.route import Route

_MAX_CONNECTIONS = 64  # of one machine; more are cut off
_BACKLOG = 64
# Models think for minutes before a first byte, and between two.
_TIMEOUT = httpx2.Timeout(connect=15.0, read=600.0, write=120.0, pool=60.0)
_LIMITS = httpx2.Limits(max_connections=512, max_keepalive_connections=64, keepalive_expiry=60.0)


@dataclass
class _Socket:
    path: Path
    server: asyncio.Server
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Gateway:
    """All machines' ways out. An async context manager; leaving it closes every socket and call.

    `routes` maps the first segment of a path to where it leads.
    """

    def __init__(self, routes: Mapping[str, Route]):
        self._routes = dict(routes)
        self._sockets: dict[str, _Socket] = {}
        self._client: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # none may pass between machines
        self._client = httpx2.AsyncClient(cookies=no_cookies, timeout=_TIMEOUT, limits=_LIMITS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for machine_id in list(self._sockets):
            await self.close(machine_id)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def open(self, machine_id: str, socket: Path, uid: int | None) -> None:
        """Listen for this machine at `socket` (mode 0600, owned by `uid` where given), replacing what was there.

        Also for a machine that is open already, or whose socket a former process has left. Raises OSError.
        """
        if self._client is None:
            raise RuntimeError("the gateway is not entered")
        await self.close(machine_id)
        listening = _bind(socket, uid)
        tasks: set[asyncio.Task[None]] = set()

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(tasks) >= _MAX_CONNECTIONS:
                writer.transport.abort()
                return
            task = asyncio.get_running_loop().create_task(self._serve(machine_id, reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_unix_server(accepted, sock=listening, backlog=_BACKLOG, start_serving=False)
        self._sockets[machine_id] = _Socket(socket, server, tasks)  # a caller that is cancelled now can close it
        await server.start_serving()

    async def close(self, machine_id: str) -> None:
        """Stop listening for this machine and end its calls. Idempotent."""
        closing = self._sockets.pop(machine_id, None)
        if closing is None:
            return
        closing.server.close()
        closing.path.unlink(missing_ok=True)
        for task in closing.tasks:
            task.cancel()
        await asyncio.gather(*closing.tasks, return_exceptions=True)

    async def _serve(self, machine_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._client is not None
        try:
            await Exchange(machine_id, self._routes, self._client, reader, writer).serve()
        finally:
            writer.close()


def _bind(path: Path, uid: int | None) -> socket.socket:
    """A listening socket that appears at `path` at once with its owner and mode, in place of any other file."""
    unfinished = path.with_name(path.name + "~")
    unfinished.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(unfinished))
        unfinished.chmod(0o600)
        if uid is not None:
            os.chown(unfinished, uid, -1)
        listening.listen(_BACKLOG)
        unfinished.rename(path)
    except BaseException:
        listening.close()
        unfinished.unlink(missing_ok=True)
        raise
    return listening
