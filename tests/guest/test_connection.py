"""The server's side of HTTP, byte by byte, over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from squib.contracts.errors import TooLarge
from squib.guest.exchange import Exchange
from squib.guest.server import MAX_CONNECTIONS, Server, vanish

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _answer(exchange: Exchange) -> None:
    """Tells what it got; /early answers before it reads, /bounded reads 10 bytes at most, /slow never ends."""
    if exchange.path == "/slow":
        exchange.start(200, "text/plain")
        try:
            await asyncio.Event().wait()
        finally:
            _cancelled.set()
    if exchange.path == "/ours":
        exchange.admit()
    if exchange.path == "/flood":
        exchange.start(200, "text/plain")
        while True:
            exchange.send(b"x" * 65_536)
            await exchange.drain()
    try:
        body = b"" if exchange.path == "/early" else await exchange.read(10 if exchange.path == "/bounded" else 10**9)
    except TooLarge as error:
        exchange.refuse(error)
        return
    exchange.reply(200, json.dumps([exchange.method, exchange.path, len(body)]).encode())


_cancelled = asyncio.Event()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[str]:
    global _cancelled
    _cancelled = asyncio.Event()
    async with Server(f"unix:{tmp_path}/s", _answer):
        yield f"{tmp_path}/s"


@asynccontextmanager
async def _connect(place: str) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_unix_connection(place)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(head[0].split()[1]), headers, body


async def _ask(place: str, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    async with _connect(place) as (reader, writer):
        writer.write(raw)
        return await _response(reader)


async def test_kept_alive_and_pipelined(place: str) -> None:
    async with _connect(place) as (reader, writer):
        writer.write(b"GET /a HTTP/1.1\r\nHost: g\r\n\r\nPOST /b HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\n\r\nxyz")
        assert json.loads((await _response(reader))[2]) == ["GET", "/a", 0]
        assert json.loads((await _response(reader))[2]) == ["POST", "/b", 3]
        writer.write(b"GET /c HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
        assert json.loads((await _response(reader))[2]) == ["GET", "/c", 0]
        assert await reader.read() == b""


async def test_chunked_body_in_small_pieces(place: str) -> None:
    async with _connect(place) as (reader, writer):
        raw = (
            b"POST /a HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"5\r\nhello\r\n" * 20
            + b"0\r\n\r\n"
        )
        for i in range(0, len(raw), 7):
            writer.write(raw[i : i + 7])
            await writer.drain()
            await asyncio.sleep(0)
        assert json.loads((await _response(reader))[2]) == ["POST", "/a", 100]


async def test_a_large_body(place: str) -> None:
    size = 20_000_000
    async with _connect(place) as (reader, writer):
        writer.write(b"POST /a HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 100_000):
            writer.write(b"x" * 100_000)
            await writer.drain()
        assert json.loads((await _response(reader))[2]) == ["POST", "/a", size]


async def test_100_continue(place: str) -> None:
    async with _connect(place) as (reader, writer):
        writer.write(b"POST /a HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"ok")
        assert (await _response(reader))[0] == 200


@pytest.mark.parametrize(("path", "status"), [("/early", 200), ("/bounded", 413)])
async def test_an_early_answer_is_seen(place: str, path: str, status: int) -> None:
    """A client that still sends gets the answer, and may go on using the connection."""
    async with _connect(place) as (reader, writer):
        writer.write(b"POST %s HTTP/1.1\r\nHost: g\r\nContent-Length: 1000000\r\n\r\n" % path.encode())
        writer.write(b"x" * 1_000_000)
        assert (await _response(reader))[0] == status
        writer.write(b"GET /again HTTP/1.1\r\nHost: g\r\n\r\n")
        assert (await _response(reader))[0] == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"rubbish\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: g\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: g\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: g\r\nX: " + b"y" * 100_000, 431),
        (b"\x16\x03\x01" + bytes(200), 400),
    ],
)
async def test_what_is_no_http(place: str, raw: bytes, status: int) -> None:
    async with _connect(place) as (reader, writer):
        writer.write(raw)
        assert (await _response(reader))[0] == status
        assert await reader.read() == b""


async def test_a_client_that_goes_away_ends_its_request(place: str) -> None:
    async with _connect(place) as (reader, writer):
        writer.write(b"GET /slow HTTP/1.1\r\nHost: g\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(5):
        await _cancelled.wait()


async def test_one_that_goes_away_within_its_body(place: str) -> None:
    async with _connect(place) as (_, writer):
        writer.write(b"POST /a HTTP/1.1\r\nHost: g\r\nContent-Length: 100\r\n\r\nx")
        await writer.drain()
    assert (await _ask(place, b"GET /a HTTP/1.1\r\nHost: g\r\n\r\n"))[0] == 200


async def test_a_client_that_takes_nothing_does_not_fill_memory(place: str) -> None:
    async with _connect(place) as (reader, writer):
        writer.write(b"GET /flood HTTP/1.1\r\nHost: g\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(20):
            assert (await _ask(place, b"GET /a HTTP/1.1\r\nHost: g\r\n\r\n"))[0] == 200


async def test_a_stale_socket_is_replaced_and_removed(tmp_path: Path) -> None:
    place = tmp_path / "s"
    for _ in range(2):
        async with Server(f"unix:{place}", _answer):
            assert (await _ask(str(place), b"GET /a HTTP/1.1\r\nHost: g\r\n\r\n"))[0] == 200
            assert place.stat().st_mode & 0o777 == 0o600
    vanish(f"unix:{place}")
    assert not place.exists()
    vanish(f"unix:{place}")


async def test_tcp(unused_tcp_port: int) -> None:
    async with Server(f"tcp:127.0.0.1:{unused_tcp_port}", _answer):
        reader, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
        writer.write(b"GET /a HTTP/1.1\r\nHost: g\r\n\r\n")
        assert (await _response(reader))[0] == 200
        writer.close()


async def test_strangers_that_hold_connections_keep_the_host_out_neither_from_old_ones_nor_new(place: str) -> None:
    request = b"GET /ours HTTP/1.1\r\nhost: x\r\n\r\n"
    async with _connect(place) as (reader, writer), AsyncExitStack() as stack:
        writer.write(request)
        assert (await _response(reader))[0] == 200
        held = [await stack.enter_async_context(_connect(place)) for _ in range(MAX_CONNECTIONS + 10)]
        async with _connect(place) as (other, to_other):
            to_other.write(request)
            assert (await _response(other))[0] == 200
        writer.write(request)
        assert (await _response(reader))[0] == 200
        assert await held[0][0].read() == b"", "the oldest stranger had to go"
