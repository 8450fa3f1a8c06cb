"""The lease: a guest that its host has not asked after for so long ends itself.

It counts its own time, in ticks, not the clock's: a frozen machine does not tick, and where the clock has leapt when
it goes on, that was one tick.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_TICKS = 8  # of a lease


class Lease:
    """Calls `over` once, when `renew` has not been called for `seconds`; 0: never."""

    def __init__(self, seconds: float, over: Callable[[], None]):
        self._loop = asyncio.get_running_loop()
        self._tick, self._over = seconds / _TICKS, over
        self._passed, self._allowed = 0, _TICKS
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "Lease":
        if self._tick > 0:
            self._timer = self._loop.call_later(self._tick, self._pass)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def renew(self) -> None:
        """Somebody with the token has asked: begin anew."""
        self._passed = 0

    @contextmanager
    def extended(self, seconds: float) -> Iterator[None]:
        """Within the block the lease is at least so long, in time that this guest lives through; then it is new."""
        self.renew()
        self._allowed = max(_TICKS, math.ceil(seconds / self._tick)) if self._tick > 0 else _TICKS
        try:
            yield
        finally:
            self._allowed = _TICKS
            self.renew()

    def _pass(self) -> None:
        self._passed += 1
        if self._passed >= self._allowed:
            self._over()
        else:
            self._timer = self._loop.call_later(self._tick, self._pass)
