"""Machines of gVisor: a kernel of their own in user space, which alone makes system calls of the host.

runsc is started as the machine's own host user in a user namespace where that is user 0, never as the host's root.
All that it holds is in the machine's directory and groups: its state, a private mount namespace, its processes.
"""

import os
from pathlib import Path

from squib.contracts.errors import DriverUnavailable, InfrastructureError, SquibError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Capability, Isolation, Machine, MachineSpec
from squib.contracts.snapshot import Fabric
from squib.host import cgroups, interpreters, machines, processes, recall
from squib.host.drivers import gvisor_bundle, gvisor_frozen, gvisor_probe, gvisor_runsc, gvisor_start, sandbox
from squib.host.drivers.base import Frozen
from squib.host.drivers.gvisor_probe import Found
from squib.host.drivers.gvisor_runsc import Runsc
from squib.host.ground import Ground, vacate
from squib.host.layout import MachineDir
from squib.host.limits import DISK_SECONDS


class GvisorDriver:
    """Isolation `userspace kernel`. The guest is process 1 of gVisor's kernel; no network but its loopback."""

    name = "gvisor"
    lets_go = True  # gVisor can't be frozen with a socket of the host's open, nor go on where files have changed

    def __init__(self, ground: Ground):
        self._ground = ground
        self._runsc = Runsc.find()
        self._found: Found | None = None

    async def probe(self) -> Capability:
        """Boot a machine that looks at what is held against it, freeze it, and remember the outcome."""
        try:
            found = await self._look()
        except SquibError as error:
            return Capability(self.name, False, Isolation.USERSPACE_KERNEL, error.detail, error.advice)
        known = [found.python, found.version, found.boot_ms, found.freezes]
        recall.remember(self._ground.state, self.name, self._key(), known)
        return self._capability(found)

    def recall(self) -> Capability | None:
        """What an earlier probe of these very programs on this kernel found, if it worked."""
        try:
            known = recall.recall(self._ground.state, self.name, self._key()) if self._runsc.path else None
        except SquibError:  # the default image is not there: the probe says so
            return None
        if known is None:
            return None
        self._found = Found(*known)
        return self._capability(self._found)

    async def create(
        self, spec: MachineSpec, directory: Path, config: GuestConfig, frozen: Frozen | None = None
    ) -> Machine:
        """Start gVisor and the guest in it, or let them go on; see the protocol."""
        command = (sandbox.GUEST, "serve", "--config", f"{sandbox.CONFIG}/guest.json")
        argv = gvisor_bundle.arguments(await self._python(spec), *command)
        if frozen is not None:
            self._hold_owner(spec, directory)
        async with machines.holding(self._ground, self.name, spec, directory) as draft:
            beginning = gvisor_start.Beginning(config, argv, self.bounds(spec), frozen)
            return await gvisor_start.start(self._ground, self._runsc, draft, beginning)

    async def alive(self, machine: Machine) -> bool:
        """Whether gVisor's kernel runs."""
        return processes.running(machine.pid, machine.pid_start)

    async def destroy(self, machine: Machine) -> None:
        """End gVisor's kernel, its file server and all that they started, and give back what it held."""
        await vacate(self._ground, machine)

    async def fabric(self, spec: MachineSpec) -> Fabric:
        """gVisor reads its own version's memory alone, on a processor that lacks nothing; see the protocol."""
        version = (await self._known()).version
        cpu = gvisor_frozen.processor(Path("/proc/cpuinfo").read_text())
        return Fabric(self.name, f"runsc {version}", f"gVisor {version}", cpu)

    async def freeze(self, machine: Machine, target: Path, *, keep: bool) -> None:
        """Write its memory below `target`; see the protocol. Where that fails it runs on, if it still does."""
        try:
            await gvisor_frozen.let_go(machine)
            await gvisor_frozen.write(self._runsc, machine, gvisor_start.state(machine), target)
        except InfrastructureError:
            self._thaw(machine)
            raise
        if keep:
            self._thaw(machine)
        else:
            await vacate(self._ground, machine)

    def bounds(self, spec: MachineSpec) -> cgroups.Limits:
        """Its kernel counts too, and dies as a whole at a limit: never less than it needs to live."""
        return gvisor_runsc.bounds(spec)

    def workspace(self, machine: Machine) -> Path | None:
        """The directory that is bound at /workspace."""
        return MachineDir(Path(machine.directory)).workspace

    def _hold_owner(self, spec: MachineSpec, directory: Path) -> None:
        """A machine that goes on in its own directory does so as the user whose files are there.

        Raises InfrastructureError where that is another machine's by now.
        """
        workspace = MachineDir(directory).workspace
        if self._ground.uids is None or not workspace.exists():
            return
        if (uid := workspace.stat().st_uid) == os.geteuid():  # made, and not yet given to anybody
            return
        if self._ground.uids.foreign(uid, spec.id):
            raise InfrastructureError(f"the user {uid}, to whom the work of {spec.id} belongs, is another machine's")
        self._ground.uids.hold(uid, spec.id)

    def _thaw(self, machine: Machine) -> None:
        """Tell its guest to listen again."""
        if machine.thaw is not None:
            gvisor_bundle.leave(MachineDir(Path(machine.directory)).config / machine.thaw, b"")

    def _capability(self, found: Found) -> Capability:
        grouped = self._ground.groups.controllers
        limits = [f"{c}: cgroup v{grouped[c]}" for c in ("memory", "cpu") if c in grouped]
        limits += [
            "pids: RLIMIT_NPROC",
            f"disk: each file by RLIMIT_FSIZE, the whole looked at every {DISK_SECONDS:.0f} s",
        ]
        return Capability(
            self.name,
            True,
            Isolation.USERSPACE_KERNEL,
            version=found.version,
            snapshot=found.freezes,
            fork=found.freezes,
            pause=found.freezes,
            own_kernel=True,
            limits=tuple(limits),
            boot_ms=found.boot_ms,
            lacks=gvisor_runsc.LACKS,
        )

    async def _look(self) -> Found:
        self._found = await gvisor_probe.look(self._ground, self._runsc, self.bounds(MachineSpec("")))
        return self._found

    async def _known(self) -> Found:
        """What works here, looked at once. Raises DriverUnavailable."""
        if self._found is None:
            self.recall()
        return self._found or await self._look()

    async def _python(self, spec: MachineSpec) -> str:
        """What runs the guest in a machine of this image. Raises DriverUnavailable."""
        if spec.python is not None:
            return spec.python
        if spec.image == "host":
            return (await self._known()).python
        found = interpreters.candidates(self._ground.python, Path(spec.image))
        if not found:
            raise DriverUnavailable(f"{spec.image_name} has no Python for the guest", advice=interpreters.ADVICE)
        return found[0]

    def _key(self) -> list[str]:
        """Names all that the outcome of a probe depends on."""
        programs = (self._runsc.path, *interpreters.candidates(self._ground.python))
        return [
            *recall.kernel(),
            *(recall.fingerprint(Path(path)) for path in programs),
            str(self._ground.python),
            self._ground.bases.default.image,
            str(os.geteuid()),
        ]
