"""Devices: the hardware, and the kernel's services that are files."""

import fcntl
import os
import pty
import signal
import stat

from tests.conformance.escape.attempts.base import Bait, Shown, attempt, first, opens

_TIOCSTI, _TIOCLINUX, _TIOCSCTTY = 0x5412, 0x541C, 0x540E
#: What a program may use in a sandbox, and what the C library expects to be there.
_PLAIN = frozenset(
    {"null", "zero", "full", "random", "urandom", "ptmx", "tty", "console", "stdin", "stdout", "stderr", "fd", "core"}
)
#: Not opened: what starts to count, or what hangs up, by being opened.
_TOUCHY = ("watchdog", "ttyS", "lp", "st", "nst")
_NAMES = (
    *("kvm", "net/tun", "fuse", "cuse", "vhost-net", "vhost-vsock", "vsock", "loop-control", "mapper/control"),
    *("uinput", "snapshot", "nvram", "rtc0", "hpet", "btrfs-control", "autofs", "vfio/vfio", "uhid", "ppp"),
    *("sda", "sdb", "vda", "vdb", "vdc", "nvme0n1", "xvda", "loop0", "dm-0", "sr0", "zram0", "pmem0", "nbd0"),
    *("dri/card0", "dri/renderD128", "nvidia0", "input/event0", "snd/seq", "mem", "tpm0", "sev", "userfaultfd"),
)


@attempt(why="A disk read raw is everybody's files; most devices are code that few have looked at.", wins="one opens")
def devices(bait: Bait) -> str | None:
    """Open each device of a list of dangerous ones to write, and to read."""
    paths = [f"/dev/{name}" for name in _NAMES]
    return first(lambda p: opens(p, os.O_RDWR), paths) or first(lambda p: opens(p, os.O_RDONLY), paths)


@attempt(why="What is in /dev and on no list is what nobody thought of.", wins="it opens")
def unforeseen_devices(bait: Bait) -> str | None:
    """Open every device file in /dev that is none of those that programs need."""
    found = []
    for folder, folders, names in os.walk("/dev"):
        folders[:] = [name for name in folders if name not in ("pts", "shm", "fd")]
        found += [f"{folder}/{name}" for name in names if name not in _PLAIN and not name.startswith(_TOUCHY)]

    def open_device(path: str) -> str | None:
        mode = os.lstat(path).st_mode
        return opens(path, os.O_RDONLY) if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) else None

    return first(open_device, found)


@attempt(why="Who can make device files needs none to be there.", wins="one is made and opens", shown=Shown.ROOT)
def make_a_device(bait: Bait) -> str | None:
    """mknod(2) of a disk, the kernel's memory, tun and null in each place that can be written, and open(2) of it."""
    block, character = stat.S_IFBLK, stat.S_IFCHR
    kinds = {"sda": (block, 8, 0), "mem": (character, 1, 1), "tun": (character, 10, 200), "null": (character, 1, 3)}

    def make(path: str) -> str | None:
        kind, major, minor = kinds[path.rpartition("-")[2]]
        os.mknod(path, kind | 0o600, os.makedev(major, minor))
        try:
            return opens(path, os.O_RDONLY)
        finally:
            os.unlink(path)

    return first(make, [f"{place}/squib-{name}" for name in kinds for place in (".", "/tmp", "/dev/shm")])


@attempt(why="Typed into somebody's terminal, a line runs as that person.", wins="a character is pushed")
def type_for_others(bait: Bait) -> str | None:
    """TIOCSTI, also with high bits set, on a terminal of one's own and on the one that controls this process."""
    leader, follower = pty.openpty()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def push(place: str) -> str:
        terminal = follower if place == "own" else os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        if place == "own":
            os.setsid()
            fcntl.ioctl(terminal, _TIOCSCTTY, 0)
        fcntl.ioctl(terminal, _TIOCSTI, b"x")
        return f"pushed into {place}"

    found = first(push, ["/dev/tty", "own"])
    os.close(leader)
    return found


@attempt(why="The console's own call can paste what was selected there.", wins="it is done")
def paste_on_the_console(bait: Bait) -> str | None:
    """TIOCLINUX on a terminal of one's own and on /dev/console."""

    def paste(path: str) -> str:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY) if path else pty.openpty()[1]
        fcntl.ioctl(descriptor, _TIOCLINUX, b"\x06")
        return path or "a terminal of its own"

    return first(paste, ["/dev/console", "/dev/tty0", ""])
