"""The driver protocol: what makes machines, pauses, snapshots and removes them."""

from pathlib import Path
from typing import Protocol, runtime_checkable

from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Capability, Machine, MachineSpec
from squib.host.cgroups import Limits


class Driver(Protocol):
    """One file a driver; one line in `host/drivers/registry.py`. `tests/conformance` says what all must do."""

    name: str

    async def probe(self) -> Capability:
        """Really boot something small and say what works here, or why not and what to install. Never raises."""

    async def create(self, spec: MachineSpec, directory: Path, config: GuestConfig) -> Machine:
        """Start a machine in `directory` (empty, made by the host) and return at once, its guest still booting.

        The machine must outlive this process. Leaves nothing behind when it raises or is cancelled.
        Raises DriverUnavailable, HostFull or InfrastructureError.
        """

    async def alive(self, machine: Machine) -> bool:
        """Whether the machine's outermost process still runs: the same one, not a reuse of its pid."""

    async def destroy(self, machine: Machine) -> None:
        """End it and remove all that it held but its directory. Idempotent, also for another process's machine."""

    def bounds(self, spec: MachineSpec) -> Limits:
        """What the groups of such a machine allow, with what the driver itself needs; a claim may change it."""

    def workspace(self, machine: Machine) -> Path | None:
        """Where the machine's workspace lies on the host, if anywhere: for removal alone, never read."""


@runtime_checkable
class Recalling(Protocol):
    """A driver whose probe takes long, and which remembers its outcome for this machine."""

    def recall(self) -> Capability | None:
        """What an earlier probe found, if it worked and nothing that it depends on has changed since."""
