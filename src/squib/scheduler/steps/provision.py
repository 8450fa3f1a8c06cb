"""Get a sandbox, and begin to listen to its guest."""

import asyncio
import time
from typing import Any

from squib.contracts.event import Draft, EventType
from squib.contracts.ids import new_id
from squib.contracts.sandbox import Sandbox, SandboxSpec
from squib.contracts.task import Task, TaskState
from squib.scheduler import limits
from squib.scheduler import progress as note
from squib.scheduler.attach import attach, attach_new, patiently
from squib.scheduler.job import Job
from squib.scheduler.progress import Progress
from squib.scheduler.steps.repository import goes_on
from squib.store import Begin


def begin(task: Task, notes: dict[str, Any]) -> Begin | None:
    """What taking a task that waits for its first sandbox, or for another one, does at once."""
    progress = note.load(notes)
    if task.state is not TaskState.QUEUED or task.cancel_requested or progress.step != "provision":
        return None
    columns = {"sandbox_id": _mint(task, progress), "suspended": None}
    return Begin(TaskState.PROVISIONING, {"attempt": task.attempt}, note.dump(progress), columns)


def _mint(task: Task, progress: Progress) -> str:
    """The sandbox's id. Where nothing lies between the sandbox and the run, the run's is minted too."""
    if _nothing_to_bring(task, progress):
        progress.run_id = new_id("run")
    return task.sandbox_id or new_id("sbx")


async def provision(job: Job) -> str:
    """The sandbox's id is kept before the task may lose it: asked twice, the orchestrator makes one.

    A task that was just taken has its id in the row; else the row is written while the machine is made, and an id
    that never reached the row is swept.
    """
    progress = job.progress
    begun, job.begun = job.begun, False
    if job.task.state is TaskState.QUEUED or job.task.sandbox_id is None:
        sandbox = await _enter_and_create(job, _mint(job.task, progress))
        attach_new(job, sandbox)
    else:
        sandbox = await _create(job, job.task.sandbox_id)
        if begun:
            attach_new(job, sandbox)
        else:
            await attach(job)
    if job.task.started_at is None:
        job.started_at = time.time()  # who waited for room has not begun
    if progress.told_of != sandbox.id:
        progress.told_of = sandbox.id
        job.pending.append(_created(sandbox))
    if _nothing_to_bring(job.task, progress):
        return "run"  # whose first write says when the task began
    await job.emit(started_at=job.started_at)
    return "repository"


def _nothing_to_bring(task: Task, progress: Progress) -> bool:
    return task.spec.repository is None and not goes_on(task, progress)


async def _enter_and_create(job: Job, sandbox_id: str) -> Sandbox:
    creating = job.group.create_task(_quietly(job, sandbox_id))
    try:
        data = {"attempt": job.task.attempt}
        await job.enter(TaskState.PROVISIONING, data, sandbox_id=sandbox_id, attempt=job.task.attempt)
        made = await creating
    finally:
        creating.cancel()
        await asyncio.wait([creating])
    if isinstance(made, Exception):
        raise made
    return made


async def _quietly(job: Job, sandbox_id: str) -> Sandbox | Exception:
    """An error here is the step's to handle, not the group's."""
    try:
        return await _create(job, sandbox_id)
    except Exception as error:
        return error


async def _create(job: Job, sandbox_id: str) -> Sandbox:
    spec = SandboxSpec(
        id=sandbox_id,
        task_id=job.id,
        request=job.task.spec.sandbox,
        image=job.task.spec.image,
        agent=job.agent,
        ttl_seconds=limits.sandbox_ttl(job.task.spec.limits, job.started_at, time.time()),
    )
    return await patiently(lambda: job.rooms.orchestrator.create(spec))


def _created(sandbox: Sandbox) -> Draft:
    data = {
        "sandbox_id": sandbox.id,
        "driver": sandbox.driver,
        "isolation": sandbox.isolation,
        "image": sandbox.image,
        "warm": sandbox.warm,
        "snapshot": sandbox.snapshot,
    }
    return Draft(EventType.SANDBOX_CREATED, data)
