"""The digest of a part: of its content alone, and quick where that is mostly zeros, as a machine's memory is."""

import errno
import hashlib
import io
import os

BLOCK = 1024 * 1024
_ZEROS = bytes(BLOCK)


def of(file: io.BufferedReader) -> str:
    """SHA-256 in hex over each block of a MiB that holds more than zeros, after its number. Raises OSError.

    Holes are passed over, and count as the zeros that they are. The size is not part of it.
    """
    total, handle = hashlib.sha256(), file.fileno()
    size, offset = os.fstat(handle).st_size, 0
    while (offset := _data(handle, offset, size)) < size:
        block = os.pread(handle, BLOCK, offset)
        if not block:
            break
        if block != _ZEROS[: len(block)]:
            total.update((offset // BLOCK).to_bytes(8, "big"))
            total.update(block)
        offset += BLOCK
    return total.hexdigest()


def _data(handle: int, offset: int, size: int) -> int:
    """The first block from `offset` on that may hold data; `size` where there is none."""
    if offset >= size:
        return size
    try:
        return max(offset, os.lseek(handle, offset, os.SEEK_DATA) // BLOCK * BLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise
