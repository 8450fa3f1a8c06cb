"""The kernel's settings: files of /proc and /sys that change, or tell of, the whole machine; control groups."""

import os
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.escape.attempts.base import Bait, attempt, first, opens

_SKIPPED = frozenset({"self", "thread-self"})


def _below(top: str, depth: int = 6) -> Iterator[str]:
    for folder, folders, names in os.walk(top):
        if folder.count("/") > top.count("/") + depth:
            folders.clear()
        folders[:] = [name for name in folders if not name.isdigit() and name not in _SKIPPED]
        yield from (f"{folder}/{name}" for name in names)


def _writable(path: str) -> str | None:
    """Evidence where it opens for writing: nothing is written. A driver's own log of a process is not looked for."""
    return opens(path, os.O_WRONLY)


@attempt(why="core_pattern names a program that the kernel runs as root on the host.", wins="it opens to write")
def core_pattern(bait: Bait) -> str | None:
    """Open /proc/sys/kernel/core_pattern for writing."""
    return _writable("/proc/sys/kernel/core_pattern")


@attempt(
    why="So do the helpers for modules, hot-plugged devices, power-off and unknown formats.",
    wins="one opens to write",
)
def helper_programs(bait: Bait) -> str | None:
    """Open modprobe, hotplug, poweroff_cmd, /sys/kernel/uevent_helper and binfmt_misc's register for writing."""
    names = [f"/proc/sys/kernel/{name}" for name in ("modprobe", "hotplug", "poweroff_cmd", "usermodehelper/bset")]
    return first(_writable, [*names, "/sys/kernel/uevent_helper", "/proc/sys/fs/binfmt_misc/register"])


@attempt(why="One letter there reboots or halts the host.", wins="it opens to write")
def sysrq(bait: Bait) -> str | None:
    """Open /proc/sysrq-trigger for writing."""
    return _writable("/proc/sysrq-trigger")


@attempt(why="Settings hold for everybody on that kernel.", wins="one of them opens to write")
def any_setting(bait: Bait) -> str | None:
    """Open everything below /proc/sys for writing."""
    asking = "/proc/sys/kernel/ns_last_pid"  # opens to all: who may write there is asked at the write
    return first(_writable, [path for path in _below("/proc/sys") if path != asking])


@attempt(
    why="/proc holds more that is the whole machine's: interrupts, buses, file systems' options.",
    wins="one opens to write",
)
def rest_of_proc(bait: Bait) -> str | None:
    """Open everything in /proc that is no process's for writing."""
    skipped = (*_SKIPPED, "sys", "pressure")  # pressure: everybody may ask there to be woken
    tops = [f"/proc/{name}" for name in os.listdir("/proc") if not name.isdigit() and name not in skipped]
    return first(_writable, [path for top in tops for path in ([top] if os.path.isfile(top) else list(_below(top)))])


@attempt(why="/sys are the kernel's own objects: devices, drivers, firmware, power.", wins="one opens to write")
def any_object(bait: Bait) -> str | None:
    """Open everything below /sys for writing."""
    return first(_writable, list(_below("/sys", 4)))


@attempt(why="The kernel's memory holds everything.", wins="one opens to read")
def kernel_memory(bait: Bait) -> str | None:
    """Open /proc/kcore, /dev/mem, /dev/kmem and /dev/port to read."""
    return first(lambda path: opens(path, os.O_RDONLY), ["/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port"])


@attempt(why="The kernel's log names addresses, devices and what others do.", wins="one opens to read")
def kernel_log(bait: Bait) -> str | None:
    """Open /dev/kmsg and /proc/kmsg to read."""
    return first(lambda path: opens(path, os.O_RDONLY), ["/dev/kmsg", "/proc/kmsg"])


@attempt(why="Addresses of the kernel's code are half of an exploit.", wins="an address is told")
def kernel_addresses(bait: Bait) -> str | None:
    """Read /proc/kallsyms, /proc/modules and /proc/timer_list for addresses that are not zero."""

    def told(path: str) -> str | None:
        with open(path, errors="replace") as file:
            for line in file:
                word = next(
                    (w for w in line.split() if w.removeprefix("0x").startswith("ffff") and len(w) >= 16), None
                )
                if word and set(word.removeprefix("0x")) != {"f"}:
                    return f"{path}: {word}"
        return None

    return first(told, ["/proc/kallsyms", "/proc/modules", "/proc/timer_list"])


def _groups() -> list[str]:
    """Where control groups are mounted, as far as the machine sees."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [w[4] for w in lines if w[w.index("-") + 1].startswith("cgroup")] + ["/sys/fs/cgroup"]


@attempt(
    why="The kernel runs what release_agent names as root when a group empties (CVE-2022-0492).",
    wins="it opens to write",
)
def release_agent(bait: Bait) -> str | None:
    """Find release_agent and notify_on_release wherever control groups are mounted, and open them for writing."""
    names = [
        f"{top}/{part}{name}"
        for top in _groups()
        for part in ("", "memory/", "rdma/", "cpu/", "systemd/")
        for name in ("release_agent", "notify_on_release")
    ]
    return first(_writable, names)


@attempt(
    why="Who writes to groups lifts the machine's limits, or leaves them.",
    wins="one opens to write, or a group is made",
)
def control_groups(bait: Bait) -> str | None:
    """Open the files of control groups for writing, and make a group."""

    def make(top: str) -> str:
        os.mkdir(f"{top}/squib-attempt")
        os.rmdir(f"{top}/squib-attempt")
        return top

    return first(_writable, [path for top in _groups() for path in _below(top, 2)]) or first(make, _groups())
