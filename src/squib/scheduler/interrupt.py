"""What cuts a step short from outside it: a cancel, the task's deadline, a lost sandbox."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from squib.contracts.errors import SandboxLost


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The user wants no more of it."""


@dataclass(frozen=True, slots=True)
class OutOfTime:
    """A limit has passed; `limit` is "task" or "turn"."""

    limit: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The sandbox is gone."""

    error: SandboxLost


Reason = Cancelled | OutOfTime | Lost


class Interrupted(Exception):
    """Raised out of the scope that was cut short."""

    def __init__(self, reason: Reason):
        super().__init__(type(reason).__name__)
        self.reason = reason


class Interrupts:
    """One task's: at most one scope is open at a time. A reason that comes between two scopes waits for the next."""

    def __init__(self) -> None:
        self._scope: asyncio.Timeout | None = None
        self._pending: Reason | None = None

    def cut(self, reason: Reason) -> None:
        """End the open scope, or the next one as it opens. The first reason stands; a cancel outranks the others."""
        if self._pending is None or isinstance(reason, Cancelled):
            self._pending = reason
        if self._scope is not None:
            with contextlib.suppress(RuntimeError):  # it is being cut short already
                self._scope.reschedule(asyncio.get_running_loop().time())

    def forget_lost(self) -> None:
        """The sandbox that a pending `Lost` told of has been dealt with."""
        if isinstance(self._pending, Lost):
            self._pending = None

    @contextlib.asynccontextmanager
    async def scope(self, deadline: float, otherwise: Reason) -> AsyncIterator[None]:
        """Run the block until `deadline` (seconds since 1970; its reason is `otherwise`). Raises Interrupted."""
        if self._pending is not None:
            raise Interrupted(self._take(otherwise))
        when = asyncio.get_running_loop().time() + deadline - time.time()
        scope = asyncio.timeout_at(when)
        try:
            async with scope:
                self._scope = scope
                yield
        except TimeoutError:
            if scope.expired():
                raise Interrupted(self._take(otherwise)) from None
            raise
        finally:
            self._scope = None

    def _take(self, otherwise: Reason) -> Reason:
        reason, self._pending = self._pending or otherwise, None
        return reason
