"""Ready machines that wait to be claimed, and their refill, which never makes a claim wait."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from squib.contracts.errors import SquibError
from squib.contracts.machine import Machine, MachinePhase
from squib.contracts.task import SandboxRequest
from squib.host import cgroups
from squib.host.fleet import Fleet
from squib.host.making import Order

log = structlog.get_logger(__name__)
#: After a claim the machine's two or three cores belong to the claimed guest's first work, not to a new boot.
SETTLE_SECONDS, SETTLE_TIMES = 0.2, 5  # while claims keep coming, at most so many times
FIRST_BACKOFF, LONGEST_BACKOFF = 1.0, 30.0
AT_ONCE = 2
LOOK_SECONDS = 5.0
#: Of a kind that is not the usual one, so many wait at most, for so long after it was last asked for.
DEMANDED, DEMAND_SECONDS = 2, 600.0


@dataclass(slots=True)
class Wish:
    """Machines of one kind that are to wait."""

    order: Order
    count: int
    until: float = math.inf  # by time.monotonic()

    def meets(self, machine: Machine) -> bool:
        """Whether the machine is of this kind: where its measure is fixed, also of that."""
        order, spec = self.order, machine.spec
        same = (spec.cpu, spec.memory) == (order.request.cpu, order.request.memory)
        kind = (machine.driver, spec.image) == (order.driver.name, order.base.image)
        return kind and (same or not order.capability.fixed)


class Pool:
    """Keeps `size` machines in phase READY of the usual kind, and a few of those that tasks ask for."""

    def __init__(self, fleet: Fleet, size: int):
        self._fleet = fleet
        self._size = size
        self._demand: list[Wish] = []
        self._wanted = asyncio.Event()

    async def take(self, order: Order) -> Machine | None:
        """The oldest that lives and can be made to fit, its limits set; None where there is none."""
        self._note(order)
        for machine in self._fleet.in_phase(MachinePhase.READY):
            if self._fits(machine, order) and self._fleet.lack([order.request], {machine.id}, new=False) is None:
                self._wanted.set()
                if (taken := await self._try(machine, order)) is not None:
                    return taken
        return None

    def spare(self) -> Machine | None:
        """The one that a full host can best do without: not of the usual kind, if there is such a one."""
        ready, usual = self._fleet.in_phase(MachinePhase.READY), self._usual()
        others = [m for m in ready if not any(wish.meets(m) for wish in usual)]
        return next(iter((*others, *ready)), None)

    async def run(self) -> None:
        """Refill until cancelled."""
        backoff = FIRST_BACKOFF
        while True:
            self._wanted.clear()
            wishes = self._wishes()
            await self._fleet.destroy_all(self._surplus(wishes))
            missing = self._missing(wishes)
            if not missing:
                await self._wait(LOOK_SECONDS)
            elif await self._fill(missing):
                backoff = FIRST_BACKOFF
            else:
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LONGEST_BACKOFF)

    def _usual(self) -> list[Wish]:
        """What tasks get that ask for nothing: resolved anew, since an image's name may come to mean another."""
        driver, capability = self._fleet.drivers.usual
        try:
            base = self._fleet.ground.bases.default
        except SquibError as error:
            log.error("the pool can't be filled", error=str(error))
            return []
        if base.is_host and capability.needs_image:
            return []
        return [Wish(Order(driver, capability, base, SandboxRequest()), self._size)]

    def _note(self, order: Order) -> None:
        """Remember that such a machine was asked for: the next one may wait."""
        if order.request.disk > SandboxRequest().disk:
            return  # no machine that waits has so much
        most = min(DEMANDED, self._size)
        usual, request = SandboxRequest(), order.request
        measure = replace(usual, cpu=request.cpu, memory=request.memory) if order.capability.fixed else usual
        noted = Wish(replace(order, request=measure), 1, time.monotonic() + DEMAND_SECONDS)
        for wish in self._demand:
            if _alike(wish, noted):
                wish.count, wish.until = min(wish.count + 1, most), noted.until
                break
        else:
            self._demand.append(noted)
        self._wanted.set()

    def _wishes(self) -> list[Wish]:
        """All kinds that are to wait, the usual one first."""
        now, usual = time.monotonic(), self._usual()
        self._demand = [wish for wish in self._demand if wish.until > now and self._size > 0]
        return usual + [wish for wish in self._demand if not any(_alike(wish, other) for other in usual)]

    def _surplus(self, wishes: Sequence[Wish]) -> list[str]:
        """Those that nobody wants any more, or not so many of."""
        left = {id(wish): wish.count for wish in wishes}
        surplus = []
        for machine in self._fleet.in_phase(MachinePhase.READY):
            wish = next((w for w in wishes if w.meets(machine)), None)
            if wish is None or left[id(wish)] <= 0:
                surplus.append(machine.id)
            else:
                left[id(wish)] -= 1
        return surplus

    def _missing(self, wishes: Sequence[Wish]) -> list[Order]:
        """What to make next: a few at a time, the usual kind before others."""
        ready = self._fleet.in_phase(MachinePhase.READY)
        missing = [
            wish.order for wish in wishes for _ in range(wish.count - sum(wish.meets(machine) for machine in ready))
        ]
        count = min(AT_ONCE, len(missing))
        while count and self._fleet.lack([order.request for order in missing[:count]]) is not None:
            count -= 1
        return missing[:count]

    async def _try(self, machine: Machine, order: Order) -> Machine | None:
        """Take it out of the pool before anything is awaited, so that no other claim does; a dead one is reaped."""
        self._fleet.machines[machine.id] = replace(machine, phase=MachinePhase.CLAIMED)
        adjusted = None
        try:
            if await self._fleet.alive(machine):
                adjusted = _adjusted(machine, order)
        except OSError as error:
            log.warning("a pooled machine's limits can't be changed", machine=machine.id, error=str(error))
        finally:
            if adjusted is None:
                self._fleet.machines[machine.id] = replace(machine, phase=MachinePhase.DELETING)
        return adjusted

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

    async def _fill(self, orders: Sequence[Order]) -> bool:
        return all(await asyncio.gather(*(self._make(order) for order in orders)))

    async def _make(self, order: Order) -> bool:
        try:
            machine = await self._fleet.create(order, yielding=True)
            self._fleet.keep(replace(machine, phase=MachinePhase.READY))
        except Exception as error:
            log.error("the pool can't be filled", driver=order.driver.name, image=order.base.name, error=str(error))
            self._demand = [wish for wish in self._demand if wish.order != order]
            return False
        return True

    def _fits(self, machine: Machine, order: Order) -> bool:
        spec, request = machine.spec, order.request
        same = (spec.cpu, spec.memory) == (request.cpu, request.memory)
        grouped = {"cpu", "memory"} <= self._fleet.ground.groups.controllers.keys() and bool(machine.cgroups)
        adjustable = grouped and not order.capability.fixed
        kind = (machine.driver, spec.image) == (order.driver.name, order.base.image)
        return kind and (same or adjustable) and request.disk <= spec.disk


def _alike(one: Wish, other: Wish) -> bool:
    return _kind(one.order) == _kind(other.order)


def _kind(order: Order) -> tuple[str, str, float, int]:
    return order.driver.name, order.base.image, order.request.cpu, order.request.memory


def _adjusted(machine: Machine, order: Order) -> Machine:
    request = order.request
    spec = replace(machine.spec, cpu=request.cpu, memory=request.memory, disk=request.disk)
    if (spec.cpu, spec.memory) != (machine.spec.cpu, machine.spec.memory):
        cgroups.limit(machine.cgroups, order.driver.bounds(spec))
    return replace(machine, spec=spec)
