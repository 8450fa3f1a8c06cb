"""What a process must set right before it supervises others; as PID 1, what nobody has done before it."""

import contextlib
import ctypes
import fcntl
import logging
import os
import socket
import struct
from pathlib import Path

log = logging.getLogger("squib.guest")
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_MS_NOSUID_NODEV_NOEXEC, _MS_NOSUID_NODEV, _MS_NOSUID = 14, 6, 2
#: What a system needs: target, type, flags, options, and what is there when somebody has mounted it already.
_MOUNTS = (
    ("/proc", "proc", _MS_NOSUID_NODEV_NOEXEC, "", "/proc/self"),
    ("/sys", "sysfs", _MS_NOSUID_NODEV_NOEXEC, "", "/sys/kernel"),
    ("/dev", "devtmpfs", _MS_NOSUID, "mode=0755", "/dev/null"),
    ("/dev/pts", "devpts", _MS_NOSUID, "ptmxmode=0666,newinstance", "/dev/pts/ptmx"),
    ("/dev/shm", "tmpfs", _MS_NOSUID_NODEV, "mode=1777", ""),
    ("/tmp", "tmpfs", _MS_NOSUID_NODEV, "mode=1777", ""),
    ("/run", "tmpfs", _MS_NOSUID_NODEV, "mode=0755", ""),
)


def prepare() -> None:
    """Set up this process, as PID 1 the system too. Each step is best effort; what failed is logged."""
    libc = ctypes.CDLL(None, use_errno=True)
    # The agent runs as this process's user: it must not write to its memory by /proc, nor look into it.
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getpid() == 1 and os.geteuid() == 0:
        _mount_all(libc)
    elif os.getpid() != 1:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getpid() == 1:
        _loopback_up()
    _own_descriptors()
    os.umask(0o022)
    os.chdir("/")


def _own_descriptors() -> None:
    """0, 1 and 2 are open; whatever else this process was started with ends here, and goes to no child."""
    while (fd := os.open("/dev/null", os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(name), False)


def _mount_all(libc: ctypes.CDLL) -> None:
    for target, kind, flags, options, present in _MOUNTS:
        if _is_there(target, present):
            continue
        with contextlib.suppress(OSError):
            Path(target).mkdir(exist_ok=True)
        if libc.mount(kind.encode(), target.encode(), kind.encode(), flags, options.encode()) != 0:
            log.warning("mount %s: %s", target, os.strerror(ctypes.get_errno()))


def _is_there(target: str, present: str) -> bool:
    if target == "/proc":  # one that shows another namespace's processes is as good as none
        with contextlib.suppress(OSError):
            return str(Path("/proc/self").readlink()) == "1"
        return False
    return Path(present).exists() if present else os.path.ismount(target)


def _loopback_up() -> None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            request = struct.pack("16sH22x", b"lo", 0)
            (flags,) = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)
            if not flags & _IFF_UP:
                fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))
    except OSError as error:
        log.warning("the loopback interface cannot be brought up: %s", error.strerror)
