"""The application: the routes of `contracts.host`, each behind its token, its errors as problem documents."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from squib.daemon import metrics, problems, proxy, websocket
from squib.daemon.access import Access, sandbox_id
from squib.daemon.sandboxes import Handler, Sandboxes
from squib.host import Host

_log = structlog.get_logger("squib.daemon")
_GUEST = "/v1/sandboxes/{id}/guest/{path:path}"
_LEFT = 499  # the caller has: nobody reads the answer
_ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def create_daemon(host: Host, key: bytes) -> ASGIApp:
    """Make the ASGI application over a host, which stays the caller's: entered before, left after it."""
    daemon = _Daemon(host, Access(key))
    app = Starlette(routes=daemon.routes(), exception_handlers={HTTPException: problems.on_http})
    app.router.redirect_slashes = False
    return _quiet(app)


def _quiet(app: ASGIApp) -> ASGIApp:
    """What is still open when the daemon stops is cut off, which is no error of the application's to be traced."""

    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return outermost


class _Daemon:
    """Who is let in, what is counted, how errors are told: the same for each route."""

    def __init__(self, host: Host, access: Access):
        self._host, self._access = host, access
        self._metrics = metrics.Metrics()

    def routes(self) -> list[BaseRoute]:
        """All routes, the most asked for first."""
        sandboxes, one = Sandboxes(self._host), "/v1/sandboxes/{id}"
        return [
            Route(_GUEST, self._told(_GUEST, self._guest), methods=_ANY),
            WebSocketRoute(_GUEST, self._terminal),
            self._route("PUT", one, sandboxes.put),
            self._route("GET", one, sandboxes.get),
            self._route("DELETE", one, sandboxes.delete),
            self._route("POST", one + "/suspend", sandboxes.suspend),
            self._route("POST", one + "/resume", sandboxes.resume),
            self._route("POST", one + "/fork", sandboxes.fork),
            self._route("GET", "/v1/sandboxes", sandboxes.list),
            self._route("GET", "/v1/status", sandboxes.status),
            self._route("GET", "/v1/snapshots", sandboxes.snapshots),
            self._route("GET", "/metrics", self._numbers),
            Route("/healthz", _healthz, methods=["GET"]),
        ]

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        async def checked(request: Request) -> Response:
            self._access.check_host(request)
            return await handler(request)

        return Route(path, self._told(path, checked), methods=[method])

    def _told(self, path: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """The handler with its errors as answers, counted and logged. The log sees neither query nor header."""

        async def tell(request: Request) -> Response:
            began = time.perf_counter()
            try:
                response = await handler(request)
            except ClientDisconnect:
                response = Response(status_code=_LEFT)
            except Exception as error:
                response = problems.of(error)
            took = time.perf_counter() - began
            self._metrics.seconds.labels(path, request.method).observe(took)
            self._metrics.requests.labels(path, request.method, str(response.status_code)).inc()
            _log.info(
                "request",
                method=request.method,
                path=request.url.path[:200],
                status=response.status_code,
                ms=round(took * 1000, 1),
            )
            return response

        return tell

    async def _guest(self, request: Request) -> Response:
        machine = await self._access.guest(request, self._host)
        return await proxy.passed(request, machine, sandbox_id(request))

    async def _terminal(self, socket: WebSocket) -> None:
        try:
            machine = await self._access.guest(socket, self._host)
            await websocket.relay(socket, machine, sandbox_id(socket))
            status = "101"
        except Exception as error:
            response = problems.of(error)
            await socket.send_denial_response(response)
            status = str(response.status_code)
        self._metrics.requests.labels(_GUEST, "WS", status).inc()

    async def _numbers(self, _: Request) -> Response:
        return Response(self._metrics.render(self._host.status()), media_type=metrics.CONTENT_TYPE)


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")
