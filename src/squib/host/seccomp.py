"""The system calls that a sandbox on the host's own kernel must not make.

One table, in two forms: a program for the kernel, and a profile as container engines take it.
"""

import errno
import importlib
import os
import socket
import stat
import termios
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_TIOCLINUX = 0x541C
_FILE_KIND = 0o170000  # S_IFMT
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
#: The families of sockets that programs need: each other one is code that the kernel would load for whoever asks.
FAMILIES = frozenset(int(f) for f in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK))

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


@dataclass(frozen=True, slots=True)
class Rule:
    """A call that is answered with an error: always, or where `argument` & `mask` == `value`."""

    call: str
    error: int
    argument: int | None = None
    mask: int = 0
    value: int = 0


class Unavailable(Exception):
    """libseccomp, or Python's binding for it, is not here."""


def rules(unsupported: Sequence[str] = ()) -> Iterator[Rule]:
    """The table. Calls named by `unsupported` are answered with ENOTSUP."""
    for names, error in ((REFUSED, errno.EPERM), (ABSENT, errno.ENOSYS), (unsupported, errno.ENOTSUP)):
        yield from (Rule(name, error) for name in names)
    for flag in _NEW_NAMESPACES:
        yield Rule("clone", errno.EPERM, 0, flag, flag)
    for command in (termios.TIOCSTI, _TIOCLINUX):
        yield Rule("ioctl", errno.EPERM, 1, _LOW32, command)
    for family in sorted(set(range(32)) - FAMILIES):
        yield Rule("socket", errno.EPERM, 0, _LOW32, family)
    for bit in range(5, 32):  # 32 and above
        yield Rule("socket", errno.EPERM, 0, 1 << bit, 1 << bit)
    for kind in (stat.S_IFCHR, stat.S_IFBLK):  # gVisor lets everybody make these, and open them on any mount
        yield Rule("mknod", errno.EPERM, 1, _FILE_KIND, kind)
        yield Rule("mknodat", errno.EPERM, 2, _FILE_KIND, kind)


def program(unsupported: Sequence[str] = ()) -> bytes:
    """Compile the filter for this machine's native calls; a call of another architecture ends the process.

    Raises Unavailable.
    """
    try:
        library: Any = importlib.import_module("pyseccomp")  # fails at import where the C library is missing
    except (ImportError, RuntimeError, OSError) as error:
        raise Unavailable(str(error)) from error
    made = library.SyscallFilter(library.ALLOW)
    for rule in rules(unsupported):
        number = library.resolve_syscall(library.Arch.NATIVE, rule.call)
        if number != -1:  # a call that is newer than this machine's libseccomp can't be named
            tests = () if rule.argument is None else (_test(library, rule),)
            made.add_rule(library.ERRNO(rule.error), number, *tests)
    with open(os.memfd_create("seccomp", os.MFD_CLOEXEC), "w+b") as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def profile() -> dict[str, Any]:
    """The same filter as a container engine's profile; engines pass over calls that their libseccomp can't name."""
    return {
        # Without a list of architectures the engine's runtime compiles for the native one alone.
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [_entry(rule) for rule in rules()],
    }


def _test(library: Any, rule: Rule) -> Any:
    return library.Arg(rule.argument, library.MASKED_EQ, rule.mask, rule.value)


def _entry(rule: Rule) -> dict[str, Any]:
    entry: dict[str, Any] = {"names": [rule.call], "action": "SCMP_ACT_ERRNO", "errnoRet": rule.error}
    if rule.argument is not None:
        test = {"index": rule.argument, "value": rule.mask, "valueTwo": rule.value, "op": "SCMP_CMP_MASKED_EQ"}
        entry["args"] = [test]
    return entry
