"""Processes by pid and start time, since a pid alone may be another's by now; and how a set of them is ended."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

PROC = Path("/proc")


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None where there is none, or only its zombie."""
    state = _stat(pid)
    return None if state is None or state[0] in "ZX" else state[2]


def running(pid: int | None, started: int | None) -> bool:
    """Whether that very process runs. A record without both proves nothing and is taken as dead."""
    return pid is not None and pid > 0 and started is not None and start_time(pid) == started


async def ended(pid: int) -> None:
    """Wait until the process has ended; it need not be a child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start time (proc(5), stat). The name may hold blanks and parentheses: cut after it."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), int(fields[19])


def all_pids() -> Iterator[int]:
    """Every process that /proc shows."""
    return (int(path.name) for path in PROC.iterdir() if path.name.isdecimal())


def of_uid(uid: int) -> list[int]:
    """Every live process of that real user. Raises ValueError for 0: root's are never ours to end."""
    if uid == 0:
        raise ValueError("refusing to look for processes of user 0")
    return [pid for pid in all_pids() if _real_uid(pid) == uid and start_time(pid) is not None]


def any_of(uids: range) -> bool:
    """Whether a process of one of these real users is there."""
    return any(_real_uid(pid) in uids for pid in all_pids())


def _real_uid(pid: int) -> int:
    """-1 where there is no such process any more."""
    try:
        status = (PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return -1
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("Uid:")), -1)


def naming(text: str) -> list[int]:
    """Every live process of this user whose command line holds `text`: a machine's own directory, say."""
    needle, mine, found = os.fsencode(text), os.getuid(), []
    for pid in all_pids():
        with contextlib.suppress(OSError):
            folder = PROC / str(pid)
            if pid != os.getpid() and folder.stat().st_uid == mine and needle in (folder / "cmdline").read_bytes():
                found.append(pid)
    return found


def tree(roots: list[int]) -> list[int]:
    """These processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for pid in all_pids():
        if (state := _stat(pid)) is not None and state[0] not in "ZX":
            children.setdefault(state[1], []).append(pid)
    found: dict[int, None] = {}
    left = list(roots)
    while left:
        pid = left.pop()
        if pid not in found:
            found[pid] = None
            left.extend(children.get(pid, ()))
    return list(found)


def most_memory(pids: list[int]) -> int:
    """Bytes that the processes hold at most: cheap, but it counts what forks share once for each (proc(5), statm)."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            resident, shared = (PROC / str(pid) / "statm").read_text().split()[1:3]
            pages += int(resident) - int(shared)
    return pages * os.sysconf("SC_PAGESIZE")


def memory(pids: list[int]) -> int:
    """Bytes that the processes hold, shared pages counted in shares (proc(5), smaps_rollup); 0 for strangers'."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
            total += next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
    return total


def kill(pids: list[int]) -> None:
    """SIGKILL to each; those that are gone already are fine."""
    for pid in pids:
        if pid > 1:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def kill_tree(find_roots: Callable[[], list[int]]) -> bool:
    """Stop the trees first, so that they can't fork away, then end them. Says whether there was anything."""
    stopped: set[int] = set()
    while fresh := set(tree(find_roots())) - stopped:
        for pid in fresh:
            if pid > 1:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGSTOP)
        stopped |= fresh
    kill(sorted(stopped))
    return bool(stopped)
