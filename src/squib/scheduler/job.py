"""A task that is being worked on here: its lease, its note of progress, its sandbox, and how they are written."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from squib.contracts.event import Draft, GuestEvent
from squib.contracts.sandbox import Sandbox
from squib.contracts.task import Task, TaskState
from squib.link import GuestLink
from squib.orchestrator.base import Orchestrator
from squib.scheduler import progress as note
from squib.scheduler.config import SchedulerConfig
from squib.scheduler.interrupt import Interrupts
from squib.scheduler.metrics import Metrics
from squib.scheduler.progress import Progress
from squib.scheduler.pump import Pump
from squib.scheduler.repository.cache import RepositoryCache
from squib.scheduler.repository.git import Git
from squib.scheduler.repository.work import WorkRepository
from squib.scheduler.slots import Slots
from squib.scheduler.throttle import Throttle
from squib.store import Lease, Store


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the steps reach beyond the task itself."""

    store: Store
    orchestrator: Orchestrator
    config: SchedulerConfig
    git: Git
    cache: RepositoryCache
    slots: Slots
    throttle: Throttle
    metrics: Metrics

    @property
    def tasks_dir(self) -> Path:
        """Where each task's saved work lies."""
        return self.config.state_dir / "tasks"


@dataclass(slots=True)
class Job:
    """One at a time a task, in one process: the lease sees to that."""

    rooms: Rooms
    lease: Lease
    task: Task
    started_at: float  # seconds since 1970: when its first sandbox was there, whoever made it; before, its claim
    progress: Progress
    group: asyncio.TaskGroup  # of all that runs beside the steps
    interrupts: Interrupts = field(default_factory=Interrupts)
    sandbox: Sandbox | None = None
    link: GuestLink | None = None
    pump: Pump | None = None
    pumping: asyncio.Task[None] | None = None
    control: asyncio.Event = field(default_factory=asyncio.Event)  # something was asked of the task: look again
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)  # a note must not overtake a newer one
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)
    pending: list[Draft] = field(default_factory=list)  # told with the next write
    resting_now: bool = False  # idle: it holds no slot
    begun: bool = False  # this process has just taken it, and nobody has made its sandbox yet
    redone: int = 0  # times that the present step was begun again in this sandbox

    @property
    def id(self) -> str:
        """The task's."""
        return self.task.id

    @property
    def agent(self) -> str:
        """The one that the task names, or the default."""
        return self.task.spec.agent or self.rooms.config.default_agent

    @property
    def log(self) -> structlog.stdlib.BoundLogger:
        """A logger that names the task."""
        logger: structlog.stdlib.BoundLogger = structlog.get_logger("squib.scheduler")
        return logger.bind(task_id=self.id, step=self.progress.step)

    @property
    def work(self) -> WorkRepository:
        """The task's own bare repository."""
        path = self.rooms.tasks_dir / f"{self.id}.git"
        return WorkRepository(path, self.rooms.git, max_bytes=self.rooms.config.max_repository_bytes)

    @property
    def archive(self) -> Path:
        """The workspace as saved where it holds no repository."""
        return self.rooms.tasks_dir / f"{self.id}.tar.gz"

    async def emit(self, *drafts: Draft, **columns: Any) -> None:
        """Write events, the progress and columns of the task, in as few transactions as the store allows."""
        told, self.pending = [*self.pending, *drafts], []
        if told:
            await self.rooms.store.events.append(self.id, told, lease=self.lease)
        async with self.writing:
            await self.rooms.store.tasks.update(self.lease, progress=note.dump(self.progress), **columns)
        self._note(columns)
        self._open()

    async def enter(self, state: TaskState, data: dict[str, Any], **columns: Any) -> None:
        """Change the task's state; pending events, the progress and columns go into the same transaction."""
        told, self.pending = self.pending, []
        async with self.writing:
            self.task = await self.rooms.store.tasks.transition(
                self.lease, state, data, before=told, progress=note.dump(self.progress), **columns
            )
        self._open()

    def _open(self) -> None:
        """What had to stand before the guest's events does now."""
        if self.pump is not None:
            self.pump.gate.set()

    def _note(self, columns: dict[str, Any]) -> None:
        known = {name: value for name, value in columns.items() if name in Task.__dataclass_fields__}
        if known:
            self.task = replace(self.task, **known)

    async def append_guest(self, batch: Sequence[GuestEvent]) -> int:
        """Store a guest's events under the present lease."""
        return await self.rooms.store.events.append_guest(self.lease, batch)

    @contextlib.asynccontextmanager
    async def resting(self) -> AsyncIterator[None]:
        """Not counted among the tasks at work while the block runs; one that raises leaves it so."""
        if not self.resting_now:
            await self.rooms.slots.release()
            self.resting_now = True
        yield
        await self.rooms.slots.acquire()
        self.resting_now = False

    @contextlib.asynccontextmanager
    async def scratch(self, name: str) -> AsyncIterator[Path]:
        """A path for a file that is gone when the block ends, in a directory that the task's end removes."""
        directory = self.rooms.config.state_dir / "scratch" / self.id
        path = directory / name
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def remove_files(self) -> None:
        """Remove the task's saved work and scratch files."""
        await asyncio.to_thread(remove_files, self.rooms.config.state_dir, self.id)


def remove_files(state_dir: Path, task_id: str) -> None:
    """What a scheduler keeps on disk of a task."""
    for name in (f"{task_id}.git", f"{task_id}.git.new"):
        shutil.rmtree(state_dir / "tasks" / name, ignore_errors=True)
    shutil.rmtree(state_dir / "scratch" / task_id, ignore_errors=True)
    (state_dir / "tasks" / f"{task_id}.tar.gz").unlink(missing_ok=True)
