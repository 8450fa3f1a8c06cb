"""`/files/*`: the workspace's files, each path confined to it."""

import asyncio
import os
from typing import TYPE_CHECKING, Any

from squib.contracts.errors import InvalidRequest
from squib.guest import files, lazy
from squib.guest.confine import explain
from squib.guest.exchange import Exchange
from squib.guest.pump import Pump

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor

_READ_BYTES = 256 * 1024
_MAX_OFFSET = 1 << 62
_MAX_DEPTH = 64


def _path(exchange: Exchange, default: str | None = None) -> str:
    path = exchange.query.get("path", default)
    if path is None:
        raise InvalidRequest("path: is required", fields={"path": "is required"})
    return path


async def write(guest: "Supervisor", exchange: Exchange) -> None:
    """`POST /files/write`: the old content stays until the new is whole."""
    path, mode = _path(exchange), exchange.number("mode", None, 0, 0o777, base=8)
    with guest.workspace.parent(path, make=True) as (directory, name):
        keep = files.present_mode(directory, name) if mode is None else mode
        with files.Replacement(directory, name, keep) as new:
            async for data in exchange.body():
                new.write(data)
            found = new.commit()
    exchange.answer(files.entry(path, found))


async def read(guest: "Supervisor", exchange: Exchange) -> None:
    """`GET /files/read`: streamed; a file that shrinks meanwhile breaks the answer off."""
    path, offset = _path(exchange), exchange.number("offset", 0, 0, _MAX_OFFSET) or 0
    limit = exchange.number("limit", None, 0, _MAX_OFFSET)
    fd = guest.workspace.open_file(path)
    try:
        size = os.fstat(fd).st_size
        left = max(0, size - offset)
        left = left if limit is None else min(left, limit)
        exchange.start(
            200,
            "application/octet-stream",
            [("content-length", str(left)), ("squib-size", str(size))],
        )
        while left > 0:
            data = os.pread(fd, min(left, _READ_BYTES), offset)
            if not data:
                raise ConnectionAbortedError("the file has shrunk")
            exchange.send(data)
            await exchange.drain()
            offset, left = offset + len(data), left - len(data)
        exchange.finish()
    except OSError as error:
        if isinstance(error, ConnectionError):
            raise
        raise explain(error, path) from error
    finally:
        os.close(fd)


async def list_(guest: "Supervisor", exchange: Exchange) -> None:
    """`GET /files/list`."""
    depth = exchange.number("depth", 1, 1, _MAX_DEPTH) or 1
    exchange.answer(files.listing(guest.workspace, _path(exchange, "."), depth))


async def archive(guest: "Supervisor", exchange: Exchange) -> None:
    """`GET /files/archive`: a thread packs into a pipe, which is read no faster than the client takes it."""
    ours, theirs = os.pipe()
    exchange.start(200, "application/gzip")

    def send(data: bytes) -> None:
        exchange.send(data)
        if exchange.blocked:
            pump.pause()
            exchange.when_writable(pump.resume)

    pump = Pump(ours, send)
    try:
        packing = asyncio.to_thread(lazy.member("squib.guest.archive:write"), guest.workspace, theirs)
        async with asyncio.TaskGroup() as group:
            group.create_task(packing)
            await pump.ended
    finally:
        pump.close()
    exchange.finish()


async def extract(guest: "Supervisor", exchange: Exchange) -> None:
    """`POST /files/extract`: the body goes through a pipe to a thread that unpacks it."""
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    unpacking = asyncio.ensure_future(
        asyncio.to_thread(lazy.member("squib.guest.archive:extract"), guest.workspace, theirs)
    )
    try:
        async for data in exchange.body():
            if not await _give(ours, data, unpacking):
                break
    finally:
        os.close(ours)
        await asyncio.wait({unpacking})
    exchange.answer(unpacking.result())


async def _give(fd: int, data: bytes, taker: "asyncio.Future[Any]") -> bool:
    """Write to a pipe as it has room; False where nobody reads it any more."""
    loop, view = asyncio.get_running_loop(), memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            writable = asyncio.Event()
            loop.add_writer(fd, writable.set)
            waiting: asyncio.Future[Any] = asyncio.ensure_future(writable.wait())
            try:
                await asyncio.wait({waiting, taker}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                loop.remove_writer(fd)
                waiting.cancel()
        except BrokenPipeError:
            return False
    return True
