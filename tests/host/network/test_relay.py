"""The relay as a process of its own, on the loopback instead of in a room: bytes there and back, ends, limits."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from squib.host import watch
from squib.host.network import relay

#: The very program, but for the two addresses.
PROGRAM = f"""
import runpy, sys
room = runpy.run_path({relay.__file__!r}, run_name="relay")
room["main"].__globals__.update(ROOM="127.0.0.1", GUEST="127.0.0.1")
room["main"](int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5])
"""
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
BIG = bytes(range(256)) * 16384  # 4 MiB


@dataclass
class Relay:
    guest_port: int
    guest_socket: Path
    gateway_port: int
    gateway_socket: Path
    process: asyncio.subprocess.Process
    life: int

    def end(self) -> None:
        if self.life >= 0:
            os.close(self.life)
            self.life = -1


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
async def running(shared_tmp: Path) -> AsyncIterator[Relay]:
    there, here = os.pipe()
    ports, paths = (free_port(), free_port()), (shared_tmp / "guest.sock", shared_tmp / "gateway.sock")
    arguments = (str(there), str(ports[0]), str(paths[0]), str(ports[1]), str(paths[1]))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", PROGRAM, *arguments), pass_fds=(there,)
    )
    os.close(there)
    made = Relay(ports[0], paths[0], ports[1], paths[1], process, here)
    yield made
    made.end()
    async with asyncio.timeout(10):
        assert await process.wait() == 0


@contextlib.asynccontextmanager
async def guest(running: Relay, peer: Peer) -> AsyncIterator[None]:
    async with await asyncio.start_server(peer, "127.0.0.1", running.guest_port, backlog=1000):
        async with asyncio.timeout(20):
            await watch.appears(running.guest_socket)
        yield


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send all back once the other side has ended."""
    content = await reader.read()
    with contextlib.suppress(ConnectionError):
        writer.write(content)
        writer.write_eof()
        await writer.drain()
    writer.close()


async def ask(path: Path, content: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(content)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_the_way_in_opens_once_the_guest_listens_and_halves_close_apart(running: Relay) -> None:
    assert not running.guest_socket.exists()
    async with guest(running, echo):
        assert running.guest_socket.stat().st_mode & 0o777 == 0o600
        assert await ask(running.guest_socket, b"hello") == b"hello"
        assert await ask(running.guest_socket, b"") == b""
        assert await ask(running.guest_socket, BIG) == BIG


async def test_many_at_once_do_not_mix_and_those_over_the_limit_wait(running: Relay) -> None:
    async with guest(running, echo):
        asked = [str(number).encode() * 1000 for number in range(relay.MAX_PAIRS + 50)]
        assert await asyncio.gather(*(ask(running.guest_socket, content) for content in asked)) == asked


async def test_who_does_not_read_holds_only_himself_up(running: Relay) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(4) == b"echo":
            return await echo(reader, writer)
        with contextlib.suppress(ConnectionError):
            for _ in range(16):
                writer.write(BIG)
                await writer.drain()
        writer.close()

    async with guest(running, flood):
        reader, writer = await asyncio.open_unix_connection(running.guest_socket)
        writer.write(b"more")
        await reader.readexactly(1)
        assert await ask(running.guest_socket, b"echo" + b"quick") == b"quick"
        rss = Path(f"/proc/{running.process.pid}/statm").read_text().split()[1]
        assert int(rss) * 4096 < 24 << 20, "what nobody takes is not read"
        got = 1 + len(await reader.readexactly(16 * len(BIG) - 1))
        assert got == 16 * len(BIG)
        writer.close()


async def test_the_guest_reaches_the_gateway_and_a_new_one_in_its_place(running: Relay) -> None:
    async def through() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway_port)
        writer.write(b"out")
        with contextlib.suppress(OSError):  # it may be closed before it is told
            writer.write_eof()
            return await reader.read()
        return b""

    async with guest(running, echo):
        assert await through() == b"", "there is no gateway"
        async with await asyncio.start_unix_server(echo, running.gateway_socket):
            assert await through() == b"out"
        running.gateway_socket.unlink(missing_ok=True)
        async with await asyncio.start_unix_server(echo, running.gateway_socket):
            assert await through() == b"out"


async def test_all_of_an_answer_comes_through_from_a_peer_that_is_gone_at_once(running: Relay) -> None:
    async def burst(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(BIG)
        writer.close()

    async with guest(running, echo), await asyncio.start_unix_server(burst, running.gateway_socket):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.gateway_port)
        writer.write(b"x")
        assert await reader.read(1) == BIG[:1]
        assert await reader.readexactly(len(BIG) - 1) == BIG[1:]
        assert await reader.read() == b""
        writer.close()


async def test_it_ends_with_the_machine_also_while_connections_are_open(running: Relay) -> None:
    async with guest(running, echo):
        reader, writer = await asyncio.open_unix_connection(running.guest_socket)
        running.end()
        async with asyncio.timeout(10):
            assert await reader.read() == b""
            assert await running.process.wait() == 0
        writer.close()
