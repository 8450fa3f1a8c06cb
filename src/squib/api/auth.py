"""Who asks: a bearer token in a header, in the cookie of a browser, or in a WebSocket's query.

A cookie is sent by the browser whoever asked for it, and cookies know no ports. So what changes something, and every
WebSocket, must then come from a page of this very host and port (the headers Origin or Sec-Fetch-Site say so).
"""

import re
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.responses import Response

from squib.api.services import Deps, Services
from squib.contracts.errors import Forbidden, Unauthenticated

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_TOKEN_CHARS = 256


def cookie_name(connection: HTTPConnection) -> str:
    """The session cookie's name: of this port, since cookies are shared between the ports of a host."""
    port = re.search(r":([0-9]{1,5})$", connection.headers.get("host", ""))
    return f"squib_{port[1] if port else 443 if is_https(connection) else 80}"


def is_https(connection: HTTPConnection) -> bool:
    """Whether the client's side of the connection is TLS."""
    return connection.scope["scheme"] in ("https", "wss")


def set_session(response: Response, connection: HTTPConnection, secret: str) -> None:
    """Let the browser send this token with each request to this host, out of reach of scripts."""
    response.set_cookie(
        cookie_name(connection), secret, httponly=True, samesite="strict", secure=is_https(connection), path="/"
    )


def clear_session(response: Response, connection: HTTPConnection) -> None:
    """Make the browser forget it."""
    response.delete_cookie(cookie_name(connection), path="/", httponly=True, samesite="strict")


def bearer(connection: HTTPConnection) -> str | None:
    """The token of the Authorization header. Raises Unauthenticated where that header holds something else."""
    header = connection.headers.get("authorization")
    if header is None:
        return None
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated("the Authorization header must be 'Bearer TOKEN'")
    return secret.strip()


def _place(origin: str) -> str | None:
    """The host and port of an Origin header; None where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _from_own_page(connection: HTTPConnection, services: Services) -> bool:
    origin = connection.headers.get("origin")
    if origin is not None:
        host = connection.headers.get("host", "").lower()
        return origin in services.config.allowed_origins or _place(origin) == host != ""
    return connection.headers.get("sec-fetch-site") == "same-origin"


def _secret(connection: HTTPConnection, services: Services) -> str | None:
    websocket = connection.scope["type"] == "websocket"
    if websocket and "origin" in connection.headers and not _from_own_page(connection, services):
        raise Forbidden("a page of another site may not open a WebSocket here")
    if (secret := bearer(connection)) is not None:
        return secret
    if websocket and (secret := connection.query_params.get("token")):
        return secret
    secret = connection.cookies.get(cookie_name(connection))
    if secret and (websocket or connection.scope["method"] not in _SAFE) and not _from_own_page(connection, services):
        raise Forbidden("a request with a cookie must come from a page of this host and port")
    return secret


async def user_of_secret(services: Services, secret: str) -> str:
    """The id of the token's user. Raises Unauthenticated."""
    if len(secret) > _MAX_TOKEN_CHARS or not secret.isascii() or not secret.isprintable():
        raise Unauthenticated("this token is not known")
    user = await services.store.users.authenticate(secret)
    if user is None:
        raise Unauthenticated("this token is not known, or was revoked")
    return user


async def authenticated(connection: HTTPConnection, services: Deps) -> str:
    """The id of the user who asks. Raises Unauthenticated or Forbidden."""
    secret = _secret(connection, services)
    if not secret:
        raise Unauthenticated("this needs a token")
    user = await user_of_secret(services, secret)
    connection.scope["squib.user"] = user
    return user


User = Annotated[str, Depends(authenticated)]
