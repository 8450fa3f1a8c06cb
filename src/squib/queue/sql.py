"""The task rows as the queue: nothing is stored twice, and a wake-up replaces polling.

Every process looks for claimable rows when it is woken (an id was made claimable somewhere), and once a second all
the same: no one signals that a lease has run out. Which of two processes gets the task, its claim decides.
"""

import asyncio

from squib.queue.handout import Handout
from squib.store import Store

_SWEEP = 1.0  # seconds between looks that nobody asked for
_LOOK = 200  # ids that one look brings


class SqlQueue:
    """A queue over `store.tasks`. All of a process's workers share one look at the table."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ids = Handout()
        self._looking = asyncio.Lock()
        self._woken = store.signals.open("queue")  # kept between calls, so that no wake-up falls between two
        self._looked_at = float("-inf")  # by the loop's clock
        self._looked_for = -1  # the last wake-up that a look has followed

    async def put(self, task_id: str) -> None:
        """Hand the id to a worker of this process without a look; others are woken by the row's own commit."""
        self._ids.put(task_id)
        looked = self._woken.catch_up() == self._looked_for
        self._store.signals.wake("queue")
        if looked:  # our own wake-up tells of nothing that a look would find
            self._looked_for = self._woken.catch_up()

    async def get(self, timeout: float) -> str | None:
        """Wait up to `timeout` seconds for an id. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        async with self._store.signals.subscribe("queue") as woken:
            while (task_id := self._ids.take()) is None:
                await self._look()
                if (task_id := self._ids.take()) is not None:
                    return task_id
                left = deadline - loop.time()
                if left <= 0:
                    return None
                await woken.wait(min(left, max(0.0, self._looked_at + _SWEEP - loop.time())))
            return task_id

    async def done(self, task_id: str) -> None:
        """Forget the id; its row will say whether it may be claimed again."""
        if self._ids.done(task_id):
            self._store.signals.wake("queue")

    async def release(self, task_id: str) -> None:
        """Give the id back at once."""
        if self._ids.release(task_id):
            self._store.signals.wake("queue")

    async def close(self) -> None:
        """Subscribe no more; the store is its opener's to close."""
        self._store.signals.close(self._woken)

    async def _look(self) -> None:
        """Find what may be claimed, if a wake-up or the time asks for it; workers that come meanwhile share it."""
        async with self._looking:
            now, wake_up = asyncio.get_running_loop().time(), self._woken.catch_up()
            if wake_up == self._looked_for and now < self._looked_at + _SWEEP:
                return
            self._looked_for, self._looked_at = wake_up, now
            self._ids.look()
            self._ids.refill(await self._store.tasks.waiting(_LOOK))
