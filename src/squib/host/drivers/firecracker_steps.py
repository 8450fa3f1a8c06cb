"""What a machine consists of, as a named list of steps, of which one that goes on leaves some out."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from squib.contracts.errors import InfrastructureError
from squib.host.drivers import firecracker_jail as jails
from squib.host.firecracker import models
from squib.host.firecracker.client import Firecracker
from squib.host.network import room

_MIB = 1024 * 1024
_NET, _ROOT, _DRIVE = "net", "root", "drive"
#: Firecracker's own, but that modules can be loaded: `init.sh` does. Without a serial port the guest prints nothing.
_ALWAYS = ("reboot=k", "panic=1", "i8042.noaux", "i8042.nomux", "i8042.dumbkbd", "swiotlb=noforce")
_QUIET = ("8250.nr_uarts=0", "quiet", "random.trust_cpu=on")
_SECOND = 1000  # milliseconds
#: So that no machine has a disk or the way to its gateway to itself.
_DISK_LIMIT = models.RateLimiter(models.TokenBucket(400 * _MIB, _SECOND), models.TokenBucket(20_000, _SECOND))
_NET_LIMIT = models.RateLimiter(models.TokenBucket(200 * _MIB, _SECOND), models.TokenBucket(50_000, _SECOND))


@dataclass(frozen=True, slots=True)
class Plan:
    """A machine: whole processors, MiB, and the words of its kernel's command line."""

    cpus: int
    memory: int
    words: Sequence[str] = ()
    console: bool = False  # a serial port, on the monitor's standard output
    restores: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One part of the machine."""

    name: str
    do: Callable[[Firecracker, Plan], Awaitable[None]]
    boot: bool = True  # whether a machine that boots needs it
    restore: bool = True  # whether one that goes on does


async def _serial(vmm: Firecracker, plan: Plan) -> None:
    """The guest may switch its port on all the same: so slowly that it fills no disk."""
    if not plan.console:
        await vmm.put_serial(models.SerialDevice(rate_limiter=models.TokenBucket(4096, _SECOND)))


async def _machine(vmm: Firecracker, plan: Plan) -> None:
    await vmm.put_machine(models.MachineConfiguration(plan.cpus, plan.memory))


async def _kernel(vmm: Firecracker, plan: Plan) -> None:
    words = (*_ALWAYS, *(("console=ttyS0",) if plan.console else _QUIET), *plan.words)
    await vmm.put_boot(models.BootSource(jails.KERNEL, " ".join(words), jails.INITRD))


async def _root(vmm: Firecracker, plan: Plan) -> None:
    await vmm.put_drive(models.Drive(_ROOT, True, jails.ROOT, is_read_only=True, rate_limiter=_DISK_LIMIT))


async def _drive(vmm: Firecracker, plan: Plan) -> None:
    """Flushes are for hosts that crash: no machine outlives one. So they are not asked for (Unsafe)."""
    await vmm.put_drive(models.Drive(_DRIVE, False, jails.DRIVE, is_read_only=False, rate_limiter=_DISK_LIMIT))


async def _network(vmm: Firecracker, plan: Plan) -> None:
    net = models.NetworkInterface(_NET, room.TAP, room.MAC, rx_rate_limiter=_NET_LIMIT, tx_rate_limiter=_NET_LIMIT)
    await vmm.put_network(net)


async def _entropy(vmm: Firecracker, plan: Plan) -> None:
    await vmm.put_entropy(models.EntropyDevice())


async def _start(vmm: Firecracker, plan: Plan) -> None:
    await vmm.start()


async def _load(vmm: Firecracker, plan: Plan) -> None:
    """Paused: what is the machine's own comes first. Paths and the tap's name are the same in every jail and room."""
    await vmm.load(models.SnapshotLoadParams(jails.STATE, models.MemoryBackend(jails.MEMORY), clock_realtime=True))


async def _limits(vmm: Firecracker, plan: Plan) -> None:
    """A snapshot keeps those that it was made with."""
    await vmm.patch_drive(models.PartialDrive(_ROOT, rate_limiter=_DISK_LIMIT))
    await vmm.patch_drive(models.PartialDrive(_DRIVE, rate_limiter=_DISK_LIMIT))
    await vmm.patch_network(models.PartialNetworkInterface(_NET, _NET_LIMIT, _NET_LIMIT))


async def _resume(vmm: Firecracker, plan: Plan) -> None:
    await vmm.resume()


STEPS = (
    Step("serial", _serial, restore=False),
    Step("machine", _machine, restore=False),
    Step("kernel", _kernel, restore=False),
    Step("root", _root, restore=False),
    Step("drive", _drive, restore=False),
    Step("network", _network, restore=False),
    Step("entropy", _entropy, restore=False),
    Step("start", _start, restore=False),
    Step("load", _load, boot=False),
    Step("limits", _limits, boot=False),
    Step("resume", _resume, boot=False),
)


async def perform(vmm: Firecracker, plan: Plan) -> None:
    """Make the machine, a step after the other. Raises InfrastructureError, which names the step."""
    for step in STEPS:
        if step.restore if plan.restores else step.boot:
            try:
                await step.do(vmm, plan)
            except InfrastructureError as error:
                raise InfrastructureError(f"the machine's {step.name} failed: {error.detail}") from error


def check_plan(plan: Plan) -> Plan:
    """The same machine, which only shows that its kernel runs."""
    return replace(plan, words=("squib.check",), console=True)
