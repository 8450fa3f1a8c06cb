"""How many tasks are at work here at once."""

import asyncio


class Slots:
    """A count with a bound. Whoever wakes from idling waits for room like a new task; neither starves the other."""

    def __init__(self, bound: int):
        self._bound = bound
        self._used = 0
        self._changed = asyncio.Condition()

    @property
    def free(self) -> bool:
        """Whether there is room now."""
        return self._used < self._bound

    @property
    def used(self) -> int:
        """How many are taken."""
        return self._used

    async def wait_free(self) -> None:
        """Wait until there is room, without taking it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.free)

    def take(self) -> None:
        """Take a place; after `wait_free` the bound may be passed by one where a sleeper woke meanwhile."""
        self._used += 1

    async def acquire(self) -> None:
        """Wait for room and take it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.free)
            self._used += 1

    async def release(self) -> None:
        """Give a place back."""
        async with self._changed:
            self._used -= 1
            self._changed.notify_all()
