"""The stand-in's two programs, and processes of theirs that end with the test."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

UID = 198_001


@dataclass(frozen=True)
class Programs:
    """The two, in a directory that other users can read."""

    firecracker: Path
    jailer: Path

    @property
    def faults(self) -> Path:
        return self.firecracker.with_name("faults.json")


def ended(*argv: str | Path) -> tuple[int, str]:
    """Exit status, and all that was printed."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


@contextlib.asynccontextmanager
async def started(argv: Sequence[str], **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process, which is ended."""
    process = await asyncio.create_subprocess_exec(*argv, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
