"""Starts a machine's outermost process: limited, in its groups, detached from this one, and only once recorded.

A small shell comes first. It lowers its limits and waits at a gate, a pipe, while this process writes its record;
then it joins its groups, gives up root for the machine's own user, and becomes the program. If this process dies
before, the gate closes and the shell ends: nothing runs that no record tells of. It joins by itself because a
process that moves another one waits for all processors to pass a quiet point, which takes the kernel 10 ms; and where
its groups have been removed in the meantime, because the machine is not wanted any more, it ends.
"""

import asyncio
import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_SCRIPT = """
umask 022
echo 500 > /proc/self/oom_score_adj
ulimit -c 0
ulimit -n "$1"
ulimit -f "$2"
groups=$3
shift 3
read -r gate || exit 125
while [ "$groups" -gt 0 ]; do
    echo 0 > "$1" || exit 124
    groups=$((groups - 1))
    shift
done
exec "$@" < /dev/null
"""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_FILES = 65_536


@dataclass(frozen=True, slots=True)
class Start:
    """What to start. `uid` None: this process's own user. `disk` in MiB bounds each file that it writes."""

    argv: Sequence[str]
    output: int  # descriptor for standard output and error
    uid: int | None = None
    joins: Sequence[str] = ()  # files of its groups where it enters itself
    disk: int = 10_240
    env: Mapping[str, str] = field(default_factory=dict)
    descriptors: Sequence[int] = ()  # handed on under the same numbers
    enter: Sequence[str] = ()  # run before root is given up: a program that becomes the one in its arguments
    user_groups: Sequence[int] = ()  # that the user is in besides its own: of devices that it needs
    drops: bool = False  # the program is started as root and becomes the user itself, as Firecracker's jailer does


class Held:
    """A process that waits at its gate. Let it `go`, or `abandon` it; it is reaped by itself when it ends."""

    def __init__(self, pid: int, gate: int):
        self.pid = pid
        self._gate = gate

    def go(self) -> None:
        """Let it become the program."""
        with contextlib.suppress(BrokenPipeError):  # it was killed at the gate: whoever waits for it will see
            os.write(self._gate, b"\n")
        self.abandon()

    def abandon(self) -> None:
        """Close the gate: a process still waiting there ends. Harmless after `go`."""
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1


def start(what: Start, children: "Children") -> Held:
    """Start the shell in a session of its own and give it back, waiting. Raises OSError.

    As root a user id must be given, and never 0: bubblewrap under the real root isolates nothing.
    """
    if os.geteuid() == 0 and not what.uid:
        raise PermissionError("refusing to start a machine as root")
    files = min(MAX_FILES, _hard(resource.RLIMIT_NOFILE))
    blocks = min(what.disk * 2048, _hard(resource.RLIMIT_FSIZE) // 512)  # the shell counts blocks of 512 bytes
    script = ("/bin/sh", "-c", _SCRIPT, "squib", str(files), str(blocks), str(len(what.joins)), *what.joins)
    becomes = () if what.drops else _as_user(what.uid, what.user_groups)
    argv = [*script, *what.enter, *becomes, *what.argv]
    wait, gate = os.pipe()
    try:
        process = subprocess.Popen(
            argv,
            stdin=wait,
            stdout=what.output,
            stderr=what.output,
            cwd="/",
            env={"PATH": _PATH, **what.env},
            pass_fds=tuple(what.descriptors),
            start_new_session=True,
        )
    except BaseException:
        os.close(gate)
        raise
    finally:
        os.close(wait)
    children.adopt(process)
    return Held(process.pid, gate)


def _as_user(uid: int | None, groups: Sequence[int]) -> tuple[str, ...]:
    """What gives up root for the user, and all groups but these with it. Raises FileNotFoundError."""
    if uid is None:
        return ()
    program = shutil.which("setpriv", path=_PATH)
    if program is None:
        raise FileNotFoundError("setpriv is not installed (util-linux)")
    kept = ("--groups", ",".join(map(str, groups))) if groups else ("--clear-groups",)
    return (program, "--reuid", str(uid), "--regid", str(uid), *kept, "--")


def _hard(kind: int) -> int:
    _, hard = resource.getrlimit(kind)
    return 2**53 if hard == resource.RLIM_INFINITY else hard


class Children:
    """Reaps this process's machines as they end. They are not ended with it: `close` only stops watching."""

    def __init__(self) -> None:
        self._watched: dict[int, int] = {}

    def adopt(self, process: "subprocess.Popen[bytes]") -> None:
        """Take over from Popen, which would warn of, and wait for, a child that is meant to outlive us."""
        process.returncode = 0
        descriptor = os.pidfd_open(process.pid)
        self._watched[descriptor] = process.pid
        asyncio.get_running_loop().add_reader(descriptor, self._reap, descriptor)

    def _reap(self, descriptor: int) -> None:
        pid = self._watched.pop(descriptor)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)

    def close(self) -> None:
        """Stop watching; what still runs goes on."""
        for descriptor in list(self._watched):
            asyncio.get_running_loop().remove_reader(descriptor)
            self._reap(descriptor)
