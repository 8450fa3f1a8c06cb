"""What a machine is here: the guest's zipapp under bubblewrap, in the VMM's network namespace and as its user.

A machine's initramfs has `squib/guest.pyz`, `squib/guest.json` and, it may be, `squib/filter`, a system call filter;
without them the machine is an idle one. Its root is its root drive, where the jailer could mount that, with the
Python that `squib.python=` names; or else the system's own /usr. What it has in /workspace and in its home is on its
writable drive: unpacked from there when it starts, and packed into it when it pauses. What it has in /run is its
memory: packed into the memory file of a snapshot. So a machine that is restored has its files again, but no process
of before: its guest boots anew, with the configuration and the identity of the machine that was frozen.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from squib.testing.firecracker import cpio
from squib.testing.firecracker.fault import Fault
from squib.testing.firecracker.nic import Nic
from squib.testing.firecracker.sandbox import Inside

_PYZ, _CONFIG, _FILTER = "squib/guest.pyz", "squib/guest.json", "squib/filter"
_IMAGES = Path("/mnt")  # where the jailer mounts drives
#: What squib's initramfs prints where it is told to do no more.
_CHECK, _CHECKED = "squib.check", "squib: the kernel runs\n"
_MARK = b"squib stand-in\n"
_HEAD = 4096  # bytes before a packed archive
_TAR = ("--sparse", "--ignore-failed-read", "--warning=none")  # what its own user can't read stays behind
_STILL = "TtZX"  # stopped, or ended (proc(5), stat)
_PAUSE = 0.001  # seconds
_NS_GET_USERNS = 0xB701  # ioctl_ns(2)


class Guest:
    """The machine's insides, kept below `place`."""

    def __init__(self, place: Path):
        self._drive, self._run = place / "drive", place / "run"
        self._process: asyncio.subprocess.Process | None = None
        self._memory: Path | None = None  # of the snapshot that it goes on from
        self._nic: asyncio.Task[None] | None = None
        self._ordered = asyncio.Event()

    async def boot(self, words: str, initrd: str | None, drives: Sequence[dict[str, Any]]) -> None:
        """Start it, if there is one; `words` is the kernel's command line. Raises Fault."""
        if _CHECK in words.split():
            sys.stdout.write(_CHECKED)
            sys.stdout.flush()
        found = cpio.files(Path(initrd).read_bytes()) if initrd is not None else {}
        if _PYZ not in found or _CONFIG not in found:
            return
        self._clear()
        (self._run / "words").write_text(words)
        for name, inside in ((_PYZ, "guest.pyz"), (_CONFIG, "guest.json"), (_FILTER, "filter")):
            if name in found:
                (self._run / inside).write_bytes(found[name])
        await self._start(drives)

    async def resume(self, drives: Sequence[dict[str, Any]]) -> None:
        """Let it go on: from where it is paused, or from the snapshot that was loaded. Raises Fault."""
        if self._process is not None:
            _send([pid for pid, _ in self._processes()], signal.SIGCONT)
        elif self._memory is not None and packed(self._memory):
            self._clear()
            await _unpack(self._memory, self._run)
            self._memory = None
            await self._start(drives)

    async def pause(self, drives: Sequence[dict[str, Any]]) -> None:
        """Stop every process of it, and have its drive say what it has written."""
        if self._process is None:
            return
        while runs := [pid for pid, state in self._processes() if state not in _STILL]:
            _send(runs, signal.SIGSTOP)  # and once more, should one of them have forked meanwhile
            await asyncio.sleep(_PAUSE)
        try:
            if (drive := _writable(drives)) is not None:
                await _pack(self._drive, drive)
        except Fault:
            _send([pid for pid, _ in self._processes()], signal.SIGCONT)
            raise

    async def save(self, memory: Path) -> None:
        """Put what it remembers into a snapshot's memory file, which is there."""
        if self._process is not None:
            await _pack(self._run, memory)
        elif self._memory is not None and packed(self._memory):
            await asyncio.to_thread(shutil.copyfile, self._memory, memory)

    def remember(self, memory: Path) -> None:
        """It is to go on from a snapshot's memory file."""
        self._memory = memory

    async def ended(self) -> None:
        """Wait until it shuts down; an idle machine does so when it is told to."""
        while self._process is None and not self._ordered.is_set():
            await self._ordered.wait()
        if self._process is not None:
            await self._process.wait()

    def shut_down(self) -> None:
        """As control, alt and delete do."""
        self._ordered.set()
        self.kill()

    def kill(self) -> None:
        """End it at once: all its processes end with the outermost one."""
        if self._nic is not None:
            self._nic.cancel()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _clear(self) -> None:
        for path in (self._run, self._drive):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)

    async def _start(self, drives: Sequence[dict[str, Any]]) -> None:
        drive = _writable(drives)
        if drive is not None and packed(drive):
            await _unpack(drive, self._drive)
        nic = Nic(self._run / "guest.json", self._rename)
        for path in (
            self._run / "state",
            self._run / "config",
            *(self._drive / name for name in ("workspace", "home", "tmp")),
        ):
            path.mkdir(exist_ok=True)
        (self._run / "config" / "guest.json").write_bytes(nic.inside())
        inside = Inside(self._run, self._drive, _image(drives), 0 if drive is None else drive.stat().st_size)
        try:
            with contextlib.ExitStack() as stack:
                console = stack.enter_context((self._run.parent / "console.log").open("ab"))
                passed = [stack.enter_context(path.open("rb")) for path in self._run.glob("filter")]
                numbers = [file.fileno() for file in passed]
                argv = inside.command(nic.name, numbers)
                self._process = await asyncio.create_subprocess_exec(
                    *argv, stdin=subprocess.DEVNULL, stdout=console, stderr=console, pass_fds=numbers
                )
        except OSError as error:
            raise Fault(f"Start microvm error: the stand-in can't start its guest: {error}") from error
        self._ordered.set()
        self._nic = asyncio.create_task(nic.serve())

    async def _rename(self, name: str) -> None:
        """Give the machine another host name, as its privileged helper would: its namespaces are this user's."""
        descriptors = []
        try:
            descriptors.append(os.open(f"/proc/{self._processes()[-1][0]}/ns/uts", os.O_RDONLY))
            descriptors.append(fcntl.ioctl(descriptors[0], _NS_GET_USERNS))
            names, owner = (f"/proc/self/fd/{descriptor}" for descriptor in descriptors)
            argv = ("nsenter", f"--user={owner}", f"--uts={names}", "--preserve-credentials", "hostname", name)
            process = await asyncio.create_subprocess_exec(*argv, pass_fds=descriptors)
            await process.wait()
        except OSError as error:
            sys.stderr.write(f"the stand-in can't rename its machine: {error}\n")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _processes(self) -> list[tuple[int, str]]:
        """The outermost process and all that descends from it, each with the kernel's letter for what it does."""
        assert self._process is not None
        states: dict[int, str] = {}
        children: dict[int, list[int]] = {}
        for path in Path("/proc").iterdir():
            if path.name.isdecimal():
                with contextlib.suppress(OSError):
                    fields = (path / "stat").read_text(errors="replace").rpartition(")")[2].split()
                    states[int(path.name)] = fields[0]
                    children.setdefault(int(fields[1]), []).append(int(path.name))
        found = [self._process.pid] if self._process.pid in states else []
        for pid in found:
            found += children.get(pid, [])
        return [(pid, states[pid]) for pid in found]


def _image(drives: Sequence[dict[str, Any]]) -> Path | None:
    """Where the machine's root drive is mounted, if it is."""
    roots = [_IMAGES / Path(drive["path_on_host"]).name for drive in drives if drive["is_root_device"]]
    return next((path for path in roots if path.is_dir()), None)


def _send(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def packed(path: Path) -> bool:
    """Whether a drive or a memory file holds what a machine here left."""
    with path.open("rb") as file:
        return file.read(len(_MARK)) == _MARK


def _writable(drives: Sequence[dict[str, Any]]) -> Path | None:
    found = (drive for drive in drives if not drive["is_root_device"] and not drive.get("is_read_only"))
    return next((Path(drive["path_on_host"]) for drive in found), None)


async def _pack(source: Path, target: Path) -> None:
    """Write a directory into a file, whose length stays. Raises Fault where it does not fit."""
    room = target.stat().st_size
    with target.open("r+b") as file:
        file.write(_MARK.ljust(_HEAD, b"\0"))
        file.flush()
        tar = await asyncio.create_subprocess_exec("tar", *_TAR, "-C", str(source), "-cf", "-", ".", stdout=file)
        if await tar.wait() != 0 or target.stat().st_size > room:
            raise Fault(f"the stand-in's machine does not fit into {target}")


async def _unpack(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file:
        file.seek(_HEAD)
        tar = await asyncio.create_subprocess_exec("tar", "-C", str(target), "-xf", "-", stdin=file)
        if await tar.wait() != 0:
            raise Fault(f"the stand-in can't read {source}")
