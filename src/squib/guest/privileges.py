"""Giving up rights, for good: capabilities, the way to new ones, and system calls."""

import ctypes
import functools
import os
import struct

SYS_ADMIN, SYS_BOOT, SYS_TIME = 21, 22, 25
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63  # numbers that the kernel does not know are refused
_PR_SET_KEEPCAPS, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 8, 22, 24, 38, 2
_SETS = struct.Struct("=6I")  # effective, permitted, inheritable: of the first 32 capabilities, then of the next


class _Filter(ctypes.Structure):
    """`struct sock_fprog` (seccomp(2))."""

    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


def keep_only(*capabilities: int, user: int | None = None) -> None:
    """Give up all capabilities but these, as far as they are held, and every way to get one. Raises OSError.

    `user`: become that one.
    """
    for number in set(range(_LAST_CAPABILITY + 1)) - set(capabilities):
        _libc().prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    if user is not None:
        _check(_libc().prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities")
        os.setresuid(user, user, user)
    _limit(sum(1 << number for number in capabilities))
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")


def become(user: int) -> None:
    """Become the user and the group of that number, of no other group and without a capability. Raises OSError."""
    for number in range(_LAST_CAPABILITY + 1):
        _libc().prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _limit(0)
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")


def refuse_calls(program: bytes) -> None:
    """Put the system call filter on this process and all that come from it. Raises OSError."""
    held = _Filter(len(program) // 8, program)
    _check(_libc().prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(held), 0, 0), "seccomp")


def _limit(wanted: int) -> None:
    """Have the wanted ones, a bit for each, alone as effective and permitted ones, and none to hand on."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    held = ctypes.create_string_buffer(_SETS.size)
    _check(_libc().capget(header, held), "capget")
    permitted_low, permitted_high = _SETS.unpack(held.raw)[1::3]
    low, high = wanted & permitted_low, wanted >> 32 & permitted_high
    _check(_libc().capset(header, _SETS.pack(low, low, 0, high, high, 0)), "capset")


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(outcome: int, what: str) -> None:
    if outcome != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
