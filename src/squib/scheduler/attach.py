"""Between a task and its sandbox: connect to the guest, pump its events, let go of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from squib.contracts.errors import GuestUnreachable, HostFull, LeaseLost, SandboxLost, SquibError, StoreUnavailable
from squib.contracts.event import Draft, EventType
from squib.contracts.sandbox import Sandbox, SandboxPhase
from squib.link import GuestLink, guest_token
from squib.scheduler.interrupt import Lost
from squib.scheduler.job import Job
from squib.scheduler.pump import Pump

T = TypeVar("T")
_ANSWER_SECONDS = 5.0  # for a guest that has not answered to say that it lives
_FULL_PAUSE, _FULL_TRIES = 0.25, 240  # a minute; then another host may have the task


def attach_new(job: Job, sandbox: Sandbox) -> Pump:
    """Connect to a guest that nobody has listened to yet. The pump's gate stays closed for the caller to open."""
    return _attach(job, sandbox, _link(job, sandbox), (None, 0))


async def attach(job: Job) -> GuestLink:
    """The task's guest: connected already, or found again; one that is on disk goes on first.

    Raises SandboxLost, GuestUnreachable, and what resuming may.
    """
    if job.link is not None:
        return job.link
    sandbox = await job.rooms.orchestrator.get(job.task.sandbox_id) if job.task.sandbox_id else None
    resumed = sandbox is not None and sandbox.phase is SandboxPhase.SUSPENDED
    if sandbox is not None and resumed:
        sandbox = await _resumed(job, sandbox.id)
    if sandbox is None or sandbox.phase is not SandboxPhase.READY:
        raise SandboxLost("the sandbox is gone" if sandbox is None else "the sandbox's machine has ended")
    link = _link(job, sandbox)
    try:
        epoch = (await link.health()).epoch
        stored = await job.rooms.store.events.cursor(job.id)
    except BaseException:
        await link.aclose()
        raise
    # A guest that went on from disk has begun a new epoch, behind what it may still have of the one before.
    pump = _attach(job, sandbox, link, stored if resumed or stored[0] == epoch else (None, 0))
    pump.gate.set()
    job.log.info("attached again", sandbox_id=sandbox.id, epoch=epoch, stored=stored[1])
    return link


async def _resumed(job: Job, sandbox_id: str) -> Sandbox | None:
    sandbox = await patiently(lambda: whole(job.rooms.orchestrator.resume(sandbox_id)))
    if sandbox is not None:
        await job.emit(sandbox=sandbox, suspended=None)  # stands before the event tells of it
        await job.emit(Draft(EventType.SANDBOX_RESUMED, {"sandbox_id": sandbox.id}))
    return sandbox


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The call's outcome; while the host is full it is made again, for a minute. Raises what the call does."""
    for _ in range(_FULL_TRIES):
        try:
            return await call()
        except HostFull:
            await asyncio.sleep(_FULL_PAUSE)
    return await call()


async def whole(work: Awaitable[T]) -> T:
    """Let it come to its end, also where we are cancelled meanwhile: half a freeze would be neither this nor that."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


async def detach(job: Job) -> None:
    """Stop pumping and close the connections; the guest goes on."""
    pumping, link = job.pumping, job.link
    job.pumping, job.link, job.pump, job.sandbox = None, None, None, None
    if pumping is not None:
        pumping.cancel()
        await asyncio.wait([pumping])
    if link is not None:
        await link.aclose()


async def still_there(job: Job, *, tries: int = 4) -> bool:
    """Whether the sandbox lives and its guest answers, with a little patience: a busy machine is no lost one."""
    for attempt in range(tries):
        if job.sandbox is not None and not await _alive(job, job.sandbox):
            return False
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                link = await attach(job)
                await link.health()
                return True
        except SandboxLost:
            return False
        except (GuestUnreachable, TimeoutError):
            await asyncio.sleep(0.1 * 3**attempt)
    return False


def _link(job: Job, sandbox: Sandbox) -> GuestLink:
    return GuestLink(sandbox.endpoint, guest_token(job.rooms.config.key, sandbox.machine_id))


def _attach(job: Job, sandbox: Sandbox, link: GuestLink, position: tuple[str | None, int]) -> Pump:
    pump = Pump(link, position, job.append_guest, lambda: _alive(job, sandbox), job.rooms.metrics)
    job.sandbox, job.link, job.pump = sandbox, link, pump
    job.pumping = job.group.create_task(_pump(job, pump), name=f"pump {job.id}")
    return pump


async def _pump(job: Job, pump: Pump) -> None:
    try:
        await pump.run()
    except* (LeaseLost, StoreUnavailable):
        raise
    except* SquibError as group:
        error = group.exceptions[0]
        lost = error if isinstance(error, SandboxLost) else SandboxLost(f"the guest's events are not usable: {error}")
        job.interrupts.cut(Lost(lost))
    except* Exception:  # a new sandbox costs an attempt; the task given back would meet the same again, for ever
        job.log.exception("the guest's events met an unforeseen error")
        job.interrupts.cut(Lost(SandboxLost("the guest's events could not be taken")))


async def _alive(job: Job, sandbox: Sandbox) -> bool:
    found = await job.rooms.orchestrator.get(sandbox.id)
    return found is not None and found.phase is SandboxPhase.READY
