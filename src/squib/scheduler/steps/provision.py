"""Get a sandbox, and begin to listen to its guest."""

import asyncio
import time

from squib.contracts.event import Draft, EventType
from squib.contracts.ids import new_id
from squib.contracts.sandbox import Sandbox, SandboxSpec
from squib.contracts.task import TaskState
from squib.scheduler import limits
from squib.scheduler.attach import attach, attach_new, patiently
from squib.scheduler.job import Job
from squib.scheduler.steps.repository import goes_on


async def provision(job: Job) -> str:
    """The sandbox's id is kept before the task may lose it: asked twice, the orchestrator makes one.

    The task's row and the machine are made at the same time; an id that never reached the row is swept. Where
    nothing lies between the sandbox and the run, the run's id is minted here too: one transaction less.
    """
    progress = job.progress
    new = job.task.sandbox_id is None
    sandbox_id = job.task.sandbox_id or new_id("sbx")
    if job.task.state is not TaskState.QUEUED and not new:
        sandbox = await _create(job, sandbox_id)
        await attach(job)
    else:
        if _nothing_to_bring(job):
            progress.run_id = new_id("run")
        sandbox = await _enter_and_create(job, sandbox_id)
        attach_new(job, sandbox)
    if progress.told_of != sandbox.id:
        progress.told_of = sandbox.id
        job.pending.append(_created(sandbox))
    return "run" if _nothing_to_bring(job) else "repository"


def _nothing_to_bring(job: Job) -> bool:
    return job.task.spec.repository is None and not goes_on(job)


async def _enter_and_create(job: Job, sandbox_id: str) -> Sandbox:
    creating = job.group.create_task(_quietly(job, sandbox_id))
    try:
        data = {"attempt": job.task.attempt}
        await job.enter(
            TaskState.PROVISIONING, data, sandbox_id=sandbox_id, started_at=job.started_at, attempt=job.task.attempt
        )
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
