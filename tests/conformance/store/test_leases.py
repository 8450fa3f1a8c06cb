"""Leases: one owner at a time, and a late one's write is refused."""

import asyncio

import pytest

from squib.contracts.errors import Conflict, LeaseLost
from squib.contracts.task import Task, TaskState
from squib.store import Begin, Store
from tests.conformance.store.conftest import Desk, drafts, said


async def test_the_task_that_waits_longest_is_claimed_first(desk: Desk) -> None:
    made = [await desk.task() for _ in range(4)]
    assert await desk.store.tasks.waiting() == made
    claimed = [await desk.store.tasks.claim("wrk-1", seconds=60) for _ in range(5)]
    assert [lease and lease.task_id for lease in claimed] == [*made, None]
    assert await desk.store.tasks.waiting() == []


async def test_a_lease_that_is_over_goes_before_what_waits(desk: Desk) -> None:
    await desk.task()
    orphan = await desk.leased(seconds=0)
    await desk.task()
    assert (await desk.store.tasks.waiting())[0] == orphan.task_id
    lease = await desk.store.tasks.claim("wrk-2", seconds=60)
    assert lease is not None and lease.task_id == orphan.task_id and lease.token > orphan.token


async def test_nobody_else_gets_a_leased_task(desk: Desk) -> None:
    lease = await desk.leased()
    assert await desk.store.tasks.claim("wrk-2", seconds=60, task_id=lease.task_id) is None
    await desk.store.tasks.release(lease)
    again = await desk.store.tasks.claim("wrk-2", seconds=60, task_id=lease.task_id)
    assert again is not None and again.token > lease.token


@pytest.mark.parametrize("how", ["released", "over"])
async def test_every_write_of_a_late_worker_is_refused(desk: Desk, how: str) -> None:
    late = await desk.leased(seconds=0)
    if how == "released":
        await desk.store.tasks.release(late)
    else:
        assert await desk.store.tasks.claim("wrk-2", seconds=60) is not None
    store = desk.store
    writes = [
        lambda: store.tasks.renew(late, 60),
        lambda: store.tasks.update(late, turn=5),
        lambda: store.tasks.progress(late),
        lambda: store.tasks.save_progress(late, {"step": "late"}),
        lambda: store.tasks.transition(late, TaskState.PROVISIONING, {}),
        lambda: store.events.append(late.task_id, drafts(1), lease=late),
        lambda: store.events.append_guest(late, said("ep-1", 1)),
    ]
    for write in writes:
        with pytest.raises(LeaseLost):
            await write()
    await store.tasks.release(late)
    task = await store.tasks.get(late.task_id)
    assert (task.state, task.turn, task.last_seq) == (TaskState.QUEUED, 1, 1)


async def test_a_renewed_lease_holds(desk: Desk) -> None:
    lease = await desk.leased(seconds=0)
    renewed = await desk.store.tasks.renew(lease, 60)
    assert renewed.token == lease.token and renewed.until > lease.until
    assert await desk.store.tasks.claim("wrk-2", seconds=60) is None
    await desk.store.events.append(lease.task_id, drafts(1), lease=renewed)


async def test_many_workers_get_each_task_once(desk: Desk, database_url: str, tmp_path) -> None:
    made = {await desk.task() for _ in range(60)}

    async def work(store: Store, name: str) -> list[str]:
        got = []
        while (lease := await store.tasks.claim(name, seconds=60)) is not None:
            got.append(lease.task_id)
        return got

    async with Store.open(database_url, files=tmp_path / "other") as other:
        stores = [desk.store, other] * 6
        got = await asyncio.gather(*(work(s, f"wrk-{i}") for i, s in enumerate(stores)))
    claimed = [task_id for ids in got for task_id in ids]
    assert len(claimed) == len(made) and set(claimed) == made


async def test_an_ended_task_is_never_claimed(desk: Desk) -> None:
    lease = await desk.running()
    await desk.end(lease)
    await desk.store.tasks.renew(lease, 0)
    assert await desk.store.tasks.claim("wrk-2", seconds=60) is None
    await desk.store.tasks.release(lease)
    assert await desk.store.tasks.claim("wrk-2", seconds=60, task_id=lease.task_id) is None
    assert await desk.store.tasks.waiting() == []


async def test_taking_a_task_claims_it_and_reads_it_with_the_notes_of_its_last_worker(desk: Desk) -> None:
    first = await desk.leased()
    assert await desk.store.tasks.take(first.task_id, "wrk-2", seconds=60) is None
    await desk.store.tasks.save_progress(first, {"step": "run"})
    await desk.store.tasks.release(first)
    taken = await desk.store.tasks.take(first.task_id, "wrk-2", seconds=60)
    assert taken is not None and taken.lease.token > first.token
    assert (taken.task, taken.notes) == (await desk.store.tasks.get(first.task_id), {"step": "run"})
    await desk.store.tasks.transition(taken.lease, TaskState.PROVISIONING, {})
    await desk.end(taken.lease)
    await desk.store.tasks.release(taken.lease)
    assert await desk.store.tasks.take(first.task_id, "wrk-3", seconds=60) is None


async def test_a_worker_makes_its_first_move_as_it_takes_a_task(desk: Desk) -> None:
    task_id = await desk.task("first")
    seen: list[tuple[str, dict]] = []

    def begin(task: Task, notes: dict) -> Begin | None:
        seen.append((task.id, notes))
        return Begin(TaskState.PROVISIONING, {"attempt": 1}, {"step": "x"}, {"sandbox_id": "sbx-1"})

    taken = await desk.store.tasks.take(task_id, "wrk-1", seconds=60, begin=begin)
    assert taken is not None and taken.begun and taken.notes == {"step": "x"}
    assert seen == [(task_id, {})]
    assert (taken.task.state, taken.task.sandbox_id, taken.task.last_seq) == (TaskState.PROVISIONING, "sbx-1", 2)
    assert taken.task == await desk.store.tasks.get(task_id)
    assert await desk.store.tasks.progress(taken.lease) == {"step": "x"}
    assert [e.type for e in await desk.store.events.page(task_id)] == ["task.queued", "task.provisioning"]
    assert await desk.store.tasks.take(task_id, "wrk-2", seconds=60, begin=begin) is None
    await desk.store.tasks.release(taken.lease)
    with pytest.raises(Conflict):  # it is past that move, and stays free
        await desk.store.tasks.take(task_id, "wrk-2", seconds=60, begin=begin)
    again = await desk.store.tasks.take(task_id, "wrk-2", seconds=60, begin=lambda task, notes: None)
    assert again is not None and not again.begun and again.notes == {"step": "x"}
