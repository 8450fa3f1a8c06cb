"""The last steps of every image, built or imported: the supervisor, tidying, trying it out, digest, drive, store."""

import asyncio
import functools
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.errors import ImageError
from squib.contracts.image import Image, Package
from squib.guest import bundle
from squib.host import interpreters, uids
from squib.host.images import digest, inroot, inventory, tidy
from squib.host.images.confined import Confined
from squib.host.images.runner import Progress, ending_with_us, run
from squib.host.images.store import Images, Kept, Workshop

GUEST = "/opt/squib/guest.pyz"
STEPS = ("supervisor", "tidy", "try out", "digest", "drive")
_UIDS = 200_000  # or the next that are free
_PYTHON_ADVICE = "Install CPython 3.11 or newer as python3 in the image, under /usr/bin or /usr/local/bin."


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an image before it is finished."""

    name: str
    source: str
    summary: str = ""
    environment: dict[str, str] | None = None
    warmup: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()


class Steps:
    """Counts the steps for whoever watches."""

    def __init__(self, progress: Progress, total: int):
        self._progress = progress
        self._total = total
        self._done = 0

    def next(self, name: str) -> None:
        """The next one begins."""
        self._done += 1
        self._progress.step(name, self._done, self._total)


def check_root() -> None:
    """Raise ImageError unless this process may make images."""
    if os.geteuid() != 0:
        raise ImageError("images are made as root", advice="Use sudo; using an image needs no root.")


def user_of(images: Images) -> int:
    """The host's user that packages' own code runs as: one that nothing else runs as."""
    return uids.reserve(images.root, _UIDS, 2).start


async def finish(
    images: Images, workshop: Workshop, facts: Facts, steps: Steps, progress: Progress, user: int
) -> Kept:
    """Make an image of the workshop's root file system. Raises ImageError."""
    environment = dict(facts.environment or {})
    steps.next("supervisor")
    guest = await asyncio.to_thread(_place_guest, workshop)
    steps.next("tidy")
    packages = await asyncio.to_thread(_tidy, workshop.rootfs, facts.npm)
    steps.next("try out")
    confined = Confined(workshop.rootfs, workshop.scratch, user, progress)
    python = await _python(confined, workshop.rootfs)
    for command in facts.warmup:
        await confined.try_out(command, f"the warm-up {command!r}", environment)
    steps.next("digest")
    content = await asyncio.to_thread(digest.of_tree, workshop.rootfs)
    steps.next("drive")
    await make_drive(workshop, progress)
    image = Image(
        name=facts.name,
        digest=content.digest,
        created_at=time.time(),
        size=content.size,
        drive_size=workshop.drive.stat().st_size,
        drive_sha256=await asyncio.to_thread(digest.of_file, workshop.drive),
        source=facts.source,
        guest=guest,
        python=python,
        summary=facts.summary,
        environment=environment,
        warmup=facts.warmup,
        packages=packages,
    )
    return await asyncio.to_thread(images.commit, workshop, image)


def _place_guest(workshop: Workshop) -> str:
    """For drivers whose machines start from the image alone; the others bind a newer one over it."""
    version, content = _guest()
    with inroot.opened(workshop.rootfs) as root:
        root.write(GUEST, content)
    return version


@functools.cache
def _guest() -> tuple[str, bytes]:
    """The zipapp of the code that runs here."""
    with tempfile.TemporaryDirectory(prefix="squib-") as folder:
        target = Path(folder) / "guest.pyz"
        return bundle.build(target), target.read_bytes()


def _tidy(rootfs: Path, npm: tuple[str, ...]) -> tuple[Package, ...]:
    with inroot.opened(rootfs) as root:
        packages = inventory.of(root, npm)
        for folder in npm:
            root.remove(f"{folder}/node_modules/.package-lock.json")  # it names the registry
    tidy.settle(rootfs)
    return packages


async def _python(confined: Confined, rootfs: Path) -> str:
    """The first of the usual interpreters that runs and is recent enough. Raises ImageError."""
    why = "there is none where squib looks"
    with inroot.opened(rootfs) as root:
        found = [name for name in dict.fromkeys(interpreters.USUAL) if root.exists(name)]
    for name in found:
        command = f"exec {name} {' '.join(interpreters.FLAGS)} -c '{_VERSION}'"
        try:
            await confined.try_out(command, name, {})
            return name
        except ImageError as error:
            why = error.detail
    raise ImageError(f"the image has no Python that can run the supervisor: {why}", advice=_PYTHON_ADVICE)


_VERSION = "import sys, asyncio, ssl, zipfile; sys.exit(sys.version_info < (3, 11) and sys.version)"


async def make_drive(workshop: Workshop, progress: Progress) -> None:
    """Write the root file system as a squashfs: the same bytes for the same content and the same mksquashfs."""
    times = ("-mkfs-time", str(tidy.EPOCH), "-all-time", str(tidy.EPOCH))
    format_ = ("-noappend", "-no-xattrs", "-comp", "zstd", "-Xcompression-level", "6", "-b", "256K")
    owned = [f"{name[1:]} m 755 {tidy.AGENT} {tidy.AGENT}" for name in ("/workspace", tidy.HOME)]
    modes = [*owned, "tmp m 1777 0 0", "var/tmp m 1777 0 0"]
    pseudo = [part for mode in modes for part in ("-p", mode)]
    where = (str(workshop.rootfs), str(workshop.drive))
    argv = ("mksquashfs", *where, *format_, *times, *pseudo, "-no-progress", "-quiet")
    await run(ending_with_us(*argv), progress, "mksquashfs")
