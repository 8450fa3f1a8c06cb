"""What every queue does: each id to one worker at a time, at least once, and at once."""

import asyncio

import pytest

from squib.contracts.errors import InvalidRequest
from squib.queue import registry
from tests.conformance.queue.conftest import Line

LONG = 30.0  # far beyond what any of this takes: who waits so long has not been woken


async def test_an_id_is_in_one_workers_hands(line: Line) -> None:
    task_id = await line.task()
    assert await line.queue.get(LONG) == task_id
    assert await line.queue.get(0) is None
    await line.queue.release(task_id)
    assert await line.queue.get(LONG) == task_id


async def test_a_waiting_worker_is_woken(line: Line) -> None:
    waiting = asyncio.create_task(line.queue.get(LONG))
    assert await line.queue.get(0) is None
    assert await line.task() == await waiting


async def test_a_worker_that_waits_for_what_another_holds_gets_it_on_release(line: Line) -> None:
    task_id = await line.task()
    assert await line.queue.get(LONG) == task_id
    waiting = asyncio.create_task(line.queue.get(LONG))
    await asyncio.sleep(0)
    await line.queue.release(task_id)
    assert await waiting == task_id


async def test_done_is_done(line: Line) -> None:
    task_id = await line.task()
    assert await line.queue.get(LONG) == task_id
    await line.store.tasks.request_cancel(task_id, owner="usr-a", reason="x")
    await line.queue.done(task_id)
    assert await line.queue.get(0) is None
    await line.queue.done("task-unknown")


async def test_what_is_put_while_it_is_out_comes_again(line: Line) -> None:
    task_id = await line.task()
    assert await line.queue.get(LONG) == task_id
    await line.queue.put(task_id)
    assert await line.queue.get(0) is None
    await line.queue.done(task_id)
    assert await line.queue.get(LONG) == task_id


async def test_putting_twice_is_putting_once(line: Line) -> None:
    task_id = await line.task()
    await line.queue.put(task_id)
    assert [await line.queue.get(0), await line.queue.get(0)] == [task_id, None]


async def test_many_workers_share_the_work(line: Line) -> None:
    got: list[str] = []

    async def work() -> None:
        while len(got) < 60:
            task_id = await line.queue.get(0.2)
            if task_id is not None:
                if await line.store.tasks.claim("wrk-1", seconds=60, task_id=task_id) is not None:
                    got.append(task_id)
                await line.queue.done(task_id)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(work())
        made = {await line.task() for _ in range(60)}
    assert len(got) == 60 and set(got) == made


async def test_a_worker_that_is_cancelled_takes_nothing_with_it(line: Line) -> None:
    waiting = [asyncio.create_task(line.queue.get(LONG)) for _ in range(3)]
    assert await line.queue.get(0) is None
    task_id = await line.task()
    for worker in waiting:
        worker.cancel()
    got = [x for x in await asyncio.gather(*waiting, return_exceptions=True) if isinstance(x, str)]
    assert (got or [await line.queue.get(LONG)]) == [task_id]


def test_only_known_queues_are_made() -> None:
    assert registry.names() == ["memory", "sql"]
    with pytest.raises(InvalidRequest):
        registry.make("sqs", None)
