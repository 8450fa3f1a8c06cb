"""Take the results out of the sandbox and keep them: bundle, patch, workspace."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

from squib.contracts.errors import InfrastructureError, LeaseLost, SandboxLost, SquibError, StoreUnavailable
from squib.contracts.event import Draft, EventType
from squib.contracts.guest import BUNDLE
from squib.scheduler.attach import attach
from squib.scheduler.job import Job
from squib.scheduler.repository.work import work_tips
from squib.scheduler.saving import save

_CHUNK = 256 * 1024
_ENDING_SECONDS = 30.0  # for the last save, and for the archive, of a task that is ending anyway


async def save_work(job: Job) -> str:
    """The last save of the turn. A turn that went well is done again where its work can't be had; no other is."""
    if job.progress.ending is None:
        await attach(job)
        await _tell_refusal(job, save(job))
    else:
        try:
            async with asyncio.timeout(_ENDING_SECONDS):
                await attach(job)
                await _tell_refusal(job, save(job))
        except (InfrastructureError, TimeoutError) as error:
            if isinstance(error, StoreUnavailable):
                raise
            job.log.info("the last save failed", error=str(error))
    return "collect"


async def collect(job: Job) -> str:
    """Each artifact replaces the one of the turn before, so that doing it again changes nothing."""
    async with job.rooms.throttle.turn():
        await _tell_refusal(job, _collect_repository(job))
        await _tell_refusal(job, _collect_workspace(job))
    return "cleanup" if job.progress.ending is not None else "decide"


async def _collect_repository(job: Job) -> None:
    """What was saved last, as git takes it."""
    saved = await job.work.saved()
    if saved.tip is not None:
        async with job.scratch("bundle") as path:
            if await job.work.bundle(path, work_tips(job.id, saved), without=saved.base):
                await put(job, "bundle", BUNDLE, path)
        async with job.scratch("patch") as path:
            await job.work.patch(path, saved.base, saved.tip)
            await put(job, "patch", "text/x-diff", path)


async def _collect_workspace(job: Job) -> None:
    """From the sandbox, or else the last archive that was saved of it."""
    bound = _ENDING_SECONDS if job.progress.ending is not None else None
    try:
        if job.task.suspended:
            raise SandboxLost("the sandbox is suspended")  # it is not woken to end: its last archive will do
        async with asyncio.timeout(bound), job.scratch("workspace") as path:
            link = await attach(job)
            await link.archive(path, max_bytes=job.rooms.config.max_archive_bytes)
            await put(job, "workspace", "application/gzip", path)
    except StoreUnavailable:
        raise
    except (InfrastructureError, TimeoutError) as error:
        job.log.info("the workspace could not be archived", error=str(error))
        if await asyncio.to_thread(job.archive.exists):
            await put(job, "workspace", "application/gzip", job.archive)


async def _tell_refusal(job: Job, work: Awaitable[None]) -> None:
    """What is refused (too large, not sound) is told and left out; it does not end the task."""
    try:
        await work
    except (LeaseLost, InfrastructureError):
        raise
    except SquibError as error:
        job.log.warning("a result was refused", error=str(error))
        data = {"level": "warning", "message": f"a result could not be kept: {error.detail}"[:2000]}
        await job.emit(Draft(EventType.RUNTIME_LOG, data))


async def put(job: Job, name: str, media_type: str, path: Path) -> None:
    """Store a file as an artifact of the task."""
    await job.rooms.store.artifacts.put(job.id, name, media_type, _chunks(path))


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
