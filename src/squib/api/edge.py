"""The outermost layer: the Host check, security headers, the access log, and an answer for the unexpected.

Plain ASGI, since each layer costs memory in every open event stream. The log and the metrics never see a query
string (a WebSocket's may hold a token), a header or a body.
"""

import time
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from squib.api.config import ApiConfig
from squib.api.metrics import Metrics
from squib.api.problems import MisdirectedRequest, problem_response, unexpected_response
from squib.contracts.errors import SquibError

_log = structlog.get_logger("squib.api")
#: A probe addresses a process by whatever name it has; these tell nothing that a rebinding page could use.
_ANY_HOST = frozenset({"/healthz", "/readyz"})
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_NO_STORE = (b"cache-control", b"no-store")


class Edge:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, *, config: ApiConfig, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self.any_host = "*" in config.allowed_hosts
        self.hosts = frozenset(host.lower() for host in config.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self.metrics)
        try:
            if self._known_host(scope):
                await self.app(scope, receive, exchange.send)
            else:
                error = MisdirectedRequest("the Host header names a host that is not ours")
                await problem_response(error)(scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or 499
        except Exception as error:
            await exchange.fail(error, receive)
        finally:
            exchange.close()

    def _known_host(self, scope: Scope) -> bool:
        if self.any_host or scope["path"] in _ANY_HOST:
            return True
        host = Headers(scope=scope).get("host", "").lower()
        return _without_port(host) in self.hosts


def _root(error: BaseException) -> BaseException:
    """What lies below a group of one and the router's word that an answer had begun already."""
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return _root(error.exceptions[0])
    return error.__cause__ if isinstance(error.__cause__, SquibError) else error


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


class _Exchange:
    """One request on its way: sees the answer's start go by."""

    __slots__ = ("_send", "began", "metrics", "scope", "started", "status")

    def __init__(self, scope: Scope, send: Send, metrics: Metrics) -> None:
        self.scope, self._send, self.metrics = scope, send, metrics
        self.began = time.perf_counter()
        self.started = False
        self.status = 0

    async def send(self, message: Message) -> None:
        """Pass a message on; to the first one add the headers that every answer has."""
        if not self.started and message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.started, self.status = True, message["status"]
            headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in headers}
            headers += [pair for pair in _SECURITY if pair[0] not in names]
            if b"cache-control" not in names:
                headers.append(_NO_STORE)
            message = {**message, "headers": headers}
            self.metrics.seconds.labels(self._route()).observe(time.perf_counter() - self.began)
        elif message["type"] == "websocket.accept":
            self.started, self.status = True, 101
        await self._send(message)

    async def fail(self, error: Exception, receive: Receive) -> None:
        """Tell the client as much as is still possible, and the log all of it."""
        cause = _root(error)
        if not self.started:
            _log.error("unexpected error", path=self._path(), exc_info=error)
            await unexpected_response()(self.scope, receive, self.send)
        elif isinstance(cause, SquibError):
            # The server closes the connection without the last chunk, by which the client knows.
            _log.warning("answer broken off", path=self._path(), code=cause.code, detail=cause.detail[:500])
        else:
            _log.error("answer broken off", path=self._path(), exc_info=error)

    def close(self) -> None:
        """Count it and log it."""
        self.metrics.requests.labels(self._method(), self._route(), str(self.status)).inc()
        client: Any = self.scope.get("client")
        _log.info(
            "request",
            method=self._method(),
            path=self._path(),
            status=self.status,
            ms=round((time.perf_counter() - self.began) * 1000, 1),
            client=client[0] if client else None,
            user=self.scope.get("squib.user"),
        )

    def _method(self) -> str:
        method = self.scope.get("method", "WS")
        return method if method in _METHODS else "OTHER"

    def _path(self) -> str:
        return str(self.scope["path"])[:200]

    def _route(self) -> str:
        return getattr(self.scope.get("route"), "path", "unknown")


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "WS"})
