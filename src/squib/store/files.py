"""Files beside the rows: streamed in, hashed on the way, on disk for good before a row names them."""

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.errors import StoreUnavailable, TooLarge

_BUFFER = 1024 * 1024
GARBAGE_AGE = 3600.0  # seconds after which a file that no row names is garbage, not one whose row is on its way


@dataclass(slots=True)
class Received:
    """A file that has come in whole and is still under its temporary name."""

    path: Path
    size: int = 0
    sha256: str = ""

    async def keep(self, target: Path) -> None:
        """Give it its name, durably. Raises StoreUnavailable."""
        with _writable():
            await asyncio.to_thread(_keep, self.path, target)


@asynccontextmanager
async def receive(directory: Path, chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[Received]:
    """Stream into a temporary file in `directory`, gone at the end of the block unless kept.

    Raises TooLarge, and StoreUnavailable where the disk takes no more.
    """
    received = Received(directory / f".{secrets.token_hex(8)}.tmp")
    digest = hashlib.sha256()
    with _writable():
        await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True, exist_ok=True)
        file = await asyncio.to_thread(_create, received.path)
    try:
        with file:
            pending: list[bytes] = []
            held = 0
            async for chunk in chunks:
                received.size += len(chunk)
                if received.size > max_bytes:
                    raise TooLarge(f"more than {max_bytes} bytes were sent")
                pending.append(chunk)
                held += len(chunk)
                if held >= _BUFFER:
                    with _writable():
                        await asyncio.to_thread(_write, file, digest.update, pending)
                    pending, held = [], 0
            with _writable():
                await asyncio.to_thread(_write, file, digest.update, pending)
                await asyncio.to_thread(os.fsync, file.fileno())
        received.sha256 = digest.hexdigest()
        yield received
    finally:
        with contextlib.suppress(FileNotFoundError):
            received.path.unlink()


@contextmanager
def _writable() -> Iterator[None]:
    """A disk that takes no more is trouble of the store's, which passes: no fault of the request's or the task's."""
    try:
        yield
    except OSError as error:
        advice = "Free space in squib's state directory; squib goes on by itself."
        raise StoreUnavailable(f"the store cannot write its files: {error.strerror}", advice=advice) from error


def _create(path: Path):  # type: ignore[no-untyped-def]
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=0)


def _write(file, update: Callable[[bytes], None], chunks: list[bytes]) -> None:  # type: ignore[no-untyped-def]
    data = b"".join(chunks)
    update(data)
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _keep(source: Path, target: Path) -> None:
    source.replace(target)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def remove(paths: list[Path]) -> int:
    """Unlink what is there of these; how many were."""
    gone = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            gone += 1
    return gone


def garbage(root: Path, named: set[Path]) -> list[Path]:
    """Files below `root` that no row names and that are too old to be on their way."""
    oldest = time.time() - GARBAGE_AGE
    found = [p for p in root.rglob("*") if p not in named and p.is_file()]
    return [p for p in found if p.stat().st_mtime < oldest]
