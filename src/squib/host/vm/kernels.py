"""Kernels for virtual machines: `<state>/kernel/<digest>/{vmlinux,initrd,manifest.json}`, and `current` to find one.

Made of Debian's packages, which are only unpacked: the same packages and the same squib make the same bytes.
"""

import asyncio
import hashlib
import os
import platform
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from squib.contracts import codec
from squib.contracts.errors import ImageError, InvalidRequest, NotFound
from squib.contracts.image import Package
from squib.host.images.runner import Progress
from squib.host.vm import bzimage, cpio, modules
from squib.host.vm.packages import Apt, Fetched

PACKAGE, OF_VERSION, BUSYBOX = "linux-image-cloud-amd64", r"linux-image-[0-9]\S*-cloud-amd64", "busybox-static"
#: What a machine needs before it can read its drives and its network; the rest comes with them or not at all.
MODULES = ("virtio_mmio", "virtio_blk", "virtio_net", "squashfs")
ADVICE = "Run 'squib kernel build'."
_CURRENT, _DRAFT = "current", ".making-"
_ABANDONED_SECONDS = 86_400.0
_STEPS = ("package lists", "kernel package", "busybox package", "kernel", "initramfs")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel's manifest."""

    digest: str  # SHA-256 of the two files, in hex
    version: str  # its release
    created_at: float  # seconds since 1970
    size: int  # bytes of the two files
    packages: tuple[Package, ...]
    path: str = ""  # of its directory, not kept

    @property
    def vmlinux(self) -> Path:
        """The kernel, uncompressed, with an entry for microVMs."""
        return Path(self.path) / "vmlinux"

    @property
    def initrd(self) -> Path:
        """Its first root file system; the machine's own configuration is appended."""
        return Path(self.path) / "initrd"


def get(state: Path) -> Kernel:
    """The kernel that machines start. Raises NotFound where none is made, ImageError where it is damaged."""
    path = state.absolute() / "kernel" / _CURRENT
    try:
        found = path.resolve(strict=True)
        manifest = (found / "manifest.json").read_bytes()
        kernel = codec.loads(Kernel, manifest, lenient=True)
    except FileNotFoundError as error:
        raise NotFound("there is no kernel for virtual machines yet", advice=ADVICE) from error
    except (OSError, InvalidRequest) as error:
        raise ImageError(
            f"the kernel at {path} is damaged: {error}", advice=f"rm -r {path.parent}. {ADVICE}"
        ) from error
    return _at(kernel, found)


async def build(state: Path, progress: Progress, *, apt_sources: Path | None = None) -> Kernel:
    """Make the newest kernel and let machines start it from now on; those that run keep theirs. Raises ImageError.

    `apt_sources`: a file of apt sources instead of the machine's own.
    """
    if platform.machine() != "x86_64":
        raise ImageError(f"squib knows no kernel for {platform.machine()}", advice="Use another driver.")
    if os.geteuid() != 0:
        raise ImageError("kernels are made as root", advice="Use sudo; using one needs no root.")
    root = state.absolute() / "kernel"
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    root.chmod(0o711)
    with tempfile.TemporaryDirectory(prefix=_DRAFT, dir=root) as folder:
        scratch, made = Path(folder), Path(folder) / "kernel"
        linux, busybox = await _packages(scratch, apt_sources, progress)
        made.mkdir()
        kernel = await asyncio.to_thread(_make, made, linux, busybox, progress)
        target = root / kernel.digest
        if not target.exists():
            for path, mode in ((made, 0o711), *((file, 0o644) for file in made.iterdir())):
                path.chmod(mode)
            made.rename(target)
        link, current = scratch / "link", root / _CURRENT
        before = {current.readlink().name} if current.is_symlink() else set()  # a machine may be opening it just now
        link.symlink_to(kernel.digest)
        link.replace(current)
    _remove_old(root, {kernel.digest} | before)
    return get(state)


def _remove_old(root: Path, kept: set[str]) -> None:
    """Remove other kernels: a machine that has booted needs its own no more. And what ended builds have left."""
    for path in root.iterdir():
        if path.is_symlink() or path.name in kept:
            continue
        if not path.name.startswith(_DRAFT) or path.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


async def _packages(scratch: Path, named: Path | None, progress: Progress) -> tuple[Fetched, Fetched]:
    apt = Apt(scratch, named)
    _step(progress, 0)
    await apt.update(progress)
    _step(progress, 1)
    linux = await apt.fetch(await apt.dependency(PACKAGE, OF_VERSION, progress), progress)
    _step(progress, 2)
    return linux, await apt.fetch(BUSYBOX, progress)


def _make(target: Path, linux: Fetched, busybox: Fetched, progress: Progress) -> Kernel:
    _step(progress, 3)
    (image,) = (linux.path / "boot").glob("vmlinuz-*")
    vmlinux = bzimage.extract(image.read_bytes())
    _step(progress, 4)
    (tree,) = (linux.path / "lib/modules").iterdir()
    initrd = initramfs((busybox.path / "bin/busybox").read_bytes(), modules.in_order(tree, MODULES))
    (target / "vmlinux").write_bytes(vmlinux)
    (target / "initrd").write_bytes(initrd)
    digest = hashlib.sha256(hashlib.sha256(vmlinux).digest() + hashlib.sha256(initrd).digest()).hexdigest()
    packages = tuple(Package("apt", fetched.name, fetched.version) for fetched in (busybox, linux))
    kernel = Kernel(digest, tree.name, time.time(), len(vmlinux) + len(initrd), packages)
    (target / "manifest.json").write_bytes(codec.dumps(kernel) + b"\n")
    return kernel


def initramfs(busybox: bytes, needed: list[Path]) -> bytes:
    """The first root file system: a shell, the modules and `init.sh`."""
    script = (Path(__file__).parent / "init.sh").read_bytes()
    order = "".join(f"{path.name}\n" for path in needed).encode()
    return cpio.archive(
        [
            *(cpio.directory(name) for name in ("bin", "dev", "modules", "squib")),
            cpio.file("bin/busybox", busybox, executable=True),
            cpio.file("modules/order", order),
            *(cpio.file(f"modules/{path.name}", path.read_bytes()) for path in needed),
            cpio.file("init", script, executable=True),
        ]
    )


def _at(kernel: Kernel, path: Path) -> Kernel:
    return Kernel(kernel.digest, kernel.version, kernel.created_at, kernel.size, kernel.packages, str(path))


def _step(progress: Progress, number: int) -> None:
    progress.step(_STEPS[number], number + 1, len(_STEPS))
