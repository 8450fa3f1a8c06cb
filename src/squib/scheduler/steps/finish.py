"""Give everything back, keep the transcript, and only then say that the task has ended."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from squib.contracts.errors import Conflict, TooLarge
from squib.contracts.event import Draft, EventType
from squib.contracts.task import TaskState
from squib.scheduler.attach import detach
from squib.scheduler.job import Job
from squib.scheduler.parting import GONE, delete_sandbox
from squib.scheduler.progress import Ending
from squib.scheduler.steps.turns import next_turn

_DATA = b"data: "


async def cleanup(job: Job) -> str:
    """Remove the sandbox; where that fails the sweep goes on with it."""
    sandbox_id = job.task.sandbox_id
    await detach(job)
    if sandbox_id is not None and await delete_sandbox(job, sandbox_id):
        told = Draft(EventType.SANDBOX_DELETED, {"sandbox_id": sandbox_id})
        await job.emit(told, **GONE)
    return "finish"


async def finish(job: Job) -> str:
    """The transcript holds all events up to here; the closing transition is the last.

    A message that was accepted after the decision to end well is answered all the same, in a new sandbox.
    """
    ending = job.progress.ending or Ending(TaskState.SUCCEEDED, {"result": job.progress.result})
    well = ending.state is TaskState.SUCCEEDED
    if well and await _came_late(job):
        return job.progress.step
    await _keep_transcript(job)
    columns: dict[str, Any] = {**GONE, "error": ending.data.get("error")}
    if well:
        columns["last_turn"] = job.progress.turn
    try:
        await job.enter(ending.state, ending.data, **columns)
    except Conflict:
        if well and await _came_late(job):
            return job.progress.step
        raise
    job.rooms.metrics.ended.labels(ending.state.value).inc()
    job.log.info("ended", state=ending.state.value)
    await job.remove_files()
    return "done"


async def _came_late(job: Job) -> bool:
    ending, job.progress.ending = job.progress.ending, None
    if await next_turn(job):
        return True
    job.progress.ending = ending
    return False


async def _keep_transcript(job: Job) -> None:
    """One over the bound is left out: nothing keeps a task from its end, and all events stay in the store."""
    try:
        await job.rooms.store.artifacts.put(job.id, "transcript", "application/x-ndjson", _transcript(job))
    except TooLarge as error:
        job.log.warning("the transcript is not kept", error=str(error))


async def _transcript(job: Job) -> AsyncIterator[bytes]:
    """One event a line, as the stream's frames hold them: no event is decoded, however many there are."""
    last = (await job.rooms.store.tasks.get(job.id)).last_seq
    async with contextlib.aclosing(job.rooms.store.events.follow(job.id)) as stream:
        async for frames in stream:
            lines = (line[len(_DATA) :] + b"\n" for line in frames.data.split(b"\n") if line.startswith(_DATA))
            yield b"".join(lines)
            if frames.last >= last:
                return
