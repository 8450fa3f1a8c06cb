"""The orchestrator of one machine: a host in this process."""

from collections.abc import Sequence

from squib.contracts.errors import Unsupported
from squib.contracts.machine import Machine, MachinePhase
from squib.contracts.sandbox import Sandbox, SandboxPhase, SandboxSpec
from squib.host import Host


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
        alive = machine.phase is MachinePhase.CLAIMED and await self._host.alive(machine)
        return self._sandbox(machine, SandboxPhase.READY if alive else SandboxPhase.LOST)

    async def delete(self, sandbox_id: str) -> None:
        """Remove it and all that it holds; an unknown id is fine."""
        await self._host.delete(sandbox_id)

    async def list(self) -> list[Sandbox]:
        """All claimed machines; `ready` here says only that they have not been asked to go."""
        return [self._sandbox(machine, SandboxPhase.READY) for machine in await self._host.list()]

    async def suspend(self, sandbox_id: str) -> bool:
        """Never, as yet."""
        return False

    async def resume(self, sandbox_id: str) -> Sandbox | None:
        """As it is: nothing is suspended."""
        return await self.get(sandbox_id)

    async def fork(self, sandbox_id: str, specs: Sequence[SandboxSpec]) -> Sequence[Sandbox]:
        """Never, as yet."""
        raise Unsupported(f"{sandbox_id} can't be forked here")

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
