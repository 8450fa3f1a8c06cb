"""The kernel proper (vmlinux) out of a bzImage: microVMs start it directly, without a boot loader.

The layout is the kernel's own (Documentation/arch/x86/boot.rst): the protected-mode part follows the set-up sectors,
and names where in it the compressed kernel lies.
"""

import lzma
import shutil
import struct
import subprocess
import zlib

from squib.contracts.errors import ImageError
from squib.host.vm import lz4

_MAGIC, _MAGIC_AT = b"HdrS", 0x202
_SECTORS_AT, _PAYLOAD_AT = 0x1F1, 0x248
_SECTOR = 512
_ELF = b"\x7fELF"
_XZ, _GZIP, _ZSTD = b"\xfd7zXZ\x00", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def extract(image: bytes) -> bytes:
    """The ELF file that is packed in `image`. Raises ImageError for anything else."""
    if image[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC:
        raise ImageError("the package's kernel is no bzImage")
    start = ((image[_SECTORS_AT] or 4) + 1) * _SECTOR
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_AT)
    packed = image[start + offset : start + offset + length]
    unpacked = _unpack(packed)
    if not unpacked.startswith(_ELF):
        raise ImageError("the package's kernel holds no ELF file")
    return unpacked


def _unpack(packed: bytes) -> bytes:
    """The payload; its last four bytes are its unpacked size, which the decompressors leave alone."""
    try:
        if packed.startswith(_XZ):
            return lzma.LZMADecompressor().decompress(packed)
        if packed.startswith(_GZIP):
            return zlib.decompressobj(wbits=31).decompress(packed)
        if packed.startswith(lz4.MAGIC):
            return lz4.decompress(packed)
    except (lzma.LZMAError, zlib.error, ValueError) as error:
        raise ImageError(f"the package's kernel can't be unpacked: {error}") from error
    if packed.startswith(_ZSTD):
        return _zstd(packed[:-4])
    raise ImageError(f"the package's kernel is packed in a way that squib does not know ({packed[:4].hex()})")


def _zstd(packed: bytes) -> bytes:
    program = shutil.which("zstd")
    if program is None:
        raise ImageError("zstd is not installed", advice="apt-get install zstd")
    done = subprocess.run([program, "-dc"], input=packed, capture_output=True, check=False)
    if done.returncode:
        raise ImageError(f"the package's kernel can't be unpacked: {done.stderr.decode(errors='replace')[:500]}")
    return done.stdout
