"""Waits until a VMM listens."""

import asyncio
from pathlib import Path

from squib.host import processes, watch
from squib.host.firecracker.errors import VmmEnded, VmmSilent
from squib.host.firecracker.wire import Wire

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.01  # seconds between looks at a socket that is bound, and not listened on


async def listening(wire: Wire, pid: int, seconds: float) -> None:
    """Return once `wire` has a connection; the socket's directory must be there. `pid` is the VMM's.

    Raises VmmEnded where it ends before, VmmSilent after `seconds`.
    """
    pause = _FIRST_PAUSE
    try:
        async with asyncio.timeout(seconds):
            while await _appears(wire.path, pid):
                try:
                    return await wire.open()
                except VmmEnded:
                    await asyncio.sleep(pause)
                pause = min(pause * 1.3, _LONGEST_PAUSE)
    except TimeoutError as error:
        raise VmmSilent(f"Firecracker does not listen at {wire.path} after {seconds:g} s") from error
    raise VmmEnded("Firecracker ended before it listened")


async def _appears(path: Path, pid: int) -> bool:
    """Wait for the socket; False where the process ends first, or has ended."""
    ends, comes = asyncio.ensure_future(processes.ended(pid)), asyncio.ensure_future(watch.appears(path))
    try:
        await asyncio.wait((ends, comes), return_when=asyncio.FIRST_COMPLETED)
        if comes.done():
            comes.result()
        return not ends.done()
    finally:
        for task in (ends, comes):
            task.cancel()
        await asyncio.gather(ends, comes, return_exceptions=True)
