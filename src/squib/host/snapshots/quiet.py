"""Threads for what nobody waits for: reading and hashing the parts of snapshots."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_LEAST_PRIORITY = 19


@contextlib.contextmanager
def thread() -> Iterator[ThreadPoolExecutor]:
    """One thread that gets what nobody else wants of the processors. Leaving the block does not wait for it."""
    executor = ThreadPoolExecutor(1, "squib-quiet", initializer=_give_way)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


async def quietly(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The work's outcome, done by such a thread."""
    with thread() as executor:
        return await asyncio.get_running_loop().run_in_executor(executor, lambda: work(*args, **kwargs))


def _give_way() -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_PRIORITY)
