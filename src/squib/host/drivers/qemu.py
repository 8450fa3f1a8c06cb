"""Machines with a kernel of their own by QEMU: type microvm, on KVM where that runs a guest, emulated elsewhere.

QEMU runs as the machine's own host user, in the machine's network room, without a right to any file: what it needs it
is handed as descriptors. Freezing is `qemu_freeze`, what a machine consists of `qemu_command`.
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
from squib.host.drivers import qemu_freeze, qemu_probe, qemu_start
from squib.host.drivers.base import Frozen
from squib.host.drivers.qemu_command import PROGRAM, Accelerator
from squib.host.ground import Ground, vacate
from squib.host.layout import MachineDir
from squib.host.vm import kernels
from squib.host.vm.templates import Templates


class QemuDriver:
    """Isolation `virtual machine`. The guest is process 1 of its own kernel; its work is on a drive of its own."""

    name = "qemu"
    lets_go = False

    def __init__(self, ground: Ground):
        self._ground = ground
        self._program = shutil.which(PROGRAM) or ""
        self._templates = Templates()
        self._accelerator: Accelerator | None = None
        self._version = ""

    async def probe(self) -> Capability:
        """Boot the kernel, on KVM and if need be without, and remember the outcome."""
        began = time.perf_counter()
        try:
            found = await qemu_probe.find_out(self._ground, self._program)
        except SquibError as error:
            return Capability(self.name, False, Isolation.VIRTUAL_MACHINE, error.detail, error.advice)
        boot_ms = (time.perf_counter() - began) * 1000
        self._accelerator, self._version = found
        known = [self._accelerator.name, self._accelerator.khz, self._version, boot_ms]
        recall.remember(self._ground.state, self.name, self._key(), known)
        return self._capability(boot_ms)

    def recall(self) -> Capability | None:
        """What an earlier probe of this QEMU and kernel found, if it worked."""
        try:
            known = recall.recall(self._ground.state, self.name, self._key()) if self._program else None
        except SquibError:
            return None
        if known is None:
            return None
        name, khz, self._version, boot_ms = known
        self._accelerator = Accelerator(name, khz)
        return self._capability(boot_ms)

    async def create(
        self, spec: MachineSpec, directory: Path, config: GuestConfig, frozen: Frozen | None = None
    ) -> Machine:
        """Boot a machine, or let a frozen one go on; see the protocol."""
        accelerator = await self._ready()
        start = qemu_start.Start(self._ground, self._program, accelerator)
        async with machines.holding(self._ground, self.name, spec, directory) as draft:
            machines.write_config(MachineDir(directory), qemu_start.inside(config))
            cgroups.limit(draft.cgroups, self.bounds(spec))
            if frozen is None:
                return await start.boot(draft, qemu_start.inside(config))
            return await start.go_on(draft, frozen, self._templates)

    async def alive(self, machine: Machine) -> bool:
        """Whether QEMU runs."""
        return processes.running(machine.pid, machine.pid_start)

    async def destroy(self, machine: Machine) -> None:
        """End QEMU and the relay, and give back what the machine held."""
        await vacate(self._ground, machine)

    def bounds(self, spec: MachineSpec) -> cgroups.Limits:
        """The machine's memory is its kernel's to divide; here it is what QEMU needs on top."""
        return qemu_start.bounds(spec)

    def workspace(self, machine: Machine) -> Path | None:
        """On the machine's drive, which nobody mounts here."""
        return None

    async def fabric(self, spec: MachineSpec) -> Fabric:
        """QEMU's version, the kernel and the processor with its clock: memory is full of what depends on them."""
        accelerator = await self._ready()
        kernel = kernels.get(self._ground.state.root).digest
        return Fabric(self.name, self._version, kernel, qemu_probe.processor(accelerator))

    async def freeze(self, machine: Machine, target: Path, *, keep: bool) -> None:
        """Write memory, state and drive below `target`; see the protocol."""
        await qemu_freeze.freeze(machine, target, keep=keep)
        if not keep:
            await vacate(self._ground, machine)

    async def _ready(self) -> Accelerator:
        """How machines run here, found out if need be. Raises DriverUnavailable."""
        if self._accelerator is None and self.recall() is None:
            found = await self.probe()
            if not found.works:
                raise DriverUnavailable(found.why_not or "no machine boots", advice=found.advice)
        assert self._accelerator is not None
        return self._accelerator

    def _capability(self, boot_ms: float) -> Capability:
        accelerator = self._accelerator
        assert accelerator is not None
        grouped = self._ground.groups.controllers
        limits = ["memory: the machine's own", "pids: RLIMIT_NPROC", "disk: the size of its drive"]
        limits += [
            f"cpu: as many processors, and cgroup v{grouped['cpu']}" if "cpu" in grouped else "cpu: processors"
        ]
        return Capability(
            self.name,
            True,
            Isolation.VIRTUAL_MACHINE,
            version=f"{self._version} ({accelerator.name})",
            snapshot=True,
            fork=True,
            pause=True,
            own_kernel=True,
            needs_image=True,
            fixed=True,
            emulated=accelerator.emulated,
            limits=tuple(limits),
            boot_ms=boot_ms,
            lacks=("hardware virtualisation: the processor is emulated, which takes ten times as long",)
            if accelerator.emulated
            else (),
        )

    def _key(self) -> list[str]:
        """Names all that the outcome of a probe depends on. Raises NotFound or ImageError without a kernel."""
        kernel = kernels.get(self._ground.state.root)
        device = Path("/dev/kvm")
        return [
            *recall.kernel(),
            recall.fingerprint(Path(self._program)),
            kernel.digest,
            str(os.geteuid()),
            f"{device.stat().st_mode:o} {device.stat().st_gid}" if device.exists() else "no KVM",
        ]
