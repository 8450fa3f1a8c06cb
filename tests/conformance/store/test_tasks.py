"""Tasks: made once, seen by their owner alone, moved along the table of states."""

import asyncio
import time

import pytest

from squib.contracts.errors import Conflict, IdempotencyMismatch, InvalidRequest, LeaseLost, NotFound
from squib.contracts.sandbox import Sandbox, SandboxPhase
from squib.contracts.task import MAX_PROMPT_CHARS, TRANSITIONS, Repository, TaskSpec, TaskState, Usage
from squib.store import Store
from tests.conformance.store.conftest import Desk

SPEC = TaskSpec('prüfe "das" \\ 🐙', labels={"team": "a"}, repository=Repository(url="https://example.org/r"))


async def test_a_new_task_is_queued_with_its_message_and_its_event(store: Store) -> None:
    task, new = await store.tasks.create(SPEC, owner="usr-a")
    assert new and task.state is TaskState.QUEUED and task.spec == SPEC and task.last_seq == 1
    assert await store.tasks.get(task.id, owner="usr-a") == task
    message = await store.messages.get(task.id, 1)
    assert message is not None and message.prompt == SPEC.prompt
    (event,) = await store.events.page(task.id)
    assert (event.seq, event.type, event.data) == (1, "task.queued", {"attempt": 1})


async def test_a_stranger_finds_nothing(desk: Desk) -> None:
    task_id = await desk.task(owner="usr-a")
    calls = [
        desk.store.tasks.get(task_id, owner="usr-b"),
        desk.store.tasks.request_cancel(task_id, owner="usr-b", reason="x"),
        desk.store.messages.add(task_id, owner="usr-b", prompt="x"),
        desk.store.tasks.get("task-00000000000000000000000000"),
        desk.store.tasks.sandbox("task-unknown"),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            await call
    assert (await desk.store.tasks.page(owner="usr-b"))[0] == []
    assert await desk.seqs(task_id) == [1]


async def test_the_same_key_gives_the_same_task_to_many_at_once(store: Store) -> None:
    made = await asyncio.gather(
        *(store.tasks.create(TaskSpec("x"), owner="usr-a", idempotency_key="k") for _ in range(8))
    )
    assert len({task.id for task, _ in made}) == 1 and sum(new for _, new in made) == 1
    with pytest.raises(IdempotencyMismatch):
        await store.tasks.create(TaskSpec("y"), owner="usr-a", idempotency_key="k")
    other, new = await store.tasks.create(TaskSpec("y"), owner="usr-b", idempotency_key="k")
    assert new and other.id != made[0][0].id


@pytest.mark.parametrize("prompt", ["half \ud800 a pair", "x"])
async def test_text_that_no_database_stores_is_refused_in_words(store: Store, prompt: str) -> None:
    key = "k\x00" if prompt == "x" else None
    with pytest.raises(InvalidRequest):
        await store.tasks.create(TaskSpec(prompt), owner="usr-a", idempotency_key=key)
    assert (await store.tasks.page())[0] == []


async def test_pages_are_stable_while_tasks_are_added(desk: Desk) -> None:
    made = [await desk.task() for _ in range(7)]
    seen, cursor = [], None
    while True:
        page, cursor = await desk.store.tasks.page(owner="usr-a", cursor=cursor, limit=3)
        seen += [task.id for task in page]
        if cursor is None:
            break
        await desk.task()
    assert seen == sorted(made, reverse=True)
    with pytest.raises(InvalidRequest):
        await desk.store.tasks.page(cursor="' OR 1=1")


async def test_pages_filter_by_state_and_labels(desk: Desk) -> None:
    plain = await desk.task()
    marked = await desk.task(labels={"a": "1", "b": "2"})
    await desk.store.tasks.request_cancel(plain, owner="usr-a", reason="no")

    async def found(**filters) -> list[str]:
        return [task.id for task in (await desk.store.tasks.page(**filters))[0]]

    assert await found(labels={"a": "1", "b": "2"}) == [marked]
    assert await found(labels={"a": "1", "b": "1"}) == []
    assert await found(states=[TaskState.CANCELLED]) == [plain]
    assert set(await found(states=list(TaskState))) == {plain, marked}


async def test_every_transition_that_the_table_lacks_is_refused(desk: Desk) -> None:
    ways = {TaskState.QUEUED: []}
    while len(ways) < len(TaskState):
        for state, way in list(ways.items()):
            for to in TRANSITIONS[state]:
                ways.setdefault(to, [*way, to])
    for state, way in ways.items():
        lease = await desk.leased()
        for step in way:
            await desk.store.tasks.transition(lease, step, {})
        before = await desk.seqs(lease.task_id)
        for to in set(TaskState) - TRANSITIONS[state]:
            with pytest.raises(Conflict):
                await desk.store.tasks.transition(lease, to, {})
        task = await desk.store.tasks.get(lease.task_id)
        assert task.state is state and (task.finished_at is not None) == state.terminal
        assert await desk.seqs(lease.task_id) == before == list(range(1, 2 + len(way)))


async def test_a_worker_sets_columns_and_no_others(desk: Desk) -> None:
    lease = await desk.running()
    box = Sandbox("sbx-1", lease.task_id, SandboxPhase.READY, "mch-1", "bubblewrap", "namespace", "unix:/x")
    columns = {"turn": 2, "attempt": 3, "head_commit": "c" * 40, "usage": Usage(1, 2, 3, 4, 0.5), "driver": "process"}
    columns |= {"image": "python", "suspended": "memory"}
    await desk.store.tasks.update(lease, sandbox=box, sandbox_id="sbx-1", result="a\x00b\ud800", **columns)
    task = await desk.store.tasks.get(lease.task_id)
    assert {name: getattr(task, name) for name in columns} == columns
    assert task.result == "a\ufffdb?" and await desk.store.tasks.sandbox(lease.task_id) == box
    assert await desk.store.tasks.live_sandboxes() == {"sbx-1"}
    with pytest.raises(TypeError):
        await desk.store.tasks.update(lease, last_seq=7)
    await desk.store.tasks.save_progress(lease, {"step": "run", "ü": "\ud800"})
    assert await desk.store.tasks.progress(lease) == {"step": "run", "ü": "\ud800"}
    await desk.end(lease)
    await desk.store.tasks.update(lease, sandbox=None)
    assert await desk.store.tasks.sandbox(lease.task_id) is None
    assert await desk.store.tasks.live_sandboxes() == set()
    assert (await desk.store.tasks.counts())["failed"] == 1


async def test_what_nobody_has_begun_is_cancelled_at_once(desk: Desk) -> None:
    task_id = await desk.task()
    task = await desk.store.tasks.request_cancel(task_id, owner="usr-a", reason="a mistake")
    assert task.state is TaskState.CANCELLED and task.cancel_requested and task.finished_at is not None
    types = [e.type for e in await desk.store.events.page(task_id)]
    assert types == ["task.queued", "task.cancel_requested", "task.cancelled"]
    assert await desk.store.tasks.claim("wrk-1", seconds=5) is None
    with pytest.raises(Conflict):
        await desk.store.tasks.request_cancel(task_id, owner="usr-a", reason="again")


async def test_what_runs_is_asked_once_to_end(desk: Desk) -> None:
    lease = await desk.running()
    async with desk.store.signals.subscribe(f"control:{lease.task_id}") as control:
        for _ in range(3):
            task = await desk.store.tasks.request_cancel(lease.task_id, owner="usr-a", reason="enough")
        assert await control.wait(5)
    assert task.state is TaskState.RUNNING and task.cancel_requested
    assert await desk.seqs(lease.task_id) == [1, 2, 3, 4]
    with pytest.raises(Conflict):
        await desk.store.messages.add(lease.task_id, owner="usr-a", prompt="one more")
    await desk.store.tasks.transition(lease, TaskState.CANCELLED, {"reason": "enough"})


async def test_one_put_back_and_then_cancelled_ends_at_once(desk: Desk) -> None:
    lease = await desk.running()
    await desk.store.tasks.request_cancel(lease.task_id, owner="usr-a", reason="enough")
    await desk.store.tasks.transition(lease, TaskState.QUEUED, {"attempt": 2})
    await desk.store.tasks.release(lease)
    task = await desk.store.tasks.request_cancel(lease.task_id, owner="usr-a", reason="enough")
    assert task.state is TaskState.CANCELLED
    with pytest.raises(LeaseLost):
        await desk.store.tasks.update(lease, turn=2)


async def test_messages_are_numbered_and_wake_the_worker(desk: Desk) -> None:
    lease = await desk.running()
    async with desk.store.signals.subscribe(f"control:{lease.task_id}") as control:
        message = await desk.store.messages.add(lease.task_id, owner="usr-a", prompt="and tests")
        assert await control.wait(5)
    assert message.turn == 2 and await desk.store.messages.get(lease.task_id, 2) == message
    assert await desk.store.messages.get(lease.task_id, 3) is None
    (event,) = await desk.store.events.page(lease.task_id, after=3)
    assert (event.type, event.data) == ("task.message", {"turn": 2, "prompt": "and tests"})


async def test_reaching_into_a_sandbox_is_noted_and_wakes_the_worker(desk: Desk) -> None:
    lease = await desk.running()
    task_id = lease.task_id
    assert await desk.store.tasks.wanted_at(task_id) == 0.0
    async with desk.store.signals.subscribe(f"control:{task_id}") as woken:
        await desk.store.tasks.want(task_id)
        assert await woken.wait(10)
    first = await desk.store.tasks.wanted_at(task_id)
    assert abs(first - time.time()) < 60
    await desk.end(lease)
    await desk.store.tasks.want(task_id)
    assert await desk.store.tasks.wanted_at(task_id) == first


async def test_a_task_does_not_end_over_a_message_that_waits(desk: Desk) -> None:
    lease = await desk.running()
    await desk.store.messages.add(lease.task_id, owner="usr-a", prompt="and tests")
    with pytest.raises(Conflict):
        await desk.store.tasks.transition(lease, TaskState.SUCCEEDED, {"result": ""}, last_turn=1)
    await desk.store.tasks.transition(lease, TaskState.SUCCEEDED, {"result": ""}, last_turn=2)
    with pytest.raises(Conflict):
        await desk.store.messages.add(lease.task_id, owner="usr-a", prompt="too late")


@pytest.mark.parametrize("first", ["cancel", "backoff"])
async def test_a_cancelled_task_does_not_sit_out_its_backoff(desk: Desk, first: str) -> None:
    lease = await desk.running()
    later = time.time() + 3600
    if first == "cancel":
        await desk.store.tasks.request_cancel(lease.task_id, owner="usr-a", reason="enough")
    await desk.store.tasks.transition(lease, TaskState.QUEUED, {"attempt": 2}, not_before=later)
    if first == "backoff":
        await desk.store.tasks.request_cancel(lease.task_id, owner="usr-a", reason="enough")
    await desk.store.tasks.release(lease)
    assert await desk.store.tasks.waiting() == [lease.task_id]


async def test_a_backoff_holds_a_task_out_of_the_queue(desk: Desk) -> None:
    lease = await desk.running()
    await desk.store.tasks.transition(lease, TaskState.QUEUED, {"attempt": 2}, not_before=time.time() + 3600)
    await desk.store.tasks.release(lease)
    assert await desk.store.tasks.waiting() == []
    assert await desk.store.tasks.claim("wrk-2", seconds=5) is None
    assert await desk.store.tasks.claim("wrk-2", seconds=5, task_id=lease.task_id) is None


@pytest.mark.parametrize("wild", ["", "task-", "task-\x00", "\ud800", "' OR 1=1 --", "x" * 100_000])
async def test_what_is_no_id_is_not_found(desk: Desk, wild: str) -> None:
    store = desk.store
    for call in (
        lambda: store.tasks.get(wild, owner="usr-a"),
        lambda: store.tasks.request_cancel(wild, owner="usr-a", reason="x"),
        lambda: store.messages.add(wild, owner="usr-a", prompt="x"),
        lambda: store.uploads.open(wild, "usr-a"),
        lambda: store.artifacts.open("task-00000000000000000000000000", wild),
        lambda: store.users.revoke(wild, "usr-a"),
    ):
        with pytest.raises(NotFound):
            await call()


async def test_a_message_as_long_as_may_be_is_taken(desk: Desk) -> None:
    task_id = await desk.task("字" * MAX_PROMPT_CHARS)
    prompt = "\x01" * MAX_PROMPT_CHARS
    message = await desk.store.messages.add(task_id, owner="usr-a", prompt=prompt)
    assert message.prompt == prompt and await desk.store.messages.get(task_id, 2) == message
    (event,) = await desk.store.events.page(task_id, after=1)
    assert event.data["truncated"] and prompt.startswith(event.data["prompt"])
