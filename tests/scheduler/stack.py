"""A whole squib but its API, in the test's own process: real store, queue, host, guests, scheduler."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from squib.contracts.event import Event
from squib.contracts.sandbox import Sandbox
from squib.contracts.task import Limits, Task, TaskSpec
from squib.gateway import Gateway
from squib.host import Host, HostConfig
from squib.link import GuestLink, guest_token
from squib.orchestrator.local import LocalOrchestrator
from squib.queue import registry
from squib.queue.base import Queue
from squib.scheduler import Scheduler, SchedulerConfig
from squib.scheduler.metrics import Metrics
from squib.store import Store

KEY = b"a key for tests, of 32 bytes or so"
OWNER = "usr-00000000000000000000000001"
#: What the mock agent waits for: the test writes the file `go` into the workspace.
WAIT = "mock:run=until [ -e go ]; do sleep 0.02; done"


@dataclass
class Stack:
    """Its parts, and what tests do with them."""

    directory: Path
    store: Store
    queue: Queue
    host: Host
    config: SchedulerConfig
    orchestrator: LocalOrchestrator
    scheduler: Scheduler = field(init=False)
    running: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin to work on tasks."""
        self.running.append(asyncio.create_task(self.scheduler.run()))

    async def stop(self) -> None:
        """Stop as a stopped process does, and show what went wrong."""
        while self.running:
            task = self.running.pop()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def another(self) -> Scheduler:
        """A second scheduler over the same store, host and state."""
        metrics = Metrics(CollectorRegistry())
        return Scheduler(self.store, self.queue, self.orchestrator, self.config, metrics)

    async def submit(self, prompt: str = "Say hello.", **spec: Any) -> str:
        """Create a task and put it on the queue; its id."""
        spec.setdefault("limits", Limits(seconds=60, turn_seconds=60))
        task, _ = await self.store.tasks.create(TaskSpec(prompt=prompt, agent="mock", **spec), owner=OWNER)
        await self.queue.put(task.id)
        return task.id

    async def until(self, task_id: str, wanted: Callable[[Event], bool], *, after: int = 0) -> Event:
        """The first event after that number that is as wanted; fails where the task ends before."""
        seen = after
        async with contextlib.aclosing(self.store.events.follow(task_id, after=after)) as stream:
            async for frames in stream:
                while page := await self.store.events.page(task_id, after=seen):
                    for event in page:
                        seen = event.seq
                        if wanted(event):
                            return event
                assert not frames.terminal, [(e.type, e.data) for e in await self.events(task_id)]
        raise AssertionError("the stream ended")

    async def until_type(self, task_id: str, kind: str, *, after: int = 0) -> Event:
        """The first event of that type."""
        return await self.until(task_id, lambda event: event.type == kind, after=after)

    async def ended(self, task_id: str) -> Task:
        """Wait for the task's end."""
        async with contextlib.aclosing(self.store.events.follow(task_id)) as stream:
            async for frames in stream:
                if frames.terminal:
                    break
        return await self.store.tasks.get(task_id)

    async def until_suspended(self, task_id: str) -> Task:
        """The task, once its row says what its event does."""
        async with asyncio.timeout(30):
            while (task := await self.store.tasks.get(task_id)).suspended is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return task

    async def events(self, task_id: str) -> list[Event]:
        """All of them; they are numbered 1..n."""
        found: list[Event] = []
        while page := await self.store.events.page(task_id, after=len(found), limit=1000):
            found += page
        assert [event.seq for event in found] == list(range(1, len(found) + 1))
        return found

    async def types(self, task_id: str) -> list[str]:
        """Their types, in order."""
        return [event.type for event in await self.events(task_id)]

    async def sandbox(self, task_id: str) -> Sandbox:
        """The task's live one."""
        found = await self.store.tasks.sandbox(task_id)
        assert found is not None
        return found

    def link(self, sandbox: Sandbox) -> GuestLink:
        """To its guest."""
        return GuestLink(sandbox.endpoint, guest_token(KEY, sandbox.machine_id))

    async def go(self, task_id: str) -> None:
        """Let an agent that waits by WAIT go on."""
        async with self.link(await self.sandbox(task_id)) as link:
            await link.write("go", b"")

    async def artifact(self, task_id: str, name: str) -> Path:
        """An artifact's file."""
        return (await self.store.artifacts.open(task_id, name))[1]

    async def clean(self, task_id: str) -> None:
        """Assert that nothing is left of an ended task within 10 s: no machine, no file."""
        async with asyncio.timeout(10):
            while await self.left(task_id):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def left(self, task_id: str) -> list[str]:
        """What there is of a task outside the store."""
        machines = [machine.id for machine in await self.host.list() if machine.task_id == task_id]
        return machines + [str(path) for path in self.config.state_dir.glob("*/*") if task_id in path.name]


@contextlib.asynccontextmanager
async def stack(
    directory: Path, *, driver: str = "process", machines: int = 16, database: str | None = None, **config: Any
) -> AsyncIterator[Stack]:
    """Make one; the scheduler is not started yet."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = {"lease_seconds": 2.0, "save_seconds": 0.3, "sweep_seconds": 0.3} | config
    made = SchedulerConfig(key=KEY, state_dir=directory / "scheduler", default_agent="mock", **settings)
    host_config = HostConfig(state_dir=directory / "host", key=KEY, driver=driver, pool_size=1, max_machines=machines)
    async with (
        Store.open(database or f"sqlite:///{directory}/squib.db", files=directory / "files") as store,
        Gateway({}) as gateway,
        Host(host_config, gateway) as host,
    ):
        queue = registry.make("sql", store)
        whole = Stack(directory, store, queue, host, made, LocalOrchestrator(host))
        whole.scheduler = whole.another()
        try:
            yield whole
        finally:
            await whole.stop()
            await queue.close()
