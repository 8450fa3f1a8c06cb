"""The API's socket and server: bound before anything else starts, ended when the process is told to."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from squib.api.server import server_config
from squib.contracts.errors import InfrastructureError

#: Seconds that open connections, event streams above all, are given to end by themselves.
_GRACE = 1
_TAKEN = "Perhaps it is another squib: stop it, or name another place."


class CannotListen(InfrastructureError):
    """The address is taken, forbidden or not of this machine."""

    code, title = "cannot_listen", "Cannot listen"


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and the URL that reaches it from here."""

    socket: socket.socket
    url: str


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[Listener]:
    """Bind a TCP socket; port 0 takes a free one. Raises CannotListen, saying what to do."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        advice = "Set SQUIB_HOST to an address of this machine."
        raise CannotListen(f"{host} is no address: {error.strerror}", advice=advice) from error
    with socket.socket(family, kind, protocol) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
            bound.listen(2048)
        except OSError as error:
            raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror}", advice=_advice(error)) from error
        bound.setblocking(False)
        named = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        shown = f"[{named}]" if ":" in named else named
        yield Listener(bound, f"http://{shown}:{bound.getsockname()[1]}")


@contextlib.contextmanager
def listening_at(place: str) -> Iterator[Listener]:
    """Bind `HOST:PORT`, or `unix:PATH`, which this process's user alone may use. Raises CannotListen."""
    if not place.startswith("unix:"):
        host, _, port = place.rpartition(":")
        with listening(host.strip("[]"), int(port)) as listener:
            yield listener
        return
    path = Path(place.removeprefix("unix:")).absolute()
    if _answers(path):
        raise CannotListen(f"cannot listen at {path}: another program listens there", advice=_TAKEN)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        try:
            fresh.unlink(missing_ok=True)
            bound.bind(str(fresh))
            fresh.chmod(0o600)
            bound.listen(2048)
            fresh.rename(path)  # whole, and in the place of a dead one's
        except OSError as error:
            advice = "Name a directory that is there and yours; a socket's path ends at 107 bytes."
            raise CannotListen(f"cannot listen at {path}: {error}", advice=advice) from error
        bound.setblocking(False)
        own = path.stat().st_ino
        try:
            yield Listener(bound, f"unix:{path}")
        finally:
            with contextlib.suppress(OSError):
                if path.stat().st_ino == own:
                    path.unlink()


def _answers(path: Path) -> bool:
    """Whether a program listens there: a dead one's socket may be replaced, a living one's not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # it has too much to do
            return True
        except OSError:
            return False
        return True


def _advice(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{_TAKEN} Or use --port 0 for a free port."
    if error.errno in (errno.EACCES, errno.EPERM):
        return "Ports below 1024 need privileges: use a higher one."
    return "Set SQUIB_HOST and SQUIB_PORT to an address of this machine."


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def serve(app: ASGIApp, listener: Listener) -> None:
    """Serve the application until cancelled, then let what is open end."""
    server = _Server(server_config(app, timeout_graceful_shutdown=_GRACE))
    task = asyncio.create_task(server.serve(sockets=[listener.socket]), name="squib-api-server")
    try:
        await asyncio.shield(task)
    finally:
        server.should_exit = True
        await task
