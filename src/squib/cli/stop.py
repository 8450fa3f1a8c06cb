"""Ctrl-C and SIGTERM: the first asks for an orderly end, the second does not wait for it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator

from squib.cli.output import note


@contextlib.contextmanager
def stopping() -> Iterator[asyncio.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second ends the process at once.

    What a hard end leaves behind, the next start takes over or removes, and guests end by their own lease.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if asked.is_set():
            os._exit(130)
        asked.set()
        note("squib: stopping; again to stop at once")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield asked
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
