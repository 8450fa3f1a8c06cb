"""Machines with a kernel of their own by Firecracker, each under its jailer: not offered yet.

A machine's monitor has a user, a root directory, a network and control groups of its own, and Firecracker's own
system call filter. What a machine is made of is `firecracker_steps`, where its files lie `firecracker_jail`.
"""

import os
import shutil
import time
from pathlib import Path

from squib.contracts.errors import DriverUnavailable, SquibError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Capability, Isolation, Machine, MachineSpec
from squib.contracts.snapshot import Fabric
from squib.host import cgroups, machines, processes, recall
from squib.host.drivers import firecracker_freeze, firecracker_probe, qemu_start
from squib.host.drivers.base import Frozen
from squib.host.drivers.firecracker_probe import Versions
from squib.host.drivers.firecracker_start import Programs, Start, bounds
from squib.host.ground import Ground, vacate
from squib.host.layout import MachineDir
from squib.host.vm import kernels


class FirecrackerDriver:
    """Isolation `virtual machine`. The guest is process 1 of its own kernel; its work is on a drive of its own."""

    name = "firecracker"
    lets_go = False

    def __init__(self, ground: Ground):
        self._ground = ground
        self._programs = Programs(shutil.which("firecracker") or "", shutil.which("jailer") or "")
        self._start = Start(ground, self._programs)
        self._versions: Versions | None = None

    async def probe(self) -> Capability:
        """Boot the kernel, and remember the outcome."""
        began = time.perf_counter()
        try:
            self._versions = await firecracker_probe.find_out(self._ground, self._programs)
        except SquibError as error:
            return Capability(self.name, False, Isolation.VIRTUAL_MACHINE, error.detail, error.advice)
        boot_ms = (time.perf_counter() - began) * 1000
        known = [self._versions.program, self._versions.format, boot_ms]
        recall.remember(self._ground.state, self.name, self._key(), known)
        return self._capability(boot_ms)

    def recall(self) -> Capability | None:
        """What an earlier probe of this Firecracker and kernel found, if it worked."""
        try:
            known = recall.recall(self._ground.state, self.name, self._key()) if self._programs.firecracker else None
        except SquibError:
            return None
        if known is None:
            return None
        program, format_, boot_ms = known
        self._versions = Versions(program, format_)
        return self._capability(boot_ms)

    async def create(
        self, spec: MachineSpec, directory: Path, config: GuestConfig, frozen: Frozen | None = None
    ) -> Machine:
        """Boot a machine, or let a frozen one go on; see the protocol."""
        await self._ready()
        async with machines.holding(self._ground, self.name, spec, directory) as draft:
            machines.write_config(MachineDir(directory), qemu_start.inside(config))
            cgroups.limit(draft.cgroups, self.bounds(spec))
            if frozen is None:
                return await self._start.boot(draft, qemu_start.inside(config))
            return await self._start.go_on(draft, frozen)

    async def alive(self, machine: Machine) -> bool:
        """Whether Firecracker runs."""
        return processes.running(machine.pid, machine.pid_start)

    async def destroy(self, machine: Machine) -> None:
        """End Firecracker and the relay, and give back what the machine held. Its jail goes with its directory."""
        await vacate(self._ground, machine)

    def bounds(self, spec: MachineSpec) -> cgroups.Limits:
        """The machine's memory is its kernel's to divide; here it is what Firecracker needs on top."""
        return bounds(spec)

    def workspace(self, machine: Machine) -> Path | None:
        """On the machine's drive, which nobody mounts here."""
        return None

    async def fabric(self, spec: MachineSpec) -> Fabric:
        """Firecracker's version and format, the kernel inside, and the processor and kernel of this machine."""
        versions = await self._ready()
        kernel = kernels.get(self._ground.state.root).digest
        return Fabric(self.name, str(versions), kernel, firecracker_probe.processor())

    async def freeze(self, machine: Machine, target: Path, *, keep: bool) -> None:
        """Write memory, state and drive below `target`; see the protocol."""
        await firecracker_freeze.freeze(self._start, machine, target, keep=keep)
        if not keep:
            await vacate(self._ground, machine)

    async def _ready(self) -> Versions:
        """Which Firecracker it is, found out if need be. Raises DriverUnavailable."""
        if self._versions is None and self.recall() is None:
            found = await self.probe()
            if not found.works:
                raise DriverUnavailable(found.why_not or "no machine boots", advice=found.advice)
        assert self._versions is not None
        return self._versions

    def _capability(self, boot_ms: float) -> Capability:
        grouped = self._ground.groups.controllers
        limits = ["memory: the machine's own", "pids: RLIMIT_NPROC in the machine", "disk: the size of its drive"]
        limits += [
            f"cpu: as many processors, and cgroup v{grouped['cpu']}" if "cpu" in grouped else "cpu: processors"
        ]
        return Capability(
            self.name,
            True,
            Isolation.VIRTUAL_MACHINE,
            version=str(self._versions),
            snapshot=True,
            fork=True,
            pause=True,
            own_kernel=True,
            needs_image=True,
            fixed=True,
            limits=tuple(limits),
            boot_ms=boot_ms,
        )

    def _key(self) -> list[str]:
        """Names all that the outcome of a probe depends on. Raises NotFound or ImageError without a kernel."""
        programs = [Path(self._programs.firecracker), Path(self._programs.jailer)]
        kernel = kernels.get(self._ground.state.root)
        return [*recall.kernel(), *map(recall.fingerprint, programs), kernel.digest, str(os.geteuid())]
