"""Commands: one process with its streams read as they come, a time limit, and an end that takes its whole tree."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from squib.guest import tree
from squib.guest.children import Child, Children, find_program
from squib.guest.pump import READ_BYTES, Feed, Pump

#: How long after its exit a command's output is waited for, where another process holds the pipe open.
LINGER_SECONDS = 0.2
END_GRACE_SECONDS = 1.0
Sink = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How it went: an exit code, negative for a signal; `timed_out` where the time limit ended it."""

    code: int
    timed_out: bool
    seconds: float

    @property
    def exit_code(self) -> int | None:
        """The exit code; None where a signal ended it."""
        return self.code if self.code >= 0 else None

    @property
    def signal(self) -> int | None:
        """The signal that ended it, if one did."""
        return -self.code if self.code < 0 else None


class Command:
    """A running command, for an `async with` block: at its end the tree is ended unless the command had exited."""

    def __init__(
        self,
        children: Children,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: int,
        stdout: Sink | int,
        stderr: Sink | int | None,
        stdin: bytes = b"",
        read_bytes: int = READ_BYTES,
    ):
        """Start it. A sink gets a stream's bytes; a descriptor is handed to the process. Raises OSError."""
        self._began = time.monotonic()
        self._children = children
        self.pumps: list[Pump] = []  # standard output's, then standard error's, where they go to a sink
        self._feed: Feed | None = None
        program = find_program(argv[0], env["PATH"])
        ends: list[int] = []
        sources: list[tuple[int, Sink]] = []
        try:
            streams: list[int | None] = [None, None, None]
            for position, target in ((1, stdout), (2, stderr)):
                if callable(target):
                    ours, theirs = os.pipe()
                    streams[position] = theirs
                    ends.append(theirs)
                    sources.append((ours, target))
                else:
                    streams[position] = target
            if stdin:
                theirs, writing = os.pipe()
                streams[0] = theirs
                ends.append(theirs)
            self.child: Child = children.spawn(
                [program, *argv[1:]], env=env, cwd=cwd, stdin=streams[0], stdout=streams[1], stderr=streams[2]
            )
        except BaseException:
            for fd, _ in sources:
                os.close(fd)
            if stdin and streams[0] is not None:
                os.close(writing)
            raise
        finally:
            for fd in ends:
                os.close(fd)
        self.tree = tree.Tree(env[tree.MARK], self.child.pid, spared=lambda: self._children.pids)
        self.pumps = [Pump(fd, sink, read_bytes) for fd, sink in sources]
        if stdin:
            self._feed = Feed(writing, stdin)

    async def __aenter__(self) -> "Command":
        return self

    def pause(self) -> None:
        """Read no more output until `resume`."""
        for pump in self.pumps:
            pump.pause()

    def resume(self) -> None:
        """Go on reading."""
        for pump in self.pumps:
            pump.resume()

    async def wait(self, seconds: float) -> Ended:
        """Wait for the exit and the end of the output, at most `seconds`; then end the tree."""
        timed_out = False
        done, _ = await asyncio.wait({self.child.status}, timeout=seconds)
        if not done:
            timed_out = True
            await tree.end(self.tree, END_GRACE_SECONDS)
            await asyncio.wait({self.child.status}, timeout=END_GRACE_SECONDS)
        await self.collect()
        code = self.child.status.result() if self.child.status.done() else -9
        return Ended(code, timed_out, time.monotonic() - self._began)

    async def collect(self) -> None:
        """Take all that was written before the exit, at the pace of whoever takes it from here.

        Another process may hold a pipe open for ever: it is not waited for.
        """
        for pump in self.pumps:
            pump.settle()
        for pump in self.pumps:
            await pump.settled
        waiting = {pump.ended for pump in self.pumps if not pump.ended.done()}
        if waiting:
            await asyncio.wait(waiting, timeout=LINGER_SECONDS)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._feed is not None:
            self._feed.close()
        try:
            if self.child.alive:
                await tree.end(self.tree, END_GRACE_SECONDS)
        finally:
            for pump in self.pumps:
                pump.drop()
