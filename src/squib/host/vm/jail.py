"""A root file system for a monitor that shows it its own program and libraries, and nothing else of the host's.

A monitor is what a hostile guest attacks: taken over, it finds no file to read, no socket to talk to, no program's
settings. It gets what it works on as descriptors, so that it misses nothing. Needs root, and a monitor below /usr.
"""

from collections.abc import Sequence
from pathlib import Path

from squib.contracts.errors import InfrastructureError

NAME = "jail"  # in a machine's directory
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
#: In a mount namespace of its own: what is mounted here goes with its last process.
_SCRIPT = """
cd "$1" && mount --bind /usr usr && mount -t proc -o hidepid=2 proc proc || exit 123
shift
while [ "$1" != -- ]; do mount --bind "/$1" "$1" || exit 123; shift; done
shift
exec chroot . "$@"
"""


def enter(root: Path, program: str, devices: Sequence[Path] = ()) -> tuple[str, ...]:
    """Make the directory; gives what runs a command in it, given after. Raises InfrastructureError or OSError."""
    if not program.startswith("/usr/"):
        raise InfrastructureError(f"{program} is not below /usr", advice="Install it as the distribution's package.")
    for path in (root, *(root / name for name in ("usr", "proc", "dev"))):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)  # whatever this process's umask is
    bound = []
    for name in _TOP:
        top, path = Path("/") / name, root / name
        if top.is_symlink():  # into /usr, where the system has merged them
            if not path.is_symlink():
                path.symlink_to(top.readlink())
        elif top.is_dir():
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
            bound.append(name)
    for device in devices:
        (root / "dev" / device.name).touch()
        bound.append(f"dev/{device.name}")
    return ("unshare", "--mount", "--ipc", "--uts", "--", "/bin/sh", "-c", _SCRIPT, "sh", str(root), *bound, "--")
