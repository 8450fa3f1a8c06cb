"""How every driver brings a machine to life: hold what it needs, record it, start it, and undo all on failure."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from squib.contracts import codec
from squib.contracts.errors import InfrastructureError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Machine, MachinePhase, MachineSpec
from squib.host import cgroups, launch, processes, records
from squib.host.ground import Ground, occupy, vacate
from squib.host.layout import MachineDir


@dataclass(frozen=True, slots=True)
class Program:
    """What a machine runs; its output goes to the machine's console."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    descriptors: Sequence[int] = ()
    disk: int | None = None  # MiB that each file may have; None: as the machine's specification says
    enter: Sequence[str] = ()  # as launch.Start has it
    user_groups: Sequence[int] = ()  # as launch.Start has it
    drops: bool = False  # as launch.Start has it


@contextlib.asynccontextmanager
async def holding(ground: Ground, driver: str, spec: MachineSpec, directory: Path) -> AsyncIterator[Machine]:
    """A machine with its user, directories and groups, not yet running; given back if the block fails.

    It has no record before it has a process: until then its directory's and its groups' names are enough to find it.
    """
    uid, groups = occupy(ground, spec, directory)
    machine = Machine(
        id=spec.id,
        driver=driver,
        phase=MachinePhase.CREATING,
        spec=spec,
        directory=str(directory),
        endpoint=f"unix:{MachineDir(directory).socket}",
        created_at=time.time(),
        uid=uid,
        cgroups=groups,
    )
    try:
        yield machine
    except BaseException:
        await asyncio.shield(vacate(ground, machine))
        raise


def run(ground: Ground, machine: Machine, program: Program) -> Machine:
    """Start the program, which is recorded, and in its groups, before its first instruction.

    Raises InfrastructureError.
    """
    with held(ground, machine, program) as waiting:
        machine = replace(machine, pid=waiting.pid, pid_start=processes.start_time(waiting.pid))
        try:
            records.save(machine)
        except OSError as error:
            raise InfrastructureError(f"the machine's record can't be written: {error}") from error
        waiting.go()
    return machine


@contextlib.contextmanager
def held(ground: Ground, machine: Machine, program: Program) -> Iterator[launch.Held]:
    """A process of the machine's, waiting at its gate; it ends unless it is let go within the block.

    Once it has gone it is in the machine's groups, by which it is found. Raises InfrastructureError.
    """
    with contextlib.ExitStack() as stack:
        try:
            console = stack.enter_context(opened_console(MachineDir(Path(machine.directory))))
            what = launch.Start(
                program.argv,
                console,
                uid=machine.uid,
                joins=cgroups.entrances(machine.cgroups),
                disk=machine.spec.disk if program.disk is None else program.disk,
                env=program.env,
                descriptors=program.descriptors,
                enter=program.enter,
                user_groups=program.user_groups,
                drops=program.drops,
            )
            waiting = launch.start(what, ground.children)
        except OSError as error:
            raise InfrastructureError(f"a process of the machine can't be started: {error}") from error
        stack.callback(waiting.abandon)
        yield waiting


@contextlib.contextmanager
def opened_console(directory: MachineDir) -> Iterator[int]:
    """A descriptor for all that runs in the machine to print to. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    console = os.open(directory.console, flags, 0o600)
    try:
        yield console
    finally:
        os.close(console)


def write_config(directory: MachineDir, config: GuestConfig) -> Path:
    """Leave the guest's configuration where it finds it; it holds no secret."""
    path = directory.config / "guest.json"
    path.unlink(missing_ok=True)  # an earlier life's, which an ordinary user could not write over
    path.write_bytes(codec.dumps(config))
    path.chmod(0o444)
    return path
