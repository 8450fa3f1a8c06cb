"""Building the zipapp: the guest and all that it needs in one file, the same bytes each time.

Stored, not compressed: Python reads it without zlib. Beside each source lies its code, compiled by the Python that
builds, for the one that runs it if it is of the same version; any other uses the source. The code is marked
`unchecked-hash`: nothing looks at times, and nothing is ever written.
"""

import hashlib
import os
import py_compile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h11
import wsproto

import squib

_MOMENT = (2020, 1, 1, 0, 0, 0)
_MAIN = b"import sys\n\nfrom squib.guest.__main__ import main\n\nsys.exit(main(sys.argv[1:]))\n"
_ROOMS = ("contracts", "agents", "guest")


def build(target: Path) -> str:
    """Write the zipapp to `target`, in place of what is there; gives its SHA-256 in hex. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix="squib-guest-", dir=target.parent) as scratch:
        made = Path(scratch) / "guest.pyz"
        with made.open("wb") as file:
            file.write(b"#!/usr/bin/env python3\n")
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, source in sorted(_sources()):
                    _add(archive, name, source)
                    if name.endswith(".py"):
                        _add(archive, name + "c", _compile(name, source, Path(scratch)))
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
        made.chmod(0o644)
        os.replace(made, target)  # noqa: PTH105
    return digest


def _sources() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", _MAIN
    package = Path(squib.__file__).parent
    yield "squib/__init__.py", (package / "__init__.py").read_bytes()
    for room in _ROOMS:
        yield from _package(package / room, f"squib/{room}")
    for module in (h11, wsproto):
        yield from _package(Path(str(module.__file__)).parent, module.__name__)


def _package(directory: Path, name: str) -> Iterator[tuple[str, bytes]]:
    for path in directory.rglob("*.py"):
        inner = path.relative_to(directory).as_posix()
        if "tests/" not in inner and inner != "bundle.py":
            yield f"{name}/{inner}", path.read_bytes()


def _compile(name: str, source: bytes, scratch: Path) -> bytes:
    """The source's code, without its docstrings: they would be a tenth of the guest's memory."""
    plain, compiled = scratch / "module.py", scratch / "module.pyc"
    plain.write_bytes(source)
    py_compile.compile(
        str(plain),
        cfile=str(compiled),
        dfile=f"guest.pyz/{name}",
        doraise=True,
        optimize=2,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    return compiled.read_bytes()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _MOMENT)
    info.external_attr = 0o644 << 16
    archive.writestr(info, content)
