"""The drivers of a host: its own, and others that tasks name, each tried by a real boot before its first use."""

import asyncio
import time
from collections.abc import Iterable

import structlog

from squib.contracts.errors import DriverUnavailable
from squib.contracts.machine import Capability, Isolation, Machine
from squib.host import probes
from squib.host.drivers import registry
from squib.host.drivers.base import Driver
from squib.host.ground import Ground

log = structlog.get_logger(__name__)
FAILURE_SECONDS = 60.0  # how long a failed probe counts: somebody may install what was missing


class Drivers:
    """`own` makes the machines of tasks that name no driver; none weaker than it makes any."""

    def __init__(self, ground: Ground, own: Driver, capability: Capability):
        self._ground = ground
        self.own = own
        self._made: dict[str, Driver] = {own.name: own}
        self._found: dict[str, Capability] = {own.name: capability}
        self._failed: dict[str, float] = {}
        self._probing = asyncio.Lock()

    def of(self, machine: Machine) -> Driver:
        """The driver that made it, whatever works here by now. Raises DriverUnavailable where there is none."""
        return self.by_name(machine.driver)

    @property
    def usual(self) -> tuple[Driver, Capability]:
        """The host's own driver."""
        return self.own, self._found[self.own.name]

    def isolation(self, name: str) -> Isolation:
        """How strong that driver is; `NONE` where nobody knows."""
        return self._found[name].isolation if name in self._found else Isolation.NONE

    async def meet(self, machines: Iterable[Machine]) -> None:
        """Learn what their drivers can do, where an earlier process has chosen others."""
        for name in {machine.driver for machine in machines}:
            await self.capability(name)

    async def capability(self, name: str) -> Capability:
        """What probing that driver found, now or earlier. Raises DriverUnavailable for an unknown one."""
        driver = self.by_name(name)
        async with self._probing:
            if name not in self._found or self._stale(name):
                self._found[name] = await probes.probe(driver)
                self._failed.pop(name, None)
                if not self._found[name].works:
                    self._failed[name] = time.monotonic()
                log.info("probed a driver", driver=name, works=self._found[name].works)
            return self._found[name]

    async def pick(self, name: str | None) -> tuple[Driver, Capability]:
        """The driver that a task names, or the host's own. Raises DriverUnavailable, saying why not that one."""
        if name is None or name == self.own.name:
            return self.usual
        capability = await self.capability(name)
        if capability.isolation < self._found[self.own.name].isolation:
            raise DriverUnavailable(
                f"this host's sandboxes are isolated by {self.own.name}: {name} would be weaker",
                advice="Leave the driver out, or start squib with the one that you need (SQUIB_SANDBOX__DRIVER).",
            )
        if not capability.works:
            raise DriverUnavailable(f"{name} does not work here: {capability.why_not}", advice=capability.advice)
        return self._made[name], capability

    def by_name(self, name: str) -> Driver:
        """That driver, tried or not. Raises DriverUnavailable where there is none."""
        if name not in self._made:
            self._made[name] = registry.make(name, self._ground)
        return self._made[name]

    def _stale(self, name: str) -> bool:
        return name in self._failed and time.monotonic() - self._failed[name] > FAILURE_SECONDS
