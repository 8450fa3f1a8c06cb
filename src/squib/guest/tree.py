"""Process trees: who belongs to a run or a command, wherever they went, and how they are ended.

A process belongs to an origin if it descends from one that does, if it carries the origin's mark in its
environment, or if it is in a session that one of them began. The mark is what finds those that left: a double
fork in a session of its own keeps its environment. A run also owns the orphans that carry no mark at all: they
took it off. Zombies count as ended.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

#: The variable that marks a process with the run or command that it comes from. It is no secret.
MARK = "SQUIB_ORIGIN"
_POLL_SECONDS = 0.01
#: How long ending may take after SIGKILL: only a process that the kernel itself holds lives on.
_KILL_SECONDS = 2.0


@dataclass(slots=True)
class Process:
    """One line of the process table."""

    pid: int
    parent: int
    session: int
    started: int  # clock ticks since boot: with the pid, who it is


def table() -> dict[int, Process]:
    """All living processes that this one can see, but itself."""
    found: dict[int, Process] = {}
    me = os.getpid()
    for name in os.listdir("/proc"):  # noqa: PTH208 - names alone, hundreds of them
        if name.isdigit() and int(name) != me and (process := _read(name)) is not None:
            found[process.pid] = process
    return found


def _read(pid: str) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read(1024)
    except OSError:
        return None
    fields = line[line.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return Process(int(pid), int(fields[1]), int(fields[3]), int(fields[19]))


def _mark(pid: int) -> bytes | None:
    """The process's mark; None where it has none; b"?" where it may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read(1 << 20)
    except OSError:
        return b"?"
    for entry in environment.split(b"\0"):
        if entry.startswith(MARK.encode() + b"="):
            return entry.partition(b"=")[2]
    return None


@dataclass(slots=True)
class Tree:
    """The processes of one origin. Remembers whom it has seen: they stay its own when their parent dies.

    With this process itself as `root`, all that descend from it.
    """

    origin: str
    root: int
    owns_unmarked_orphans: bool = False
    spared: Callable[[], set[int]] = field(default=set)  # pids of other roots
    _seen: dict[int, int] = field(default_factory=dict)  # members: pid to start time
    _marks: dict[tuple[int, int], bytes | None] = field(default_factory=dict)

    def members(self) -> list[int]:
        """The pids that are alive now, the root included."""
        processes = table()
        spared = self.spared() - {self.root}
        mine = {p.pid for p in processes.values() if self._is_seed(p, spared)}
        grown = True
        while grown:
            more = {p.pid for p in processes.values() if p.parent in mine and p.pid not in spared} - mine
            mine |= more
            grown = bool(more)
        self._seen = {pid: processes[pid].started for pid in mine}
        return sorted(mine)

    def _is_seed(self, process: Process, spared: set[int]) -> bool:
        if process.pid == self.root or self._seen.get(process.pid) == process.started:
            return True
        if process.pid in spared:
            return False
        if process.parent == self.root == os.getpid():
            return True
        if process.session == self.root:
            return True
        who = (process.pid, process.started)
        if who not in self._marks:
            self._marks[who] = _mark(process.pid)
        mark = self._marks[who]
        if mark is not None:
            return mark == self.origin.encode()
        return self.owns_unmarked_orphans and process.parent == os.getpid()


def everything(apart: int | None = None) -> Tree:
    """All that descend from this process, but the one with the pid `apart`."""
    return Tree("", os.getpid(), spared=lambda: set() if apart is None else {apart})


def name(pid: int) -> str:
    """What the process is called, for a person; its number where it is gone."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return str(pid)


def send(pids: list[int], number: int) -> None:
    """Send a signal to each; those that are gone meanwhile do not matter."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


async def end(tree: Tree, grace_seconds: float) -> None:
    """End all of the tree: SIGTERM, then SIGKILL to whoever is left after `grace_seconds`.

    Returns when none is left, or after `_KILL_SECONDS` more where the kernel holds one.
    """
    loop = asyncio.get_running_loop()
    members = tree.members()
    if members and grace_seconds > 0:
        send(members, signal.SIGTERM)
        send(members, signal.SIGCONT)  # a stopped process would sleep through it
        members = await _wait(tree, loop.time() + grace_seconds)
    deadline = loop.time() + _KILL_SECONDS
    while members and loop.time() < deadline:
        send(members, signal.SIGKILL)
        members = await _wait(tree, loop.time() + _POLL_SECONDS)


async def _wait(tree: Tree, deadline: float) -> list[int]:
    loop, pause = asyncio.get_running_loop(), _POLL_SECONDS / 4
    while members := tree.members():
        if loop.time() >= deadline:
            break
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.1)
    return members
