"""QEMU's command line, as a list of named steps: what a machine consists of. A restored one leaves out the kernel.

Everything of the host's comes in by descriptors that the host opened: QEMU needs no right to any file of squib's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from squib.host.network import room

PROGRAM = "qemu-system-x86_64"
CODE_CACHE = 128  # MiB of translated code at most, where QEMU emulates the processor
_SERIAL = "ttyS0"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """How the guest's code runs. A machine frozen under one can't go on under the other."""

    name: str  # kvm or tcg
    khz: int  # of the host's time stamp counter, which is the guest's clock

    @property
    def emulated(self) -> bool:
        """Whether QEMU does it in software."""
        return self.name == "tcg"

    @property
    def cpu(self) -> str:
        """The processor that the guest sees."""
        return "max,la57=off" if self.emulated else "host"


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a machine boots: descriptors, and the kernel's command line."""

    vmlinux: int
    initrd: int
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A machine as QEMU is told of it; numbers that are not sizes are descriptors."""

    name: str  # for people, and to find the process by
    accelerator: Accelerator
    cpus: int
    memory_size: int  # MiB
    memory: int
    shared: bool  # whether what the guest writes goes into that memory, or into pages of this machine's own
    root: int
    drive: tuple[int, ...]  # the layers, lowest first
    tap: int
    control: int  # a listening socket
    kernel: Kernel | None = None  # to boot
    state: int | None = None  # to go on from


@dataclass(frozen=True, slots=True)
class Step:
    """One part of the machine."""

    name: str
    arguments: Callable[[Plan], Sequence[str]]
    boot: bool = True  # whether a machine that boots needs it
    restore: bool = True  # whether one that goes on does


def _confinement(plan: Plan) -> Sequence[str]:
    denied = ("obsolete", "elevateprivileges", "spawn", "resourcecontrol")
    return ("-sandbox", ",".join(("on", *(f"{name}=deny" for name in denied))))


def _machine(plan: Plan) -> Sequence[str]:
    bare = ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-name", plan.name)
    kind = "microvm,acpi=on,pit=off,pic=off,isa-serial=on,rtc=on,memory-backend=memory"
    return (*bare, "-machine", kind)


def _processor(plan: Plan) -> Sequence[str]:
    how = f"tcg,thread=multi,tb-size={CODE_CACHE}" if plan.accelerator.emulated else plan.accelerator.name
    return ("-accel", how, "-cpu", plan.accelerator.cpu, "-smp", str(plan.cpus))


def _memory(plan: Plan) -> Sequence[str]:
    share = "on" if plan.shared else "off"
    backend = f"memory-backend-file,id=memory,size={plan.memory_size}M,mem-path=/proc/self/fd/{plan.memory}"
    return ("-object", f"{backend},share={share}", "-m", f"{plan.memory_size}M")


def _root(plan: Plan) -> Sequence[str]:
    node = f"driver=raw,node-name=root,read-only=on,{_file(plan.root)}"
    return (*_set(plan.root), "-blockdev", node, "-device", "virtio-blk-device,drive=root")


def _drive(plan: Plan) -> Sequence[str]:
    """Flushes are for hosts that crash: no machine outlives one."""
    made: list[str] = []
    for number, descriptor in enumerate(plan.drive):
        above = number == len(plan.drive) - 1
        kind = "driver=raw" if number == 0 else f"driver=qcow2,backing=layer{number - 1}"
        options = "read-only=off,cache.no-flush=on,discard=unmap" if above else "read-only=on"
        node = f"{kind},node-name=layer{number},{options},{_file(descriptor, discard=above)}"
        made += [*_set(descriptor), "-blockdev", node]
    return (*made, "-device", f"virtio-blk-device,drive=layer{len(plan.drive) - 1}")


def _network(plan: Plan) -> Sequence[str]:
    return ("-netdev", f"tap,id=net,fd={plan.tap}", "-device", f"virtio-net-device,netdev=net,mac={room.MAC}")


def _control(plan: Plan) -> Sequence[str]:
    socket = f"socket,id=control,fd={plan.control},server=on,wait=off"
    return ("-chardev", socket, "-mon", "chardev=control,mode=control")


def _console(plan: Plan) -> Sequence[str]:
    """Standard output, which is the machine's console file."""
    return ("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console")


def _kernel(plan: Plan) -> Sequence[str]:
    if plan.kernel is None:
        return ()
    words = (
        f"tsc_early_khz={plan.accelerator.khz}",
        *("tsc=reliable", "no_timer_check", "quiet", "random.trust_cpu=on", "panic=-1", "reboot=t"),
        f"console={_SERIAL}",
        *plan.kernel.words,
    )
    vmlinux, initrd = (f"/proc/self/fd/{number}" for number in (plan.kernel.vmlinux, plan.kernel.initrd))
    return ("-kernel", vmlinux, "-initrd", initrd, "-append", " ".join(words))


def _state(plan: Plan) -> Sequence[str]:
    """A state of devices alone, which has nothing before it about how it came to be. Then the machine goes on."""
    if plan.state is None:
        return ()
    return ("-global", "migration.send-configuration=off", "-incoming", f"fd:{plan.state}")


STEPS = (
    Step("confinement", _confinement),
    Step("machine", _machine),
    Step("processor", _processor),
    Step("memory", _memory),
    Step("root", _root),
    Step("drive", _drive),
    Step("network", _network),
    Step("console", _console),
    Step("control", _control),
    Step("kernel", _kernel, restore=False),
    Step("state", _state, boot=False),
)


def arguments(program: str, plan: Plan) -> list[str]:
    """The whole command line."""
    restores = plan.state is not None
    steps = [step for step in STEPS if (step.restore if restores else step.boot)]
    return [program, *(part for step in steps for part in step.arguments(plan))]


def _set(descriptor: int) -> tuple[str, ...]:
    return ("-add-fd", f"fd={descriptor},set={descriptor}")


def _file(descriptor: int, *, discard: bool = False) -> str:
    """The file below a node of the block layer."""
    return f"file.driver=file,file.filename=/dev/fdset/{descriptor},file.locking=off" + (
        ",file.discard=unmap" if discard else ""
    )
