"""A scheduler in a process of its own, for tests that kill it: `python -m tests.scheduler.worker DIRECTORY N`.

After its Nth write to the store, as soon as that is committed, it ends itself by SIGKILL; with N = 0 never.
"""

import asyncio
import contextlib
import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from squib.store import Store
from tests.scheduler.stack import stack

_WRITES = {
    "tasks": ("claim", "transition", "update", "release"),
    "events": ("append", "append_guest"),
    "artifacts": ("put",),
}


def kill_after(store: Store, count: int) -> None:
    """Make the store end this process after so many of its writes."""
    left = count

    def counted(write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(write)
        async def then_die(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            result = await write(*arguments, **more)
            if result is not None or write.__name__ != "claim":
                left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return then_die

    for noun, names in _WRITES.items():
        for name in names:
            room = getattr(store, noun)
            setattr(room, name, counted(getattr(room, name)))


async def main(directory: Path, count: int, driver: str) -> None:
    """Work until killed."""
    async with stack(directory, driver=driver, lease_seconds=1.0) as whole:
        if count:
            kill_after(whole.store, count)
        whole.start()
        await whole.running[0]


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
