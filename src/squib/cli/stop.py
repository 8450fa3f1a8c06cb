"""Ctrl-C, SIGTERM and a closed terminal: the first asks for an orderly end, the second does not wait for it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator

from squib.cli.output import note

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stopping() -> Iterator[asyncio.Event]:
    """An event that the first signal sets; the second ends the process at once.

    What a hard end leaves behind, the next start takes over or removes, and guests end by their own lease.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if asked.is_set():
            os._exit(130)
        asked.set()
        note("squib: stopping; again to stop at once")

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield asked
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
