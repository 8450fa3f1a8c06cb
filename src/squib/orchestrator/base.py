"""The orchestrator protocol: sandboxes by id, wherever they run. It never runs a command in one."""

from collections.abc import Sequence
from typing import Protocol

from squib.contracts.sandbox import Sandbox, SandboxSpec


class Orchestrator(Protocol):
    """`local` holds a host in this process; `kubernetes` (later) writes custom resources."""

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Make the sandbox, or find the one of this id, and return it once its guest answers.

        Raises DriverUnavailable, HostFull, SandboxLost (it was made and died) or InfrastructureError.
        """

    async def get(self, sandbox_id: str) -> Sandbox | None:
        """The sandbox if it is there; `phase` is `lost` where its machine has died. None where unknown."""

    async def delete(self, sandbox_id: str) -> None:
        """Remove it and all that it holds. Idempotent: unknown ids are fine."""

    async def list(self) -> list[Sandbox]:
        """All that exist, for the sweep that removes those of ended tasks."""

    async def suspend(self, sandbox_id: str) -> bool:
        """Put it to disk and free its memory. False, and it runs on, where that can't be done here. Idempotent."""

    async def resume(self, sandbox_id: str) -> Sandbox | None:
        """Let a suspended sandbox go on where it was; one that runs is given as it is. None: unknown or lost."""

    async def fork(self, sandbox_id: str, specs: Sequence[SandboxSpec]) -> Sequence[Sandbox]:
        """Copies of a ready sandbox, work and all, each a stranger to the others; the first goes on undisturbed.

        Raises DriverUnavailable where it can't be done here, HostFull, SandboxLost or InfrastructureError.
        """
