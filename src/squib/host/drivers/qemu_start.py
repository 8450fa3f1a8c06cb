"""Starts a machine's two processes, the relay and QEMU, with all that they need in their hands."""

import asyncio
import contextlib
import math
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from squib.contracts import codec
from squib.contracts.errors import DriverUnavailable, ImageError, InfrastructureError, NotFound
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Machine, MachineSpec
from squib.host import interpreters, machines
from squib.host.cgroups import Limits
from squib.host.drivers import qemu_command, qemu_qmp, trial
from squib.host.drivers.base import Frozen
from squib.host.drivers.qemu_command import Accelerator, Plan
from squib.host.ground import MIB, Ground
from squib.host.layout import MachineDir
from squib.host.machines import Program
from squib.host.network import relay, room
from squib.host.network.room import Room
from squib.host.vm import cpio, drives, jail, kernels, memory
from squib.host.vm.templates import Templates

PORT = 8991  # where the guest listens in its machine
GATEWAY_PORT = 8990  # where the relay listens in the machine's room
STATE = "state"  # of a frozen machine: everything but its memory and drives
CONTROL = "control.sock"  # in the machine's directory: QEMU's monitor
KVM = Path("/dev/kvm")
_UNBOUNDED = 2**32  # MiB: what bounds the machine's drive is its size
_PYTHON = "/usr/bin/python3"
#: What QEMU and the relay need beside the machine's memory, and how many threads they have.
_OVERHEAD = 160 + qemu_command.CODE_CACHE  # MiB
_THREADS = 200


def bounds(spec: MachineSpec) -> Limits:
    """The limits of a machine's groups."""
    return Limits(spec.cpu, (spec.memory + _OVERHEAD) * MIB, _THREADS)


def inside(config: GuestConfig) -> GuestConfig:
    """The configuration as it is in a machine: its sockets are the room's."""
    gateway = config.gateway and f"tcp:{relay.ROOM}:{GATEWAY_PORT}"
    return replace(config, listen=f"tcp:{relay.GUEST}:{PORT}", gateway=gateway)


@dataclass(frozen=True, slots=True)
class Held:
    """What a machine is given besides what its plan says."""

    room: Room
    control: int


class Start:
    """One installation's way to start machines."""

    def __init__(self, ground: Ground, program: str, accelerator: Accelerator):
        self.ground, self.program, self.accelerator = ground, program, accelerator

    async def boot(self, draft: Machine, config: GuestConfig) -> Machine:
        """Boot the machine from its image. Raises DriverUnavailable or InfrastructureError."""
        spec, place = draft.spec, MachineDir(Path(draft.directory))
        image = kernel(self.ground)
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(opened(Path(spec.drive or ""), "the image's drive"))
            await drives.make(place.root / drives.CURRENT, drive_size(spec))
            top = stack.enter_context(opened(place.root / drives.CURRENT, "a drive", write=True))
            own = stack.enter_context(memory.fresh(spec.memory))
            vmlinux = stack.enter_context(opened(image.vmlinux, "the kernel"))
            initrd = stack.enter_context(in_memory(image.initrd.read_bytes() + self._addition(config)))
            words = (
                f"squib.python={spec.python or _PYTHON}",
                f"squib.pids={spec.pids}",
                f"squib.hostname={config.hostname}",
            )
            boots = qemu_command.Kernel(vmlinux, initrd, words)
            plan = self.plan(draft, memory=own, shared=True, root=root, drive=(top,), kernel=boots)
            return await self.run(draft, plan, (own, root, top, vmlinux, initrd))

    async def go_on(self, draft: Machine, frozen: Frozen, templates: Templates) -> Machine:
        """Let the machine go on where the frozen one stood. Raises DriverUnavailable or InfrastructureError."""
        place = MachineDir(Path(draft.directory))
        shape = replace(draft, spec=frozen.spec)
        async with contextlib.AsyncExitStack() as stack:
            root = stack.enter_context(opened(Path(draft.spec.drive or ""), "the image's drive"))
            state = stack.enter_context(opened(frozen.directory / STATE, "the frozen state"))
            try:
                drives.clear(place.root)
                drives.add_layer(frozen.directory, place.root)
            except (OSError, ValueError) as error:
                raise InfrastructureError(f"the frozen drives can't be used: {error}") from error
            *below, top = drives.of_machine(place.root)
            layers = [stack.enter_context(opened(path, "a drive")) for path in below]
            layers.append(stack.enter_context(opened(top, "a drive", write=True)))
            # A machine's own memory is for it alone; a snapshot's is everybody's.
            alone = frozen.directory.is_relative_to(place.root)
            if alone:
                held = stack.enter_context(memory.fresh(frozen.spec.memory))
                try:
                    await asyncio.to_thread(memory.load, frozen.directory, held)
                except (OSError, ValueError) as error:
                    raise InfrastructureError(f"the frozen memory can't be read: {error}") from error
            else:
                held = await stack.enter_async_context(templates.borrowed(frozen.directory, frozen.spec.memory))
            plan = self.plan(shape, memory=held, shared=alone, root=root, drive=tuple(layers), state=state)
            return await self.run(draft, plan, (held, root, *layers, state))

    def plan(
        self,
        machine: Machine,
        *,
        memory: int,
        shared: bool,
        root: int,
        drive: tuple[int, ...],
        kernel: qemu_command.Kernel | None = None,
        state: int | None = None,
    ) -> Plan:
        """The plan of such a machine, but for its room and its monitor's socket."""
        return Plan(
            # With the machine's directory in it, by which strays are found (`ground`).
            name=f"{machine.directory}/config",
            accelerator=self.accelerator,
            cpus=max(1, math.ceil(machine.spec.cpu)),
            memory_size=machine.spec.memory,
            memory=memory,
            shared=shared,
            root=root,
            drive=drive,
            tap=-1,
            control=-1,
            kernel=kernel,
            state=state,
        )

    async def run(self, draft: Machine, plan: Plan, descriptors: tuple[int, ...]) -> Machine:
        """Start the relay and QEMU in a new room. Raises InfrastructureError."""
        place = MachineDir(Path(draft.directory))
        async with _holding(place.root / CONTROL) as held:
            life, end = os.pipe()
            try:
                monitor = self._monitor(place, plan, held, (*descriptors, end))
                with machines.held(self.ground, draft, self._relay(place, held.room, life)) as waiting:
                    waiting.go()
                return machines.run(self.ground, draft, monitor)
            except OSError as error:
                raise InfrastructureError(f"the machine's files can't be made: {error}") from error
            finally:
                os.close(life)
                os.close(end)

    def _monitor(self, place: MachineDir, plan: Plan, held: Held, descriptors: tuple[int, ...]) -> Program:
        """QEMU for that plan, in that room and behind bars."""
        devices = () if self.accelerator.emulated else (KVM,)
        plan = replace(plan, tap=held.room.tap, control=held.control)
        return Program(
            qemu_command.arguments(self.program, plan),
            descriptors=(*descriptors, held.room.tap, held.room.namespace, held.control),
            disk=_UNBOUNDED,
            enter=(*_into(held.room), *jail.enter(place.root / jail.NAME, self.program, devices)),
            user_groups=self._device_groups(),
        )

    def _relay(self, place: MachineDir, held: Room, life: int) -> Program:
        program = place.config / "relay.py"
        program.unlink(missing_ok=True)
        program.write_bytes(Path(relay.__file__).read_bytes())
        program.chmod(0o444)
        arguments = (str(life), str(PORT), str(place.socket), str(GATEWAY_PORT), str(place.gateway_socket))
        return Program(
            (python(), *interpreters.FLAGS, str(program), *arguments),
            descriptors=(life, held.namespace),
            enter=_into(held),
        )

    def _addition(self, config: GuestConfig) -> bytes:
        """What only this machine's first root file system has: the guest and its configuration."""
        return cpio.archive(
            [
                cpio.file("squib/guest.json", codec.dumps(config)),
                cpio.file("squib/guest.pyz", self.ground.guest.read_bytes()),
                cpio.file("squib/filter", trial.system_call_filter()),
            ]
        )

    def _device_groups(self) -> tuple[int, ...]:
        if self.accelerator.emulated:
            return ()
        status = KVM.stat()
        return () if status.st_mode & 0o006 == 0o006 or status.st_gid == 0 else (status.st_gid,)


def kernel(ground: Ground) -> kernels.Kernel:
    """The kernel to boot. Raises DriverUnavailable."""
    try:
        return kernels.get(ground.state.root)
    except (NotFound, ImageError) as error:
        raise DriverUnavailable(error.detail, advice=error.advice) from error


def drive_size(spec: MachineSpec) -> int:
    """MiB of the drive: the rest of what the machine may have on the disk is for its console and its records."""
    return max(16, spec.disk - 16)


def python() -> str:
    """The Python here that runs the relay: one that every user can run."""
    return next((name for name in interpreters.USUAL if Path(name).exists()), interpreters.running())


@contextlib.asynccontextmanager
async def _holding(control: Path) -> AsyncIterator[Held]:
    """A room and a socket for the monitor, let go of at the end."""
    async with room.made() as made:
        with qemu_qmp.listening(control) as socket:
            yield Held(made, socket.fileno())


def _into(held: Room) -> tuple[str, ...]:
    program = shutil.which("nsenter")
    if program is None:
        raise InfrastructureError("nsenter is not installed (util-linux)")
    return (program, f"--net=/proc/self/fd/{held.namespace}", "--")


@contextlib.contextmanager
def opened(path: Path, what: str, *, write: bool = False) -> Iterator[int]:
    """A descriptor of the file, closed at the end. Raises InfrastructureError."""
    flags = os.O_CLOEXEC | (os.O_RDWR if write else os.O_RDONLY)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise InfrastructureError(f"{what} can't be opened: {error}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def in_memory(content: bytes, *, write: bool = False) -> Iterator[int]:
    """A descriptor of a file that is only in memory, closed at the end."""
    descriptor = os.memfd_create("machine-file", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_CLOEXEC | (os.O_RDWR if write else os.O_RDONLY))
    finally:
        os.close(descriptor)
    try:
        yield again
    finally:
        os.close(again)
