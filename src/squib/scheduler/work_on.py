"""One claimed task, as long as its lease is held: the lease's renewal, the watch for requests, and the drive."""

import asyncio
import time

from squib.contracts.errors import LeaseLost, StoreUnavailable
from squib.scheduler import progress as note
from squib.scheduler.attach import detach
from squib.scheduler.drive import PutBack, drive
from squib.scheduler.interrupt import Cancelled
from squib.scheduler.job import Job, Rooms
from squib.store import Taken
from squib.store.signals import Subscription

_LOOK = 2.0  # seconds between two looks at a task's requests, should a wake-up be missed


async def work_on(rooms: Rooms, taken: Taken, requests: Subscription) -> float | None:
    """Carry the task on to its end; seconds until its next attempt, or None where there is none to come.

    `requests` is what was asked of the task since before it was taken.
    Raises LeaseLost and StoreUnavailable: then nothing more may or can be written. Cancelled, it leaves the guest
    running for whoever claims the task next.
    """
    delay: float | None = None
    try:
        async with asyncio.TaskGroup() as group:
            task = taken.task
            started_at = task.started_at or time.time()
            job = Job(rooms, taken.lease, task, started_at, note.load(taken.notes), group)
            job.begun = taken.begun
            if task.cancel_requested:
                job.interrupts.cut(Cancelled())
            beside = [group.create_task(_renew(job)), group.create_task(_watch(job, requests))]
            try:
                await drive(job)
            except PutBack as put_back:
                delay = put_back.delay
            finally:
                for task_ in beside:
                    task_.cancel()
                await detach(job)
                if job.resting_now:
                    rooms.slots.take()
    except BaseExceptionGroup as group_:
        raise _gravest(group_) from group_
    return delay


async def _renew(job: Job) -> None:
    """Hold the lease; when the store can't be asked until it is over, take it as lost."""
    seconds = job.rooms.config.lease_seconds
    while True:
        await asyncio.sleep(seconds / 3)
        try:
            job.lease = await job.rooms.store.tasks.renew(job.lease, seconds)
        except StoreUnavailable:
            if time.time() > job.lease.until:
                raise


async def _watch(job: Job, requests: Subscription) -> None:
    """Notice a cancel or a message: by wake-up, and every few seconds all the same."""
    while True:
        await requests.wait(_LOOK)
        job.control.set()
        if (await job.rooms.store.tasks.get(job.id)).cancel_requested:
            job.interrupts.cut(Cancelled())
            return


def _gravest(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that tells the caller what to do."""
    for kind in (LeaseLost, StoreUnavailable):
        if (found := group.subgroup(kind)) is not None:
            return _first(found)
    return _first(group)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
