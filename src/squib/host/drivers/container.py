"""Machines of containers by Podman or Docker: the host's kernel, no network, no capability, a system call filter.

The engine must run on this very kernel, since machines are reached by sockets in directories that they share with the
host: on a Mac, squib belongs into the engine's own Linux machine.
"""

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from squib.contracts.errors import DriverUnavailable, InfrastructureError, SquibError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Capability, Isolation, Machine, MachineSpec
from squib.host import cgroups, interpreters, limits, machines, processes, recall, records
from squib.host.cgroups import Limits
from squib.host.drivers import (
    container_engine,
    container_options,
    container_outfit,
    container_root,
    gvisor_runsc,
    sandbox,
    trial,
)
from squib.host.drivers.base import Frozen
from squib.host.drivers.container_engine import Engine
from squib.host.drivers.trial import Trial
from squib.host.ground import Ground, console_tail
from squib.host.layout import MachineDir

log = structlog.get_logger(__name__)
BOOT_SECONDS = 30.0
_ADVICE = (
    (r"neither Podman nor", "Install Podman (apt-get install podman runc), or Docker."),
    (r"[Pp]ermission denied.*docker.*sock|connect to the Docker daemon", "Start Docker, and join the group docker."),
    (
        r"newuidmap|subuid|insufficient UIDs|potentially insufficient",
        "Give this user subordinate ids: apt-get install"
        " uidmap, and usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER.",
    ),
    (r"another kernel", "Start squib where the engine is: on a Mac, in its Linux machine (podman machine ssh)."),
    (r"unknown flag", "Install Podman 4.3 or newer."),
    (r"cgroup", "Install runc (apt-get install runc): crun knows no mixed control groups."),
    (r"ython", interpreters.ADVICE),
)
_OTHERWISE = "That is the engine's own answer: look there for the cause."


class ContainerDriver:
    """Isolation `namespace`. The guest is process 1 of its container: with it, all inside ends."""

    name = "container"

    def __init__(self, ground: Ground):
        self._ground = ground
        self._engine: Engine | None = None
        self._python = ""
        self._swept = False
        self._looking = asyncio.Lock()

    async def probe(self) -> Capability:
        """Boot a container as a machine's, by each engine in turn, and remember the first that is confined."""
        began = time.perf_counter()
        try:
            async with self._looking:
                engine, version = await self._find_out()
        except SquibError as error:
            return Capability(self.name, False, Isolation.NAMESPACE, error.detail, error.advice)
        boot_ms = (time.perf_counter() - began) * 1000
        known = [self._python, version, boot_ms, engine.saved().decode()]
        recall.remember(self._ground.state, self.name, self._key(), known)
        return self._capability(engine, version, boot_ms)

    def recall(self) -> Capability | None:
        """What an earlier probe of these very programs on this kernel found, if it worked."""
        known = recall.recall(self._ground.state, self.name, self._key())
        if known is None:
            return None
        self._python, version, boot_ms, saved = known
        self._engine = Engine.load(saved.encode())
        return self._capability(self._engine, version, boot_ms)

    async def create(
        self, spec: MachineSpec, directory: Path, config: GuestConfig, frozen: Frozen | None = None
    ) -> Machine:
        """Start the container and the guest in it; see the protocol."""
        if frozen is not None:
            raise DriverUnavailable("containers are not frozen, so that none can go on")
        engine = await self._known()
        await self._sweep(engine)
        command = container_outfit.program(engine, sandbox.GUEST, "serve", "--config", f"{sandbox.CONFIG}/guest.json")
        guest = (spec.python or self._python, *interpreters.FLAGS, *command)
        async with machines.holding(self._ground, self.name, spec, directory) as draft:
            machines.write_config(MachineDir(directory), config)
            return await self._boot(engine, draft, config, limits.counted(self._ground, spec, guest))

    async def alive(self, machine: Machine) -> bool:
        """Whether the container's first process runs."""
        return processes.running(machine.pid, machine.pid_start)

    async def destroy(self, machine: Machine) -> None:
        """End the container, have its engine forget it, and give back what it held."""
        try:
            with contextlib.suppress(OSError, ValueError):  # without that file, no engine was asked for it
                engine = Engine.load(_engine_file(machine).read_bytes())
                await engine.remove(machine.id)
        finally:  # its processes end, whatever has become of the engine
            await container_outfit.take_back(self._ground, machine)

    def bounds(self, spec: MachineSpec) -> Limits:
        """What was asked for: beside the guest there is only Podman's watcher, which is small. gVisor needs more."""
        return container_outfit.bounds(self._engine, spec)

    def workspace(self, machine: Machine) -> Path | None:
        """The directory that is bound at /workspace."""
        return MachineDir(Path(machine.directory)).workspace

    def _capability(self, engine: Engine, version: str, boot_ms: float) -> Capability:
        claims = limits.claims(self._ground)
        if not engine.is_podman and not engine.grouped:
            claims = (*(f"{c}: by docker" for c in cgroups.CONTROLLERS), claims[-1])  # the last is the disk's
        if engine.is_gvisor:
            claims = tuple("pids: RLIMIT_NPROC" if claim.startswith("pids:") else claim for claim in claims)
        return Capability(
            self.name,
            True,
            Isolation.USERSPACE_KERNEL if engine.is_gvisor else Isolation.NAMESPACE,
            version=version,
            own_kernel=engine.is_gvisor,
            limits=claims,
            boot_ms=boot_ms,
            lacks=gvisor_runsc.LACKS if engine.is_gvisor else (),
        )

    async def _known(self) -> Engine:
        """The engine that works here, looked for once. Raises DriverUnavailable."""
        async with self._looking:
            if self._engine is None and self.recall() is None:
                await self._find_out()
        assert self._engine is not None
        return self._engine

    async def _find_out(self) -> tuple[Engine, str]:
        """Find an engine that boots a confined container. Gives its version too. Raises DriverUnavailable."""
        trial.system_call_filter()  # the engines' own libraries need what it needs
        troubles = []
        for candidate in container_engine.find(self._ground):
            try:
                engines = await container_engine.look(candidate)
            except InfrastructureError as error:
                troubles.append(f"{candidate}: {error.detail}")
                continue
            for engine in engines:
                try:
                    self._python = await self._trial(engine).find_python()
                    version = await engine.version()
                except InfrastructureError as error:
                    troubles.append(f"{engine}: {error.detail}")
                else:
                    self._engine = engine
                    return engine, version
        trouble = "; ".join(troubles) or "neither Podman nor Docker is installed"
        advice = trial.advise(trouble, _ADVICE, _OTHERWISE)
        raise DriverUnavailable(f"no container boots: {trouble}", advice=advice)

    def _trial(self, engine: Engine) -> Trial:
        boot = functools.partial(self._boot, engine)
        usual = Trial(self._ground, self.name, boot, self.destroy, BOOT_SECONDS, engine.output)
        if not engine.is_gvisor:
            return usual
        program = container_outfit.program(engine, f"{sandbox.CONFIG}/check.py")
        return replace(usual, confined=trial.confined_by_gvisor, program=program)

    async def _boot(self, engine: Engine, draft: Machine, config: GuestConfig, argv: Sequence[str]) -> Machine:
        """Have the engine start the container, and learn the pid of its first process here outside."""
        place = MachineDir(Path(draft.directory))
        _engine_file(draft).write_bytes(engine.saved())
        records.save(draft)  # its name is its id: that is enough to find whatever comes of it
        try:
            container = await container_outfit.prepare(self._ground, engine, draft, config)
            command = container_options.arguments(engine, container, os.geteuid(), argv)
            with machines.opened_console(place) as console:
                started = await engine.start(command, console)
            if not started:
                detail = console_tail(place.root) or "it said nothing"
                raise InfrastructureError(f"{engine.kind} did not start the container: {detail}")
            pid = await engine.pid(draft.id, container.pid_file)
            if pid and engine.is_podman and draft.uid is not None:
                _map_project_ids(pid)
        except BaseException:
            await asyncio.shield(self._undo(engine, draft))
            raise
        machine = replace(draft, pid=pid, pid_start=processes.start_time(pid) if pid else None)
        records.save(machine)
        return machine

    async def _undo(self, engine: Engine, draft: Machine) -> None:
        try:
            await engine.remove(draft.id)
            await container_outfit.take_back(self._ground, draft)
        except InfrastructureError as error:
            log.error("a container can't be removed yet", machine=draft.id, error=error.detail)

    async def _sweep(self, engine: Engine) -> None:
        """Once: remove containers of ours whose machine has no directory any more, and images' old skeletons."""
        if self._swept:
            return
        self._swept = True
        try:
            names = await engine.named(f"squib.host={self._ground.groups.name}")
            known = {place.id for place in self._ground.state.found()}  # looked at last: a directory comes first
            for name in names:
                if name not in known:
                    await engine.remove(name)
                    log.info("removed a container without a machine", machine=name)
            for name in await asyncio.to_thread(container_root.sweep, self._ground.state):
                await engine.forget(name)
        except (InfrastructureError, OSError) as error:
            log.warning("what earlier machines left can't be removed", engine=str(engine), error=str(error))

    def _key(self) -> list[str]:
        """Names all that the outcome of a probe depends on."""
        programs = [*container_engine.programs(), *interpreters.candidates(self._ground.python)]
        return [
            *recall.kernel(),
            *(recall.fingerprint(Path(path)) for path in programs),
            *(
                f"{name}={value}"
                for name, value in container_engine.environment().items()
                if name.startswith("DOCKER")
            ),
            str(self._ground.python),
            str(os.geteuid()),
        ]


def _map_project_ids(pid: int) -> None:
    """Say who is who of project ids, which anyone inside could do instead, and which can be said once: nobody is."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has ended by now
        Path(f"/proc/{pid}/projid_map").write_text(f"{container_root.SETTER} {container_root.SETTER} 1")


def _engine_file(machine: Machine) -> Path:
    """Where it is kept by which engine the machine was made."""
    return Path(machine.directory) / "engine.json"
