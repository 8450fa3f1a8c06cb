"""System calls that are the host's matter, or that reach code which is broken often."""

import ctypes
import mmap
import os
import platform
import socket
import struct
import time

from tests.conformance.escape.attempts.base import Bait, Inapplicable, Shown, admitted, attempt, call, first, libc

_REBOOT_MAGIC = (0xFEE1DEAD, 0x28121969)


def _any(*tries: tuple[object, ...]) -> str | None:
    return first(lambda n: admitted(*tries[int(n)]), [str(n) for n in range(len(tries))])  # type: ignore[arg-type]


@attempt(
    why="The kernel's keys are not kept apart by every namespace.", wins="a key is made or read", shown=Shown.USER
)
def kernel_keys(bait: Bait) -> str | None:
    """add_key(2), request_key(2) and keyctl(2) on the session's keyring."""
    return _any(
        ("keyctl", 0, -3, 1),
        ("add_key", b"user", b"squib-attempt", b"x", 1, -3),
        ("request_key", b"user", b"squib-attempt", 0, -3),
    )


@attempt(
    why="Programs that run in the kernel have been a way into it time and again.",
    wins="a map or a program is made",
    shown=Shown.ROOT,
)
def kernel_programs(bait: Bait) -> str | None:
    """bpf(2): a map, and a program that does nothing."""
    attributes = ctypes.create_string_buffer(struct.pack("=4I", 1, 4, 4, 1), 128)
    return _any(("bpf", 0, attributes, 72))


@attempt(why="Events of the processor show what others compute.", wins="one is opened", shown=Shown.ROOT)
def performance_events(bait: Bait) -> str | None:
    """perf_event_open(2) of the processor's clock, for oneself and for the whole processor."""
    attributes = ctypes.create_string_buffer(struct.pack("=2IQ", 1, 128, 0), 128)
    return _any(("perf_event_open", attributes, -1, 0, -1, 0), ("perf_event_open", attributes, 0, -1, -1, 0))


@attempt(
    why="It stops the kernel in the middle of a copy: the exploit writer's best tool.",
    wins="a descriptor is given",
    shown=Shown.ROOT,
)
def page_faults_by_hand(bait: Bait) -> str | None:
    """userfaultfd(2)."""
    return _any(("userfaultfd", os.O_CLOEXEC))


@attempt(
    why="It does what the other calls do, where a filter does not see it.", wins="a ring is made", shown=Shown.USER
)
def rings_of_calls(bait: Bait) -> str | None:
    """io_uring_setup(2)."""
    return _any(("io_uring_setup", 1, ctypes.create_string_buffer(120)))


@attempt(why="A module is code in the kernel.", wins="the kernel minds more than who asks")
def kernel_modules(bait: Bait) -> str | None:
    """init_module(2) of nothing, finit_module(2) of no file, delete_module(2) of one that is not there."""
    return _any(("init_module", 0, 0, b""), ("finit_module", -1, b"", 0), ("delete_module", b"squib-attempt", 0))


@attempt(why="Another kernel, or none.", wins="the kernel minds more than who asks", shown=Shown.ROOT)
def restart_the_machine(bait: Bait) -> str | None:
    """reboot(2) with a wrong magic number, kexec_load(2) of too many pieces: refused after the caller was."""
    return _any(("reboot", _REBOOT_MAGIC[0], 1, 0, 0), ("kexec_load", 0, 1 << 20, 0, 1 << 30))


@attempt(why="One clock is everybody's; certificates and leases hang on it.", wins="it is set, to what it was")
def the_clock(bait: Bait) -> str | None:
    """clock_settime(2) and settimeofday(2) to now, adjtimex(2) with the frequency that it has."""
    now = time.time()
    moment = struct.pack("=qq", int(now), int(now % 1 * 1e9))
    state = ctypes.create_string_buffer(208)
    libc.adjtimex(state)
    ctypes.c_uint32.from_buffer(state).value = 2  # ADJ_FREQUENCY, with the value just read
    for name, arguments in (
        ("clock_settime", (0, moment)),
        ("settimeofday", (struct.pack("=qq", int(now), int(now % 1 * 1e6)), 0)),
        ("adjtimex", (state,)),
    ):
        try:
            call(name, *arguments)
        except OSError:
            continue
        return name
    return None


@attempt(
    why="Swap, quotas and accounting are the host's; so is its log.",
    wins="the kernel minds more than who asks",
    shown=Shown.ROOT,
)
def administration(bait: Bait) -> str | None:
    """swapon(2), swapoff(2), acct(2) and quotactl(2) on what is not there; syslog(2) to read."""
    nothing = b"/nonexistent/squib-attempt"
    refused = []
    for name, arguments in (
        ("swapon", (nothing, 0)),
        ("swapoff", (nothing,)),
        ("acct", (nothing,)),
        ("quotactl", (0x80000700, nothing, 0, 0)),
        ("syslog", (10, 0, 0)),
    ):
        try:
            call(name, *arguments)
        except FileNotFoundError:
            if name != "quotactl":
                return f"{name} only minded that there is no such file"
        except OSError as error:
            refused.append(f"{name}: {error}")
        else:
            return f"{name} was done"
    return None


@attempt(why="The machine's own name is what others know it by.", wins="it is set, to what it was", shown=Shown.ROOT)
def host_name(bait: Bait) -> str | None:
    """sethostname(2) and setdomainname(2)."""
    name = socket.gethostname().encode()
    return _any(("sethostname", name, len(name)), ("setdomainname", b"(none)", 6))


@attempt(why="Ports of the hardware.", wins="they are opened")
def hardware_ports(bait: Bait) -> str | None:
    """iopl(2) and ioperm(2)."""
    return _any(("ioperm", 0x80, 1, 1), ("iopl", 3))


@attempt(
    why="It tells of every file that others open on the same mount.", wins="a mount is watched", shown=Shown.ROOT
)
def watch_everybody(bait: Bait) -> str | None:
    """fanotify_init(2) for content, then fanotify_mark(2) of the whole mount of /."""
    group = call("fanotify_init", 4, os.O_RDONLY)
    marked = libc.fanotify_mark(group, 0x1 | 0x10, ctypes.c_uint64(0x20), -100, b"/")
    return "the mount of / is watched" if marked == 0 else None


@attempt(
    why="A filter for one table of calls knows nothing of another one.", wins="the call is answered", shown=Shown.USER
)
def calls_of_32_bits(bait: Bait) -> str | None:
    """getpid(2) by `int 0x80`, the table of 32 bit programs."""
    if platform.machine() != "x86_64":
        raise Inapplicable("only x86_64 has that table")
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("b814000000cd80c3"))
    answer = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    return f"answered {answer}" if answer > 0 else None


@attempt(why="The same with the x32 table, whose numbers have one bit more.", wins="the call is answered")
def calls_of_x32(bait: Bait) -> str | None:
    """getpid(2) with bit 30 set."""
    if platform.machine() != "x86_64":
        raise Inapplicable("only x86_64 has that table")
    answer = libc.syscall(ctypes.c_long(0x40000000 + 39))
    return f"answered {answer}" if answer > 0 else None


@attempt(
    why="Programs without a file are seen by no one who looks for files; they must gain nothing by it.",
    wins="the filter or the promise is gone",
    shown=Shown.USER,
)
def program_without_a_file(bait: Bait) -> str | None:
    """Execute a copy of the shell from memfd_create(2), with another personality(2), and look what still holds."""
    descriptor = os.memfd_create("program", 0)
    with open("/bin/sh", "rb") as source:
        while piece := source.read(1 << 20):
            os.write(descriptor, piece)
    libc.personality(0x0400000 | 0x0040000)  # READ_IMPLIES_EXEC, ADDR_NO_RANDOMIZE
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.dup2(writer, 1)
        os.execve(descriptor, ["sh", "-c", 'while read -r line; do echo "$line"; done < /proc/self/status'], {})
    os.close(writer)
    with open(reader) as pipe:
        said = dict(line.split(maxsplit=1) for line in pipe.read().splitlines() if len(line.split()) > 1)
    os.waitpid(pid, 0)
    still = (said.get("NoNewPrivs:", "1"), said.get("Seccomp:"))
    return None if still == ("1", "2") or not said else f"no new privileges, filter: {still}"
