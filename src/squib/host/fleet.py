"""The machines that this host has: made, kept by id, ended. One owner for each step of a machine's life."""

import asyncio
import contextlib
import functools
import hashlib
import json
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import replace
from pathlib import Path

import structlog

from squib.contracts import ids
from squib.contracts.errors import HostFull, InfrastructureError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Machine, MachinePhase, MachineSpec
from squib.contracts.task import SandboxRequest
from squib.host import ready, records
from squib.host.config import HostConfig
from squib.host.drivers import registry
from squib.host.drivers.base import Driver
from squib.host.gate import Gate
from squib.host.ground import Ground
from squib.host.keyed import KeyedLocks
from squib.host.layout import MachineDir
from squib.host.removal import remove_tree
from squib.link import guest_token, token_digest

log = structlog.get_logger(__name__)


class Fleet:
    """Machines by id. New ones come from `driver`; old ones may be another driver's and are ended by that."""

    def __init__(self, config: HostConfig, ground: Ground, gateway: Gate, driver: Driver):
        self.config = config
        self.ground = ground
        self.gateway = gateway
        self.driver = driver
        self.machines: dict[str, Machine] = {}
        self._drivers: dict[str, Driver] = {driver.name: driver}
        self._ends = KeyedLocks()
        self._making: set[str] = set()

    def driver_of(self, machine: Machine) -> Driver:
        """The driver that made it."""
        if machine.driver not in self._drivers:
            self._drivers[machine.driver] = registry.make(machine.driver, self.ground)
        return self._drivers[machine.driver]

    def of_sandbox(self, sandbox_id: str) -> Machine | None:
        """The machine that the sandbox claimed."""
        return next((m for m in self.machines.values() if m.sandbox_id == sandbox_id), None)

    def in_phase(self, phase: MachinePhase) -> list[Machine]:
        """Machines in that phase, oldest first."""
        return sorted((m for m in self.machines.values() if m.phase is phase), key=lambda m: m.id)

    @property
    def room(self) -> int:
        """How many more machines fit."""
        return self.config.max_machines - len(self.machines) - len(self._making)

    def making(self, machine_id: str) -> bool:
        """Whether that machine is just being made."""
        return machine_id in self._making

    def keep(self, machine: Machine) -> Machine:
        """Take the machine, or its new state, into the books: on disk first."""
        records.save(machine)
        self.machines[machine.id] = machine
        return machine

    async def alive(self, machine: Machine) -> bool:
        """Whether its outermost process runs."""
        return await self.driver_of(machine).alive(machine)

    async def create(self, request: SandboxRequest) -> Machine:
        """Make a machine and return once its guest answers: the caller must `keep` it, in a phase, before it awaits.

        Raises HostFull, SandboxLost or InfrastructureError.
        """
        if self.room <= 0:
            raise HostFull(f"this host has its {self.config.max_machines} machines")
        spec = self._spec(request)
        place = self.ground.state.machine(spec.id)
        self._making.add(spec.id)
        try:
            async with self._undone_on_failure(place):
                machine = await self.driver.create(spec, place.root, self._guest_config(spec))
                await self._open_gateway(machine)
                await ready.wait(machine, self.driver, self.config.key)
                return replace(machine, made_with=self.made_with)
        finally:
            self._making.discard(spec.id)

    async def destroy(self, machine_id: str) -> None:
        """End the machine and remove all that it held. Idempotent; two at once end it once."""
        async with self._ends.hold(machine_id):
            if (machine := self.machines.get(machine_id)) is None:
                return
            if machine.phase is not MachinePhase.DELETING:
                with contextlib.suppress(OSError):
                    self.keep(replace(machine, phase=MachinePhase.DELETING))
            await self.remove(machine)
            del self.machines[machine_id]

    async def remove(self, machine: Machine) -> None:
        """End what a record tells of, and its directory: also of a machine that is not in the books."""
        await self.gateway.close(machine.id)
        await self.driver_of(machine).destroy(machine)
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

    async def _open_gateway(self, machine: Machine) -> None:
        place = self.ground.state.machine(machine.id)
        try:
            await _whole(self.gateway.open(machine.id, place.gateway_socket, machine.uid))
        except OSError as error:
            raise InfrastructureError(f"the gateway can't listen for {machine.id}: {error}") from error

    @contextlib.asynccontextmanager
    async def _undone_on_failure(self, place: MachineDir) -> AsyncIterator[None]:
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

    @functools.cached_property
    def made_with(self) -> str:
        """Names all that a machine has from this process: the guest's build and the settings that it is made with."""
        config, ground = self.config, self.ground
        agents = {name: dict(options) for name, options in config.agents.items()}
        parts = (self.driver.name, ground.guest.name, agents, config.lease_seconds, config.guest_python)
        places = (str(config.tools), str(config.rootfs))
        return hashlib.sha256(json.dumps([parts, places], sort_keys=True).encode()).hexdigest()[:16]

    def _spec(self, request: SandboxRequest) -> MachineSpec:
        return MachineSpec(
            id=ids.new_id("mch"),
            image=str(self.config.rootfs) if self.config.rootfs else "host",
            cpu=request.cpu,
            memory=request.memory,
            disk=request.disk,
            agents={name: dict(options) for name, options in self.config.agents.items()},
            lease_seconds=self.config.lease_seconds,
        )

    def _guest_config(self, spec: MachineSpec) -> GuestConfig:
        return GuestConfig(
            sandbox_id=spec.id,
            token_sha256=token_digest(guest_token(self.config.key, spec.id)),
            listen="unix:/run/squib/guest/guest.sock",
            gateway="unix:/run/squib/gateway/gateway.sock",
            lease_seconds=spec.lease_seconds,
            agents=spec.agents,
        )


async def _whole(work: Coroutine[None, None, None]) -> None:
    """Let it finish also when we are cancelled meanwhile: half of a listening socket could not be closed again."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
