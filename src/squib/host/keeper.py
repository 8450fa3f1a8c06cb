"""What has to happen again and again while a host runs: leases, ends, disks, leftovers."""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import structlog

from squib.contracts.machine import Machine, MachinePhase
from squib.host import adoption, processes, ready, usage
from squib.host.fleet import Fleet
from squib.host.ground import MIB
from squib.host.layout import MachineDir
from squib.host.limits import DISK_SECONDS, MEMORY_SECONDS

log = structlog.get_logger(__name__)
LONGEST_RENEWAL = 360.0
REAP_SECONDS = 2.0
LEFTOVER_SECONDS = 60.0
LEFTOVER_AGE = 300.0  # younger ones may be a probe's, of another process
CONSOLE_BYTES = 1024 * 1024


class Keeper:
    """Runs the rounds over a fleet. A round that fails is logged and comes again."""

    def __init__(self, fleet: Fleet):
        self._fleet = fleet

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_every(self._renewal, self.renew))
            group.create_task(_every(lambda: REAP_SECONDS, self.reap))
            group.create_task(_every(lambda: DISK_SECONDS, self.measure_disk))
            if "memory" not in self._fleet.ground.groups.controllers:
                group.create_task(_every(lambda: MEMORY_SECONDS, self.measure_memory))
            group.create_task(_every(lambda: LEFTOVER_SECONDS, self.sweep))

    def _renewal(self) -> float:
        """A third of the shortest lease: an adopted machine's may be shorter than those of today's settings."""
        leases = [self._fleet.config.lease_seconds, *(m.spec.lease_seconds for m in self._fleet.machines.values())]
        return min((lease for lease in leases if lease > 0), default=LONGEST_RENEWAL) / 3

    async def renew(self) -> None:
        """Ask every guest for its health, which renews its lease; a pooled one that is silent is ended."""
        slots = asyncio.Semaphore(adoption.AT_ONCE)

        async def ask(machine: Machine) -> None:
            async with slots:
                if not await ready.answers(machine, self._fleet.config.key):
                    log.warning("a guest does not answer", machine=machine.id, sandbox=machine.sandbox_id)
                    if self._phase(machine) is MachinePhase.READY:
                        await self._fleet.try_destroy(machine.id)

        async with asyncio.TaskGroup() as group:
            for machine in list(self._fleet.machines.values()):
                if machine.phase not in (MachinePhase.DELETING, MachinePhase.SUSPENDED):
                    group.create_task(ask(machine))

    async def reap(self) -> None:
        """End machines whose time is over, pooled ones that died, and those whose end failed before."""
        now, ending = time.time(), []
        for machine in list(self._fleet.machines.values()):
            expired = machine.expires_at is not None and machine.expires_at <= now
            dead = machine.phase is MachinePhase.READY and not await self._fleet.alive(machine)
            if expired or dead or machine.phase is MachinePhase.DELETING:
                ending.append(machine.id)
            _bound_console(MachineDir(Path(machine.directory)))
        await self._fleet.destroy_all(ending)

    async def measure_disk(self) -> None:
        """End machines that hold more on the disk than they may; a drive of its own can't hold more than its size."""
        for machine in self._fleet.in_phase(MachinePhase.CLAIMED):
            if self._fleet.drivers.of(machine).workspace(machine) is None:
                continue
            if await _disk(machine) <= machine.spec.disk:
                continue
            async with self._fleet.undisturbed(machine.id) as now:  # its frozen memory may have lain there just now
                if now is machine and (used := await _disk(machine)) > machine.spec.disk:
                    await self._end(machine, f"it held {used} MiB on the disk, over its limit of {now.spec.disk} MiB")

    async def measure_memory(self) -> None:
        """End machines that hold more memory than they may, where no control group keeps them from it."""
        for machine in self._fleet.in_phase(MachinePhase.CLAIMED):
            if await self._fleet.alive(machine) and machine.pid is not None:
                limit = self._fleet.drivers.of(machine).bounds(machine.spec).memory // MIB
                pids = processes.tree([machine.pid])
                if processes.most_memory(pids) // MIB > limit and (used := processes.memory(pids) // MIB) > limit:
                    await self._end(machine, f"it held {used} MiB of memory, over its limit of {limit} MiB")

    async def _end(self, machine: Machine, why: str) -> None:
        """End its processes but keep its record, which says why, until it is deleted or its time is over."""
        now = self._fleet.machines.get(machine.id)
        if now is not None and now.phase is MachinePhase.CLAIMED and now.ended is None:
            log.warning("a machine is ended", machine=machine.id, sandbox=machine.sandbox_id, reason=why)
            self._fleet.keep(replace(now, ended=why))
            await self._fleet.drivers.of(machine).destroy(machine)

    async def sweep(self) -> None:
        """Remove old directories and groups that belong to no machine in the books."""
        for place in self._fleet.ground.state.found():
            with contextlib.suppress(FileNotFoundError):
                age = time.time() - place.root.stat().st_ctime
                known = place.id in self._fleet.machines or self._fleet.making(place.id)
                if not known and age > LEFTOVER_AGE and not place.in_use:
                    await self._fleet.undo(place)
        await adoption.remove_orphaned_groups(self._fleet)

    def _phase(self, machine: Machine) -> MachinePhase | None:
        now = self._fleet.machines.get(machine.id)
        return now.phase if now else None


async def _every(seconds: Callable[[], float], work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds())
        try:
            await work()
        except Exception:
            log.exception("a round over the machines failed")


async def _disk(machine: Machine) -> int:
    """MiB that the machine holds on the disk."""
    return await usage.disk(Path(machine.directory), _processes(machine))


def _processes(machine: Machine) -> list[int]:
    """Every process of the machine's, where its user is its own; else what descends from its first."""
    if machine.uid is not None:
        return processes.of_uid(machine.uid)
    return processes.tree([machine.pid]) if machine.pid is not None else []


def _bound_console(place: MachineDir) -> None:
    """Cut what the guest printed: it is written in append mode, so that it goes on from the start."""
    with contextlib.suppress(OSError):
        if place.console.lstat().st_size > CONSOLE_BYTES:
            os.truncate(place.console, 0)
