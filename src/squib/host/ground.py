"""What a host lends to its drivers, and what a machine holds of it: a user, groups, a directory, a process."""

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from squib.contracts.errors import InfrastructureError
from squib.contracts.machine import Machine, MachineSpec
from squib.host import cgroups, processes
from squib.host.bases import Bases
from squib.host.cgroups import Cgroups
from squib.host.launch import Children
from squib.host.layout import MachineDir, StateDir
from squib.host.uids import Uids

log = structlog.get_logger(__name__)
MIB = 1024 * 1024
END_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Ground:
    """What drivers build on. `uids` is None exactly where squib runs as an ordinary user."""

    state: StateDir
    guest: Path  # the guest's zipapp
    groups: Cgroups
    uids: Uids | None
    bases: Bases
    tools: Path | None = None
    python: str | None = None  # of the host's own root; images name their own
    children: Children = field(default_factory=Children)


def limits_of(spec: MachineSpec) -> cgroups.Limits:
    """A machine's limits as its groups take them."""
    return cgroups.Limits(spec.cpu, spec.memory * MIB, spec.pids)


def occupy(ground: Ground, spec: MachineSpec, directory: Path) -> tuple[int | None, tuple[str, ...]]:
    """Take a user id, make the directories and the groups. Raises HostFull or InfrastructureError, holding none."""
    uid = ground.uids.take(spec.id) if ground.uids else None
    try:
        MachineDir(directory).prepare(uid)
        return uid, ground.groups.create(spec.id, limits_of(spec))
    except OSError as error:
        if ground.uids and uid is not None:
            ground.uids.release(uid, spec.id)
        raise InfrastructureError(f"the machine's directories or control groups can't be made: {error}") from error


async def vacate(ground: Ground, machine: Machine) -> None:
    """End every process of the machine and give back its groups and user id. Idempotent.

    Raises InfrastructureError where a process outlasts END_SECONDS: then nothing is given back.
    """
    if machine.cgroups:  # whatever the machine forked is in them: it can't see the groups' file system
        await _end_groups(machine)
    elif machine.uid is None or not (ground.uids and ground.uids.foreign(machine.uid, machine.id)):
        await _end_strays(machine)
    if ground.uids and machine.uid is not None:
        ground.uids.release(machine.uid, machine.id)


async def _end_groups(machine: Machine) -> None:
    """Again if need be: a process may enter its groups just as they are found empty. Once they are gone, none can."""
    deadline = asyncio.get_running_loop().time() + END_SECONDS
    while not (await cgroups.kill(machine.cgroups) and cgroups.remove(machine.cgroups)):
        if asyncio.get_running_loop().time() > deadline:
            raise InfrastructureError(f"processes of {machine.id} do not end, so its control groups stay")
        await asyncio.sleep(0.01)


async def _end_strays(machine: Machine) -> None:
    """End what no group held: by the machine's own user, or else by its directory's name on the command line."""

    def roots() -> list[int]:
        named = processes.naming(machine.directory + "/config")
        return named + ([machine.pid] if machine.pid and processes.running(machine.pid, machine.pid_start) else [])

    deadline = asyncio.get_running_loop().time() + END_SECONDS
    pause = 0.001
    while True:
        if machine.uid is not None:
            processes.kill(left := processes.of_uid(machine.uid))
        else:
            left = roots()
            processes.kill_tree(roots)
        if not left:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise InfrastructureError(f"processes of {machine.id} do not end: {left[:5]}")
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.05)


def console_tail(directory: Path, characters: int = 4000) -> str:
    """The end of what the guest printed: untrusted, so only printable characters of it."""
    text = ""
    with contextlib.suppress(OSError):
        descriptor = os.open(MachineDir(directory).console, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            file.seek(max(0, os.fstat(descriptor).st_size - characters))
            text = file.read(characters).decode(errors="replace")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text.replace("\r\n", "\n")).strip()
