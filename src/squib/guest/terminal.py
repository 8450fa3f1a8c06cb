"""A pseudo-terminal with a shell on it."""

import asyncio
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from squib.guest import tree
from squib.guest.children import Child, Children, find_program
from squib.guest.pump import Pump

MAX_SIDE = 1000
_READ_BYTES = 64 * 1024
_QUEUE_BYTES = 1024 * 1024  # typed and not yet read by the program: beyond it, input is dropped
_GRACE_SECONDS = 0.5
_BEHIND_BYTES = 256 * 1024


class PseudoTerminal:
    """A program on a terminal of its own, for an `async with` block: at its end the program's tree is ended."""

    def __init__(
        self,
        children: Children,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: int,
        cols: int,
        rows: int,
        sink: Callable[[bytes], None],
    ):
        """Start it. `sink` gets what it shows. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._input = bytearray()
        ours, self._theirs = os.openpty()
        self._writing = -1
        try:
            os.set_blocking(ours, False)
            _resize(ours, cols, rows)
            program = find_program(argv[0], env["PATH"])
            self.child: Child = children.spawn([program, *argv[1:]], env=env, cwd=cwd, tty=os.ttyname(self._theirs))
            self._writing = os.dup(ours)
        except BaseException:
            os.close(ours)
            os.close(self._theirs)
            raise
        self._children = children
        self._tree = tree.Tree(env[tree.MARK], self.child.pid, spared=lambda: self._children.pids)
        self.pump = Pump(ours, sink, _READ_BYTES, _BEHIND_BYTES)

    def resize(self, cols: int, rows: int) -> None:
        """Tell the program of a new size."""
        if self._writing < 0:
            return
        _resize(self._writing, cols, rows)
        try:
            os.tcgetpgrp(self._writing)
        except OSError:  # gVisor's kernel does not say who is in the foreground, nor tell them
            tree.send(self._tree.members(), signal.SIGWINCH)

    def enter(self, data: bytes) -> None:
        """Hand over what was typed, as the program reads it."""
        if self._writing < 0 or len(self._input) + len(data) > _QUEUE_BYTES:
            return
        if not self._input:
            self._loop.add_writer(self._writing, self._write)
        self._input += data

    def _write(self) -> None:
        try:
            del self._input[: os.write(self._writing, self._input)]
        except BlockingIOError:
            return
        except OSError:
            self._input.clear()
        if not self._input:
            self._loop.remove_writer(self._writing)

    async def wait(self) -> int:
        """Wait for the program's exit and for what it last showed; gives its code, negative for a signal."""
        code = await asyncio.shield(self.child.status)
        self.pump.settle()
        await self.pump.settled
        return code

    async def __aenter__(self) -> "PseudoTerminal":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await tree.end(self._tree, _GRACE_SECONDS)
        finally:
            self._loop.remove_writer(self._writing)
            os.close(self._writing)
            self._writing = -1
            self.pump.close()
            os.close(self._theirs)  # held so long because gVisor forgets what nobody read when its last user goes


def _resize(fd: int, cols: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
