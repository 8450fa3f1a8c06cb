"""A store on each database, and what the tests do with it over and over."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.contracts.event import Draft, GuestEvent
from squib.contracts.task import TaskSpec, TaskState
from squib.store import Frames, Lease, Store


class Desk:
    """A store with shorthands."""

    def __init__(self, store: Store, url: str, files: Path) -> None:
        self.store = store
        self.url = url
        self.files = files

    async def task(self, prompt: str = "do it", owner: str = "usr-a", **spec) -> str:
        task, _ = await self.store.tasks.create(TaskSpec(prompt, **spec), owner=owner)
        return task.id

    async def leased(self, seconds: float = 3600.0) -> Lease:
        """A lease on a new task."""
        task_id = await self.task()
        lease = await self.store.tasks.claim("wrk-1", seconds=seconds, task_id=task_id)
        assert lease is not None
        return lease

    async def running(self) -> Lease:
        lease = await self.leased()
        await self.store.tasks.transition(lease, TaskState.PROVISIONING, {})
        await self.store.tasks.transition(lease, TaskState.RUNNING, {"turn": 1})
        return lease

    async def end(self, lease: Lease) -> None:
        await self.store.tasks.transition(lease, TaskState.FAILED, {"error": {}}, error={"detail": "enough"})

    async def seqs(self, task_id: str) -> list[int]:
        return [e.seq for e in await self.store.events.page(task_id, limit=1000)]

    async def collect(self, task_id: str, after: int = 0) -> list[Frames]:
        return [f async for f in self.store.events.follow(task_id, after=after)]


def drafts(n: int, start: int = 0) -> list[Draft]:
    return [Draft("agent.log", {"text": f"line {start + i}"}) for i in range(n)]


def said(epoch: str, *numbers: int) -> list[GuestEvent]:
    return [GuestEvent(epoch, n, "agent.log", 1.5, "agent", {"text": f"{epoch} {n}"}) for n in numbers]


def parse(data: bytes) -> list[dict]:
    """The events of some frames, checked against their id and event lines."""
    events = []
    for frame in data.decode().split("\n\n")[:-1]:
        number, kind, document = frame.split("\n")
        event = json.loads(document.removeprefix("data: "))
        assert number == f"id: {event['seq']}" and kind == f"event: {event['type']}"
        events.append(event)
    return events


@pytest.fixture
async def desk(database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with Store.open(database_url, files=tmp_path / "files") as store:
        yield Desk(store, database_url, tmp_path / "files")


@pytest.fixture
def store(desk: Desk) -> Store:
    return desk.store
