"""Kept-alive connections to one guest, and one request over them with its time limit, retry and errors."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import h11

from squib.contracts.errors import GuestUnreachable
from squib.link import untrusted
from squib.link.connection import Body, Connection, Stale
from squib.link.transport import Endpoint, connect

_MAX_IDLE = 8  # connections kept
_FRESH_SECONDS = 2.0  # a request that must not be sent twice uses no connection that has lain idle for longer
_MAX_PROBLEM_BYTES = 256 * 1024


class _Sender:
    """One request, to be sent once or, over a second connection, twice."""

    def __init__(self, method: str, target: str, headers: list[tuple[str, str]], body: Callable[[], Body]):
        self._method, self._target, self._headers, self._body = method, target, headers, body

    async def over(self, connection: Connection) -> h11.Response:
        body = self._body()
        length = [("Content-Length", str(len(body)))] if isinstance(body, bytes) and body else []
        head = h11.Request(method=self._method, target=self._target, headers=self._headers + length)
        try:
            return await connection.request(head, body)
        except BaseException:
            connection.close()
            raise


class Pool:
    """Connections of one endpoint, each used by one request at a time."""

    def __init__(self, endpoint: Endpoint, token: str, uid: int | None):
        self.endpoint, self.uid = endpoint, uid
        self.headers = [("Host", endpoint.host), ("Authorization", f"Bearer {token}")]
        self._idle: list[Connection] = []
        self._closed = False

    def target(self, path: str, query: Mapping[str, object] | None = None) -> str:
        """The request's target; parameters that are None are left out."""
        given = {k: str(v) for k, v in (query or {}).items() if v is not None}
        return f"{self.endpoint.prefix}{path}?{urlencode(given)}" if given else self.endpoint.prefix + path

    def _kept(self, repeatable: bool) -> Connection | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            idle = now - (connection.idle_since or 0.0)
            if not connection.ended and (repeatable or idle < _FRESH_SECONDS):
                return connection
            connection.close()
        return None

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        target: str,
        body: Callable[[], Body] = lambda: b"",
        headers: Sequence[tuple[str, str]] = (),
        *,
        repeatable: bool = True,
        seconds: float,
        endless: bool = False,
    ) -> AsyncIterator[tuple[h11.Response, Connection]]:
        """Send a request and give its answer, which is good (2xx); read its body within the block.

        All of it must end within `seconds`, or with `endless` its head alone: the caller then limits each read.
        A repeatable request is sent once more where a kept-alive connection turns out to have ended. A body
        that is an iterator needs Content-Length or Transfer-Encoding among the `headers`.
        Raises the error that the guest's problem document tells of, or GuestUnreachable.
        """
        connection: Connection | None = None
        try:
            async with asyncio.timeout(seconds) as limit:
                sender = _Sender(method, target, [*self.headers, *headers], body)
                response, connection = await self._sent(sender, repeatable)
                if endless:
                    limit.reschedule(None)
                if not 200 <= response.status_code < 300:
                    raise untrusted.error_of(response.status_code, await connection.read(_MAX_PROBLEM_BYTES))
                yield response, connection
        except TimeoutError as error:
            raise GuestUnreachable(f"the guest did not answer {method} {target[:200]} in time") from error
        finally:
            if connection is not None:
                self._put_back(connection)

    async def _sent(self, sender: _Sender, repeatable: bool) -> tuple[h11.Response, Connection]:
        if (kept := self._kept(repeatable)) is not None:
            try:
                return await sender.over(kept), kept
            except Stale as error:
                if not repeatable:
                    raise GuestUnreachable("the guest closed the connection without an answer") from error
        connection = Connection(*await connect(self.endpoint, self.uid))
        try:
            return await sender.over(connection), connection
        except Stale as error:
            raise GuestUnreachable("the guest closed the connection without an answer") from error

    def _put_back(self, connection: Connection) -> None:
        if not self._closed and len(self._idle) < _MAX_IDLE and connection.recycle():
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close what is idle; what is in use closes as its request ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
