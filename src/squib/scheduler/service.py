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
from squib.scheduler.sweep import sweep_files, sweep_old, sweep_sandboxes
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
                if task_id is not None and not await self._claim(group, task_id):
                    await self._queue.done(task_id)
            except (SquibError, OSError) as error:
                self._log.warning("the queue or the store failed", error=str(error))
                await asyncio.sleep(_PAUSE)

    async def _sweep(self, group: asyncio.TaskGroup) -> None:
        """Claim what the queue has lost sight of: a dead worker's tasks above all. Then orphaned sandboxes."""
        for task_id in await self._rooms.store.tasks.waiting():
            if not self._rooms.slots.free:
                break
            await self._claim(group, task_id)
        await sweep_sandboxes(self._rooms)

    async def _claim(self, group: asyncio.TaskGroup, task_id: str) -> bool:
        if task_id in self._jobs:
            return True
        seconds = self._rooms.config.lease_seconds
        lease = await self._rooms.store.tasks.claim(self._worker, seconds=seconds, task_id=task_id)
        if lease is None:
            return False
        self._rooms.slots.take()
        self._rooms.metrics.claimed.inc()
        self._jobs[task_id] = group.create_task(self._work(lease), name=f"task {task_id}")
        return True

    async def _work(self, lease: Lease) -> None:
        """Own one claimed task: whatever happens to it, the worker goes on."""
        log = self._log.bind(task_id=lease.task_id)
        delay: float | None = None
        held = True
        try:
            with self._rooms.metrics.working.track_inprogress():
                delay = await work_on(self._rooms, lease)
        except LeaseLost:
            held = False
            log.warning("the lease was lost: another worker has the task")
        except StoreUnavailable as error:
            held = False
            log.warning("the store does not answer: the task waits for its lease to end", error=str(error))
        except Exception:
            log.exception("unforeseen error: the task is given back")
        finally:
            self._jobs.pop(lease.task_id, None)
            await asyncio.shield(self._let_go(lease, held))
        if delay is not None:
            await asyncio.sleep(delay)
            await self._queue.put(lease.task_id)

    async def _let_go(self, lease: Lease, held: bool) -> None:
        await self._rooms.slots.release()
        with contextlib.suppress(SquibError, OSError, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                if held:
                    await self._rooms.store.tasks.release(lease)
                await self._queue.done(lease.task_id)

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
