"""Mounts, roots and namespaces: a view of one's own, in which the old rules do not hold."""

import ctypes
import os
import signal
from pathlib import Path

from tests.conformance.escape.attempts.base import Bait, Shown, admitted, attempt, call, first, pids

_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 32, 4096, 16384, 1 << 18, 2
_AT_FDCWD, _OPEN_TREE_CLONE, _AT_EMPTY_PATH = -100, 1, 0x1000
_NEW = {
    "mount": 0x20000,
    "cgroup": 0x2000000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "time": 0x80,
}


def _mount(source: bytes, target: bytes, kind: bytes, flags: int = 0, options: bytes = b"") -> str:
    call("mount", source, target, kind, flags, options)
    call("umount2", target, _MNT_DETACH)
    return f"mounted {kind.decode() or source.decode()} on {target.decode()}"


def _place() -> bytes:
    os.makedirs("place", exist_ok=True)
    return os.path.abspath("place").encode()


@attempt(
    why="Who can mount can cover what others trust, and reach every file system's code.",
    wins="it is mounted",
    shown=Shown.ROOT,
)
def mount_memory(bait: Bait) -> str | None:
    """mount(2) of a tmpfs on a directory of the workspace."""
    return _mount(b"tmpfs", _place(), b"tmpfs")


@attempt(why="A new /proc shows what the old one hides.", wins="it is mounted", shown=Shown.ROOT)
def mount_proc(bait: Bait) -> str | None:
    """mount(2) of a proc."""
    return _mount(b"proc", _place(), b"proc")


@attempt(why="The kernel's settings, its devices and control groups are file systems too.", wins="one is mounted")
def mount_the_kernel(bait: Bait) -> str | None:
    """mount(2) of sysfs, cgroup, cgroup2, debugfs, securityfs, devtmpfs, binfmt_misc and bpf."""
    place = _place()
    kinds = ["sysfs", "cgroup", "cgroup2", "debugfs", "securityfs", "devtmpfs", "binfmt_misc", "bpf"]
    return first(lambda kind: _mount(kind.encode(), place, kind.encode()), kinds)


@attempt(why="An overlay may write where its parts may not (CVE-2023-0386).", wins="it is mounted")
def mount_overlay(bait: Bait) -> str | None:
    """mount(2) of an overlay of /usr, and of a fuse."""
    for name in ("upper", "work"):
        os.makedirs(name, exist_ok=True)
    options = f"lowerdir=/usr,upperdir={os.path.abspath('upper')},workdir={os.path.abspath('work')}"
    place = _place()
    return first(
        lambda kind: _mount(
            kind.encode(), place, kind.encode(), 0, options.encode() if kind == "overlay" else b"fd=0"
        ),
        ["overlay", "fuse"],
    )


@attempt(
    why="A bind mount can be remounted with other rules.", wins="a read-only mount becomes writable", shown=Shown.ROOT
)
def remount_to_write(bait: Bait) -> str | None:
    """Bind the root to a directory of the workspace, and remount it, and /usr, to be written."""
    place = _place()
    try:
        call("mount", b"/usr", b"/usr", b"", _MS_REMOUNT | _MS_BIND, b"")
        return "remounted /usr"
    except OSError:
        return _mount(b"/", place, b"", _MS_BIND | _MS_REC)


@attempt(why="What lies below a mount was covered for a reason.", wins="it is uncovered", shown=Shown.ROOT)
def uncover(bait: Bait) -> str | None:
    """umount2(2) of every mount that the machine sees; what is no mount point is only minded after the caller."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    flags = 8 | 4  # UMOUNT_NOFOLLOW | MNT_EXPIRE: of two such calls only the second one would unmount
    return first(lambda path: admitted("umount2", path.encode(), flags), mounted)


@attempt(
    why="The newer calls do the same, past filters that know the old ones alone.", wins="one works", shown=Shown.ROOT
)
def mount_by_the_new_calls(bait: Bait) -> str | None:
    """fsopen(2), open_tree(2) with a copy, fspick(2), mount_setattr(2) and move_mount(2)."""
    attributes = ctypes.create_string_buffer(32)
    tries = [
        ("fsopen", b"tmpfs", 0),
        ("open_tree", _AT_FDCWD, b"/", _OPEN_TREE_CLONE),
        ("fspick", _AT_FDCWD, b"/", 0),
        ("mount_setattr", _AT_FDCWD, b"/", 0, attributes, 32),
        ("move_mount", _AT_FDCWD, b"/nowhere", _AT_FDCWD, b"/nowhere", 0),
    ]
    for name, *arguments in tries:
        try:
            if found := admitted(str(name), *arguments):  # type: ignore[arg-type]
                return found
        except OSError:
            continue
    return None


@attempt(why="Another root brings back what the first one hid.", wins="the kernel admits it", shown=Shown.ROOT)
def change_the_root(bait: Bait) -> str | None:
    """pivot_root(2) to the directory where one is."""
    return admitted("pivot_root", b".", b".")


@attempt(
    why="A root within a root is climbed out of with a descriptor from before.",
    wins="chroot(2) works",
    shown=Shown.ROOT,
)
def break_a_root(bait: Bait) -> str | None:
    """The classic: hold a directory, chroot(2) below it, climb from it."""
    os.makedirs("below", exist_ok=True)
    held = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    call("chroot", b"below")
    os.fchdir(held)
    return "chroot worked"


def _unshared(flag: int) -> str | None:
    call("unshare", flag)
    return f"unshare({flag:#x})"


@attempt(
    why="In a user namespace of one's own one is root, with most of the kernel's code to reach.",
    wins="it is made",
    shown=Shown.USER,
)
def own_user_namespace(bait: Bait) -> str | None:
    """unshare(2) with CLONE_NEWUSER."""
    return _unshared(_NEW["user"])


@attempt(
    why="Every namespace of one's own is a place where the host's rules are made anew.",
    wins="one is made",
    shown=Shown.ROOT,
)
def own_namespaces(bait: Bait) -> str | None:
    """unshare(2) with each other flag: mounts, control groups, host name, IPC, processes, network, time."""
    flags = {f"{flag:#x}": flag for name, flag in _NEW.items() if name != "user"}
    return first(lambda name: _unshared(flags[name]), list(flags))


@attempt(
    why="The same by the call that makes processes.",
    wins="a child in a namespace of its own is born",
    shown=Shown.USER,
)
def clone_into_namespaces(bait: Bait) -> str | None:
    """clone(2) with each flag; the child ends at once."""

    def born(name: str) -> str:
        pid = call("clone", _NEW[name] | signal.SIGCHLD)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return f"clone with a new {name} namespace"

    return first(born, [name for name in _NEW if name != "time"])


@attempt(why="clone3 keeps its flags in memory, where a filter can't look.", wins="a child is born", shown=Shown.USER)
def clone3_into_namespaces(bait: Bait) -> str | None:
    """clone3(2) with CLONE_NEWUSER; the child ends at once."""
    arguments = ctypes.create_string_buffer(64)
    ctypes.c_uint64.from_buffer(arguments).value = _NEW["user"]
    ctypes.c_uint64.from_buffer(arguments, 32).value = signal.SIGCHLD
    pid = call("clone3", arguments, 64)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "clone3 with a new user namespace"


@attempt(why="Another process's namespaces may be the host's.", wins="one is entered", shown=Shown.ROOT)
def enter_namespaces(bait: Bait) -> str | None:
    """setns(2) into every namespace of every process that is to be seen, by /proc and by pidfd_open(2)."""

    def enter(path: str) -> str:
        held = os.open(path, os.O_RDONLY)
        call("setns", held, 0)
        return path

    names = [f"/proc/{pid}/ns/{name}" for pid in pids() for name in ("user", "mnt", "pid", "net", "ipc", "uts")]
    return first(enter, names) or first(lambda pid: f"{call('setns', os.pidfd_open(int(pid)), _NEW['mount'])}", ["1"])


@attempt(why="A map says who is who outside; a wider one makes one root there.", wins="a map is written")
def widen_the_user_map(bait: Bait) -> str | None:
    """Write to uid_map, gid_map and setgroups of one's own and of process 1's namespace."""

    def write(path: str) -> str:
        with open(path, "r+b", buffering=0) as file:
            file.write(b"deny" if path.endswith("setgroups") else b"0 0 4294967295")
        return path

    names = ("uid_map", "gid_map", "setgroups")
    return first(write, [f"/proc/{pid}/{name}" for pid in ("self", "1") for name in names])
