"""Starts a machine's two processes, the relay and Firecracker under its jailer, and has the machine made."""

import asyncio
import contextlib
import math
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from squib.contracts import codec
from squib.contracts.errors import DriverUnavailable, InfrastructureError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Machine, MachineSpec
from squib.host import interpreters, machines
from squib.host.cgroups import Limits
from squib.host.drivers import firecracker_jail as jails
from squib.host.drivers import firecracker_steps as steps
from squib.host.drivers import qemu_start, trial
from squib.host.drivers.base import Frozen
from squib.host.firecracker import command
from squib.host.firecracker.client import Firecracker
from squib.host.firecracker.command import Jail, Jailer
from squib.host.ground import MIB, Ground, console_tail
from squib.host.layout import MachineDir
from squib.host.machines import Program
from squib.host.network import relay, room
from squib.host.vm import cpio, drives, kernels

_PYTHON = "/usr/bin/python3"
_UNBOUNDED = 2**32  # MiB: what bounds the machine's drive is its size
#: What Firecracker and the relay need beside the machine's memory, and how many threads they have.
_OVERHEAD, _THREADS = 96, 100  # MiB, threads


def bounds(spec: MachineSpec) -> Limits:
    """The limits of a machine's groups."""
    return Limits(spec.cpu, (spec.memory + _OVERHEAD) * MIB, spec.pids + _THREADS)


@dataclass(frozen=True, slots=True)
class Programs:
    """Firecracker and its jailer, of one release."""

    firecracker: str
    jailer: str


class Start:
    """One installation's way to start machines."""

    def __init__(self, ground: Ground, programs: Programs):
        self.ground, self.programs = ground, programs

    async def boot(self, draft: Machine, config: GuestConfig) -> Machine:
        """Boot the machine from its image. Raises DriverUnavailable or InfrastructureError."""
        spec, jail, kernel = draft.spec, self.jail(draft), qemu_start.kernel(self.ground)
        words = (
            f"squib.python={spec.python or _PYTHON}",
            f"squib.pids={spec.pids}",
            f"squib.hostname={config.hostname}",
        )
        try:
            await jails.make(jail)
            enter = [*jails.share(jail, Path(spec.drive or ""), jails.ROOT)]
            await drives.make(jail.outside(jails.DRIVE), qemu_start.drive_size(spec))
            enter += self.furnish(jail, draft, kernel, self._addition(config))
        except OSError as error:
            raise InfrastructureError(f"the machine's jail can't be made: {error}") from error
        return await self.run(draft, steps.Plan(_cpus(spec), spec.memory, words), enter)

    def furnish(self, jail: Jail, draft: Machine, kernel: kernels.Kernel, addition: bytes) -> Sequence[str]:
        """Put into the jail what boots the machine; its drive, which is there, becomes its own.

        Gives what goes before the jailer's command. Raises OSError.
        """
        enter = jails.share(jail, kernel.vmlinux, jails.KERNEL)
        jails.write(jail, jails.INITRD, kernel.initrd.read_bytes() + addition)
        jails.give(jail, jails.DRIVE, _user(draft))
        return enter

    async def go_on(self, draft: Machine, frozen: Frozen) -> Machine:
        """Let the machine go on where the frozen one stood. Raises DriverUnavailable or InfrastructureError."""
        jail, spec = self.jail(draft), frozen.spec
        try:
            await jails.make(jail)
            enter = jails.share(jail, Path(draft.spec.drive or ""), jails.ROOT)
            for name in (jails.STATE, jails.MEMORY):
                jails.link(jail, inside(frozen.directory, name), name)
            source = inside(frozen.directory, jails.DRIVE)
            await asyncio.to_thread(drives.copy_sparsely, source, jail.outside(jails.DRIVE))
            jails.give(jail, jails.DRIVE, _user(draft))
        except OSError as error:
            raise InfrastructureError(f"the frozen machine can't be used: {error}") from error
        return await self.run(draft, steps.Plan(_cpus(spec), spec.memory, restores=True), enter)

    async def run(self, draft: Machine, plan: steps.Plan, enter: Sequence[str] = ()) -> Machine:
        """Start both processes, the jailer after `enter`, and make the machine. Raises InfrastructureError."""
        async with self._processes(draft, enter) as (machine, vmm):
            try:
                await vmm.listening(machine.pid or 0)
                await steps.perform(vmm, plan)
            except InfrastructureError as error:
                said = console_tail(Path(machine.directory)) or "it said nothing"
                raise InfrastructureError(f"{error.detail} ({said})") from error
        return machine

    @contextlib.asynccontextmanager
    async def _processes(self, draft: Machine, enter: Sequence[str]) -> AsyncIterator[tuple[Machine, Firecracker]]:
        """The jailer joins the room by a descriptor of this process's, which is there for the length of the block."""
        place, jail, uid = MachineDir(Path(draft.directory)), self.jail(draft), _user(draft)
        async with room.made(owner=uid) as made:
            with _relay(place, made.namespace) as program, machines.held(self.ground, draft, program) as waiting:
                waiting.go()
            # The machine is in its groups already: version 1 without a setting leaves it there.
            netns = f"/proc/{os.getpid()}/fd/{made.namespace}"
            argv = Jailer(jail, uid, uid, netns=netns, cgroup_version=1).argv(Path(self.programs.jailer))
            machine = machines.run(self.ground, draft, Program(argv, disk=_UNBOUNDED, enter=enter, drops=True))
            async with self.client(machine) as vmm:
                yield machine, vmm

    def client(self, machine: Machine) -> Firecracker:
        """The machine's monitor, to be asked where the machine stands."""
        return Firecracker(self.jail(machine).outside(command.API_SOCKET), uid=machine.uid)

    def jail(self, machine: Machine) -> Jail:
        """The machine's jail."""
        return jails.of(machine, self.programs.firecracker)

    def _addition(self, config: GuestConfig) -> bytes:
        """What only this machine's first root file system has: the guest and its configuration."""
        return cpio.archive(
            [
                cpio.file("squib/guest.json", codec.dumps(config)),
                cpio.file("squib/guest.pyz", self.ground.guest.read_bytes()),
                cpio.file("squib/filter", trial.system_call_filter()),
            ]
        )


def inside(directory: Path, name: str) -> Path:
    """Where a part of a frozen machine's lies."""
    return directory / name.lstrip("/")


def _user(machine: Machine) -> int:
    if machine.uid is None:
        raise DriverUnavailable("machines of Firecracker's need squib to run as root", advice="Start squib as root.")
    return machine.uid


def _cpus(spec: MachineSpec) -> int:
    return max(1, math.ceil(spec.cpu))


@contextlib.contextmanager
def _relay(place: MachineDir, namespace: int) -> Iterator[Program]:
    """The relay's program. It would end with whoever holds the other end of its pipe: the jailer keeps no descriptor,
    so that it holds that itself, and ends with the machine's groups."""
    program, enter = place.config / "relay.py", shutil.which("nsenter")
    if enter is None:
        raise InfrastructureError("nsenter is not installed (util-linux)")
    program.unlink(missing_ok=True)
    program.write_bytes(Path(relay.__file__).read_bytes())
    program.chmod(0o444)
    life, other = os.pipe()
    try:
        ends = (str(qemu_start.PORT), str(place.socket), str(qemu_start.GATEWAY_PORT), str(place.gateway_socket))
        yield Program(
            (qemu_start.python(), *interpreters.FLAGS, str(program), str(life), *ends),
            descriptors=(life, other, namespace),
            enter=(enter, f"--net=/proc/self/fd/{namespace}", "--"),
        )
    finally:
        os.close(life)
        os.close(other)
