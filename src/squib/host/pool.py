"""Ready machines that wait to be claimed, and their refill, which never makes a claim wait."""

import asyncio
from dataclasses import replace

import structlog

from squib.contracts.machine import Machine, MachinePhase
from squib.contracts.task import SandboxRequest
from squib.host import cgroups
from squib.host.fleet import Fleet

log = structlog.get_logger(__name__)
#: After a claim the machine's two or three cores belong to the claimed guest's first work, not to a new boot.
SETTLE_SECONDS, SETTLE_TIMES = 0.2, 5  # while claims keep coming, at most so many times
FIRST_BACKOFF, LONGEST_BACKOFF = 1.0, 30.0
AT_ONCE = 2
LOOK_SECONDS = 5.0


class Pool:
    """Keeps `size` machines of the usual measure in phase READY."""

    def __init__(self, fleet: Fleet, size: int):
        self._fleet = fleet
        self._size = size
        self._usual = SandboxRequest()
        self._wanted = asyncio.Event()

    async def take(self, request: SandboxRequest) -> Machine | None:
        """The oldest that lives and can be made to fit, its limits set; None where there is none."""
        for machine in self._fleet.in_phase(MachinePhase.READY):
            if machine.driver == self._fleet.driver.name and self._fits(machine, request):
                self._wanted.set()
                if (taken := await self._try(machine, request)) is not None:
                    return taken
        return None

    async def _try(self, machine: Machine, request: SandboxRequest) -> Machine | None:
        """Take it out of the pool before anything is awaited, so that no other claim does; a dead one is reaped."""
        self._fleet.machines[machine.id] = replace(machine, phase=MachinePhase.CLAIMED)
        adjusted = None
        try:
            if await self._fleet.alive(machine):
                adjusted = self._adjusted(machine, request)
        except OSError as error:
            log.warning("a pooled machine's limits can't be changed", machine=machine.id, error=str(error))
        finally:
            if adjusted is None:
                self._fleet.machines[machine.id] = replace(machine, phase=MachinePhase.DELETING)
        return adjusted

    async def run(self) -> None:
        """Refill until cancelled."""
        backoff = FIRST_BACKOFF
        while True:
            self._wanted.clear()
            missing = min(self._size - len(self._fleet.in_phase(MachinePhase.READY)), self._fleet.room, AT_ONCE)
            if missing <= 0:
                await self._wait(LOOK_SECONDS)
            elif await self._fill(missing):
                backoff = FIRST_BACKOFF
            else:
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LONGEST_BACKOFF)

    async def _wait(self, seconds: float) -> None:
        """Until something was taken, or so long; then until claims have paused for a moment, if they do."""
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        except TimeoutError:
            return
        for _ in range(SETTLE_TIMES):
            if self._wanted.is_set():
                self._wanted.clear()
                await asyncio.sleep(SETTLE_SECONDS)

    async def _fill(self, count: int) -> bool:
        results = await asyncio.gather(*(self._make() for _ in range(count)))
        return all(results)

    async def _make(self) -> bool:
        try:
            machine = await self._fleet.create(self._usual)
            self._fleet.keep(replace(machine, phase=MachinePhase.READY))
        except Exception as error:
            log.error("the pool can't be filled", error=str(error))
            return False
        return True

    def _fits(self, machine: Machine, request: SandboxRequest) -> bool:
        spec = machine.spec
        same = (spec.cpu, spec.memory) == (request.cpu, request.memory)
        adjustable = {"cpu", "memory"} <= self._fleet.ground.groups.controllers.keys() and bool(machine.cgroups)
        return (same or adjustable) and request.disk <= spec.disk

    def _adjusted(self, machine: Machine, request: SandboxRequest) -> Machine:
        spec = replace(machine.spec, cpu=request.cpu, memory=request.memory, disk=request.disk)
        if (spec.cpu, spec.memory) != (machine.spec.cpu, machine.spec.memory):
            cgroups.limit(machine.cgroups, self._fleet.driver.bounds(spec))
        return replace(machine, spec=spec)
