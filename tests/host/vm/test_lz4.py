import struct

import pytest

from squib.host.vm import lz4


def frame(*blocks: bytes) -> bytes:
    return lz4.MAGIC + b"".join(struct.pack("<I", len(block)) + block for block in blocks)


#: Four literals, then 24 bytes from four bytes back (15 + 5 + 4), then the last two literals.
REPEATED = bytes([0x4F]) + b"abcd" + b"\x04\x00" + bytes([5]) + bytes([0x20]) + b"yz"


def test_copies_may_overlap_what_they_make() -> None:
    assert lz4.decompress(frame(REPEATED)) == b"abcd" * 7 + b"yz"


def test_long_runs_of_literals_have_their_length_in_more_bytes() -> None:
    text = bytes(range(256)) * 2
    block = bytes([0xF0, 255, len(text) - 15 - 255]) + text
    assert lz4.decompress(frame(block, REPEATED)) == text + b"abcd" * 7 + b"yz"


def test_what_follows_the_last_block_is_left_out() -> None:
    assert lz4.decompress(frame(REPEATED) + struct.pack("<I", 30)) == b"abcd" * 7 + b"yz"


@pytest.mark.parametrize(
    "packed",
    [
        b"\x28\xb5\x2f\xfd",
        frame(REPEATED[:-4]),
        frame(bytes([0x10]) + b"a" + b"\x02\x00"),
        frame(bytes([0x10]) + b"a" + b"\x00\x00"),
    ],
)
def test_what_is_damaged_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="LZ4"):
        lz4.decompress(packed)
