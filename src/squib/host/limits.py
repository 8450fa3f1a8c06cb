"""Which limits hold here and by what: control groups where there are any, the process's own limits elsewhere."""

from collections.abc import Sequence

from squib.contracts.machine import MachineSpec
from squib.host.cgroups import CONTROLLERS
from squib.host.ground import Ground

DISK_SECONDS = 15.0  # between two looks at how much a machine has on the disk
MEMORY_SECONDS = 2.0  # the same of memory, where no group limits it
_NPROC = 'ulimit -u "$1" 2>/dev/null || ulimit -p "$1"; shift; exec "$@"'  # bash and busybox spell it -u, dash -p


def claims(ground: Ground, *, own_namespace: bool = True) -> tuple[str, ...]:
    """What a capability says of limits, for a person. What is not named is not limited."""
    grouped = ground.groups.controllers
    said = [f"{c}: cgroup v{grouped[c]}" for c in CONTROLLERS if c in grouped]
    if "memory" not in grouped:
        said.insert(0, f"memory: looked at every {MEMORY_SECONDS:.0f} s")
    if "pids" not in grouped and countable(ground, own_namespace=own_namespace):
        said.append("pids: RLIMIT_NPROC")
    said.append(f"disk: each file by RLIMIT_FSIZE, the whole looked at every {DISK_SECONDS:.0f} s")
    return tuple(said)


def countable(ground: Ground, *, own_namespace: bool) -> bool:
    """Whether RLIMIT_NPROC would count the machine's processes alone: it counts by user, in each user namespace."""
    return own_namespace or ground.uids is not None


def counted(ground: Ground, spec: MachineSpec, argv: Sequence[str], *, own_namespace: bool = True) -> list[str]:
    """`argv`, with the number of its processes limited by RLIMIT_NPROC where no group does it."""
    if "pids" in ground.groups.controllers or not countable(ground, own_namespace=own_namespace):
        return list(argv)
    return ["/bin/sh", "-c", _NPROC, "sh", str(spec.pids), *argv]
