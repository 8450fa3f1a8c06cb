"""How bytes reach a guest: a unix socket in a directory that the guest itself may write to, or TCP."""

import asyncio
import os
import socket
import stat
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from squib.contracts.errors import GuestUnreachable, InvalidRequest

READ_BYTES = 256 * 1024
_BACKLOG_FULL_PAUSE = 0.005  # seconds; connect(2) on a unix socket with a full backlog can't be waited for


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a guest listens: `path` for unix, else host and port; and the prefix of a proxy's path."""

    path: str = ""
    host: str = "guest"
    port: int = 0
    tls: bool = False
    prefix: str = ""


def parse_endpoint(text: str) -> Endpoint:
    """Read `unix:PATH`, `http://HOST:PORT[/PREFIX]`, https, or `http+unix://PATH[/PREFIX]` whose PATH is quoted.

    Raises InvalidRequest for anything else.
    """
    if text.startswith("unix:"):
        return Endpoint(path=text.removeprefix("unix:"))
    url = urlsplit(text)
    if url.scheme == "http+unix" and url.netloc:
        return Endpoint(path=unquote(url.netloc), prefix=url.path.rstrip("/"))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise InvalidRequest(f"{text!r} is no endpoint of a guest", fields={"endpoint": "unix:PATH or http(s)://…"})
    tls = url.scheme == "https"
    return Endpoint(host=url.hostname, port=url.port or (443 if tls else 80), tls=tls, prefix=url.path.rstrip("/"))


async def connect(endpoint: Endpoint, uid: int | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection. Raises GuestUnreachable; the caller sets the time limit."""
    try:
        if not endpoint.path:
            tls = True if endpoint.tls else None
            return await asyncio.open_connection(endpoint.host, endpoint.port, limit=READ_BYTES, ssl=tls)
        sock = await _connect_unix(endpoint.path, uid)
        try:
            return await asyncio.open_unix_connection(sock=sock, limit=READ_BYTES)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise GuestUnreachable(f"no connection to the guest: {error.strerror or error}") from error


async def _connect_unix(path: str, uid: int | None) -> socket.socket:
    """Connect to the very inode that was checked: the guest may swap the name for a link at any moment."""
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if not stat.S_ISSOCK(found.st_mode):
            raise GuestUnreachable("where the guest's socket should be is something else")
        if uid is not None and found.st_uid != uid:
            raise GuestUnreachable("the guest's socket belongs to another user")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            while True:
                try:
                    sock.connect(f"/proc/self/fd/{handle}")
                    return sock
                except BlockingIOError:
                    await asyncio.sleep(_BACKLOG_FULL_PAUSE)
        except BaseException:
            sock.close()
            raise
    finally:
        os.close(handle)
