"""The machines that this host has: made, kept by id, ended. One owner for each step of a machine's life."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from squib.contracts.errors import HostFull, InfrastructureError, SquibError
from squib.contracts.host import Used
from squib.contracts.machine import Machine, MachinePhase, MachineSpec
from squib.host import admission, cgroups, freezing, making, ready, records
from squib.host.admission import Measure
from squib.host.choice import Drivers
from squib.host.config import HostConfig
from squib.host.drivers.base import Driver, Frozen
from squib.host.gate import Gate
from squib.host.ground import Ground
from squib.host.keyed import KeyedLocks
from squib.host.layout import MachineDir
from squib.host.making import Order
from squib.host.removal import remove_tree
from squib.host.snapshots.shelf import Shelf
from squib.host.snapshots.store import Stored

log = structlog.get_logger(__name__)


class Fleet:
    """Machines by id, each of the driver that made it."""

    def __init__(self, config: HostConfig, ground: Ground, gateway: Gate, drivers: Drivers, shelf: Shelf):
        self.config = config
        self.shelf = shelf
        self.ground = ground
        self.gateway = gateway
        self.drivers = drivers
        self.machines: dict[str, Machine] = {}
        self._ends = KeyedLocks()
        self._making: dict[str, MachineSpec] = {}

    def of_sandbox(self, sandbox_id: str) -> Machine | None:
        """The machine that the sandbox claimed."""
        return next((m for m in self.machines.values() if m.sandbox_id == sandbox_id), None)

    def in_phase(self, *phases: MachinePhase) -> list[Machine]:
        """Machines in one of these phases, oldest first."""
        return sorted((m for m in self.machines.values() if m.phase in phases), key=lambda m: m.id)

    def used(self, without: Collection[str] = ()) -> Used:
        """What is promised to the machines that are there or being made, but for those of these ids."""
        there = [m for m in self.machines.values() if m.id not in without and m.id not in self._making]
        running = [m.spec for m in there if m.phase is not MachinePhase.SUSPENDED]
        asleep = [m.spec for m in there if m.phase is MachinePhase.SUSPENDED]
        return admission.used([*running, *self._making.values()], asleep)

    def lack(self, wanted: Sequence[Measure], without: Collection[str] = (), *, new: bool = True) -> str | None:
        """What is missing here for machines of these measures, for a person; None: they fit.

        `without`: the ids of machines that would go, or that are among the wanted. `new`: they need files that are
        not there yet.
        """
        if new and wanted and (free := admission.free_disk(self.ground.state.root)) < admission.SPARE_DISK:
            return f"this host's disk has {free} MiB left"
        return admission.lack(admission.capacity(self.config), self.used(without), wanted)

    @contextlib.contextmanager
    def counting(self, *specs: MachineSpec) -> Iterator[None]:
        """For the length of the block these are being made, and take their room."""
        self._making.update({spec.id: spec for spec in specs})
        try:
            yield
        finally:
            for spec in specs:
                del self._making[spec.id]

    def making(self, machine_id: str) -> bool:
        """Whether that machine is just being made."""
        return machine_id in self._making

    def keep(self, machine: Machine) -> Machine:
        """Take the machine, or its new state, into the books: on disk first."""
        records.save(machine)
        self.machines[machine.id] = machine
        return machine

    async def alive(self, machine: Machine) -> bool:
        """Whether its outermost process runs, or else it is suspended with all that it needs to go on."""
        if machine.phase is MachinePhase.SUSPENDED:
            return MachineDir(Path(machine.directory)).frozen.is_dir()
        return await self.drivers.of(machine).alive(machine)

    async def create(self, order: Order, *, yielding: bool = False) -> Machine:
        """Make a machine and return once its guest answers: the caller must `keep` it, in a phase, before it awaits.

        `yielding`: nobody waits for it, and until it answers it gives way to others' work.

        Raises HostFull, SandboxLost or InfrastructureError.
        """
        if (missing := self.lack([order.request])) is not None:
            raise HostFull(missing)
        if (stored := self.shelf.find(order)) is not None:
            try:
                return await self._begin(order, stored, yielding)
            except HostFull:
                raise
            except (SquibError, OSError) as error:
                self.shelf.failed(stored, str(error))
        return await self._begin(order, None, yielding)

    async def _begin(self, order: Order, stored: Stored | None, yielding: bool) -> Machine:
        """Let a machine boot, or go on from a snapshot."""
        spec = making.spec(order, self.config)
        with self.counting(spec):
            async with self.undone_on_failure(self.ground.state.machine(spec.id)):
                if stored is not None:
                    machine = await self.go_on(spec, order.driver, stored.frozen(order.base), yielding=yielding)
                    return replace(machine, made_with=self.made_with(machine), snapshot=stored.id)
                machine = await self._boot(spec, order.driver, yielding)
                return replace(machine, made_with=self.made_with(machine))

    async def _boot(self, spec: MachineSpec, driver: Driver, yielding: bool) -> Machine:
        directory, config = self.ground.state.machine(spec.id).root, making.guest_config(spec, self.config.key)
        machine = await driver.create(spec, directory, config)
        await self.open_gateway(machine)
        with cgroups.yielding(machine.cgroups, yielding):
            seconds = ready.PATIENT_SECONDS if yielding else ready.READY_SECONDS
            await ready.wait(machine, driver, self.config.key, seconds=seconds)
        return machine

    async def go_on(self, spec: MachineSpec, driver: Driver, frozen: Frozen, *, yielding: bool = False) -> Machine:
        """Let a machine that was frozen go on as the machine of `spec`, whose directory is there.

        Raises HostFull, SandboxLost or InfrastructureError, having ended it; its directory stays.
        """
        directory, config = self.ground.state.machine(spec.id).root, making.guest_config(spec, self.config.key)
        machine = await driver.create(spec, directory, config, frozen)
        try:
            await self.open_gateway(machine)
            with cgroups.yielding(machine.cgroups, yielding):
                seconds = ready.PATIENT_SECONDS if yielding else ready.READY_SECONDS
                await freezing.wake(driver, machine, self.config.key, frozen.spec.id, seconds=seconds)
        except BaseException:
            await asyncio.shield(self._end(machine))
            raise
        return machine

    async def _end(self, machine: Machine) -> None:
        await self.gateway.close(machine.id)
        await self.drivers.of(machine).destroy(machine)

    @contextlib.asynccontextmanager
    async def undisturbed(self, machine_id: str) -> AsyncIterator[Machine | None]:
        """The machine as it is now, if it is; nobody ends it within the block."""
        async with self._ends.hold(machine_id):
            yield self.machines.get(machine_id)

    async def destroy(self, machine_id: str) -> None:
        """End the machine and remove all that it held. Idempotent; two at once end it once."""
        async with self._ends.hold(machine_id):
            if (machine := self.machines.get(machine_id)) is None:
                return
            if machine.phase is not MachinePhase.DELETING:
                with contextlib.suppress(OSError):
                    self.keep(replace(machine, phase=MachinePhase.DELETING))
            await _whole(self.remove(machine))
            del self.machines[machine_id]

    async def remove(self, machine: Machine) -> None:
        """End what a record tells of, and its directory: also of a machine that is not in the books."""
        if self.ground.uids:
            self.ground.uids.unpin(machine.id)
        await self._end(machine)
        await asyncio.to_thread(remove_tree, Path(machine.directory))

    async def destroy_all(self, machine_ids: Iterable[str], *, at_once: int = 8) -> None:
        """End these, a few at a time; a failure is logged and left to the next look."""
        slots = asyncio.Semaphore(at_once)

        async def end(machine_id: str) -> None:
            async with slots:
                await self.try_destroy(machine_id)

        async with asyncio.TaskGroup() as group:
            for machine_id in machine_ids:
                group.create_task(end(machine_id))

    async def try_destroy(self, machine_id: str) -> None:
        """`destroy`, a failure logged: the reaper comes again."""
        try:
            await self.destroy(machine_id)
        except Exception as error:
            log.error("a machine can't be ended yet", machine=machine_id, error=str(error))

    async def open_gateway(self, machine: Machine) -> None:
        """Let the machine's own gateway listen. Raises InfrastructureError."""
        place = self.ground.state.machine(machine.id)
        try:
            await _whole(self.gateway.open(machine.id, place.gateway_socket, machine.uid))
        except OSError as error:
            raise InfrastructureError(f"the gateway can't listen for {machine.id}: {error}") from error

    @contextlib.asynccontextmanager
    async def undone_on_failure(self, place: MachineDir) -> AsyncIterator[None]:
        """Make the directory; if the block fails, end what was begun there, and remove it."""
        place.root.mkdir(mode=0o711)
        try:
            yield
        except BaseException:
            await asyncio.shield(self.undo(place))
            raise

    async def undo(self, place: MachineDir) -> None:
        """End what was begun: by its record where there is one."""
        machine = records.load(place.root)
        if machine is not None:
            await self.remove(machine)
        else:
            await self.gateway.close(place.id)
            await asyncio.to_thread(remove_tree, place.root)

    def made_with(self, machine: Machine) -> str:
        """Names what such a machine would be made with by this process."""
        return making.made_with(self.config, self.ground, machine.driver, machine.spec.image)


async def _whole(work: Coroutine[None, None, None]) -> None:
    """Let it finish also when we are cancelled meanwhile: half of a listening socket could not be closed again, and
    a thread that removes a directory goes on whatever we do."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
