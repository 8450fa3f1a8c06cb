"""What processes hold, in MB (10^6 bytes): resident, at its peak, and proportional."""

import re
from pathlib import Path

import psutil


def _kilobytes(path: Path, name: str) -> float:
    match = re.search(rf"^{name}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    assert match is not None, f"{path} has no {name}"
    return int(match[1]) * 1024 / 1e6


def resident(pid: int) -> float:
    """What the process has in memory now."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS")


def peak(pid: int) -> float:
    """The most that it ever had."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM")


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def proportional(pid: int) -> float:
    """The memory of the whole tree, what it shares with others counted in proportion."""
    return sum(_kilobytes(Path(f"/proc/{each}/smaps_rollup"), "Pss") for each in tree(pid))


def below(pid: int, argument: str) -> int:
    """The innermost process of the tree that has `argument` in its command line."""
    found = [each for each in tree(pid) if argument in " ".join(psutil.Process(each).cmdline())]
    assert found, f"no process below {pid} has {argument!r} in its arguments"
    return found[-1]


def of_user(uid: int) -> float:
    """The proportional memory of all processes of that user."""
    own = [each.pid for each in psutil.process_iter(["uids"]) if each.info["uids"] and each.info["uids"].real == uid]
    return sum(_kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss") for pid in own)
