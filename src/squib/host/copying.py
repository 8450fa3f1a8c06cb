"""Copies a machine's workspace for another one: hostile content, read as the one's user, written as the other's."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from squib.contracts.errors import InfrastructureError
from squib.host.ground import MIB

COPY_SECONDS = 900.0
_SAID_BYTES = 2000
_PATH = "/usr/local/bin:/usr/bin:/bin"
#: Neither side has a right beyond its user's: what can't be read is left out, and no device can be made. Names are
#: relative and come from a real tree; links are copied as links, and followed by neither side.
_READ = ("tar", "--create", "--file=-", "--sparse", "--format=posix", "--one-file-system", "--ignore-failed-read")
_WRITE = ("tar", "--extract", "--file=-", "--preserve-permissions", "--no-same-owner")
_CHANGED = 1  # tar's status where a file changed while it was read


async def copy(source: Path, reader: int | None, target: Path, writer: int | None, most: int) -> None:
    """Copy all below `source`, as far as `reader` can read it, into the directory `target` of `writer`'s.

    A user None is this process's own. Raises InfrastructureError where it fails, or there are more than `most` MiB.
    """
    stages = (
        ((*_READ, f"--directory={source}", "."), reader),
        (("head", "-c", str(most * MIB)), reader),
        ((*_WRITE, f"--directory={target}"), writer),
    )
    try:
        async with asyncio.timeout(COPY_SECONDS), _pipeline(stages) as (first, _, last):
            said, _ = await asyncio.gather(_tail(last.stderr), _tail(first.stderr))
            statuses = await first.wait(), await last.wait()
    except TimeoutError as error:
        raise InfrastructureError(f"a workspace was not copied within {COPY_SECONDS:.0f} s") from error
    except OSError as error:
        raise InfrastructureError(f"a workspace can't be copied: {error}") from error
    if statuses[1] != 0 or statuses[0] not in (0, _CHANGED):
        text = "".join(c if c.isprintable() else " " for c in said.decode(errors="replace"))
        raise InfrastructureError(f"a workspace can't be copied, or holds more than {most} MiB: {text or statuses}")


@contextlib.asynccontextmanager
async def _pipeline(
    stages: Sequence[tuple[Sequence[str], int | None]],
) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Programs that run one into the other, each as its user; none of them outlasts the block."""
    running: list[asyncio.subprocess.Process] = []
    before = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for argv, user in stages:
            ours, theirs = os.pipe() if len(running) < len(stages) - 1 else (-1, os.open("/dev/null", os.O_WRONLY))
            try:
                running.append(await _start(argv, user, before, theirs))
            finally:
                os.close(before)
                os.close(theirs)
                before = ours
        yield running
    finally:
        if before >= 0:
            os.close(before)
        for process in running:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.shield(process.wait())


async def _start(argv: Sequence[str], user: int | None, source: int, target: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *argv,
        stdin=source,
        stdout=target,
        stderr=asyncio.subprocess.PIPE,
        cwd="/",
        env={"PATH": _PATH, "LANG": "C.UTF-8"},
        start_new_session=True,
        umask=0o022,
        user=user,
        group=user,
        extra_groups=None if user is None else (),
    )


async def _tail(stream: asyncio.StreamReader | None) -> bytes:
    """The end of what it said, all of which is read: it names files that a guest has called so."""
    said = b""
    while stream is not None and (piece := await stream.read(65_536)):
        said = (said + piece)[-_SAID_BYTES:]
    return said
