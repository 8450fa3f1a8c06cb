"""How a gVisor machine comes to life: its kernel started anew, or going on from memory that was frozen."""

import asyncio
import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from squib.contracts.errors import InfrastructureError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Machine
from squib.host import cgroups, machines, processes
from squib.host.drivers import gvisor_bundle, gvisor_frozen
from squib.host.drivers.base import Frozen
from squib.host.drivers.gvisor_runsc import APART, CONTAINER, Runsc
from squib.host.ground import Ground, console_tail
from squib.host.layout import MachineDir
from squib.host.machines import Program
from squib.host.removal import remove_tree

BOOT_SECONDS = 30.0
_UNBOUNDED = 2**32  # MiB: the limit of a file's size holds inside; outside it would hold for gVisor's memory


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a machine begins with: `argv` is its first process, which runs already where it is `frozen`."""

    config: GuestConfig
    argv: Sequence[str]
    limits: cgroups.Limits
    frozen: Frozen | None = None


async def start(ground: Ground, runsc: Runsc, draft: Machine, what: Beginning) -> Machine:
    """Start the machine and learn the pid of gVisor's kernel. Raises InfrastructureError."""
    place = MachineDir(Path(draft.directory))
    command = await asyncio.to_thread(_prepare, ground, draft, place, what)
    cgroups.limit(draft.cgroups, what.limits)
    program = Program([*APART, *runsc.command(state(draft), *command)], disk=_UNBOUNDED)
    machine = machines.run(ground, draft, program)
    try:
        async with asyncio.timeout(BOOT_SECONDS):
            await processes.ended(machine.pid or 0)
        pid = _kernel(draft)
    except (OSError, ValueError, LookupError, TypeError) as error:  # TimeoutError is an OSError
        detail = console_tail(place.root) or "it said nothing"
        raise InfrastructureError(f"gVisor did not start: {detail}") from error
    return replace(machine, pid=pid, pid_start=processes.start_time(pid))


def state(machine: Machine) -> Path:
    """runsc's own directory."""
    return Path(machine.directory) / "run"


def _kernel(machine: Machine) -> int:
    """The pid of gVisor's kernel, from what runsc notes once its command has succeeded.

    Raises OSError, ValueError, LookupError or TypeError where it has not.
    """
    noted = json.loads((state(machine) / f"{CONTAINER}_sandbox:{CONTAINER}.state").read_bytes())
    if noted["status"] != "running":
        raise ValueError(noted["status"])
    return int(noted["sandbox"]["pid"])


def _prepare(ground: Ground, draft: Machine, place: MachineDir, what: Beginning) -> tuple[str, ...]:
    """Leave all that runsc reads, in place of what an earlier life of the machine has left; gives its command."""
    with contextlib.suppress(OSError):
        place.socket.unlink()
    remove_tree(state(draft))
    remove_tree(place.root / "config.oci")
    machines.write_config(place, what.config)
    bundle = gvisor_bundle.write(ground, draft, what.config, what.argv)
    state(draft).mkdir(mode=0o700)
    common = ("--detach", "--bundle", str(bundle))
    command: tuple[str, ...] = ("run", *common, CONTAINER)
    if what.frozen is not None:
        gvisor_frozen.lead(what.frozen.directory, state(draft) / "image")
        if what.frozen.thaw is not None:
            gvisor_bundle.leave(place.config / what.frozen.thaw, b"")
        command = ("restore", *common, "--image-path", str(state(draft) / "image"), CONTAINER)
    if draft.uid is not None:
        os.chown(state(draft), draft.uid, draft.uid)
    return command
