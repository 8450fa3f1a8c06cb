"""Runs the programs that make an image: their output a line at a time, their end with ours, however we end."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from squib.contracts.errors import ImageError

PACKAGES = {
    "bwrap": "bubblewrap",
    "mksquashfs": "squashfs-tools",
    "mmdebstrap": "mmdebstrap",
    "setpriv": "util-linux",
    "skopeo": "skopeo",
    "umoci": "umoci",
    "unshare": "util-linux",
}
_HEAD, _TAIL = 5, 25  # lines of an error: some programs say what is wrong first, others last
_MAX_LINE = 2000


class Progress(Protocol):
    """Whoever watches an image being made."""

    def step(self, name: str, number: int, total: int) -> None:
        """A step begins, the `number`th of `total`, counted from 1."""

    def line(self, text: str) -> None:
        """A line of the step's output: untrusted text."""


def require(*programs: str) -> None:
    """Raise ImageError where one of the programs is missing, naming the packages."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = " ".join(dict.fromkeys(PACKAGES[program] for program in missing))
        raise ImageError(f"{', '.join(missing)} is not installed", advice=f"apt-get install {packages}")


def ending_with_us(*argv: str) -> list[str]:
    """A command that the kernel ends when this process dies, with all that it has started and mounted."""
    namespace = ("unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--mount-proc")
    return ["setpriv", "--pdeathsig", "KILL", "--", *namespace, *argv]


async def run(
    argv: Sequence[str],
    progress: Progress,
    what: str,
    *,
    user: int | None = None,
    env: Mapping[str, str] | None = None,
    advice: str | None = None,
) -> None:
    """Run a program to its end, as `user` where one is given. Raises ImageError with what it said."""
    head: list[str] = []
    tail: deque[str] = deque(maxlen=_TAIL)
    async with _started(argv, user, env) as process:
        assert process.stdout is not None
        async for line in _lines(process.stdout):
            (head if len(head) < _HEAD else tail).append(line)
            progress.line(line)
        code = await process.wait()
    if code:
        said = "\n".join((*head, *tail))
        raise ImageError(f"{what} failed (exit status {code}):\n{said}", advice=advice)


@contextlib.asynccontextmanager
async def _started(
    argv: Sequence[str], user: int | None, env: Mapping[str, str] | None
) -> AsyncIterator[asyncio.subprocess.Process]:
    variables = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd="/",
        env={**variables, **(env or {})},
        start_new_session=True,
        umask=0o022,
        user=user,
        group=user,
        extra_groups=None if user is None else (),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines, also those that overwrite each other by carriage returns; a long one is cut."""
    rest = b""
    while piece := await reader.read(65_536):
        *whole, rest = re.split(rb"[\r\n]+", rest + piece)
        rest = rest[:_MAX_LINE]
        for line in whole:
            if line.strip():
                yield line[:_MAX_LINE].decode("utf-8", "replace")
    if rest.strip():
        yield rest.decode("utf-8", "replace")


def writable_by(path: Path, user: int) -> None:
    """Hand an empty directory to the user under whom steps run."""
    path.mkdir(mode=0o700, exist_ok=True)
    os.chown(path, user, user)
