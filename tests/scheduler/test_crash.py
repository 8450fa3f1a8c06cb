"""Schedulers, with their hosts, killed by SIGKILL after each of their writes: the next one goes on."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.contracts.event import Event
from squib.contracts.task import Task, TaskSpec, TaskState
from squib.store import Store
from tests.scheduler.stack import OWNER

_ROOT = Path(__file__).parents[2]
#: Long enough that several workers die while it runs; every line is told once.
_PROMPT = "Count.\nmock:lines=400\nmock:every_ms=10"


@contextlib.asynccontextmanager
async def _store(directory: Path) -> AsyncIterator[Store]:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    async with Store.open(f"sqlite:///{directory}/squib.db", files=directory / "files") as store:
        yield store


async def _work(directory: Path, count: int, driver: str) -> int:
    """Run a worker until it is dead; how it ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.scheduler.worker", str(directory), str(count), driver, cwd=_ROOT
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _finish(directory: Path, driver: str, store: Store, task_id: str) -> Task:
    """Run a last worker, which nobody kills, until the task has ended; then stop it as a service manager would."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.scheduler.worker", str(directory), "0", driver, cwd=_ROOT
    )
    try:
        async with asyncio.timeout(60):
            while not (task := await store.tasks.get(task_id)).state.terminal:
                assert process.returncode is None, "the last worker ended before the task"
                await asyncio.sleep(0.1)
        return task
    finally:
        process.send_signal(2)
        await process.wait()


async def _events(store: Store, task_id: str) -> list[Event]:
    found: list[Event] = []
    while page := await store.events.page(task_id, after=len(found), limit=1000):
        found += page
    return found


def _check(events: list[Event], task: Task) -> None:
    assert task.state is TaskState.SUCCEEDED, task.error
    assert task.attempt == 1
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [e.data["n"] for e in events if e.data.get("id") == "lines"] == list(range(1, 401))
    types = [event.type for event in events]
    for once in ("runtime.ready", "agent.started", "agent.completed", "task.running", "task.succeeded"):
        assert types.count(once) == 1, once
    assert "runtime.gap" not in types
    assert "sandbox.lost" not in types


@pytest.mark.parametrize("driver", ["process", pytest.param("bubblewrap", marks=pytest.mark.needs("bwrap"))])
async def test_a_scheduler_killed_after_any_of_its_writes_is_replaced(shared_tmp: Path, driver: str) -> None:
    """Worker k dies after its kth write, so that between them they die at every step of the task."""
    async with _store(shared_tmp) as store:
        task, _ = await store.tasks.create(TaskSpec(prompt=_PROMPT, agent="mock", test_command="true"), owner=OWNER)
        for count in (1, 2, 3, 4, 5, 7):
            assert await _work(shared_tmp, count, driver) == -9
        ended = await _finish(shared_tmp, driver, store, task.id)
        _check(await _events(store, task.id), ended)


async def test_a_scheduler_killed_while_it_collects_is_replaced(shared_tmp: Path) -> None:
    async with _store(shared_tmp) as store:
        prompt = _PROMPT.replace("every_ms=10", "every_ms=0")
        task, _ = await store.tasks.create(TaskSpec(prompt=prompt, agent="mock"), owner=OWNER)
        for count in (9, 3, 4, 5, 6):
            await _work_until_dead_or_ended(shared_tmp, count, store, task.id)
        ended = await _finish(shared_tmp, "process", store, task.id)
        _check(await _events(store, task.id), ended)


async def _work_until_dead_or_ended(directory: Path, count: int, store: Store, task_id: str) -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        working = group.create_task(_work(directory, count, "process"))
        while not working.done() and not (await store.tasks.get(task_id)).state.terminal:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        working.cancel()
