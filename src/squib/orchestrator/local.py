"""The orchestrator of one machine: a host in this process."""

from collections.abc import Sequence

from squib.contracts.machine import Machine, MachinePhase
from squib.contracts.sandbox import Sandbox, SandboxPhase, SandboxSpec
from squib.host import Host

_PHASES = {MachinePhase.CLAIMED: SandboxPhase.READY, MachinePhase.SUSPENDED: SandboxPhase.SUSPENDED}


class LocalOrchestrator:
    """Sandboxes are the claimed machines of `host`, whose records on disk are the truth."""

    def __init__(self, host: Host):
        self._host = host

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Claim a machine, or find the one that this id has. Raises as the protocol says."""
        machine = await self._host.claim(spec)
        return self._sandbox(machine, SandboxPhase.READY)

    async def get(self, sandbox_id: str) -> Sandbox | None:
        """Look it up; `lost` where its machine has died or is being removed."""
        machine = await self._host.get(sandbox_id)
        if machine is None:
            return None
        alive = await self._host.alive(machine)
        return self._sandbox(machine, _PHASES.get(machine.phase, SandboxPhase.LOST) if alive else SandboxPhase.LOST)

    async def delete(self, sandbox_id: str) -> None:
        """Remove it and all that it holds; an unknown id is fine."""
        await self._host.delete(sandbox_id)

    async def list(self) -> list[Sandbox]:
        """All that exist; `ready` here says only that they have not been asked to go."""
        machines = await self._host.list()
        return [self._sandbox(machine, _PHASES.get(machine.phase, SandboxPhase.LOST)) for machine in machines]

    async def suspend(self, sandbox_id: str) -> bool:
        """Put its machine to disk, where its driver can."""
        return await self._host.suspend(sandbox_id)

    async def resume(self, sandbox_id: str) -> Sandbox | None:
        """Let its machine go on; None where it is unknown or lost. Raises HostFull."""
        machine = await self._host.resume(sandbox_id)
        return None if machine is None else self._sandbox(machine, SandboxPhase.READY)

    async def fork(self, sandbox_id: str, specs: Sequence[SandboxSpec]) -> Sequence[Sandbox]:
        """Copy its machine. Raises as the protocol says, and Conflict while an agent runs in it."""
        machines = await self._host.fork(sandbox_id, specs)
        return [self._sandbox(machine, SandboxPhase.READY) for machine in machines]

    def _sandbox(self, machine: Machine, phase: SandboxPhase) -> Sandbox:
        return Sandbox(
            id=machine.sandbox_id or "",
            task_id=machine.task_id or "",
            phase=phase,
            machine_id=machine.id,
            driver=machine.driver,
            isolation=self._host.isolation(machine).name.lower(),
            endpoint=machine.endpoint,
            warm=machine.warm,
            image=machine.spec.image_name,
            snapshot=machine.snapshot,
            detail=machine.ended,
        )
