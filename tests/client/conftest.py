"""Both clients behind one face, a real API over a real store, and a wire that breaks."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import structlog

from squib.api import ApiConfig, create_app
from squib.cli.listen import listening, serve
from squib.client import AsyncClient, Client
from squib.contracts.event import Draft
from squib.contracts.task import TaskSpec, TaskState
from squib.queue.memory import MemoryQueue
from squib.store import Lease, Store


class Both:
    """Calls a client by the dotted name of a method, whichever of the two it is."""

    def __init__(self, client: Client | AsyncClient):
        self.client = client

    async def __call__(self, name: str, *args: Any, **named: Any) -> Any:
        method = reduce(getattr, name.split("."), self.client)
        if isinstance(self.client, Client):
            return await asyncio.to_thread(method, *args, **named)
        return await method(*args, **named)

    async def collect(self, name: str, *args: Any, **named: Any) -> list[Any]:
        method = reduce(getattr, name.split("."), self.client)
        if isinstance(self.client, Client):
            return await asyncio.to_thread(lambda: list(method(*args, **named)))
        return [item async for item in method(*args, **named)]

    def pieces(self, *chunks: bytes) -> Any:
        """A body that is streamed."""
        if isinstance(self.client, Client):
            return iter(chunks)

        async def stream() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        return stream()


@dataclass
class Backend:
    """The API's other side."""

    store: Store
    queue: MemoryQueue
    url: str
    token: str
    user: str

    async def running(self, **spec: Any) -> Lease:
        task, _ = await self.store.tasks.create(TaskSpec("do it", **spec), owner=self.user)
        lease = await self.store.tasks.claim("worker", seconds=600, task_id=task.id)
        assert lease is not None
        await self.store.tasks.transition(lease, TaskState.PROVISIONING, {})
        await self.store.tasks.transition(lease, TaskState.RUNNING, {"turn": 1})
        return lease

    async def say(self, lease: Lease, *texts: str) -> int:
        drafts = [Draft("agent.message", {"role": "assistant", "text": text}) for text in texts]
        return await self.store.events.append(lease.task_id, drafts, lease=lease)

    async def end(self, lease: Lease, state: TaskState = TaskState.SUCCEEDED) -> None:
        await self.store.tasks.transition(lease, state, {"result": "done"}, result="done")


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    async with Store.open(f"sqlite:///{tmp_path / 'squib.db'}", files=tmp_path / "files") as store:
        user = await store.users.ensure("alice")
        _, token = await store.users.create_token(user, "first")
        queue = MemoryQueue()
        app = create_app(store, queue, ApiConfig(key=b"k" * 32, heartbeat_seconds=0.05))
        with listening("127.0.0.1", 0) as listener:
            async with asyncio.TaskGroup() as group:
                server = group.create_task(serve(app, listener))
                yield Backend(store, queue, listener.url, token, user)
                server.cancel()
    structlog.reset_defaults()


@asynccontextmanager
async def client_of(kind: str, url: str, token: str | None, **options: Any) -> AsyncIterator[Both]:
    """A client of that kind, closed at the end."""
    if kind == "sync":
        with Client(url, token, **options) as client:
            yield Both(client)
    else:
        async with AsyncClient(url, token, **options) as client:
            yield Both(client)


@pytest.fixture(params=["sync", "aio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def squib(kind: str, backend: Backend) -> AsyncIterator[Both]:
    async with client_of(kind, backend.url, backend.token) as client:
        yield client


@dataclass
class Wire:
    """A TCP relay that cuts each connection after as many bytes of the answer as `cuts` says, then no more."""

    port: int
    cuts: list[int] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
async def wire(backend: Backend) -> AsyncIterator[Wire]:
    port = int(backend.url.rsplit(":", 1)[1])
    made = Wire(0)
    open_writers: set[asyncio.StreamWriter] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: int | None) -> None:
        while data := await reader.read(65_536):
            writer.write(data if budget is None else data[:budget])
            await writer.drain()
            if budget is not None and (budget := budget - len(data)) <= 0:
                return

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        budget = made.cuts.pop(0) if made.cuts else None
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", port)
        open_writers.update((writer, upstream))
        ways = {
            asyncio.create_task(forward(reader, upstream, None)),
            asyncio.create_task(forward(upstream_reader, writer, budget)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            upstream.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in open_writers:
            writer.close()
