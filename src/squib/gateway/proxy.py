"""One connection of a sandbox's: requests read by h11, each passed on by httpx2, the answer streamed back."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

import h11
import httpx2
import structlog

from squib.gateway import problem
from squib.gateway.problem import Refusal
from squib.gateway.route import METHODS, Route, incoming, match, outgoing

MAX_BODY_BYTES = 64 * 1024 * 1024
_MAX_HEAD_BYTES = 32 * 1024  # of an unfinished one; a whole one may be as long as that and a read
_READ_BYTES = 32 * 1024
_IDLE_SECONDS = 300.0  # between two requests, between two pieces of a body, and for a reader that stalls

_log = structlog.get_logger("squib.gateway")


class Gone(Exception):
    """The client has left, or the upstream has in the middle of its answer."""


class Exchange:
    """Serves one connection until it ends. `machine` is for the log alone."""

    def __init__(
        self,
        machine: str,
        routes: Mapping[str, Route],
        client: httpx2.AsyncClient,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ):
        self._machine, self._routes, self._client = machine, routes, client
        self._reader, self._writer = reader, writer
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._whole = asyncio.Event()  # the request's body has been read to its end

    async def serve(self) -> None:
        """Answer requests until either side closes. Never raises, but for cancellation."""
        try:
            while True:
                self._whole.clear()
                request = await self._next()
                if not isinstance(request, h11.Request):
                    return
                await self._answer(request)
                if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
                    return
                self._h11.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._refuse(problem.bad_request(f"this is no HTTP request: {error}."))
        except (Gone, OSError, TimeoutError, h11.LocalProtocolError):
            return

    async def _answer(self, request: h11.Request) -> None:
        try:
            name, url = self._admit(request)
            await self._until_gone(name, url, request)
        except Refusal as refusal:
            await self._refuse(refusal)

    def _admit(self, request: h11.Request) -> tuple[str, str]:
        """The route and the URL. Raises Refusal."""
        if request.method not in METHODS:
            raise problem.bad_request("the method is not one that passes.")
        names = [name for name, _ in request.headers]
        if b"content-length" in names and b"transfer-encoding" in names:
            raise problem.bad_request("Content-Length and Transfer-Encoding contradict each other.")
        if int(dict(request.headers).get(b"content-length", b"0")) > MAX_BODY_BYTES:
            raise problem.too_large(MAX_BODY_BYTES)
        try:
            found = match(self._routes, request.target)
        except ValueError as error:
            raise problem.bad_request(f"{error}.") from error
        if found is None:
            raise problem.no_route(request.target.decode("latin-1").strip("/").partition("/")[0])
        return found

    async def _until_gone(self, name: str, url: str, request: h11.Request) -> None:
        """Pass the request on, and stop as soon as the client has left."""
        passing, watching = asyncio.create_task(self._pass(name, url, request)), asyncio.create_task(self._watch())
        try:
            await asyncio.wait({passing, watching}, return_when=asyncio.FIRST_COMPLETED)
            await (passing if passing.done() else watching)
        finally:
            passing.cancel()
            watching.cancel()
            await asyncio.gather(passing, watching, return_exceptions=True)

    async def _watch(self) -> None:
        """Raise Gone when the client closes. What it says meanwhile is its next request, and waits its turn."""
        await self._whole.wait()
        if not (data := await self._reader.read(_READ_BYTES)):
            raise Gone
        self._h11.receive_data(data)
        await asyncio.Event().wait()  # no more is read before the answer is out

    async def _pass(self, name: str, url: str, request: h11.Request) -> None:
        route, has_body = self._routes[name], _has_body(request)
        headers = outgoing(route, request.headers)
        if not has_body:
            await self._end_of_body()
        method = request.method.decode()
        onward = httpx2.Request(method, url, headers=headers, content=self._body() if has_body else None)
        try:
            response = await self._client.send(onward, stream=True, follow_redirects=False)
        except httpx2.HTTPError as error:
            kind = type(error).__name__
            _log.warning("the provider could not be reached", machine=self._machine, route=name, error=kind)
            raise problem.unreachable(name, kind) from None  # its text may hold a header's value
        try:
            await self._send_back(route, response)
        finally:
            await response.aclose()

    async def _send_back(self, route: Route, response: httpx2.Response) -> None:
        headers = incoming(route, response.headers.raw)
        await self._write(h11.Response(status_code=response.status_code, headers=headers))
        try:
            async for chunk in response.aiter_raw():
                await self._write(h11.Data(chunk))
        except httpx2.HTTPError as error:
            raise Gone from error  # the connection is cut, so that the client knows that there should be more
        await self._write(h11.EndOfMessage())

    async def _refuse(self, refusal: Refusal) -> None:
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        head, body = refusal.parts()
        await self._write(head)
        await self._write(h11.Data(body))
        await self._write(h11.EndOfMessage())

    # -- the client's side

    async def _body(self) -> AsyncGenerator[bytes, None]:
        """The request's body. Raises Refusal over the bound."""
        if self._h11.they_are_waiting_for_100_continue:
            await self._write(h11.InformationalResponse(status_code=100, headers=[]))
        size = 0
        while isinstance(event := await self._next(), h11.Data):
            size += len(event.data)
            if size > MAX_BODY_BYTES:
                raise problem.too_large(MAX_BODY_BYTES)
            yield bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            raise Gone
        self._whole.set()

    async def _end_of_body(self) -> None:
        if not isinstance(await self._next(), h11.EndOfMessage):
            raise Gone
        self._whole.set()

    async def _next(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(_IDLE_SECONDS):
                self._h11.receive_data(await self._reader.read(_READ_BYTES))
        return event  # type: ignore[return-value]

    async def _write(self, event: h11.Event) -> None:
        if data := self._h11.send(event):
            self._writer.write(data)
            async with asyncio.timeout(_IDLE_SECONDS):
                await self._writer.drain()


def _has_body(request: h11.Request) -> bool:
    headers = dict(request.headers)
    return b"transfer-encoding" in headers or int(headers.get(b"content-length", b"0")) > 0
