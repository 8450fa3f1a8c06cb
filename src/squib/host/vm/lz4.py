"""Unpacks LZ4's legacy frames, in which Debian's cloud kernel comes: no library of Python's own reads them.

Seconds for a kernel, which is done once for each.
"""

import struct

MAGIC = b"\x02\x21\x4c\x18"
_LEAST_MATCH = 4


def decompress(packed: bytes) -> bytes:
    """All blocks of the frame, up to where no whole one follows. Raises ValueError for damaged ones."""
    if not packed.startswith(MAGIC):
        raise ValueError("no legacy LZ4 frame")
    made, at = bytearray(), len(MAGIC)
    while at + 4 <= len(packed):
        (size,) = struct.unpack_from("<I", packed, at)
        at += 4
        if at + size > len(packed):  # the kernel's build appends the unpacked size
            break
        made += _block(packed[at : at + size])
        at += size
    return bytes(made)


def _block(source: bytes) -> bytearray:
    """One block: runs of literals, each followed by a copy of what came before (lz4_Block_format.md)."""
    made, at, end = bytearray(), 0, len(source)
    try:
        while at < end:
            token = source[at]
            at += 1
            literals, match = token >> 4, token & 15
            if literals == 15:
                while (more := source[at]) == 255:
                    literals, at = literals + 255, at + 1
                literals, at = literals + more, at + 1
            made += source[at : at + literals]
            at += literals
            if at >= end:
                break
            offset = source[at] | source[at + 1] << 8
            at += 2
            if match == 15:
                while (more := source[at]) == 255:
                    match, at = match + 255, at + 1
                match, at = match + more, at + 1
            _copy(made, offset, match + _LEAST_MATCH)
    except IndexError as error:
        raise ValueError("a block of LZ4 ends too early") from error
    return made


def _copy(made: bytearray, offset: int, length: int) -> None:
    """Repeat what lies `offset` bytes back; it may overlap what it makes."""
    start = len(made) - offset
    if offset == 0 or start < 0:
        raise ValueError("a block of LZ4 points before its beginning")
    if offset >= length:
        made += made[start : start + length]
    else:
        piece = bytes(made[start:])
        made += (piece * (length // offset + 1))[:length]
