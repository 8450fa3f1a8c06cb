"""Frozen gVisor machines: how their memory gets to the disk, and who can read it there.

What is trusted: nothing that the machine wrote. The files come from gVisor's kernel, which a guest may have taken
over; so they are taken over as plain files of squib's own before anybody reads them, and what reads them later is
another machine's kernel, under that machine's user, in an empty root and behind its own system call filter, as it is
before its guest's first instruction. A hostile image gains what it had: a broken kernel of a machine.

What lies there is a tenant's memory. It is readable by every user who knows its name, since each machine has another
user, so its name is a secret: it stands in no command line, only in a link that the machine's user alone can follow.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import stat
from pathlib import Path

from squib.contracts.errors import InfrastructureError
from squib.contracts.machine import Machine
from squib.host import processes
from squib.host.drivers.gvisor_runsc import AS_ROOT, CONTAINER, Runsc
from squib.host.layout import MachineDir
from squib.host.removal import remove_tree

LET_GO_SECONDS = 20.0
FREEZE_SECONDS = 120.0
_FILES = {"checkpoint.img", "pages_meta.img", "pages.img"}
_CPU_LINES = ("vendor_id", "flags")
_SAID_BYTES = 4096


async def let_go(machine: Machine) -> None:
    """Wait until a guest that was told to has let go of its socket, or has ended.

    Raises InfrastructureError where it does not.
    """
    socket = MachineDir(Path(machine.directory)).socket
    try:
        async with asyncio.timeout(LET_GO_SECONDS):
            # inotify tells of what comes, not simply of what goes
            while os.path.lexists(socket) and processes.running(machine.pid, machine.pid_start):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
    except TimeoutError as error:
        raise InfrastructureError(f"the guest still listens after {LET_GO_SECONDS:.0f} s") from error


async def write(runsc: Runsc, machine: Machine, state: Path, target: Path) -> None:
    """Write the machine's memory below `target`. Raises InfrastructureError, leaving none.

    It runs on in any case, waiting for its file: a kernel that was to end with its checkpoint would do so as well
    where that fails, on a full disk.
    """
    place = target / secrets.token_hex(16)
    try:
        target.chmod(0o711)
        place.mkdir(mode=0o700)
        if machine.uid is not None:
            os.chown(place, machine.uid, machine.uid)
        options = ("--image-path", str(place), "--compression=none", "--leave-running")
        await _run(machine, (*AS_ROOT, *runsc.command(state, "checkpoint", *options, CONTAINER)))
        await asyncio.to_thread(_seal, place)
    except OSError as error:
        await asyncio.to_thread(remove_tree, place)
        raise InfrastructureError(f"{machine.id} can't be frozen: {error}") from error
    except BaseException:
        await asyncio.shield(asyncio.to_thread(remove_tree, place))
        raise


def lead(frozen: Path, link: Path) -> None:
    """Make `link`, in a directory that only the machine's user can pass, lead to what was written below `frozen`.

    Raises InfrastructureError where it is not whole or not squib's own.
    """
    try:
        places = [path for path in frozen.iterdir() if path.is_dir() and not path.is_symlink()]
        if len(places) != 1 or {path.name for path in places[0].iterdir()} != _FILES:
            raise InfrastructureError(f"no frozen machine lies in {frozen}")
        for path in (places[0], *places[0].iterdir()):
            if (found := path.lstat()).st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise InfrastructureError(f"{path.name} in {frozen} is not squib's own")
        link.symlink_to(places[0])
    except OSError as error:
        raise InfrastructureError(f"no frozen machine can be read in {frozen}: {error}") from error


def processor(cpuinfo: str) -> str:
    """Names the features of the first processor in /proc/cpuinfo: gVisor goes on only where none is missing."""
    first = cpuinfo.partition("\n\n")[0].splitlines()
    told = dict(line.split(":", 1) for line in first if ":" in line)
    known = {name.strip(): " ".join(sorted(value.split())) for name, value in told.items()}
    text = "\n".join(known.get(name, "") for name in _CPU_LINES)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


async def _run(machine: Machine, argv: tuple[str, ...]) -> None:
    """Run as the machine's user until it has ended, whatever happens to us. Raises InfrastructureError or OSError."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd="/",
        env={"PATH": os.defpath},  # it runs as the machine's user: nothing of ours
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        user=machine.uid,
        group=machine.uid,
        extra_groups=None if machine.uid is None else [],
    )
    assert process.stderr is not None
    said = b""
    try:
        async with asyncio.timeout(FREEZE_SECONDS):
            said = await process.stderr.read(_SAID_BYTES)
            status = await process.wait()
    except TimeoutError as error:
        raise InfrastructureError(f"{machine.id} was not frozen within {FREEZE_SECONDS:.0f} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    if status != 0:
        text = "".join(c if c.isprintable() else " " for c in said.decode(errors="replace")).strip()
        raise InfrastructureError(f"gVisor could not freeze {machine.id}: {text or f'status {status}'}")


def _seal(place: Path) -> None:
    """Take over what runsc wrote: plain files of this process's own user, for others to read. Raises OSError.

    The directory first: from then on nobody else can put another file in the place of one that was looked at.
    """
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(folder, os.geteuid(), os.getegid())
        os.fchmod(folder, 0o711)
        with os.scandir(folder) as entries:
            if (names := {entry.name for entry in entries}) != _FILES:
                raise OSError(f"runsc left {sorted(names)}")
        for name in _FILES:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                found = os.fstat(file)
                if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                    raise OSError(f"{name} is no plain file of its own")
                os.fchown(file, os.geteuid(), os.getegid())
                os.fchmod(file, 0o444)
            finally:
                os.close(file)
    finally:
        os.close(folder)
