"""Requests to handlers: who may ask, what is asked for, and what an error looks like."""

import contextlib
import hashlib
import hmac
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from squib.contracts.errors import Conflict, NotFound, SquibError, Unauthenticated
from squib.guest import lazy
from squib.guest.exchange import Exchange

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor

log = logging.getLogger("squib.guest")

#: From method and path to the handler, loaded with its first request.
ROUTES = {
    ("GET", "/health"): "squib.guest.routes.base:health",
    ("GET", "/logs"): "squib.guest.routes.base:logs",
    ("GET", "/events"): "squib.guest.routes.base:events",
    ("POST", "/freeze"): "squib.guest.routes.base:freeze",
    ("POST", "/resume"): "squib.guest.routes.base:resume",
    ("POST", "/run"): "squib.guest.routes.run:start",
    ("GET", "/run"): "squib.guest.routes.run:status",
    ("POST", "/run/cancel"): "squib.guest.routes.run:cancel",
    ("POST", "/terminal"): "squib.guest.routes.terminal:terminal",
    ("GET", "/terminal/pty"): "squib.guest.routes.pty:pty",
    ("POST", "/git/clone"): "squib.guest.routes.git:clone",
    ("POST", "/git/commit"): "squib.guest.routes.git:commit",
    ("POST", "/git/push"): "squib.guest.routes.git:push",
    ("GET", "/git/diff"): "squib.guest.routes.git:diff",
    ("POST", "/files/write"): "squib.guest.routes.files:write",
    ("GET", "/files/read"): "squib.guest.routes.files:read",
    ("GET", "/files/list"): "squib.guest.routes.files:list_",
    ("GET", "/files/archive"): "squib.guest.routes.files:archive",
    ("POST", "/files/extract"): "squib.guest.routes.files:extract",
}
#: Requests that are no work: a guest that serves only these is at rest.
_IDLE = {("GET", "/events"), ("GET", "/health"), ("POST", "/freeze")}


class Application:
    """Answers every request, with a problem document where it fails."""

    def __init__(self, guest: "Supervisor"):
        self._guest = guest

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request. Raises ConnectionError alone: when there is nobody left to be answered."""
        try:
            self._authenticate(exchange)
            if self._guest.thaw is not None:
                raise Conflict("the guest is about to be frozen", advice="Ask again once it goes on.")
            handler = ROUTES.get((exchange.method, exchange.path))
            if handler is None:
                raise NotFound(f"the guest has no {exchange.method} {exchange.path[:200]}")
            with self._counted(exchange):
                await lazy.member(handler)(self._guest, exchange)
        except SquibError as error:
            self._fail(exchange, error)
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s %s failed", exchange.method, exchange.path[:200])
            self._fail(exchange, SquibError("the guest failed at this request", advice="See GET /logs."))

    def _authenticate(self, exchange: Exchange) -> None:
        scheme, _, token = exchange.headers.get(b"authorization", b"").partition(b" ")
        digest = hashlib.sha256(token).hexdigest()
        known = hmac.compare_digest(digest, self._guest.token_sha256)
        if scheme.lower() != b"bearer" or not known:
            raise Unauthenticated("the request carries no token of this guest", advice="Ask by squib's own client.")
        exchange.admit()
        self._guest.lease.renew()

    @contextlib.contextmanager
    def _counted(self, exchange: Exchange) -> Iterator[None]:
        """Within the block the guest is busy with this request, unless it only listens to what happens."""
        if (exchange.method, exchange.path) in _IDLE:
            yield
            return
        self._guest.requests.append(exchange)
        try:
            yield
        finally:
            self._guest.requests.remove(exchange)

    def _fail(self, exchange: Exchange, error: SquibError) -> None:
        if exchange.started:  # it can no longer be told otherwise than by breaking off
            raise ConnectionAbortedError(error.detail)
        exchange.refuse(error)
