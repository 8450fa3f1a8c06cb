"""What an attempt is, what it may aim at, and how it calls the kernel."""

import ctypes
import errno
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from tests.conformance.escape.attempts.numbers import NUMBERS


class Shown(StrEnum):
    """Where the same attempt succeeds, which shows that it is a real one."""

    USER = "user"  # as an ordinary user on the host: under the driver `process`
    ROOT = "root"  # as root in namespaces of its own
    NOWHERE = "nowhere"  # where no harmless success can be had on a sound kernel


class Inapplicable(Exception):
    """This machine lacks what the attempt is about: another processor's calls, say."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another machine of the same host: where its things lie on the host, and what listens in it."""

    directory: str
    pid: int
    token: str
    abstract: str
    port: int


@dataclass(frozen=True, slots=True)
class Bait:
    """What the test has laid out for an attacker to find, by the host's paths, numbers and names."""

    secret: str  # what all baits hold
    file: str  # readable by all
    directory: str  # the machine's own, on the host
    machines: str  # the directory of all machines
    socket: str  # a unix socket that all may connect to; it answers with the secret
    abstract: str  # the same in the abstract name space
    addresses: tuple[str, ...]  # the host's own, loopback included
    port: int  # TCP on all of them; answers with the secret
    udp: int  # UDP on all of them; answers with the secret
    pid: int  # a process with the secret among its arguments and in its environment
    key: int  # of System V shared memory, open to all
    memory: str  # a file in the host's /dev/shm, open to all
    queue: str  # a POSIX message queue, open to all
    readonly: tuple[str, ...]  # files as the machine sees them, made by the test, that it may only read
    closed: tuple[str, ...]  # directories as the machine sees them, where it may make nothing
    own_kernel: bool  # whether the machine has one
    guest: str  # the guest's own socket as the machine sees it
    neighbour: Neighbour | None = None
    secrets: tuple[str, ...] = field(default=())  # the host's, which must be nowhere in here


Run = Callable[[Bait], str | None]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One. `run` gives the evidence of a success; it raises OSError, or gives None, where it was held off."""

    id: str
    tries: str
    why: str
    wins: str
    shown: Shown
    run: Run


def attempt(*, why: str, wins: str, shown: Shown = Shown.NOWHERE) -> Callable[[Run], Attempt]:
    """Make an attempt of a function, named by its name and told by its docstring."""

    def make(run: Run) -> Attempt:
        tries = " ".join((run.__doc__ or "").split())
        return Attempt(run.__name__.replace("_", "-"), tries, why, wins, shown, run)

    return make


#: What the kernel says to someone who may not, or where there is nothing of the kind.
REFUSALS = frozenset(
    {
        *(errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.EAFNOSUPPORT),
        *(errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EOPNOTSUPP),
    }
)
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Make the system call. Raises OSError, or Inapplicable where this processor has none of that name."""
    number = NUMBERS.get(platform.machine(), {}).get(name)
    if number is None:
        raise Inapplicable(f"no {name} on {platform.machine()}")
    ctypes.set_errno(0)
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in (*arguments, *[0] * (6 - len(arguments)))]
    value = int(libc.syscall(ctypes.c_long(number), *words))
    if value < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return value


def admitted(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> str | None:
    """Evidence where the kernel did the call, or only minded its arguments, which it looks at after the caller."""
    try:
        call(name, *arguments)
    except OSError as error:
        if error.errno in REFUSALS:
            raise
        return f"{name} only minded its arguments: {error}"
    return f"{name} was done"


def opens(path: str, flags: int) -> str | None:
    """Evidence where the file can be opened; nothing is read or written."""
    os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    return f"{path} opens with flags {flags:#x}"


def first(evidence: Callable[[str], str | None], names: list[str] | tuple[str, ...]) -> str | None:
    """The first evidence that one of the names gives; those that raise OSError give none."""
    for name in names:
        try:
            if found := evidence(name):
                return found
        except OSError:
            continue
    return None


def pids() -> list[int]:
    """All processes that /proc shows."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
