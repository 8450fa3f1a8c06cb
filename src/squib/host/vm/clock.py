"""How fast this machine's time stamp counter runs: a guest without a timer chip has to be told."""

import asyncio
import ctypes
import mmap
import time
from collections.abc import Callable

#: x86-64: rdtsc; shl rdx, 32; or rax, rdx; ret.
_RDTSC = bytes.fromhex("0f3148c1e2204809d0c3")
_SECONDS = 0.25
_TRIES = 9


async def khz() -> int:
    """Thousands of ticks a second, by the kernel's clock, to some parts in a million; it takes a quarter second."""
    with _counter() as read:
        first = _moment(read)
        await asyncio.sleep(_SECONDS)
        last = _moment(read)
    return round((last[0] - first[0]) * 1_000_000 / (last[1] - first[1]))


class _counter:
    """A function that reads the counter, within its `with` block."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)

    def __enter__(self) -> Callable[[], int]:
        self._page.write(_RDTSC)
        self._view = ctypes.c_char.from_buffer(self._page)
        return ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(self._view))

    def __exit__(self, *_: object) -> None:
        del self._view  # the page can't be closed while anything looks at it
        self._page.close()


def _moment(read: Callable[[], int]) -> tuple[int, int]:
    """Ticks and nanoseconds at the same time: the pair between whose readings the least time has gone."""
    pairs = []
    for _ in range(_TRIES):
        before = time.monotonic_ns()
        ticks = read()
        after = time.monotonic_ns()
        pairs.append((after - before, ticks, (before + after) // 2))
    _, ticks, moment = min(pairs)
    return ticks, moment
