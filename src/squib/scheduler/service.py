"""The worker: claims tasks as there is room, works on them at once, and sweeps."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog

from squib.contracts.errors import LeaseLost, SquibError, StoreUnavailable
from squib.contracts.ids import new_id
from squib.orchestrator.base import Orchestrator
from squib.queue.base import Queue
from squib.scheduler.config import SchedulerConfig
from squib.scheduler.job import Rooms
from squib.scheduler.metrics import Metrics, default_metrics
from squib.scheduler.repository.cache import RepositoryCache
from squib.scheduler.repository.git import Git
from squib.scheduler.slots import Slots
from squib.scheduler.steps.provision import begin
from squib.scheduler.sweep import sweep_files, sweep_old, sweep_sandboxes
from squib.scheduler.throttle import Throttle
from squib.scheduler.work_on import work_on
from squib.store import Lease, Store

_WAIT = 10.0  # seconds for one look into the queue
_PAUSE = 1.0  # seconds after the store or the queue failed
_OLD_EVERY = 3600.0
_FILES_EVERY = 5.0
_RELEASE_SECONDS = 5.0


class Scheduler:
    """`run` until cancelled. Many may share a database; each claims what another has let go of."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        orchestrator: Orchestrator,
        config: SchedulerConfig,
        metrics: Metrics | None = None,
    ):
        git = Git(
            protocols="https:file" if config.allow_file_urls else "https",
            ca_info=config.git_ca_info,
            seconds=config.git_seconds,
            max_file_bytes=config.max_repository_bytes,
        )
        self._rooms = Rooms(
            store=store,
            orchestrator=orchestrator,
            config=config,
            git=git,
            cache=RepositoryCache(config.state_dir / "repositories", git),
            slots=Slots(config.concurrency),
            throttle=Throttle(),
            metrics=metrics if metrics is not None else default_metrics(),
        )
        self._queue = queue
        self._worker = new_id("wrk")
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._log = structlog.get_logger("squib.scheduler").bind(worker=self._worker)

    async def run(self) -> None:
        """Work until cancelled; then give the leases back and leave the guests running for the next worker."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self._rooms.config.sweep_seconds, lambda: self._sweep(group)))
            group.create_task(self._every(_FILES_EVERY, lambda: sweep_files(self._rooms)))
            group.create_task(self._every(_OLD_EVERY, lambda: sweep_old(self._rooms)))
            await self._serve(group)

    async def _serve(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._rooms.slots.wait_free()
            try:
                task_id = await self._queue.get(_WAIT)
            except (SquibError, OSError) as error:
                self._log.warning("the queue does not answer", error=str(error))
                await asyncio.sleep(_PAUSE)
                continue
            if task_id is not None:
                self._begin(group, task_id)

    async def _sweep(self, group: asyncio.TaskGroup) -> None:
        """Claim what the queue has lost sight of: a dead worker's tasks above all. Then orphaned sandboxes."""
        for task_id in await self._rooms.store.tasks.waiting():
            if self._rooms.slots.free:
                self._begin(group, task_id)
        await sweep_sandboxes(self._rooms)

    def _begin(self, group: asyncio.TaskGroup, task_id: str) -> None:
        """Work on a task beside the others, unless it is at work here already."""
        if task_id not in self._jobs:
            self._rooms.slots.take()
            self._jobs[task_id] = group.create_task(self._own(task_id), name=f"task {task_id}")

    async def _own(self, task_id: str) -> None:
        """Claim a task, work on it, let it go: whatever happens to it, the worker goes on."""
        lease: Lease | None = None
        delay: float | None = None
        log = self._log.bind(task_id=task_id)
        try:
            seconds = self._rooms.config.lease_seconds
            async with self._rooms.store.signals.subscribe(f"control:{task_id}") as requests:
                taken = await self._rooms.store.tasks.take(task_id, self._worker, seconds=seconds, begin=begin)
                if taken is not None:
                    lease = taken.lease
                    self._rooms.metrics.claimed.inc()
                    with self._rooms.metrics.working.track_inprogress():
                        delay = await work_on(self._rooms, taken, requests)
        except LeaseLost:
            lease = None
            log.warning("the lease was lost: another worker has the task")
        except StoreUnavailable as error:
            lease = None
            log.warning("the store does not answer: the task waits for its lease to end", error=str(error))
        except Exception:  # given back at once, it would be taken up at once, and meet the same error, for ever
            lease = None
            log.exception("unforeseen error: the task waits for its lease to end")
        finally:
            await asyncio.shield(self._let_go(task_id, lease))
        if delay is not None:
            await asyncio.sleep(delay)
            await self._queue.put(task_id)

    async def _let_go(self, task_id: str, lease: Lease | None) -> None:
        await self._rooms.slots.release()
        try:
            with contextlib.suppress(SquibError, OSError, TimeoutError):
                async with asyncio.timeout(_RELEASE_SECONDS):
                    if lease is not None:
                        await self._rooms.store.tasks.release(lease)
                    await self._queue.done(task_id)
        finally:
            self._jobs.pop(task_id, None)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            began = time.monotonic()
            try:
                await work()
            except (SquibError, OSError) as error:
                self._log.warning("a sweep failed", error=str(error))
            except Exception:
                self._log.exception("a sweep failed in an unforeseen way")
            await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began)))
