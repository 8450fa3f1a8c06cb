"""The host: one process's machines, from the choice of a driver to the last leftover."""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import structlog

from squib.contracts.errors import Conflict, DriverUnavailable, HostFull, InfrastructureError, SandboxLost
from squib.contracts.host import HostStatus
from squib.contracts.machine import Capability, Isolation, Machine, MachinePhase
from squib.contracts.sandbox import SandboxSpec
from squib.contracts.snapshot import Snapshot
from squib.host import adoption, forking, probes, standing, suspension, uids
from squib.host.admission import Measure
from squib.host.choice import Drivers
from squib.host.config import HostConfig
from squib.host.fleet import Fleet
from squib.host.gate import Gate
from squib.host.ground import Ground
from squib.host.keeper import Keeper
from squib.host.keyed import KeyedLocks
from squib.host.layout import StateDir
from squib.host.making import Order
from squib.host.pool import Pool
from squib.host.snapshots.judge import Judge
from squib.host.snapshots.shelf import Shelf
from squib.host.snapshots.store import Snapshots

log = structlog.get_logger(__name__)
FIRST_LOOK_SECONDS = 5.0
_OF_SANDBOXES = (MachinePhase.CLAIMED, MachinePhase.SUSPENDED)


class Host:
    """Machines for sandboxes. An async context manager: entering adopts what is there, leaving ends it.

    Entering raises DriverUnavailable where no driver boots, NotFound where the image of tasks that name none is not
    there, Conflict where another process uses the state directory,
    and InvalidRequest for settings that can't be. Set `keep_machines` before leaving to let claimed machines run on
    for the next process.
    """

    driver: str
    capability: Capability

    def __init__(self, config: HostConfig, gateway: Gate):
        self._config = replace(config, state_dir=config.state_dir.absolute())
        self._gateway = gateway
        self._stack = contextlib.AsyncExitStack()
        self._claims = KeyedLocks()
        self._fleet: Fleet
        self._pool: Pool
        self._shelf: Shelf
        self.keep_machines = config.keep_machines

    async def __aenter__(self) -> "Host":
        async with contextlib.AsyncExitStack() as stack:
            state = StateDir(self._config.state_dir)
            state.prepare()
            stack.enter_context(_locked(state.lock))
            ground = await probes.ground(self._config)
            stack.callback(self._leave, ground)
            base = ground.bases.default  # named before anything boots, should it not be there
            driver, self.capability = await probes.choose(self._config.driver, ground)
            self.driver = driver.name
            if self.capability.needs_image and base.is_host:
                log.warning("every task must name an image", driver=driver.name)
            drivers = Drivers(ground, driver, self.capability)
            judge = Judge(self._config, ground, drivers.by_name)
            self._shelf = Shelf(Snapshots(self._config.state_dir), judge)
            self._fleet = Fleet(self._config, ground, self._gateway, drivers, self._shelf)
            await adoption.adopt(self._fleet)
            await self._fleet.drivers.meet(self._fleet.machines.values())
            stack.push_async_callback(self._end_machines)
            self._pool = Pool(self._fleet, self._config.pool_size)
            await stack.enter_async_context(self._rounds())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def claim(self, spec: SandboxSpec) -> Machine:
        """The sandbox's machine, ready: the one that it has, one from the pool, or a new one.

        Raises NotFound for an unknown image, DriverUnavailable, HostFull, SandboxLost (made, and died while it
        started) or InfrastructureError.
        """
        async with self._claims.hold(spec.id):
            if (machine := self._fleet.of_sandbox(spec.id)) is not None:
                if machine.phase is not MachinePhase.SUSPENDED:
                    return machine
                if (resumed := await self._resume(machine)) is None:
                    raise SandboxLost(f"{spec.id} could not go on after it was suspended")
                return resumed
            order = await self._order(spec)
            machine = await self._pool.take(order)
            warm = machine is not None
            if machine is None:
                machine = await self._new(order)
            claimed = replace(
                machine,
                phase=MachinePhase.CLAIMED,
                sandbox_id=spec.id,
                task_id=spec.task_id,
                expires_at=time.time() + spec.ttl_seconds,
                warm=warm,
            )
            try:
                return self._fleet.keep(claimed)
            except OSError as error:  # no sandbox's, and no longer the pool's: the reaper's
                self._fleet.machines[machine.id] = replace(machine, phase=MachinePhase.DELETING)
                raise InfrastructureError(f"the machine's record can't be written: {error.strerror}") from error

    async def get(self, sandbox_id: str) -> Machine | None:
        """The sandbox's machine, dead or alive; None where it is unknown or being deleted."""
        machine = self._fleet.of_sandbox(sandbox_id)
        return machine if machine and machine.phase in _OF_SANDBOXES else None

    async def alive(self, machine: Machine) -> bool:
        """Whether the machine's outermost process runs, or it is suspended and can go on."""
        return await self._fleet.alive(machine)

    async def delete(self, sandbox_id: str) -> None:
        """End the sandbox's machine; returns when nothing is left. Idempotent; unknown ids are fine."""
        async with self._claims.hold(sandbox_id):
            if (machine := self._fleet.of_sandbox(sandbox_id)) is not None:
                await self._fleet.destroy(machine.id)

    async def suspend(self, sandbox_id: str) -> bool:
        """Put the sandbox's machine to disk and free its memory. Idempotent.

        False, and it runs on, where its driver can't, an agent is at work, or the disk has no room.
        """
        async with self._claims.hold(sandbox_id):
            machine = self._fleet.of_sandbox(sandbox_id)
            async with self._fleet.undisturbed(machine.id if machine else "") as machine:
                if machine is None or machine.phase is not MachinePhase.CLAIMED:
                    return machine is not None and machine.phase is MachinePhase.SUSPENDED
                return await suspension.suspend(self._fleet, machine)

    async def resume(self, sandbox_id: str) -> Machine | None:
        """Let a suspended sandbox's machine go on; one that runs is given as it is. None: unknown or lost.

        Raises HostFull; it can be tried again.
        """
        async with self._claims.hold(sandbox_id):
            machine = self._fleet.of_sandbox(sandbox_id)
            if machine is not None and machine.phase is MachinePhase.SUSPENDED:
                return await self._resume(machine)
            claimed = machine is not None and machine.phase is MachinePhase.CLAIMED
            return machine if machine is not None and claimed and await self._fleet.alive(machine) else None

    async def fork(self, sandbox_id: str, specs: Sequence[SandboxSpec]) -> list[Machine]:
        """Copies of a sandbox's machine, one for each spec; those that have theirs keep it. All or none are made.

        Raises DriverUnavailable, Conflict while an agent runs there, SandboxLost, HostFull or InfrastructureError.
        """
        async with contextlib.AsyncExitStack() as held:
            for name in sorted({sandbox_id, *(spec.id for spec in specs)}):
                await held.enter_async_context(self._claims.hold(name))
            machine = self._fleet.of_sandbox(sandbox_id)
            if machine is not None and machine.phase is MachinePhase.SUSPENDED:
                machine = await self._resume(machine)
            missing = [spec for spec in specs if self._fleet.of_sandbox(spec.id) is None]
            await self._make_room([machine.spec] * len(missing) if machine else [])
            async with self._fleet.undisturbed(machine.id if machine else "") as machine:
                if machine is None or machine.phase is not MachinePhase.CLAIMED or not await self.alive(machine):
                    raise SandboxLost(f"there is no sandbox {sandbox_id} to copy")
                if missing:
                    await forking.fork(self._fleet, machine, missing)
            return [found for spec in specs if (found := self._fleet.of_sandbox(spec.id)) is not None]

    def status(self) -> HostStatus:
        """What it has to give and what of it is promised. Raises OSError where its disk can't be asked."""
        return standing.status(self._fleet, self.capability)

    def snapshots(self) -> list[Snapshot]:
        """The manifests of those that are here, newest first, whether they can be used or not. Reads the disk."""
        return [stored.snapshot for stored in Snapshots(self._config.state_dir).all() if stored.snapshot is not None]

    async def list(self) -> list[Machine]:
        """The claimed machines, suspended ones included, oldest first."""
        return self._fleet.in_phase(*_OF_SANDBOXES)

    def isolation(self, machine: Machine) -> Isolation:
        """What stands between that machine's guest and this host."""
        return self._fleet.drivers.isolation(machine.driver)

    async def _order(self, spec: SandboxSpec) -> Order:
        """What the sandbox is to be made of. Raises NotFound, ImageError or DriverUnavailable."""
        base = self._fleet.ground.bases.resolve(spec.image)
        driver, capability = await self._fleet.drivers.pick(spec.request.driver)
        if base.is_host and capability.needs_image:
            raise DriverUnavailable(
                f"{driver.name} makes sandboxes of images alone",
                advice="Name an image, or one for all tasks (SQUIB_SANDBOX__IMAGE); 'squib image list' shows them.",
            )
        return Order(driver, capability, base, spec.request)

    async def _new(self, order: Order) -> Machine:
        """A new machine. A host that is full gives up a pooled one that did not fit."""
        await self._make_room([order.request])
        return await self._fleet.create(order)

    async def _resume(self, machine: Machine) -> Machine | None:
        await self._make_room([machine.spec], machine.id)
        if (lack := self._fleet.lack([machine.spec], {machine.id}, new=False)) is not None:
            raise HostFull(lack)
        async with self._fleet.undisturbed(machine.id) as now:
            asleep = now is not None and now.phase is MachinePhase.SUSPENDED
            return await suspension.resume(self._fleet, now) if now is not None and asleep else None

    async def _make_room(self, wanted: Sequence[Measure], *asleep: str) -> None:
        """Pooled machines give way to those that somebody waits for, if that helps. `asleep`: what is to go on."""
        pooled = {machine.id for machine in self._fleet.in_phase(MachinePhase.READY)}
        if self._fleet.lack(wanted, {*pooled, *asleep}, new=not asleep) is not None:
            return
        while (
            self._fleet.lack(wanted, asleep, new=not asleep) is not None and (spare := self._pool.spare()) is not None
        ):
            await self._fleet.destroy(spare.id)

    @contextlib.asynccontextmanager
    async def _rounds(self) -> AsyncIterator[None]:
        """The pool's refill and the keeper's rounds, for as long as the block lasts."""

        async def both() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._shelf.run())
                    group.create_task(self._fill_pool())
                    group.create_task(Keeper(self._fleet).run())
            except Exception:
                log.exception("the host no longer looks after its machines")
                raise

        task = asyncio.create_task(both(), name="squib-host")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _fill_pool(self) -> None:
        """At first the snapshots are verified, if that takes no longer than a boot: then nothing need boot."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                await self._shelf.looked.wait()
        await self._pool.run()

    def _leave(self, ground: Ground) -> None:
        """Let go of what the installation as a whole holds, unless machines run on."""
        ground.children.close()
        if not ground.state.found():
            ground.groups.close()
            if ground.uids:
                uids.give_back(self._config.state_dir, ground.uids.block)

    async def _end_machines(self) -> None:
        kept = set(_OF_SANDBOXES) if self.keep_machines else {MachinePhase.SUSPENDED}  # which hold nothing but disk
        await self._fleet.destroy_all([m.id for m in self._fleet.machines.values() if m.phase not in kept])


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the state directory: the kernel lets go of it when this process dies, however it does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"another squib uses {path.parent}", advice="Stop it, or choose another state directory."
            ) from error
        yield
    finally:
        os.close(descriptor)
