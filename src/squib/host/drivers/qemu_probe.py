"""Finds out whether QEMU boots a machine here, and whether KVM does: `/dev/kvm` may open and yet run no kernel."""

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path

from squib.contracts import ids
from squib.contracts.errors import DriverUnavailable, InfrastructureError
from squib.contracts.machine import Machine, MachineSpec
from squib.host import machines, processes
from squib.host.drivers import qemu_command, qemu_start
from squib.host.drivers.qemu_command import PROGRAM, Accelerator
from squib.host.ground import MIB, Ground, console_tail, vacate
from squib.host.network import room
from squib.host.removal import remove_tree
from squib.host.vm import clock, memory

BOOT_SECONDS = 20.0
_SAYS = "squib: the kernel runs"  # init.sh, where it is told to do no more
_SMALL = 192  # MiB
_INSTALL = "Install what machines of QEMU's need (apt-get install qemu-system-x86 qemu-utils e2fsprogs util-linux)."
_ALSO = ("qemu-img", "mke2fs", "nsenter")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TUN = "Load the kernel's module tun, and let this user open /dev/net/tun (in a container: --device /dev/net/tun)."


async def find_out(ground: Ground, program: str) -> tuple[Accelerator, str]:
    """How machines run here, and QEMU's version. Raises DriverUnavailable."""
    if not program:
        raise DriverUnavailable(f"QEMU ({PROGRAM}) is not installed", advice=_INSTALL)
    if not ground.uids:
        raise DriverUnavailable("machines of QEMU's need squib to run as root", advice="Start squib as root.")
    if not os.access(room.TUN, os.R_OK | os.W_OK):
        raise DriverUnavailable(f"{room.TUN} can't be opened", advice=_TUN)
    missing = [name for name in _ALSO if shutil.which(name, path=_PATH) is None]
    if missing:
        raise DriverUnavailable(f"{missing[0]} is not installed", advice=_INSTALL)
    qemu_start.kernel(ground)
    version = await _version(program)
    trouble = "QEMU was not tried"
    khz = await clock.khz()
    for name in ("kvm", "tcg") if os.access(qemu_start.KVM, os.R_OK | os.W_OK) else ("tcg",):
        accelerator = Accelerator(name, khz)
        trouble = await _try(qemu_start.Start(ground, program, accelerator))
        if not trouble:
            return accelerator, version
    raise DriverUnavailable(f"no machine of QEMU's boots: {trouble}", advice="That is QEMU's or its kernel's answer.")


def processor(accelerator: Accelerator) -> str:
    """Names all of the processor that a frozen machine's memory depends on."""
    flags = ""
    if not accelerator.emulated:
        text = Path("/proc/cpuinfo").read_text()
        found = re.search(r"^flags\s*:\s*(.*)$", text, re.M)
        model = re.search(r"^model name\s*:\s*(.*)$", text, re.M)
        named = f"{model and model[1]} {found and found[1]}"
        flags = " " + hashlib.sha256(named.encode()).hexdigest()[:16]
    return f"{accelerator.name} {accelerator.cpu} {round(accelerator.khz / 1000)} MHz{flags}"


async def _version(program: str) -> str:
    process = await asyncio.create_subprocess_exec(program, "--version", stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    found = re.search(r"version (\S+)", said.decode(errors="replace"))
    return found[1] if found else "unknown"


async def _try(start: qemu_start.Start) -> str:
    """Boot a machine that only says so. Gives what was wrong, or nothing."""
    spec = MachineSpec(ids.new_id("mch"), memory=_SMALL, cpu=1)
    directory = start.ground.state.machine(spec.id).root
    try:
        async with machines.holding(start.ground, "qemu", spec, directory) as draft:
            machine = await _boot(start, draft)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(processes.ended(machine.pid or 0), BOOT_SECONDS)
            said = console_tail(directory)
            await vacate(start.ground, machine)
    except InfrastructureError as error:
        return error.detail
    finally:
        await asyncio.to_thread(remove_tree, directory)
    return "" if _SAYS in said else said or f"nothing happened for {BOOT_SECONDS:.0f} s"


async def _boot(start: qemu_start.Start, draft: Machine) -> Machine:
    kernel = qemu_start.kernel(start.ground)
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(memory.fresh(draft.spec.memory))
        root = stack.enter_context(qemu_start.in_memory(bytes(MIB)))
        drive = stack.enter_context(qemu_start.in_memory(bytes(MIB), write=True))
        initrd = stack.enter_context(qemu_start.in_memory(kernel.initrd.read_bytes()))
        vmlinux = stack.enter_context(qemu_start.opened(kernel.vmlinux, "the kernel"))
        boots = qemu_command.Kernel(vmlinux, initrd, ("squib.check",))
        plan = start.plan(draft, memory=own, shared=True, root=root, drive=(drive,), kernel=boots)
        return await start.run(draft, plan, (own, root, drive, vmlinux, initrd))
