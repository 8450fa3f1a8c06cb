"""One suite over both clients: what holds for one holds for the other."""

import asyncio
import inspect
import io
import random

import pytest

from squib.client import AsyncClient, Client, aio, sync
from squib.client.errors import ServerUnreachable
from squib.contracts.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from squib.contracts.task import TaskSpec, TaskState
from tests.client.conftest import Backend, Both, Wire, client_of

ASYNC_ONLY = {"pty", "websocket"}


@pytest.mark.parametrize(
    ("one", "other"), [(Client, AsyncClient), (sync.Tasks, aio.Tasks), (sync.Tokens, aio.Tokens)]
)
def test_both_have_the_same_methods_with_the_same_arguments(one, other):
    def shape(kind):
        methods = {name: inspect.signature(value) for name, value in vars(kind).items() if inspect.isfunction(value)}
        return {name: list(s.parameters) for name, s in methods.items() if not name.startswith("_")}

    theirs = {name: names for name, names in shape(other).items() if name not in ASYNC_ONLY}
    assert shape(one) == theirs


async def test_a_task_from_its_creation_to_its_end(squib: Both, backend: Backend):
    task = await squib("tasks.create", TaskSpec("do it", labels={"a": "1"}))
    assert task.state is TaskState.QUEUED
    assert (await squib("tasks.get", task.id)).id == task.id
    page = await squib("tasks.list", states=[TaskState.QUEUED], labels={"a": "1"})
    assert [found.id for found in page.tasks] == [task.id]
    assert (await squib("tasks.cancel", task.id, "enough")).state is TaskState.CANCELLED
    assert (await squib("tasks.wait", task.id)).state is TaskState.CANCELLED
    with pytest.raises(Conflict):
        await squib("tasks.send", task.id, "more")
    assert (await squib("tasks.retry", task.id)).retry_of == task.id


async def test_the_same_key_makes_one_task(squib: Both):
    first = await squib("tasks.create", TaskSpec("do it"), idempotency_key="k")
    assert (await squib("tasks.create", TaskSpec("do it"), idempotency_key="k")).id == first.id


async def test_iterate_goes_over_the_pages(squib: Both):
    made = [(await squib("tasks.create", TaskSpec(f"task {n}"))).id for n in range(7)]
    assert [task.id for task in await squib.collect("tasks.iterate", limit=3)] == made[::-1]


async def test_events_come_as_they_happen_and_end(squib: Both, backend: Backend):
    lease = await backend.running()
    reading = asyncio.create_task(squib.collect("tasks.events", lease.task_id, after=1))
    await backend.say(lease, "one", "two")
    assert (await squib("tasks.send", lease.task_id, "go on")).turn == 2
    await backend.end(lease)
    events = await reading
    assert [event.seq for event in events] == list(range(2, 2 + len(events)))
    assert events[-1].type == "task.succeeded"
    page = await squib("tasks.event_page", lease.task_id, after=1)
    assert page.events == events
    assert page.last == events[-1].seq


async def test_reading_on_after_the_last_event_ends_at_once(squib: Both, backend: Backend):
    lease = await backend.running()
    await backend.end(lease)
    last = (await squib("tasks.get", lease.task_id)).last_seq
    assert await squib.collect("tasks.events", lease.task_id, after=last) == []
    assert (await squib("tasks.wait", lease.task_id)).result == "done"


async def test_events_survive_a_wire_that_breaks(kind: str, backend: Backend, wire: Wire):
    lease = await backend.running()
    chance = random.Random(7)
    wire.cuts = [chance.randint(1, 4000) for _ in range(8)]
    async with client_of(kind, wire.url, backend.token) as squib:
        reading = asyncio.create_task(squib.collect("tasks.events", lease.task_id))
        for batch in range(10):
            await backend.say(lease, *(f"{batch}-{n} " + "x" * 200 for n in range(20)))
        await backend.end(lease)
        events = await reading
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert sum(event.type == "agent.message" for event in events) == 200
    assert wire.connections > 8
    assert not wire.cuts


async def test_a_lost_answer_to_a_creation_makes_no_second_task(kind: str, backend: Backend, wire: Wire):
    wire.cuts = [10, 10]
    async with client_of(kind, wire.url, backend.token) as squib:
        task = await squib("tasks.create", TaskSpec("once"))
        assert wire.connections == 3
        assert [found.id for found in await squib.collect("tasks.iterate")] == [task.id]


async def test_a_message_is_never_sent_twice(kind: str, backend: Backend, wire: Wire):
    lease = await backend.running()
    wire.cuts = [10]
    async with client_of(kind, wire.url, backend.token) as squib:
        with pytest.raises(ServerUnreachable):
            await squib("tasks.send", lease.task_id, "more")
    assert wire.connections == 1
    assert (await backend.store.messages.get(lease.task_id, 2)).prompt == "more"
    assert await backend.store.messages.get(lease.task_id, 3) is None


async def test_artifacts_are_listed_and_downloaded(squib: Both, backend: Backend):
    lease = await backend.running()
    patch = b"diff --git a/x b/x\n\xff\x00" * 40_000

    async def content():
        yield patch

    await backend.store.artifacts.put(lease.task_id, "patch", "text/x-diff", content())
    [artifact] = await squib("tasks.artifacts", lease.task_id)
    assert (artifact.name, artifact.size) == ("patch", len(patch))
    target = io.BytesIO()
    assert await squib("tasks.download", lease.task_id, "patch", target) == len(patch)
    assert target.getvalue() == patch
    with pytest.raises(NotFound):
        await squib("tasks.download", lease.task_id, "bundle", io.BytesIO())


async def test_an_upload_is_streamed(squib: Both):
    pieces = [b"# v2 git bundle\n", b"x" * 300_000]
    upload = await squib("tasks.upload", squib.pieces(*pieces), commit="0" * 40, branch="main", size=300_016)
    assert upload.size == sum(map(len, pieces))
    assert upload.branch == "main"


async def test_tokens(squib: Both, backend: Backend, kind: str):
    made = await squib("tokens.create", "laptop")
    async with client_of(kind, backend.url, made.secret) as other:
        assert (await other("me")).id == backend.user
    assert {token.name for token in await squib("tokens.list")} == {"first", "laptop"}
    await squib("tokens.revoke", made.id)
    async with client_of(kind, backend.url, made.secret) as other:
        with pytest.raises(Unauthenticated):
            await other("me")
    with pytest.raises(NotFound):
        await squib("tokens.revoke", made.id)


async def test_what_the_server_refuses_raises_its_error(squib: Both):
    with pytest.raises(NotFound):
        await squib("tasks.get", "task-0")
    with pytest.raises(NotFound):
        await squib.collect("tasks.events", "task-0")
    with pytest.raises(InvalidRequest) as caught:
        await squib("tasks.create", TaskSpec("x", agent="nobody"))
    assert "agent" in caught.value.fields
    assert (await squib("info")).agents == ["mock"]


async def test_nothing_there_is_said_so(kind: str, backend: Backend, wire: Wire):
    async with client_of(kind, "http://127.0.0.1:1", None, attempts=2) as squib:
        with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
            await squib("info")
