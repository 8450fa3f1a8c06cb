"""Bodies on their way between a guest and files, and the pieces of a streamed command's output."""

import base64
import binascii
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from squib.contracts.errors import GuestUnreachable, InfrastructureError, TooLarge
from squib.contracts.guest import Chunk, TerminalResult
from squib.link import untrusted
from squib.link.transport import READ_BYTES


async def file_pieces(source: Path, size: int) -> AsyncGenerator[bytes, None]:
    """The first `size` bytes of a file: what was promised, even if it grows meanwhile."""
    with source.open("rb") as file:
        while size > 0 and (piece := file.read(min(size, READ_BYTES))):
            size -= len(piece)
            yield piece


async def save(chunks: AsyncIterator[bytes], target: Path, max_bytes: int) -> int:
    """Write a body to `target` and give its size; no file is left where it fails.

    Raises TooLarge, and InfrastructureError where the disk here takes no more.
    """
    size = 0
    try:
        with target.open("wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise TooLarge(f"what the guest sends is over {max_bytes} bytes")
                file.write(chunk)
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InfrastructureError(f"what the guest sends can't be kept: {error.strerror}") from error
        raise
    return size


def chunk_bytes(data: bytes) -> bytes:
    """The output that a `stdout` or `stderr` frame carries. Raises GuestUnreachable for rubbish."""
    chunk = untrusted.load(Chunk, data, verbatim=True)
    if chunk.base64 is None:
        return (chunk.text or "").encode("utf-8", "replace")
    try:
        return base64.b64decode(chunk.base64, validate=True)
    except binascii.Error as error:
        raise GuestUnreachable("the guest sent output that is no base64") from error


def exit_result(data: bytes) -> TerminalResult:
    """The result that an `exit` frame carries. Raises GuestUnreachable for rubbish."""
    return untrusted.load(TerminalResult, data)
