"""Finds out whether Firecracker boots a machine here."""

import asyncio
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from squib.contracts import ids
from squib.contracts.errors import DriverUnavailable, InfrastructureError
from squib.contracts.machine import Machine, MachineSpec
from squib.host import machines, processes
from squib.host.drivers import firecracker_jail as jails
from squib.host.drivers import firecracker_steps as steps
from squib.host.drivers import qemu_start
from squib.host.drivers.firecracker_start import Programs, Start
from squib.host.ground import MIB, Ground, console_tail, vacate
from squib.host.network import room
from squib.host.removal import remove_tree

BOOT_SECONDS = 20.0
_SAYS = "squib: the kernel runs"  # init.sh, where it is told to do no more
_SMALL = 192  # MiB
_PAUSE = 0.01
_INSTALL = "Install one release's firecracker and jailer where squib's PATH leads, and mke2fs (e2fsprogs)."


@dataclass(frozen=True, slots=True)
class Versions:
    """Of Firecracker itself, and of what it freezes."""

    program: str
    format: str

    def __str__(self) -> str:
        return f"{self.program} (snapshots {self.format})"


async def find_out(ground: Ground, programs: Programs) -> Versions:
    """Which one it is, once it has booted a kernel. Raises DriverUnavailable."""
    if not programs.firecracker or not programs.jailer:
        missing = "firecracker" if not programs.firecracker else "jailer"
        raise DriverUnavailable(f"{missing} is not installed", advice=_INSTALL)
    if not ground.uids:
        raise DriverUnavailable("machines of Firecracker's need squib to run as root", advice="Start squib as root.")
    if os.statvfs(ground.state.root).f_flag & os.ST_NODEV:
        advice = "Mount it without nodev, or choose another state directory."
        raise DriverUnavailable("the state directory's file system has no devices, which jails need", advice=advice)
    if not os.access(room.TUN, os.R_OK | os.W_OK):
        raise DriverUnavailable(f"{room.TUN} can't be opened", advice="Load the kernel's module tun.")
    versions = Versions(
        await _said(programs.firecracker, "--version"), await _said(programs.firecracker, "--snapshot-version")
    )
    if trouble := await _try(Start(ground, programs)):
        advice = "Firecracker needs /dev/kvm, and a processor that gives it to guests."
        raise DriverUnavailable(f"no machine of Firecracker's boots: {trouble}", advice=advice)
    return versions


def processor() -> str:
    """Names all of this machine that a frozen one's memory depends on: its processor and its kernel."""
    text = Path("/proc/cpuinfo").read_text()
    found = [re.search(rf"^{name}\s*:\s*(.*)$", text, re.M) for name in ("model name", "microcode", "flags")]
    named = " ".join(match[1] if match else "" for match in found)
    return f"{hashlib.sha256(named.encode()).hexdigest()[:16]} on {os.uname().release}"


async def _said(program: str, option: str) -> str:
    process = await asyncio.create_subprocess_exec(program, option, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    found = re.search(r"v(\d\S*)", said.decode(errors="replace"))
    if process.returncode or found is None:
        raise DriverUnavailable(f"{program} does not say its version", advice=_INSTALL)
    return found[1]


async def _try(start: Start) -> str:
    """Boot a machine that only says so. Gives what was wrong, or nothing."""
    spec = MachineSpec(ids.new_id("mch"), memory=_SMALL, cpu=1)
    directory = start.ground.state.machine(spec.id).root
    try:
        async with machines.holding(start.ground, "firecracker", spec, directory) as draft:
            enter = await _furnish(start, draft)
            machine = await start.run(draft, steps.check_plan(steps.Plan(1, _SMALL)), enter)
            said = await _first_words(machine)
            await vacate(start.ground, machine)
    except (InfrastructureError, OSError) as error:
        return str(error)
    finally:
        await asyncio.to_thread(remove_tree, directory)
    return "" if _SAYS in said else said or f"nothing happened for {BOOT_SECONDS:.0f} s"


async def _furnish(start: Start, draft: Machine) -> Sequence[str]:
    """Two drives that nobody reads."""
    jail, kernel = start.jail(draft), qemu_start.kernel(start.ground)
    await jails.make(jail)
    for name in (jails.ROOT, jails.DRIVE):
        jails.write(jail, name, bytes(MIB))
    return start.furnish(jail, draft, kernel, b"")


async def _first_words(machine: Machine) -> str:
    """What it prints, until it has said what it should, or ends, or the time is over: it can't switch itself off."""
    deadline = asyncio.get_running_loop().time() + BOOT_SECONDS
    while True:
        said, over = console_tail(Path(machine.directory)), asyncio.get_running_loop().time() > deadline
        if _SAYS in said or over or not processes.running(machine.pid, machine.pid_start):
            return said
        await asyncio.sleep(_PAUSE)
