"""The lease: a guest that its host has not asked after for so long ends itself."""

import asyncio
from collections.abc import Callable


class Lease:
    """Calls `over` once, when `renew` has not been called for `seconds`; 0: never."""

    def __init__(self, seconds: float, over: Callable[[], None]):
        self._loop = asyncio.get_running_loop()
        self._seconds, self._over = seconds, over
        self._renewed = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "Lease":
        if self._seconds > 0:
            self._timer = self._loop.call_later(self._seconds, self._check)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def renew(self) -> None:
        """Somebody with the token has asked: begin anew."""
        self._renewed = self._loop.time()

    def _check(self) -> None:
        left = self._renewed + self._seconds - self._loop.time()
        if left <= 0:
            self._over()
        else:
            self._timer = self._loop.call_later(left, self._check)
