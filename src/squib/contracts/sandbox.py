"""Sandboxes: the isolated place that a task gets, as the orchestrator hands it out."""

from dataclasses import dataclass, field
from enum import StrEnum

from squib.contracts.task import SandboxRequest


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What the scheduler asks for. The id is minted by the scheduler, so that asking twice makes one."""

    id: str
    task_id: str
    request: SandboxRequest = field(default_factory=SandboxRequest)
    image: str | None = None  # a name or digest; None: the host's default
    agent: str | None = None  # whose gateway route the sandbox needs
    ttl_seconds: float = 7200.0  # the host ends it then, whoever is alive


class SandboxPhase(StrEnum):
    """Where a sandbox stands."""

    PENDING = "pending"
    READY = "ready"
    SUSPENDED = "suspended"  # on disk, without memory: `resume` before anything is asked of its guest
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox as it is. `endpoint` is enough, with the installation's key, to reach its guest."""

    id: str
    task_id: str
    phase: SandboxPhase
    machine_id: str
    driver: str
    isolation: str  # the lower-case name of an Isolation
    endpoint: str  # unix:PATH, or an http(s) URL of the host's proxy
    warm: bool = False  # claimed from a pool
    image: str = "host"  # the name of the image that it is made of
    snapshot: str | None = None  # that its machine was restored from
    detail: str | None = None  # why the host ended it, where it did
