import gzip
import lzma
import shutil
import struct
import subprocess

import pytest

from squib.contracts.errors import ImageError
from squib.host.vm import bzimage, lz4

ELF = b"\x7fELF" + b"kernel" * 1000


def image(payload: bytes, sectors: int = 3) -> bytes:
    """A bzImage with what the kernel's boot protocol says of where its payload lies."""
    head = bytearray((sectors + 1) * 512)
    head[0x1F1] = sectors
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, 100, len(payload))
    return bytes(head) + bytes(100) + payload + b"behind"


def lz4_frame(content: bytes) -> bytes:
    block = bytes([0xF0]) + b"\xff" * ((len(content) - 15) // 255) + bytes([(len(content) - 15) % 255]) + content
    return lz4.MAGIC + struct.pack("<I", len(block)) + block


@pytest.mark.parametrize("pack", [gzip.compress, lambda c: lzma.compress(c, check=lzma.CHECK_CRC32), lz4_frame])
def test_the_kernel_comes_out_however_it_is_packed(pack) -> None:  # type: ignore[no-untyped-def]
    assert bzimage.extract(image(pack(ELF) + struct.pack("<I", len(ELF)))) == ELF


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
def test_zstd_is_unpacked_by_its_own_program() -> None:
    packed = subprocess.run(["zstd", "-qc"], input=ELF, capture_output=True, check=True).stdout
    assert bzimage.extract(image(packed + struct.pack("<I", len(ELF)))) == ELF


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (bytes(2000), "no bzImage"),
        (image(b"????" * 10), "does not know"),
        (image(gzip.compress(b"no kernel") + bytes(4)), "no ELF"),
        (image(b"\xfd7zXZ\x00" + bytes(40)), "can't be unpacked"),
        (image(lz4.MAGIC + struct.pack("<I", 2) + b"\x10\x00"), "no ELF"),
    ],
)
def test_anything_else_is_refused_by_name(content: bytes, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        bzimage.extract(content)
