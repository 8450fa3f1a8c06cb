"""Makes a root file system the same each time it is made, and harmless where it lies on the host.

Harmless: all is root's and nobody else may write it; no set-user-id file, no device, no capability; since the
directory is a part of the host's own file system, within reach of its users. The same: nothing of the machine or the
moment that made it.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.errors import ImageError
from squib.host.images.inroot import Root, opened
from squib.host.removal import remove_tree

AGENT = 1000
EPOCH = 1_577_836_800  # 2020-01-01: every file's time
HOME = "/home/agent"
#: The places that drivers bind or mount over, so that the root can be read-only.
POINTS = (
    *("/proc", "/sys", "/dev", "/tmp", "/var/tmp", "/run/squib/config", "/run/squib/guest", "/run/squib/state"),
    *("/run/squib/gateway", "/opt/squib/tools", "/workspace", HOME),
)
#: Emptied: what is made anew at each start, or tells of the machine and the moment.
_EMPTIED = (
    *("/dev", "/proc", "/sys", "/run", "/tmp", "/var/tmp", "/var/log", "/root", "/var/cache", "/var/lib/apt/lists"),
    *("/etc/apt/sources.list.d", "/var/lib/dbus"),
)
_REMOVED = (
    *("/etc/hostname", "/etc/apt/sources.list", "/var/lib/dpkg/lock", "/var/lib/dpkg/lock-frontend", "/.dockerenv"),
    "/etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    *(f"/etc/{name}-" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")),
    *(f"/var/lib/dpkg/{name}-old" for name in ("available", "status", "diversions", "statoverride")),
)
_FIXED = {
    "/etc/hosts": b"127.0.0.1 localhost\n::1 localhost\n",
    "/etc/resolv.conf": b"",
    "/etc/machine-id": b"",
    "/etc/subuid": b"",
    "/etc/subgid": b"",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a tree: the directory that holds it, open, and what it is itself."""

    path: str
    name: str
    above: int
    status: os.stat_result


def walk(root: Root) -> Iterator[Entry]:
    """Everything below the root, a directory before what it holds, in the order of the names; links not followed."""
    for folder, folders, files, descriptor in os.fwalk(".", dir_fd=root.descriptor):
        folders.sort()
        for name in sorted((*folders, *files)):
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            yield Entry(f"{folder[1:]}/{name}", name, descriptor, status)


def lend(root: Root, user: int) -> None:
    """Give all to `user`, who makes the steps: inside he may change all, outside nothing. `settle` takes it back."""
    for entry in walk(root):
        os.chown(entry.name, user, user, dir_fd=entry.above, follow_symlinks=False)
    os.fchown(root.descriptor, user, user)


def settle(path: Path) -> None:
    """All of it: in place, for this user's root file system at `path`. Raises ImageError, OSError."""
    with opened(path) as root:
        for name in _EMPTIED:
            _empty(root, path, name)
        for name in _REMOVED:
            root.remove(name)
        for name, content in _FIXED.items():
            root.write(name, content)
        _accounts(root)
        for name in POINTS:
            with root.folder(name, make=True):
                pass
        for name in ("/opt", "/etc", "/opt/squib"):
            _is_real(root, name)
    _harmless(path)


def _empty(root: Root, path: Path, name: str) -> None:
    """Remove what is in a directory, unless a link leads there."""
    place = path / name[1:]
    if any(parent.is_symlink() for parent in (place, *place.parents) if parent.is_relative_to(path)):
        return
    with contextlib.suppress(FileNotFoundError), root.folder(name) as descriptor:
        for child in os.listdir(descriptor):  # noqa: PTH208
            remove_tree(place / child)


def _is_real(root: Root, name: str) -> None:
    """Drivers name what is below these on the host: a link would lead them elsewhere."""
    status = os.stat(name[1:], dir_fd=root.descriptor, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{name} of the image is no directory", advice="Make it a directory in the image.")


def _accounts(root: Root) -> None:
    """The user `agent`, 1000, in place of another with its name or number; no date in the shadow file."""
    shell = "/bin/bash" if root.exists("/bin/bash") else "/bin/sh"
    lines = {
        "/etc/passwd": f"agent:x:{AGENT}:{AGENT}:agent:{HOME}:{shell}",
        "/etc/group": f"agent:x:{AGENT}:",
    }
    for path, line in lines.items():
        text = root.read(path).decode("utf-8", "replace") or line.replace("agent", "root").replace(str(AGENT), "0")
        kept = [entry for entry in text.splitlines() if not _is_agent(entry)]
        root.write(path, "\n".join([*kept, line, ""]).encode())
    shadow = [entry.split(":") for entry in root.read("/etc/shadow").decode("utf-8", "replace").splitlines()]
    text = "\n".join(":".join([*entry[:2], "", *entry[3:]]) for entry in shadow if len(entry) > 3)
    root.write("/etc/shadow", (text + "\n").encode() if text else b"", 0o600)


def _is_agent(entry: str) -> bool:
    fields = entry.split(":")
    return fields[0] == "agent" or (len(fields) > 2 and fields[2] == str(AGENT))


def _harmless(path: Path) -> None:
    """Kinds, modes, attributes and times of every file."""
    with opened(path) as root:
        for entry in walk(root):
            mode = entry.status.st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                os.unlink(entry.name, dir_fd=entry.above)
                continue
            os.chown(entry.name, 0, 0, dir_fd=entry.above, follow_symlinks=False)
            if not stat.S_ISLNK(mode):
                _plain(entry)
        os.fchown(root.descriptor, 0, 0)
        os.fchmod(root.descriptor, 0o755)
    with opened(path) as root:  # once nothing is removed any more: that would change the times
        for entry in walk(root):
            os.utime(entry.name, (EPOCH, EPOCH), dir_fd=entry.above, follow_symlinks=False)
        os.utime(root.descriptor, (EPOCH, EPOCH))


def _plain(entry: Entry) -> None:
    """No rights that a file brings with it, and none to write for anybody but root."""
    mode = stat.S_IMODE(entry.status.st_mode)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(entry.name, flags, dir_fd=entry.above)
    try:
        for attribute in os.listxattr(descriptor):
            os.removexattr(descriptor, attribute)
        if mode & 0o755 != mode:
            os.fchmod(descriptor, mode & 0o755)
    finally:
        os.close(descriptor)


def remove_caches(path: Path) -> None:
    """Remove every directory of compiled Python: they are made anew, the same each time."""
    with opened(path) as root:
        found = [e.path for e in walk(root) if e.name == "__pycache__" and stat.S_ISDIR(e.status.st_mode)]
    for name in found:
        remove_tree(path / name[1:])
