"""The program runsc: which one it is, and the command lines by which it is asked for something."""

import asyncio
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.machine import MachineSpec
from squib.host.cgroups import Limits
from squib.host.ground import MIB

OLDEST = 20240729  # the first in Debian with the platform systrap
CONTAINER = "guest"  # the name of the one container that a machine is
#: Into a user namespace in which the machine's user is user 0: runsc insists on being that.
AS_ROOT = ("unshare", "--map-root-user", "--")
#: The same, and away from the host's other name spaces: what starts a machine has nothing to do with them.
APART = ("unshare", "--map-root-user", "--mount", "--ipc", "--uts", "--cgroup", "--")

#: A limit of the host's that is hit ends the whole machine: what gVisor itself needs must fit as well.
LEAST_MEMORY = 1024  # MiB
LEAST_PROCESSES = 2000
OWN_THREADS = 200
HOST_THREADS_EACH = 4  # of a process inside, at most: its address space's stub and that one's threads
#: What programs miss on gVisor's kernel.
LACKS = ("/dev/tty", "raw terminals")


@dataclass(frozen=True, slots=True)
class Runsc:
    """An installed runsc. `path` is empty where there is none."""

    path: str

    @classmethod
    def find(cls) -> "Runsc":
        """The one that PATH leads to."""
        return cls(shutil.which("runsc") or "")

    def command(self, state: Path, *arguments: str) -> tuple[str, ...]:
        """Its command line: the same options for all that concerns a machine, whose state it keeps in `state`."""
        return (
            *(self.path, "--root", str(state), "--platform=systrap", "--network=none", "--ignore-cgroups"),
            *("--overlay2=none", "--host-uds=all", "--file-access-mounts=shared", *arguments),
        )

    async def version(self) -> str:
        """What it says of itself, as `0.0~20240729.0`."""
        process = await asyncio.create_subprocess_exec(self.path, "--version", stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        return said.decode(errors="replace").partition("\n")[0].rpartition(" ")[2]


def too_old(version: str) -> bool:
    """Whether a version tells of a date before the oldest that does."""
    dated = re.search(r"(20\d{6})", version)
    return dated is not None and int(dated[1]) < OLDEST


def bounds(spec: MachineSpec) -> Limits:
    """What a machine may take of the host: never less than gVisor's kernel needs to live."""
    threads = max(LEAST_PROCESSES, spec.pids * HOST_THREADS_EACH + OWN_THREADS)
    return Limits(spec.cpu, max(spec.memory, LEAST_MEMORY) * MIB, threads)
