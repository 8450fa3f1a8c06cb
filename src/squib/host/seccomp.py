"""The system calls that a sandbox on the host's own kernel must not make, as a program for bubblewrap."""

import errno
import importlib
import os
import socket
import termios
from collections.abc import Sequence
from typing import Any

_TIOCLINUX = 0x541C
_LOW32 = 0xFFFFFFFF  # the kernel looks at the low half only: a set high bit must not hide the value
_NEW_NAMESPACES = (
    0x00020000,  # CLONE_NEWNS
    0x02000000,  # CLONE_NEWCGROUP
    0x04000000,  # CLONE_NEWUTS
    0x08000000,  # CLONE_NEWIPC
    0x10000000,  # CLONE_NEWUSER
    0x20000000,  # CLONE_NEWPID
    0x40000000,  # CLONE_NEWNET
    0x00000080,  # CLONE_NEWTIME
)
_AF_ALG, _AF_VSOCK = 38, 40

#: Refused with EPERM: new mounts and namespaces, other processes' memory, the kernel's keys, code and clocks.
REFUSED = (
    *("mount", "umount2", "pivot_root", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree"),
    *("mount_setattr", "swapon", "swapoff", "quotactl", "quotactl_fd", "chroot"),
    *("unshare", "setns", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd"),
    *("keyctl", "add_key", "request_key", "bpf", "userfaultfd", "perf_event_open", "lookup_dcookie"),
    *("open_by_handle_at", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load"),
    *("reboot", "syslog", "acct", "iopl", "ioperm", "settimeofday", "clock_settime", "vhangup"),
)
#: Answered with ENOSYS, so that libraries fall back: clone3 hides its flags from a filter, io_uring its calls.
ABSENT = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")


class Unavailable(Exception):
    """libseccomp, or Python's binding for it, is not here."""


def program(unsupported: Sequence[str] = ()) -> bytes:
    """Compile the filter for this machine's native calls; a call of another architecture ends the process.

    Calls named by `unsupported` are answered with ENOTSUP. Raises Unavailable.
    """
    try:
        library: Any = importlib.import_module("pyseccomp")  # fails at import where the C library is missing
    except (ImportError, RuntimeError, OSError) as error:
        raise Unavailable(str(error)) from error
    rules = library.SyscallFilter(library.ALLOW)
    refuse = library.ERRNO(errno.EPERM)
    for name in REFUSED:
        _add(library, rules, refuse, name)
    for name in ABSENT:
        _add(library, rules, library.ERRNO(errno.ENOSYS), name)
    for name in unsupported:
        _add(library, rules, library.ERRNO(errno.ENOTSUP), name)
    for flag in _NEW_NAMESPACES:
        _add(library, rules, refuse, "clone", library.Arg(0, library.MASKED_EQ, flag, flag))
    for command in (termios.TIOCSTI, _TIOCLINUX):
        _add(library, rules, refuse, "ioctl", library.Arg(1, library.MASKED_EQ, _LOW32, command))
    for family in (_AF_ALG, _AF_VSOCK, int(socket.AF_PACKET)):
        _add(library, rules, refuse, "socket", library.Arg(0, library.MASKED_EQ, _LOW32, family))
    with open(os.memfd_create("seccomp", os.MFD_CLOEXEC), "w+b") as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def _add(library: Any, rules: Any, action: int, name: str, *arguments: Any) -> None:
    """Add a rule; a call that is newer than this machine's libseccomp can't be named, and is passed over."""
    number = library.resolve_syscall(library.Arch.NATIVE, name)
    if number != -1:
        rules.add_rule(action, number, *arguments)
