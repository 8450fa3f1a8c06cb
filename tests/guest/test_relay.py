"""The relay: bytes both ways, whatever becomes of either end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from squib.guest.relay import Relay

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write(b"end")
    writer.close()


@asynccontextmanager
async def _gateway(path: Path, serve: Serve = _echo) -> AsyncIterator[None]:
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        server.close()


async def _through(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    _, answer = await asyncio.gather(send(), reader.read())
    writer.close()
    return answer


@pytest.mark.parametrize("size", [0, 1, 10_000_000])
async def test_both_ways_and_half_closed(tmp_path: Path, unused_tcp_port: int, size: int) -> None:
    async with _gateway(tmp_path / "g"), Relay(f"unix:{tmp_path}/g", unused_tcp_port) as relay:
        assert relay.url == f"http://127.0.0.1:{unused_tcp_port}"
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        assert await _through(unused_tcp_port, data) == data + b"end"
        assert not relay.transports


async def test_the_gateway_may_come_back_at_the_same_place(tmp_path: Path, unused_tcp_port: int) -> None:
    async with Relay(f"unix:{tmp_path}/g", unused_tcp_port):
        assert await _through(unused_tcp_port, b"") == b""
        for _ in range(2):
            async with _gateway(tmp_path / "g"):
                assert await _through(unused_tcp_port, b"hello") == b"helloend"


async def test_many_at_once(tmp_path: Path, unused_tcp_port: int) -> None:
    async with _gateway(tmp_path / "g"), Relay(f"unix:{tmp_path}/g", unused_tcp_port):
        answers = await asyncio.gather(*(_through(unused_tcp_port, b"%d" % n) for n in range(50)))
        assert answers == [b"%dend" % n for n in range(50)]


async def test_a_client_that_goes_away_frees_the_gateway(tmp_path: Path, unused_tcp_port: int) -> None:
    freed = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hi")
        await reader.read()
        freed.set()
        writer.close()

    async with _gateway(tmp_path / "g", wait), Relay(f"unix:{tmp_path}/g", unused_tcp_port):
        reader, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
        assert await reader.read(2) == b"hi"
        writer.transport.abort()
        async with asyncio.timeout(5):
            await freed.wait()


async def test_without_a_gateway_nothing_listens(unused_tcp_port: int) -> None:
    async with Relay(None, unused_tcp_port) as relay:
        assert relay.url is None
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", unused_tcp_port)
