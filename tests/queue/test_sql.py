"""What the sql queue does beyond the protocol: it finds what nobody has put."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.contracts.task import TaskSpec, TaskState
from squib.queue.sql import SqlQueue
from squib.store import Store
from tests.postgres import Server


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store.open(f"sqlite:///{tmp_path}/squib.db", files=tmp_path / "files") as store:
        yield store


async def task(store: Store) -> str:
    return (await store.tasks.create(TaskSpec("x"), owner="usr-a"))[0].id


async def test_a_task_that_was_only_made_is_found_at_once(store: Store) -> None:
    queue = SqlQueue(store)
    waiting = asyncio.create_task(queue.get(30))
    assert await queue.get(0) is None
    made = await task(store)
    assert await waiting == made
    await queue.close()


async def test_a_lease_that_is_over_is_found_by_the_sweep(store: Store) -> None:
    queue = SqlQueue(store)
    made = await task(store)
    assert await store.tasks.claim("wrk-1", seconds=0.05) is not None
    assert await queue.get(10) == made
    await queue.close()


async def test_one_put_back_is_found_again(store: Store) -> None:
    queue = SqlQueue(store)
    made = await task(store)
    assert await queue.get(5) == made
    lease = await store.tasks.claim("wrk-1", seconds=60, task_id=made)
    await store.tasks.transition(lease, TaskState.PROVISIONING, {})
    await store.tasks.transition(lease, TaskState.QUEUED, {"attempt": 2})
    await store.tasks.release(lease)
    await queue.done(made)
    assert await queue.get(5) == made
    await queue.close()


@pytest.mark.needs("postgres")
async def test_another_process_wakes_its_workers(postgres: Server, tmp_path: Path) -> None:
    url = postgres.database()
    async with Store.open(url, files=tmp_path / "1") as api, Store.open(url, files=tmp_path / "2") as worker:
        queue = SqlQueue(worker)
        for _ in range(3):
            waiting = asyncio.create_task(queue.get(30))
            assert await queue.get(0) is None
            made = await task(api)
            assert await waiting == made
            assert await worker.tasks.claim("wrk-1", seconds=60, task_id=made) is not None
            await queue.done(made)
        await queue.close()
    postgres.drop(url)
