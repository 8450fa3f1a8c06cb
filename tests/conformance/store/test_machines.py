"""hypothesis against the store: states with leases and fencing, and the replay of events, over both databases."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from squib.contracts.errors import Conflict, LeaseLost
from squib.contracts.event import Draft, GuestEvent
from squib.contracts.task import TRANSITIONS, TaskSpec, TaskState
from squib.store import Lease, Store
from squib.store.database import parse
from squib.store.tables import metadata
from tests.conformance.store.conftest import parse as read

EXAMPLES = int(os.environ.get("SQUIB_TEST_EXAMPLES", "15"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@dataclass
class Bench:
    """A store on an event loop that runs only while something is asked of it."""

    runner: asyncio.Runner
    store: Store
    engine: sa.Engine

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(coroutine)

    def wipe(self) -> None:
        """Empty all tables behind the store's back: the next example begins with nothing."""
        with self.engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())


@pytest.fixture
def bench(database_url: str, tmp_path: Path) -> Iterator[Bench]:
    engine = sa.create_engine(parse(database_url))
    with asyncio.Runner() as runner:
        opening = Store.open(database_url, files=tmp_path / "files")
        store = runner.run(opening.__aenter__())
        try:
            yield Bench(runner, store, engine)
        finally:
            runner.run(opening.__aexit__(None, None, None))
            engine.dispose()


def check(machine: Callable[[Bench], RuleBasedStateMachine], bench: Bench) -> None:
    def fresh() -> RuleBasedStateMachine:
        bench.wipe()
        return machine(bench)

    run_state_machine_as_test(fresh, settings=SETTINGS)


@dataclass
class Model:
    """What a task must look like."""

    state: TaskState = TaskState.QUEUED
    token: int = 0
    held: bool = False  # leased
    over: bool = False  # its lease has run out
    asked: bool = False  # to be cancelled
    turn: int = 1
    types: list[str] = field(default_factory=lambda: ["task.queued"])


class TaskMachine(RuleBasedStateMachine):
    """Workers that claim, lose and use leases as they like; users that cancel and send messages."""

    tasks = Bundle("tasks")
    leases = Bundle("leases")

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.models: dict[str, Model] = {}

    def attempt(self, coroutine: Coroutine[Any, Any, Any], refusal: type[Exception] | None) -> Any:
        """It does what the model says: succeed, or be refused."""
        if refusal is None:
            return self.bench.run(coroutine)
        with pytest.raises(refusal):
            self.bench.run(coroutine)
        return None

    @initialize(target=tasks)
    def first(self) -> str:
        return self.create()

    @rule(target=tasks)
    def create(self) -> str:
        task, _ = self.bench.run(self.bench.store.tasks.create(TaskSpec("x"), owner="usr-a"))
        self.models[task.id] = Model()
        return task.id

    @rule(target=leases, task_id=st.none() | tasks, over=st.booleans())
    def claim(self, task_id: str | None, over: bool) -> Lease | None:
        seconds = 0 if over else 3600
        lease = self.bench.run(self.bench.store.tasks.claim("wrk-1", seconds=seconds, task_id=task_id))
        free = [i for i, m in self.models.items() if not m.state.terminal and (m.over or not m.held)]
        if lease is None:
            assert task_id not in free if task_id else not free
            return None
        assert lease.task_id in free and task_id in (None, lease.task_id)
        model = self.models[lease.task_id]
        assert lease.token > model.token
        model.token, model.held, model.over = lease.token, True, over
        return lease

    def owns(self, lease: Lease) -> bool:
        return self.models[lease.task_id].token == lease.token

    @rule(lease=leases.filter(lambda x: x is not None), to=st.sampled_from(TaskState))
    def move(self, lease: Lease, to: TaskState) -> None:
        model = self.models[lease.task_id]
        refusal = None if to in TRANSITIONS[model.state] else Conflict
        self.attempt(self.bench.store.tasks.transition(lease, to, {}), refusal if self.owns(lease) else LeaseLost)
        if refusal is None and self.owns(lease):
            model.state = to
            model.types.append(to.event.value)

    @rule(lease=leases.filter(lambda x: x is not None), n=st.integers(0, 3), named=st.booleans())
    def append(self, lease: Lease, n: int, named: bool) -> None:
        model = self.models[lease.task_id]
        refusal = LeaseLost if named and not self.owns(lease) else Conflict if model.state.terminal else None
        drafts = [Draft("agent.log", {})] * n
        self.attempt(self.bench.store.events.append(lease.task_id, drafts, lease=lease if named else None), refusal)
        if refusal is None:
            model.types += ["agent.log"] * n

    @rule(lease=leases.filter(lambda x: x is not None), over=st.booleans())
    def renew(self, lease: Lease, over: bool) -> None:
        self.attempt(
            self.bench.store.tasks.renew(lease, 0 if over else 3600), None if self.owns(lease) else LeaseLost
        )
        if self.owns(lease):
            self.models[lease.task_id].over = over

    @rule(lease=leases.filter(lambda x: x is not None))
    def release(self, lease: Lease) -> None:
        self.bench.run(self.bench.store.tasks.release(lease))
        if self.owns(lease):
            model = self.models[lease.task_id]
            model.token, model.held, model.over = lease.token + 1, False, False

    @rule(lease=leases.filter(lambda x: x is not None), turn=st.integers(1, 9))
    def note(self, lease: Lease, turn: int) -> None:
        self.attempt(self.bench.store.tasks.update(lease, turn=turn), None if self.owns(lease) else LeaseLost)
        if self.owns(lease):
            self.models[lease.task_id].turn = turn

    @rule(task_id=tasks)
    def cancel(self, task_id: str) -> None:
        model = self.models[task_id]
        refusal = Conflict if model.state.terminal else None
        self.attempt(self.bench.store.tasks.request_cancel(task_id, owner="usr-a", reason="x"), refusal)
        if refusal is not None:
            return
        if not model.asked:
            model.types.append("task.cancel_requested")
        model.asked = True
        if model.state is TaskState.QUEUED and not model.held:
            model.state = TaskState.CANCELLED
            model.types.append("task.cancelled")

    @rule(task_id=tasks)
    def message(self, task_id: str) -> None:
        model = self.models[task_id]
        refusal = Conflict if model.state.terminal or model.asked else None
        self.attempt(self.bench.store.messages.add(task_id, owner="usr-a", prompt="more"), refusal)
        if refusal is None:
            model.types.append("task.message")

    @invariant()
    def all_is_as_modelled(self) -> None:
        page, _ = self.bench.run(self.bench.store.tasks.page(limit=500))
        assert {task.id for task in page} == set(self.models)
        for task in page:
            model = self.models[task.id]
            assert (task.state, task.turn, task.cancel_requested) == (model.state, model.turn, model.asked)
            assert (task.finished_at is not None) == model.state.terminal and task.last_seq == len(model.types)

    def teardown(self) -> None:
        for task_id, model in self.models.items():
            events = self.bench.run(self.bench.store.events.page(task_id, limit=1000))
            assert [(e.seq, e.type) for e in events] == list(enumerate(model.types, 1))


@dataclass
class Reader:
    """A client: it remembers the last number that it saw, and nothing else of the server's."""

    start: int
    seen: list[dict[str, Any]] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None
    open: asyncio.Event = field(default_factory=asyncio.Event)  # closed: it stalls
    ended: bool = False

    @property
    def last(self) -> int:
        return self.seen[-1]["seq"] if self.seen else self.start

    async def read(self, store: Store, task_id: str) -> None:
        async for frames in store.events.follow(task_id, after=self.last, heartbeat=0.01):
            self.seen += read(frames.data)
            self.ended = frames.terminal
            await self.open.wait()


class ReplayMachine(RuleBasedStateMachine):
    """A task and its guests write, also what was written before; readers come, stall, drop and come back."""

    readers = Bundle("readers")

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.store = bench.store
        task, _ = bench.run(self.store.tasks.create(TaskSpec("x"), owner="usr-a"))
        self.id = task.id
        self.lease = bench.run(self.store.tasks.claim("wrk-1", seconds=3600, task_id=task.id))
        self.expected: list[tuple[str, Any]] = [("task.queued", None)]
        self.epochs: dict[str, int] = {}  # what was stored of each
        self.written = 0
        self.all: list[Reader] = []

    @rule(n=st.integers(0, 6), large=st.booleans())
    def append(self, n: int, large: bool) -> None:
        text = "y" * 40_000 if large else ""
        drafts = [Draft("agent.log", {"mark": self.written + i, "text": text}) for i in range(n)]
        assert self.bench.run(self.store.events.append(self.id, drafts, lease=self.lease)) == len(self.expected) + n
        self.expected += [("agent.log", self.written + i) for i in range(n)]
        self.written += n

    @rule(n=st.sampled_from([700, 2_500]))
    def flood(self, n: int) -> None:
        self.append(n, False)

    @rule(
        epoch=st.sampled_from(["ep-1", "ep-2", "ep-3"]),
        back=st.integers(0, 4),
        skip=st.integers(0, 2),
        n=st.integers(1, 5),
    )
    def guest(self, epoch: str, back: int, skip: int, n: int) -> None:
        """A batch that begins up to four numbers back, or skips some."""
        stored = self.epochs.get(epoch, 0)
        first = max(1, stored + 1 - back) if back else stored + 1 + skip
        batch = [
            GuestEvent(epoch, i, "agent.output", 1.0, "agent", {"mark": [epoch, i]}) for i in range(first, first + n)
        ]
        for event in batch:
            if event.n > stored + 1:
                self.expected.append(("runtime.gap", [epoch, stored + 1, event.n - 1]))
            if event.n > stored:
                self.expected.append(("agent.output", [epoch, event.n]))
                stored = event.n
        self.epochs[epoch] = stored
        assert self.bench.run(self.store.events.append_guest(self.lease, batch)) == len(self.expected)

    @rule(target=readers, place=st.floats(0, 1.2))
    def come(self, place: float) -> Reader:
        reader = Reader(int(place * len(self.expected)))
        self.all.append(reader)
        self._start(reader)
        return reader

    def _start(self, reader: Reader) -> None:
        async def start() -> None:
            reader.open.set()
            reader.task = asyncio.create_task(reader.read(self.store, self.id))

        self.bench.run(start())

    @rule(reader=readers)
    def drop(self, reader: Reader) -> None:
        if reader.task is not None:
            self.bench.run(_cancelled(reader.task))
            reader.task = None

    @rule(reader=readers)
    def resume(self, reader: Reader) -> None:
        if reader.task is None:
            self._start(reader)

    @rule(reader=readers)
    def stall(self, reader: Reader) -> None:
        reader.open.clear()

    @rule(reader=readers)
    def go_on(self, reader: Reader) -> None:
        reader.open.set()

    @rule()
    def let_them_read(self) -> None:
        self.bench.run(self.store.ping())

    def teardown(self) -> None:
        for state in (TaskState.PROVISIONING, TaskState.FAILED):
            self.bench.run(self.store.tasks.transition(self.lease, state, {}))
            self.expected.append((state.event.value, None))
        for reader in self.all:
            reader.open.set()
            self.resume(reader)
            self.bench.run(asyncio.wait_for(reader.task, 30))
            assert [e["seq"] for e in reader.seen] == list(range(reader.start + 1, len(self.expected) + 1))
            told = [(e["type"], _mark(e["data"])) for e in reader.seen]
            assert told == self.expected[reader.start :]
        assert self.store.events._feeds == {}  # nothing is kept for readers that have gone


def _mark(data: dict[str, Any]) -> Any:
    return [data["epoch"], data["first"], data["last"]] if "first" in data else data.get("mark")


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_states_leases_and_fencing(bench: Bench) -> None:
    check(TaskMachine, bench)


def test_every_reader_sees_each_event_once(bench: Bench) -> None:
    check(ReplayMachine, bench)
