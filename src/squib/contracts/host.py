"""A host's own HTTP API: what crosses it beside sandboxes and snapshots, and where each thing is found.

    GET    /healthz                          the process lives; no token
    GET    /metrics                          Prometheus
    GET    /v1/status                        HostStatus
    GET    /v1/snapshots                     SnapshotList
    GET    /v1/sandboxes                     SandboxList
    PUT    /v1/sandboxes/{id}                SandboxSpec -> Sandbox, once its guest answers; idempotent
    GET    /v1/sandboxes/{id}                Sandbox
    DELETE /v1/sandboxes/{id}                204 once nothing is left; idempotent
    POST   /v1/sandboxes/{id}/suspend        Suspended
    POST   /v1/sandboxes/{id}/resume         Sandbox
    POST   /v1/sandboxes/{id}/fork           ForkRequest -> SandboxList, in the request's order
    *      /v1/sandboxes/{id}/guest/{path}   the guest's own contract, streamed; WebSockets too

All but `/healthz` take a bearer token: the host's, and below `/guest/` the guest's own. Errors are problem documents
(`contracts.errors`). A sandbox's `endpoint` is given as a path, which is relative to the URL of the host.
"""

from dataclasses import dataclass

from squib.contracts.machine import Capability
from squib.contracts.sandbox import Sandbox, SandboxSpec
from squib.contracts.snapshot import Snapshot

MAX_FORKS = 64  # copies that one request may ask for


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a host has to give; None: as much as is asked for."""

    machines: int
    cpu: float | None = None  # cores, over-commitment included
    memory: int | None = None  # MiB
    disk: int | None = None  # MiB


@dataclass(frozen=True, slots=True)
class Used:
    """What is promised of it. A suspended machine takes disk alone, and room for no machine."""

    machines: int = 0
    cpu: float = 0.0
    memory: int = 0  # MiB
    disk: int = 0  # MiB


@dataclass(frozen=True, slots=True)
class PoolCount:
    """Machines of one kind that wait to be claimed."""

    image: str  # its name
    driver: str
    ready: int


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host as it stands."""

    version: str  # of squib
    capability: Capability  # of the driver that makes its usual machines
    capacity: Capacity
    used: Used  # the waiting ones included
    sandboxes: int  # claimed, and running
    suspended: int
    free_disk: int  # MiB, where its state lies
    pools: tuple[PoolCount, ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxList:
    """Sandboxes, oldest first; of a fork, in the order of its request."""

    items: tuple[Sandbox, ...]


@dataclass(frozen=True, slots=True)
class SnapshotList:
    """Snapshots whose manifests can be read, newest first."""

    items: tuple[Snapshot, ...]


@dataclass(frozen=True, slots=True)
class Suspended:
    """Whether the sandbox is on disk now; where not, it runs on."""

    suspended: bool


@dataclass(frozen=True, slots=True)
class ForkRequest:
    """The copies that are wanted of a sandbox."""

    specs: tuple[SandboxSpec, ...]


def guest_path(sandbox_id: str) -> str:
    """Where the sandbox's guest is found, below the URL of the host."""
    return f"/v1/sandboxes/{sandbox_id}/guest"
