"""The application over a real SQLite store, two users who are strangers to each other, and a real server."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from squib.api import ApiConfig, create_app, server_config
from squib.contracts.task import TaskSpec, TaskState
from squib.queue.base import Queue
from squib.queue.registry import make
from squib.store import Lease, Store

KEY = b"the installation's key"
AGENTS, DRIVERS = ("mock", "claude"), ("bubblewrap", "process")
BASE = "http://localhost"


@dataclass
class Api:
    """An application with all that a test looks at."""

    app: FastAPI
    store: Store
    queue: Queue
    config: ApiConfig
    token: str  # alice's
    user: str
    other_token: str  # bob's
    client: httpx2.AsyncClient  # alice
    stranger: httpx2.AsyncClient  # bob
    anyone: httpx2.AsyncClient  # nobody

    async def task(self, prompt: str = "do it", **spec) -> str:
        """A task of alice's, made behind the API's back."""
        task, _ = await self.store.tasks.create(TaskSpec(prompt, **spec), owner=self.user)
        return task.id

    async def running(self, task_id: str) -> Lease:
        """Claim the task and bring it to running."""
        lease = await self.store.tasks.claim("worker", seconds=60, task_id=task_id)
        await self.store.tasks.transition(lease, TaskState.PROVISIONING, {})
        await self.store.tasks.transition(lease, TaskState.RUNNING, {"turn": 1})
        return lease

    async def ended(self, task_id: str) -> None:
        """Bring the task to success."""
        lease = await self.running(task_id)
        await self.store.tasks.transition(lease, TaskState.SUCCEEDED, {"result": "done"}, result="done")


@asynccontextmanager
async def application(tmp_path, **config) -> AsyncIterator[Api]:
    """An application of this configuration."""
    config = ApiConfig(key=KEY, agents=AGENTS, drivers=DRIVERS, **config)
    async with Store.open(f"sqlite:///{tmp_path / 'squib.db'}", files=tmp_path / "files") as store:
        queue = make("memory", store)
        app = create_app(store, queue, config)
        alice, bob = await store.users.ensure("alice"), await store.users.ensure("bob")
        _, token = await store.users.create_token(alice, "first")
        _, other = await store.users.create_token(bob, "first")
        async with client(app, token) as a, client(app, other) as b, client(app, None) as n:
            yield Api(app, store, queue, config, token, alice, other, a, b, n)
        await queue.close()


def client(app: FastAPI, token: str | None) -> httpx2.AsyncClient:
    """A client that speaks to the application without a socket."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=BASE, headers=headers)


@pytest.fixture
async def api(tmp_path) -> AsyncIterator[Api]:
    async with application(tmp_path) as made:
        yield made


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that tells nobody when it happens."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[int]:
    """The application behind a real uvicorn on a free port of 127.0.0.1."""
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:  # by it asyncio knows to switch Nagle off
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(server_config(app))
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listener]))
            await until(lambda: server.started)
            yield listener.getsockname()[1]
            server.force_exit = server.should_exit = True


@pytest.fixture
async def port(api) -> AsyncIterator[int]:
    async with served(api.app) as bound:
        yield bound


def assert_problem(response: httpx2.Response, status: int, code: str | None = None, field: str | None = None) -> dict:
    """The answer is a problem document of this status, and names this field."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document["detail"]
    assert "advice" in document
    if code is not None:
        assert document["code"] == code
    if field is not None:
        assert field in document["fields"], document
    return document
