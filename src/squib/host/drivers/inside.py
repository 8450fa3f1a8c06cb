"""The first code in a gVisor machine: it gives away what process 1 starts with, then becomes the guest.

Runs under any CPython >= 3.11 with nothing but its standard library, as `inside.py FILTER GUEST ARGUMENT ...`. It
starts as the kernel's user 0, the only one that its files outside are mapped to, with some capabilities over gVisor's
own kernel. It goes on as user 1000 of a user namespace in which that is user 0's only name, with no capability and
no way to one, under the same system call filter as other sandboxes. Where GUEST is the supervisor's zipapp, it starts
a helper before, which keeps what it takes to renew the machine's names: see squib.guest.helper.
"""

import ctypes
import os
import runpy
import shutil
import socket
import struct
import sys
from pathlib import Path

UID = 1000
_NOBODY = 65534
_CLONE_NEWUSER = 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND = 1, 32, 4096
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 24, 38, 2
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63  # numbers that the kernel does not know are refused
_HELPER = "SQUIB_HELPER"  # tells the supervisor of its helper
_SHELL = "/bin/sh"
_ASLEEP = 'trap "" HUP INT TERM; read -r wake && exec "$@"'  # an agent that ends its own shells means others


class _Filter(ctypes.Structure):
    """`struct sock_fprog` (seccomp(2))."""

    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


def main() -> None:
    """Confine this process and become the guest. Raises OSError where the kernel refuses a step."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = Path(sys.argv[1]).read_bytes()
    os.chdir("/")  # the helper must not be in a directory of the host's when the machine is frozen
    if os.getuid() == 0:  # a container engine has given away all but the system calls
        _close_mounts(libc)
        if sys.argv[2].endswith(".pyz"):
            os.environ[_HELPER] = _start_helper(sys.argv[2])
        _become_nobody(libc)
    _filter(libc, program)
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _close_mounts(libc: ctypes.CDLL) -> None:
    """Kernel settings and /dev are the kernel's user 0's, and so would be this guest's to write.

    gVisor opens no device for writing on a read-only mount: there another user becomes the owner.
    """
    Path("/dev/fuse").unlink(missing_ok=True)
    shutil.rmtree("/dev/net", ignore_errors=True)
    os.chown("/dev", _NOBODY, _NOBODY)
    for path in (b"/proc/sys", b"/proc/sysrq-trigger"):
        _check(libc.mount(path, path, None, _MS_BIND, None), f"bind {path.decode()}")
        _check(libc.mount(None, path, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY, None), f"remount {path.decode()}")


def _start_helper(guest: str) -> str:
    """Start the helper; gives what the supervisor is told of it: a descriptor and the helper's pid.

    It sleeps as a small shell: most machines are never frozen, and to fork this process would cost each start 40 ms.
    """
    ours, theirs = socket.socketpair()
    command = [_SHELL, "-c", _ASLEEP, "sh", sys.executable, "-I", "-S", guest, "helper"]
    pid = os.posix_spawn(_SHELL, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)])
    theirs.close()
    return f"{ours.detach()} {pid}"


def _become_nobody(libc: ctypes.CDLL) -> None:
    """User 1000 of a user namespace of its own, without capabilities: the bounding set is emptied first."""
    before = os.getuid()
    _check(libc.unshare(_CLONE_NEWUSER), "unshare")
    for name in ("uid_map", "gid_map"):
        Path("/proc/self", name).write_text(f"{UID} {before} 1")
    for number in range(_LAST_CAPABILITY + 1):
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(libc.capset(header, struct.pack("=6I", *[0] * 6)), "capset")


def _filter(libc: ctypes.CDLL, program: bytes) -> None:
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    held = _Filter(len(program) // 8, program)
    _check(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(held), 0, 0), "seccomp")


def _check(outcome: int, what: str) -> None:
    if outcome != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


if __name__ == "__main__":
    main()
