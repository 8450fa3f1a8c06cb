"""Machines: what a driver makes of a sandbox on a host, and what a driver can do."""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class Isolation(IntEnum):
    """How much stands between the guest and the host, weakest first."""

    NONE = 0  # the host's own user and files
    NAMESPACE = 1  # namespaces, no capability, a seccomp filter; the host's kernel
    USERSPACE_KERNEL = 2  # gVisor
    VIRTUAL_MACHINE = 3  # a kernel of its own


@dataclass(frozen=True, slots=True)
class Capability:
    """What probing a driver on this host found. `works` is the outcome of a real boot."""

    driver: str
    works: bool
    isolation: Isolation
    why_not: str | None = None  # what went wrong, for a person
    advice: str | None = None  # what to install or set
    version: str | None = None
    snapshot: bool = False
    fork: bool = False
    pause: bool = False
    own_kernel: bool = False
    limits: tuple[str, ...] = ()  # which of memory, cpu, pids, disk it enforces here, and how
    boot_ms: float | None = None
    needs_image: bool = False  # it can't use the host's own root
    emulated: bool = False  # its processor is software: right, but slow; `auto` passes it by
    fixed: bool = False  # a machine keeps the cpu and memory that it was made with
    lacks: tuple[str, ...] = ()  # what programs inside miss of Linux


@dataclass(frozen=True, slots=True)
class Mount:
    """A host directory that the machine sees, read-only."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What to make. The id names directories and cgroups: check it with `ids.is_id(id, "mch")`."""

    id: str
    image: str = "host"  # "host": the host's own root, read-only; else the path of a root file system
    image_name: str = "host"  # for people
    drive: str | None = None  # the path of the same root as a squashfs, where the image has one
    python: str | None = None  # runs the guest in that root; None: the driver finds one
    environment: dict[str, str] = field(default_factory=dict)  # of every program inside, from the image
    cpu: float = 2.0
    memory: int = 2048  # MiB
    disk: int = 10240  # MiB
    pids: int = 2048
    mounts: tuple[Mount, ...] = ()
    agents: dict[str, dict[str, str]] = field(default_factory=dict)  # into GuestConfig.agents
    lease_seconds: float = 120.0


class MachinePhase(StrEnum):
    """Where a machine stands in its record on disk."""

    CREATING = "creating"
    READY = "ready"  # answers, and waits in the pool
    CLAIMED = "claimed"  # belongs to a sandbox
    SUSPENDED = "suspended"  # a sandbox's, frozen on disk: it has no process and no memory
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine's record, kept on disk so that the next host process can adopt it."""

    id: str
    driver: str
    phase: MachinePhase
    spec: MachineSpec
    directory: str
    endpoint: str  # unix:PATH of the guest's socket
    created_at: float
    pid: int | None = None  # of the outermost process
    pid_start: int | None = None  # its start time in clock ticks (/proc/PID/stat, field 22): a pid can be reused
    uid: int | None = None  # the host uid that it runs under
    cgroups: tuple[str, ...] = ()
    sandbox_id: str | None = None  # once claimed
    task_id: str | None = None
    expires_at: float | None = None  # once claimed: the host ends it then, seconds since 1970
    ended: str | None = None  # why the host ended it before its time, for a person
    made_with: str = ""  # names the guest's build and the settings: a pooled machine of others is not handed out
    warm: bool = False  # it waited in the pool before it was claimed
    snapshot: str | None = None  # that it was restored from; None: it booted
    thaw: str | None = None  # while suspended: the file that its guest waits for before it listens again
