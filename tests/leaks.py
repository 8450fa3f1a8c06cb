"""What squib left behind: processes, mounts, cgroups, sockets and directories that a name or a path gives away."""

import asyncio
import os
import time
from pathlib import Path


def find(*needles: str) -> list[str]:
    """Say, one line each, what still refers to one of `needles` (a state directory, a machine id).

    A process counts when its arguments, its working directory or a mount of its own namespace name a needle: a
    sandbox's argv shows nothing of the host, but its bind mounts do. This process itself is left out.
    """
    assert needles and all(len(needle) > 6 for needle in needles), "name something that nothing else is called"
    return [*_processes(needles), *_mounts(needles), *_cgroups(needles), *_sockets(needles)]


async def gone(*needles: str, timeout: float = 10.0) -> list[str]:
    """Look until nothing is left, at most `timeout` seconds; return what is left then."""
    end = time.monotonic() + timeout
    while True:
        left = find(*needles)
        if not left or time.monotonic() >= end:
            return left
        await asyncio.sleep(0.05)


def _has(text: str, needles: tuple[str, ...]) -> bool:
    return any(needle in text for needle in needles)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:  # it ended while we looked
        return ""


def _processes(needles: tuple[str, ...]) -> list[str]:
    found = []
    ours = _read(Path("/proc/self/mountinfo"))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        argv = _read(entry / "cmdline").replace("\0", " ")
        try:
            cwd = str((entry / "cwd").readlink())
        except OSError:
            cwd = ""
        mounts = _read(entry / "mountinfo")
        if _has(argv, needles) or _has(cwd, needles) or (mounts != ours and _has(mounts, needles)):
            found.append(f"process {entry.name}: {argv[:200] or _read(entry / 'comm').strip()}")
    return found


def _mounts(needles: tuple[str, ...]) -> list[str]:
    lines = _read(Path("/proc/self/mountinfo")).splitlines()
    return [f"mount {line}" for line in lines if _has(line, needles)]


def _cgroups(needles: tuple[str, ...]) -> list[str]:
    top = Path("/sys/fs/cgroup")
    return [f"cgroup {path}" for path, _, _ in os.walk(top) if _has(path.removeprefix(str(top)), needles)]


def _sockets(needles: tuple[str, ...]) -> list[str]:
    lines = _read(Path("/proc/net/unix")).splitlines()
    return [f"socket {line.split()[-1]}" for line in lines if _has(line, needles)]
