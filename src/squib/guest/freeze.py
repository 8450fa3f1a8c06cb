"""Around being frozen: getting to rest, letting go of all that lies outside, and taking it up again."""

import asyncio
import ctypes
import gc
import logging
import os
import re
from typing import TYPE_CHECKING

from squib.contracts.errors import Conflict, InvalidRequest, SquibError
from squib.contracts.guest import FreezeRequest
from squib.guest import tree
from squib.guest.capture import capture
from squib.guest.environment import build
from squib.guest.server import vanish

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor

log = logging.getLogger("squib.guest")
#: How long a guest that has let go lives unasked, at least: in a frozen machine this time stands still.
AWAY_SECONDS = 600.0
_POLL_SECONDS = 0.003  # gVisor's kernel tells nobody of changes made outside
_LINGER_SECONDS = 1.0  # for processes of a command that has just ended
_WARM_SECONDS = 10.0
_NAME = re.compile(r"[0-9a-f]{1,64}")


async def prepare(guest: "Supervisor", request: FreezeRequest) -> None:
    """Get to rest: everything loaded, everything written.

    Raises InvalidRequest for a file name that is not plain hex, Conflict while the guest is at work.
    """
    if request.thaw is not None and _NAME.fullmatch(request.thaw) is None:
        raise InvalidRequest("thaw: must be 1 to 64 hex digits", fields={"thaw": "must be 1 to 64 hex digits"})
    _refuse_work(guest)
    guest.warmup.finish()
    if guest.helper is not None and await guest.helper.perform(None):
        raise Conflict("the process that would renew this machine's names is gone", advice="Copy its work instead.")
    await _run_something(guest)
    if request.thaw is None:
        guest.events.rest()
        await asyncio.to_thread(_sync, guest.workspace.fd)
    else:
        await _refuse_processes(guest)
    _refuse_work(guest)
    _settle_memory()


def _refuse_work(guest: "Supervisor") -> None:
    if guest.runs.active_id is not None:
        raise Conflict("a run is active", advice="Wait for its end, or cancel it.")
    if guest.requests:
        busy = guest.requests[0]
        raise Conflict(f"{busy.method} {busy.path[:100]} is active", advice="Wait for its end.")


async def _refuse_processes(guest: "Supervisor") -> None:
    """What a command has left running holds the workspace open, at least as its directory."""
    left = tree.everything(guest.children.apart)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LINGER_SECONDS
    while members := left.members():
        if loop.time() > deadline:
            names = ", ".join(tree.name(pid) for pid in members[:5])
            raise Conflict(f"{len(members)} processes still run: {names}", advice="End what runs in the background.")
        await asyncio.sleep(_POLL_SECONDS)


async def _run_something(guest: "Supervisor") -> None:
    """What starting a process loads and reads for the first time belongs into the frozen memory as well."""
    env = build(guest.config, "warm-up")
    try:
        await capture(
            guest.children, ["git", "version"], env=env, cwd=guest.workspace.fd, seconds=_WARM_SECONDS, limit=1000
        )
    except (OSError, SquibError) as error:
        log.info("no command can be tried before freezing: %s", error)


def _sync(fd: int) -> None:
    """Have the workspace on its disk: should the memory be lost, that is what is left."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd) != 0:
        log.warning("the workspace can't be synchronised: %s", os.strerror(ctypes.get_errno()))


def _settle_memory() -> None:
    """Garbage isn't frozen; and what is left later collections don't touch, so that copies go on sharing it."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(0)


async def away(guest: "Supervisor", thaw: str) -> None:
    """Hold nothing outside of this guest until the file is there, or the guest is to stop.

    Raises OSError where what it held can't be had again.
    """
    file = guest.places.config.parent / thaw
    os.chdir("/")
    guest.workspace.close()
    guest.events.release()
    vanish(guest.config.listen)
    try:
        with guest.lease.extended(AWAY_SECONDS):
            while not guest.stopping and not file.exists():  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)
    finally:
        guest.events.reclaim()
        guest.workspace.reopen()
