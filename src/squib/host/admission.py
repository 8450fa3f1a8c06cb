"""Whether one more machine fits here: by their number, and by the cpu, memory and disk that machines are promised.

A promise counts, not what a guest happens to use: guests may all use what is theirs at once. A suspended machine has
neither processor nor memory; of the disk it holds its own part and its frozen memory.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from squib.contracts.host import Capacity, Used
from squib.host.config import HostConfig

SPARE_DISK = 256  # MiB that no new machine may take: records are written there
_MIB = 1024 * 1024
_GROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Measure(Protocol):
    """What a machine takes: a request's or a specification's."""

    @property
    def cpu(self) -> float:
        """Cores."""

    @property
    def memory(self) -> int:
        """MiB."""

    @property
    def disk(self) -> int:
        """MiB."""


def capacity(config: HostConfig) -> Capacity:
    """What a host of this configuration has to give."""
    return Capacity(config.max_machines, config.cpu, config.memory, config.disk)


def used(running: Iterable[Measure], suspended: Iterable[Measure] = ()) -> Used:
    """What is promised to these machines together."""
    now, frozen = list(running), list(suspended)
    return Used(
        machines=len(now),
        cpu=sum(m.cpu for m in now),
        memory=sum(m.memory for m in now),
        disk=sum(m.disk for m in now) + sum(m.disk + m.memory for m in frozen),
    )


def lack(limits: Capacity, taken: Used, wanted: Sequence[Measure]) -> str | None:
    """What is missing for machines of these measures beside those that are there, for a person; None: they fit."""
    more = used(wanted)
    if taken.machines + more.machines > limits.machines:
        return f"this host has its {limits.machines} machines"
    for name, unit in (("cpu", "cores"), ("memory", "MiB"), ("disk", "MiB")):
        given, have, want = getattr(limits, name), getattr(taken, name), getattr(more, name)
        if given is not None and have + want > given:
            return f"this host has {given - have:g} {unit} of {name} left to promise, {want:g} are asked for"
    return None


def free_disk(directory: Path) -> int:
    """MiB that are free where the host keeps its machines. Raises OSError."""
    return shutil.disk_usage(directory).free // _MIB


def own_cpu() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def own_memory() -> int:
    """MiB of this machine, or of the container that this process is in, where that has less."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _GROUP_LIMITS:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(found) // _MIB
