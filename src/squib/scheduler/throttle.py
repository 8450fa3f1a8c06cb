"""Keeps heavy work (saves, results) of many tasks from taking the processors from those that are about to start."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator

_MOST_WAIT = 10.0  # seconds that one waits for its turn at most
_MOST_HELD = 10.0  # seconds after which a turn no longer counts: a guest that stalls holds nobody up for long


class Throttle:
    """A courtesy, never a lock: whoever has waited long enough goes on."""

    def __init__(self, at_once: int | None = None):
        self._free = asyncio.Semaphore(at_once or max(2, os.cpu_count() or 2))

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it while the block runs."""
        held = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MOST_WAIT):
                held = await self._free.acquire()
        if not held:
            yield
            return
        releases = iter([self._free.release])
        timer = asyncio.get_running_loop().call_later(_MOST_HELD, _once, releases)
        try:
            yield
        finally:
            timer.cancel()
            _once(releases)


def _once(releases: Iterator[Callable[[], None]]) -> None:
    for release in releases:
        release()
