"""`squib shell`."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator

from squib.cli import connect, exits, options
from squib.cli.output import clean, note, say_json
from squib.client.pty import AsyncPty
from squib.contracts.guest import PtyExit, TerminalRequest

_PIECE = 64 * 1024


def shell(task: str, /, *, command: str | None = None, json: options.Json = False) -> int:
    """Open a terminal in a task's live sandbox.

    The exit status is the command's own. Without a terminal on standard input, --command is run without one.

    Args:
        task: The task's id; its sandbox must be there ('squib run --keep 10m' keeps it).
        command: What to run; a login shell where absent.
        json: Run --command without a terminal and print how it ended, with its output, as JSON.
    """
    if json or not sys.stdin.isatty():
        if command is None:
            raise exits.Usage(
                "a shell needs a terminal", advice="Name a command: squib shell TASK --command 'ls -l'."
            )
        return _buffered(task, command, json)
    ended = asyncio.run(_attach(task, command))
    if ended is None:
        note("squib: the sandbox has ended")
        return exits.FAILED
    return ended.exit_code if ended.exit_code is not None else 128 + (ended.signal or 0)


def _buffered(task: str, command: str, json: bool) -> int:
    with connect.client() as client:
        result = client.tasks.terminal(task, TerminalRequest(command))
    if json:
        say_json(result)
    else:
        for stream, text in ((sys.stdout, result.stdout), (sys.stderr, result.stderr)):
            stream.write(clean(text) if stream.isatty() else text)
    return result.exit_code if result.exit_code is not None else 128 + (result.signal or 0)


async def _attach(task: str, command: str | None) -> PtyExit | None:
    cols, rows = shutil.get_terminal_size()
    async with connect.async_client() as client, client.tasks.pty(task, cols=cols, rows=rows, command=command) as pty:
        with _raw(sys.stdin.fileno()):
            async with asyncio.TaskGroup() as group:
                typing = group.create_task(_type(pty, sys.stdin.fileno()))
                sizes = group.create_task(_sizes(pty))
                async for data in pty:
                    _write_all(sys.stdout.fileno(), data)
                typing.cancel()
                sizes.cancel()
        return pty.exit


@contextlib.contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Raw mode; what was before comes back however this ends."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal, termios.TCSANOW)  # keeps what was typed ahead, and waits for no slow reader
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)


def _write_all(terminal: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(terminal, view) :]


async def _type(pty: AsyncPty, terminal: int) -> None:
    """Send what is typed, until the keyboard is gone."""
    while True:
        await _readable(terminal)
        data = os.read(terminal, _PIECE)
        if not data:
            return
        await pty.send(data)


async def _readable(descriptor: int) -> None:
    """Wait until one read will not block. Asked for anew each time: a late second notice must not count."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def _sizes(pty: AsyncPty) -> None:
    """Tell of each new size of the terminal."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    try:
        while True:
            await changed.wait()
            changed.clear()
            cols, rows = shutil.get_terminal_size()
            await pty.resize(cols, rows)
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
