"""Bring the work into the sandbox: from a URL, an upload, or what was saved of the sandbox before."""

import asyncio
import time

from squib.contracts.errors import RepositoryError
from squib.contracts.event import Draft, EventType
from squib.contracts.task import Repository, Task
from squib.link import GuestLink
from squib.scheduler.attach import attach
from squib.scheduler.job import Job
from squib.scheduler.progress import Progress, Restored
from squib.scheduler.prompt import ALWAYS_LOST
from squib.scheduler.repository.work import Saved

_BRANCH = "main"  # of an upload or a commit that names none


async def repository(job: Job) -> str:
    """Hand the sandbox a bundle; nothing of git's own transport ever reaches it."""
    link = await attach(job)
    if goes_on(job.task, job.progress):
        await _restore(job, link)
    elif job.task.spec.repository is not None:
        await _first_time(job, link, job.task.spec.repository)
    return "run"


def goes_on(task: Task, progress: Progress) -> bool:
    """Whether the task has had a sandbox before this one, whose saved work it goes on from."""
    return task.attempt > 1 or progress.restore


async def _first_time(job: Job, link: GuestLink, wanted: Repository) -> None:
    commit, base, branch = await _source(job, wanted)
    await _hand_in(job, link, commit=commit, reset=base, branch=branch)
    job.progress.branch = branch
    await job.emit(base_commit=base or commit, head_commit=base or commit)


async def _source(job: Job, wanted: Repository) -> tuple[str, str | None, str]:
    """Bring the repository into the task's own bare one: what to check out, what to reset to, on which branch."""
    if wanted.url is not None:
        fetched = await job.rooms.cache.fetch(wanted)
        await job.work.seed_from(fetched.git_dir, fetched.commit)
        return fetched.commit, None, fetched.branch or _BRANCH
    if wanted.upload is None:
        raise RepositoryError("the task names neither a URL nor an upload")
    upload, path = await job.rooms.store.uploads.open(wanted.upload, None)
    await job.work.seed(path, upload.commit, upload.base)
    return upload.commit, upload.base, upload.branch or _BRANCH


async def _hand_in(job: Job, link: GuestLink, *, commit: str, reset: str | None, branch: str) -> None:
    async with job.scratch("clone") as path:
        await job.work.bundle(path, {f"refs/heads/{branch}": commit})
        await link.clone(path, commit=commit, reset=reset, branch=branch)


async def _restore(job: Job, link: GuestLink) -> None:
    """Set the new sandbox up as the lost one was when it was saved last, and say what is missing."""
    saved = await job.work.saved()
    archived = await asyncio.to_thread(job.archive.exists)
    lost: tuple[str, ...] = ("files that git ignores", "branches that were not checked out", *ALWAYS_LOST)
    if saved.head is not None or saved.work is not None:
        await _hand_in_saved(job, link, saved)
        source = f"the save of {_ago(job)} (commit {saved.tip})"
    elif archived:
        await link.extract(job.archive)
        source, lost = f"the archive of {_ago(job)}", ALWAYS_LOST
    else:
        if job.task.spec.repository is not None:
            await _first_time(job, link, job.task.spec.repository)
        source, lost = "the start of the task: nothing had been saved", ("all work so far", *ALWAYS_LOST)
    job.progress.restored = Restored(source, lost, put_away=job.progress.restore)
    data = {"from": {"commit": saved.tip, "saved_at": job.progress.saved_at, "text": source}, "lost": list(lost)}
    job.pending.append(Draft(EventType.RUNTIME_RESTORED, data))


async def _hand_in_saved(job: Job, link: GuestLink, saved: Saved) -> None:
    tip = saved.tip
    if tip is None:
        raise RepositoryError("nothing is saved")
    await _hand_in(
        job, link, commit=tip, reset=saved.head if saved.work else None, branch=job.progress.branch or _BRANCH
    )


def _ago(job: Job) -> str:
    if job.progress.saved_at is None:
        return "an unknown time"
    return f"{max(0, round(time.time() - job.progress.saved_at))} seconds before"
