"""Ids in this process's memory: for one process, and for tests. What is lost with it, the sweep finds."""

import asyncio
from collections import deque

from squib.queue.handout import Handout


class MemoryQueue:
    """A queue whose workers are in the same event loop."""

    def __init__(self) -> None:
        self._ids = Handout()
        self._idle: deque[asyncio.Future[None]] = deque()

    async def put(self, task_id: str) -> None:
        """Say that the task may be claimed."""
        self._wake(self._ids.put(task_id))

    async def get(self, timeout: float) -> str | None:
        """Wait up to `timeout` seconds for an id."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while (task_id := self._ids.take()) is None:
            woken: asyncio.Future[None] = loop.create_future()
            self._idle.append(woken)
            try:
                async with asyncio.timeout_at(deadline):
                    await woken
            except BaseException as error:
                if woken in self._idle:
                    self._idle.remove(woken)
                self._wake(woken.done() and not woken.cancelled())  # it was meant for someone: pass it on
                if isinstance(error, TimeoutError):
                    return None
                raise
        return task_id

    async def done(self, task_id: str) -> None:
        """Forget the id."""
        self._wake(self._ids.done(task_id))

    async def release(self, task_id: str) -> None:
        """Give the id back at once."""
        self._wake(self._ids.release(task_id))

    async def close(self) -> None:
        """Nothing is held open."""

    def _wake(self, more: bool) -> None:
        if not more:
            return
        while self._idle:
            woken = self._idle.popleft()
            if not woken.done():
                woken.set_result(None)
                return
