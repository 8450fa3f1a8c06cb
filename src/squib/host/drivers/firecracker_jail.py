"""What lies in a machine's jail, under the same names in each, and how it gets in and out.

The jail's root belongs to the machine's own user, whom its guest may have become: nothing that comes out of it is
believed to be what its name says. What several machines read (kernel, image, a snapshot's memory) is linked in and
belongs to root.
"""

import asyncio
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from squib.contracts.errors import InfrastructureError
from squib.contracts.machine import Machine
from squib.host.firecracker.command import Jail
from squib.host.removal import remove_tree
from squib.host.vm import drives

KERNEL, INITRD, ROOT, DRIVE = "/vmlinux", "/initrd", "/root.squashfs", "/drive.ext4"
STATE, MEMORY = "/state", "/memory"  # that it goes on from
NEW_STATE, NEW_MEMORY = "/new.state", "/new.memory"  # as it freezes: what it goes on from must not change
_FOLDER = "jail"
_ALONE = ("unshare", "--mount", "--propagation", "private", "--")
_MOUNT = 'mount --bind "$1" "$2"; mount -o remount,bind,ro,nosuid,nodev "$2"; shift 2; exec "$@"'


def of(machine: Machine, program: str) -> Jail:
    """The machine's jail."""
    return Jail(Path(machine.directory) / _FOLDER, Path(program), machine.id)


async def make(jail: Jail) -> None:
    """An empty one, instead of an earlier life's. Raises OSError."""
    await asyncio.to_thread(remove_tree, jail.base)
    # The socket's directory is made before the socket, for whoever waits for it.
    (jail.root / "run").mkdir(mode=0o711, parents=True)


def link(jail: Jail, source: Path, name: str) -> None:
    """Let the machine read a file that others read too. Raises OSError."""
    target, source = jail.outside(name), source.resolve(strict=True)  # a link to a link leads nowhere in there
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        drives.copy_sparsely(source, target)
        target.chmod(0o444)


def share(jail: Jail, source: Path, name: str) -> Sequence[str]:
    """Let the machine read a large file that others read too, whose name may be a link.

    Gives what has to go before the jailer's command where the file lies on another file system: it is mounted, in a
    mount namespace that nobody else has and that ends with the machine. Raises OSError.
    """
    source, target = source.resolve(strict=True), jail.outside(name)
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        target.touch(mode=0o444)
        return (*_ALONE, "/bin/sh", "-ec", _MOUNT, "squib", str(source), str(target))
    return ()


def write(jail: Jail, name: str, content: bytes) -> None:
    """A file that the machine reads. Raises OSError."""
    path = jail.outside(name)
    path.write_bytes(content)
    path.chmod(0o444)


def give(jail: Jail, name: str, uid: int) -> None:
    """A file, made before the machine was, becomes its own. Raises OSError."""
    path = jail.outside(name)
    os.chown(path, uid, uid)
    path.chmod(0o600)


def take(jail: Jail, name: str, target: Path, uid: int, *, move: bool) -> None:
    """Put a file of the machine's to `target`, which becomes root's; with `move` it may be the very file.

    Raises OSError, InfrastructureError where it is not a plain file of the machine's own.
    """
    descriptor = os.open(jail.outside(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != uid or found.st_nlink != 1:
            raise InfrastructureError(f"{name} in the machine's jail is not what the machine monitor wrote")
        inode = Path(f"/proc/self/fd/{descriptor}")
        try:
            if not move:
                raise OSError
            os.link(inode, target, follow_symlinks=True)
        except OSError:
            drives.copy_sparsely(inode, target)
    finally:
        os.close(descriptor)
    os.chown(target, 0, 0)
    target.chmod(0o444)
