"""Other processes: process 1, the host's, a neighbour's."""

import contextlib
import ctypes
import os
import resource
from pathlib import Path

from tests.conformance.escape.attempts.base import Bait, Inapplicable, Shown, attempt, call, first, opens, pids

_PTRACE_TRACEME, _PTRACE_DETACH, _PTRACE_SEIZE = 0, 17, 0x4206
_KCMP_FILES = 2
#: What an environment may hold without telling of the host.
_PLAIN = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "PWD", "OLDPWD", "SHLVL", "_", "TERM", "USER", "container"}
)


def _of_the_host(bait: Bait) -> None:
    if bait.own_kernel:
        raise Inapplicable("this kernel ranks the machine's own processes alone")


def _others() -> list[str]:
    """The processes of this machine that are not this one's own, the first above all."""
    return [str(pid) for pid in pids() if pid not in (os.getpid(), os.getppid())]


@attempt(why="Who traces process 1 is process 1: it could speak to the host in its name.", wins="it is traced")
def trace_process_1(bait: Bait) -> str | None:
    """ptrace(2) of process 1 and of every other process here, let go at once."""

    def seize(pid: str) -> str:
        call("ptrace", _PTRACE_SEIZE, int(pid), 0, 0)
        with contextlib.suppress(OSError):
            call("ptrace", _PTRACE_DETACH, int(pid), 0, 0)
        return f"traced {pid}"

    return first(seize, ["1", *_others()])


@attempt(
    why="Tracing is a large and often broken part of the kernel, and a way past filters.",
    wins="it works",
    shown=Shown.USER,
)
def trace_at_all(bait: Bait) -> str | None:
    """ptrace(2) with PTRACE_TRACEME."""
    call("ptrace", _PTRACE_TRACEME, 0, 0, 0)
    return "traced"


@attempt(why="Its memory is the same as tracing it.", wins="it opens")
def memory_of_process_1(bait: Bait) -> str | None:
    """Open /proc/1/mem to write and to read: whoever writes there speaks in the supervisor's name."""
    return first(lambda flag: opens("/proc/1/mem", int(flag)), [str(os.O_RDWR), str(os.O_RDONLY)])


@attempt(why="What it was started with may hold the host's secrets.", wins="there is more than programs need")
def environment_of_process_1(bait: Bait) -> str | None:
    """Read /proc/1/environ, and look for what is not a path, a language or a place."""
    told = Path("/proc/1/environ").read_bytes().decode(errors="replace").split("\0")
    more = {line.partition("=")[0] for line in told if line} - _PLAIN
    return f"also {sorted(more)}" if more else None


@attempt(why="Its descriptors are sockets and files that are not the agent's.", wins="one that has no name is had")
def descriptors_of_process_1(bait: Bait) -> str | None:
    """Open what is in /proc/1/fd but the pipes to commands: sockets, deleted files; and pidfd_getfd(2) of it."""

    def take(path: str) -> str | None:
        target = os.readlink(path)
        return None if os.path.exists(target) or target.startswith("pipe:") else opens(path, os.O_RDONLY)

    def duplicate(number: str) -> str:
        return f"descriptor {call('pidfd_getfd', os.pidfd_open(1), int(number), 0)}"

    numbers = [str(number) for number in range(3, 24)]  # the console is the agent's to write to
    return first(take, [f"/proc/1/fd/{number}" for number in numbers]) or first(duplicate, numbers)


@attempt(why="The calls for other processes' memory need no /proc.", wins="a byte is read", shown=Shown.NOWHERE)
def copy_memory_of_process_1(bait: Bait) -> str | None:
    """process_vm_readv(2) and process_vm_writev(2) of process 1, and kcmp(2) with it."""
    here = ctypes.create_string_buffer(16)
    vector = ctypes.create_string_buffer(16)
    ctypes.c_uint64.from_buffer(vector).value = ctypes.addressof(here)
    ctypes.c_uint64.from_buffer(vector, 8).value = 0
    for name, arguments in (
        ("process_vm_readv", (1, vector, 1, vector, 1, 0)),
        ("process_vm_writev", (1, vector, 1, vector, 1, 0)),
        ("kcmp", (1, os.getpid(), _KCMP_FILES, 0, 0)),
    ):
        with contextlib.suppress(OSError):
            call(name, *arguments)
            return name
    return None


@attempt(
    why="Limits of process 1 are what keeps the machine in bounds.", wins="a hard limit rises", shown=Shown.NOWHERE
)
def raise_limits(bait: Bait) -> str | None:
    """Raise one's own hard limits, and those of process 1, on processes, files, file size and core dumps."""

    def lift(name: str) -> str | None:
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY:
            return None
        with contextlib.suppress(ValueError):  # how Python says that it is not allowed
            resource.setrlimit(kind, (hard, hard + 1))
        return f"{name} beyond {hard}" if resource.getrlimit(kind)[1] != hard else None

    return first(lift, ["RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_NOFILE"])


@attempt(why="Real-time processes starve everybody else on the machine.", wins="a priority above the usual")
def real_time(bait: Bait) -> str | None:
    """sched_setscheduler(2) to SCHED_FIFO, setpriority(2) to -20, real-time input and output."""
    _of_the_host(bait)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        return "SCHED_FIFO"
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        return "priority -20"
    call("ioprio_set", 1, 0, 1 << 13)
    return "real-time input and output"


@attempt(
    why="Where memory ends, the kernel must end the sandbox and not the host's own.",
    wins="it falls below what ordinary processes have",
)
def spare_oneself_from_the_killer(bait: Bait) -> str | None:
    """Write -1 to /proc/self/oom_score_adj and to process 1's."""
    _of_the_host(bait)

    def spare(pid: str) -> str:
        Path(f"/proc/{pid}/oom_score_adj").write_text("-1")
        return f"{pid}: {Path(f'/proc/{pid}/oom_score_adj').read_text()}"

    return first(spare, ["self", "1"])


@attempt(why="The host's processes show secrets, and can be ended.", wins="one is seen", shown=Shown.USER)
def host_processes(bait: Bait) -> str | None:
    """Look for a process of the host's that has a secret among its arguments: by /proc of all numbers, by pidfd."""
    return first(
        lambda pid: pid if bait.secret.encode() in Path(f"/proc/{pid}/cmdline").read_bytes() else None,
        [str(bait.pid), *map(str, pids())],
    )


@attempt(
    why="A signal to the host's number must not reach the host's process.",
    wins="such a process is there",
    shown=Shown.USER,
)
def signal_host_processes(bait: Bait) -> str | None:
    """pidfd_open(2) of the host's and the neighbour's processes by their numbers outside, and signal 0 to them."""
    numbers = [bait.pid, *([bait.neighbour.pid] if bait.neighbour else [])]
    inside = set(pids())

    def reach(number: str) -> str | None:
        if int(number) in inside and bait.secret.encode() not in Path(f"/proc/{number}/cmdline").read_bytes():
            return None  # a process of this machine that happens to have the same number
        os.close(os.pidfd_open(int(number)))
        return f"process {number} is there"

    return first(reach, [str(number) for number in numbers])
