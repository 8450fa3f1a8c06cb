"""Processes: how the guest starts them cheaply, and how it alone reaps them, orphans included.

Every child of this process is started here and reaped here by one handler of SIGCHLD, so no exit status can be
lost to another reaper; whatever was not started here is an orphan that came to PID 1 or to the subreaper, and is
reaped as such. Because only this object reaps, a known pid stays that process's until its status is told.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

#: Python ignores these two; and nothing that the guest ignores or handles may stay so in a child.
_DEFAULT_SIGNALS = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD]


class Child:
    """A started process. `status` becomes its exit code, negative for the signal that ended it."""

    __slots__ = ("pid", "status")

    def __init__(self, pid: int, status: "asyncio.Future[int]"):
        self.pid = pid
        self.status = status

    @property
    def alive(self) -> bool:
        """Whether it has not been reaped: its pid is its own."""
        return not self.status.done()


class Children:
    """All processes that the guest started and that still run; one object a process."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._known: dict[int, Child] = {}
        self.apart: int | None = None  # a child that is there from the start, and no work of anybody's
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> "Children":
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_signal_handler(signal.SIGCHLD)
        os.close(self._null)

    @property
    def pids(self) -> set[int]:
        """The pids of the children that still run, for those whose trees they are not of."""
        return set(self._known) if self.apart is None else {*self._known, self.apart}

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: int,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        tty: str | None = None,
    ) -> Child:
        """Start `argv[0]`, an absolute path, in a session of its own with the directory `cwd` (a descriptor).

        The three streams are descriptors, or /dev/null where None; `tty` instead opens that terminal as all three
        and as the controlling one. No other descriptor is inherited: all of Python's are close-on-exec, and
        `boot.prepare` made so what the guest itself was started with. Raises OSError where it cannot be started.
        """
        if tty is not None:
            actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
                (os.POSIX_SPAWN_OPEN, 0, tty, os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, 0, 2),
            ]
        else:
            streams = [self._null if fd is None else fd for fd in (stdin, stdout, stderr)]
            actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(streams)]
        # posix_spawn (a vfork) takes a fifth of what fork takes here, but knows no directory: ours changes for
        # the moment. Nothing else in this process depends on it: other threads use descriptors.
        os.fchdir(cwd)
        try:
            pid = os.posix_spawn(
                argv[0],
                list(argv),
                dict(env),
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=_DEFAULT_SIGNALS,
            )
        finally:
            os.chdir("/")
        child = Child(pid, self._loop.create_future())
        self._known[pid] = child
        return child

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._known.pop(pid, None)
            if child is not None and not child.status.done():
                child.status.set_result(os.waitstatus_to_exitcode(status))


def find_program(name: str, path: str) -> str:
    """Give the absolute path of an executable: `name` itself if it has a slash, else the first on `path`.

    Raises FileNotFoundError.
    """
    if "/" in name:
        return name
    for directory in path.split(":"):
        candidate = f"{directory}/{name}"
        with contextlib.suppress(OSError):
            if directory.startswith("/") and os.access(candidate, os.X_OK) and not os.path.isdir(candidate):  # noqa: PTH112
                return candidate
    raise FileNotFoundError(f"{name} is not on the sandbox's PATH")
