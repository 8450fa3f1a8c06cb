"""Saves a workspace outside its sandbox, every few seconds and at each commit, without disturbing the run."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from squib.contracts.errors import (
    GuestUnreachable,
    LeaseLost,
    NoRepository,
    SandboxLost,
    SquibError,
    StoreUnavailable,
)
from squib.contracts.event import Draft, EventType
from squib.contracts.guest import GitState, PushRequest
from squib.link import GuestLink
from squib.scheduler.job import Job

_LET_FINISH = 60.0  # seconds for a save that is under way when the run is over: the last save follows it
_LET_FINISH_HURRIED = 0.5  # ... when the run is cut short
_MIN_PAUSE = 0.25  # seconds between two saves, whatever asks for them
_COST = 10  # a save that took long is followed by a pause of so many times its length
_MAX_DIGEST = 256


@contextlib.asynccontextmanager
async def saving(job: Job) -> AsyncIterator[None]:
    """Save in the background while the block runs; a save that is under way at its end may finish."""
    over = asyncio.Event()
    task = job.group.create_task(_keep_saving(job, over), name=f"save {job.id}")
    patience = _LET_FINISH_HURRIED
    try:
        yield
        patience = _LET_FINISH
    finally:
        over.set()
        await asyncio.wait([task], timeout=patience)
        task.cancel()
        await asyncio.wait([task])


async def _keep_saving(job: Job, over: asyncio.Event) -> None:
    pause, told = job.rooms.config.save_seconds, False
    while await _wait(job, pause, over):
        began = time.monotonic()
        try:
            await save(job)
        except (LeaseLost, StoreUnavailable):
            raise
        except GuestUnreachable as error:
            job.log.info("save failed", error=str(error))
        except (SquibError, OSError) as error:
            job.rooms.metrics.saves.labels("failed").inc()
            job.log.warning("save failed", error=str(error))
            if not told:
                told = True
                await job.emit(_warning(f"the work could not be saved outside the sandbox: {error}"))
        except Exception:
            job.log.exception("save failed in an unforeseen way")
        pause = max(job.rooms.config.save_seconds, _COST * (time.monotonic() - began))


async def _wait(job: Job, pause: float, over: asyncio.Event) -> bool:
    """Until the pause is over, or the agent has committed, or the run is over: then False.

    Commits that come close together share a save.
    """
    commits = job.pump.commits if job.pump is not None else asyncio.Event()
    ends = [asyncio.ensure_future(over.wait()), asyncio.ensure_future(commits.wait())]
    try:
        await asyncio.wait(ends[:1], timeout=min(_MIN_PAUSE, pause))
        if not over.is_set():
            await asyncio.wait(ends, timeout=pause - _MIN_PAUSE, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
    commits.clear()
    return not over.is_set()


async def save(job: Job) -> None:
    """Take what is new out of the sandbox now. Raises SquibError where that fails; what was saved before stays."""
    async with job.saving, job.rooms.throttle.turn(), job.scratch("save") as path:
        if job.link is None:
            raise SandboxLost("the sandbox is gone")
        before = await job.work.saved()
        request = PushRequest(have=before.commits, unless=job.progress.digest)
        try:
            state = await job.link.push(request, path, max_bytes=job.rooms.config.max_repository_bytes)
        except NoRepository:
            await _keep_archive(job, job.link, path)
            return
        if state is not None:
            size = path.stat().st_size if path.exists() else 0
            after = await job.work.take(path if size else None, state)
            await _note(job, state, size, (before.head, before.work) != (after.head, after.work))


async def _note(job: Job, state: GitState, size: int, changed: bool) -> None:
    job.progress.digest = state.digest[:_MAX_DIGEST] or None
    job.progress.branch = state.branch
    job.progress.saved_at = time.time()
    job.archive.unlink(missing_ok=True)
    job.rooms.metrics.saves.labels("bundle").inc()
    if changed:
        saved = Draft(EventType.GIT_SAVED, {"head": state.head, "work": state.work, "bytes": size})
        await job.emit(saved, head_commit=state.head)


async def _keep_archive(job: Job, link: GuestLink, path: Path) -> None:
    """A workspace without a repository is kept whole: the last archive that came through."""
    await link.archive(path, max_bytes=job.rooms.config.max_archive_bytes)
    await asyncio.to_thread(job.archive.parent.mkdir, parents=True, exist_ok=True)
    await asyncio.to_thread(path.replace, job.archive)
    job.progress.saved_at = time.time()
    job.rooms.metrics.saves.labels("archive").inc()


def _warning(message: str) -> Draft:
    return Draft(EventType.RUNTIME_LOG, {"level": "warning", "message": message[:2000]})
