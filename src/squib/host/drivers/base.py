"""The driver protocol: what makes machines, pauses, snapshots and removes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Capability, Machine, MachineSpec
from squib.contracts.snapshot import Fabric
from squib.host.cgroups import Limits


@dataclass(frozen=True, slots=True)
class Frozen:
    """Where a frozen machine lies: a snapshot's directory or a suspended machine's."""

    directory: Path
    spec: MachineSpec  # of the machine that was frozen
    thaw: str | None = None  # the file that its guest waits for beside its configuration


class Driver(Protocol):
    """One file a driver; one line in `host/drivers/registry.py`. `tests/conformance` says what all must do."""

    name: str

    async def probe(self) -> Capability:
        """Really boot something small and say what works here, or why not and what to install. Never raises."""

    async def create(
        self, spec: MachineSpec, directory: Path, config: GuestConfig, frozen: Frozen | None = None
    ) -> Machine:
        """Start a machine in `directory`, made by the host, and return at once, its guest still booting.

        With `frozen` it goes on from there instead of booting (only drivers that are Freezing are given one): its
        guest has the frozen machine's identity until the host tells it another by POST /resume. The directory may
        hold the work of the machine that it continues; whatever else a driver leaves there it makes anew.
        The machine must outlive this process. Leaves nothing running when it raises or is cancelled.
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
class Freezing(Protocol):
    """A driver that can write a machine's memory to disk and let others, or itself, go on from there."""

    lets_go: bool  # whether the guest must close what it holds outside before: FreezeRequest.thaw

    async def fabric(self, spec: MachineSpec) -> Fabric:
        """What a machine frozen here needs wherever it goes on. Raises DriverUnavailable."""

    async def freeze(self, machine: Machine, target: Path, *, keep: bool) -> None:
        """Write all that `create` needs to go on below `target`, an empty directory that the host made.

        The guest has been asked to get ready before. With `keep` the machine runs on; without, it has ended when
        this returns, its groups and user given back. Its workspace on the host, if it has one, is not part of it.
        Raises InfrastructureError; the machine may then be lost.
        """


@runtime_checkable
class Recalling(Protocol):
    """A driver whose probe takes long, and which remembers its outcome for this machine."""

    def recall(self) -> Capability | None:
        """What an earlier probe found, if it worked and nothing that it depends on has changed since."""
