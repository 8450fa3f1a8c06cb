"""Fixtures: a real upstream on TCP, a gateway before it, a client on a machine's socket."""

import asyncio
from contextlib import asynccontextmanager

import httpx2
import pytest

from squib.gateway import Gateway, Route
from tests.link.stub import Reply, Stub

KEY = "sk-very-secret-0123456789"


@pytest.fixture
async def upstream(tmp_path):
    """A server that answers as `upstream.answer` says, or as `upstream.raw` does with the bytes."""
    stub = Stub(tmp_path, lambda seen: Reply(b"pong", headers={"X-Up": "1"}))
    stub.raw = None
    open_now = set()

    async def accept(reader, writer):
        open_now.add(writer)
        try:
            await (stub.raw or stub.serve)(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield stub
    server.close()
    for writer in open_now:
        writer.transport.abort()


@pytest.fixture
async def gateway(upstream):
    routes = {
        "anthropic": Route(upstream.url + "/base", {"x-api-key": KEY}, ("x-extra",)),
        "nowhere": Route("http://127.0.0.1:9", {"Authorization": f"Bearer {KEY}"}),
    }
    async with Gateway(routes) as made:
        yield made


@pytest.fixture
async def place(gateway, shared_tmp):
    """The machine's socket, open."""
    path = shared_tmp / "gateway.sock"
    await gateway.open("mch-1", path, None)
    return path


@pytest.fixture
def client(place):
    return client_of(place)


def client_of(path):
    return httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=str(path)), base_url="http://gateway")


@pytest.fixture
def speak(place):
    """Send bytes to the gateway and give all that it answers before it closes."""

    async def speak(data, *, half_close=True):
        async with connected(place) as (reader, writer):
            writer.write(data)
            if half_close:
                writer.write_eof()
            return await reader.read()

    return speak


@asynccontextmanager
async def connected(path):
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
