"""Where images are kept: `<state>/images/<digest>/{manifest.json,rootfs/,root.squashfs}`, and `names/` to find them.

An image is there once its directory has its digest's name, which is one rename; a name is a link, replaced by one
rename. What is being made lies in a workshop whose lock dies with its maker, so that the next one clears it away.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from squib.contracts import codec
from squib.contracts.errors import Conflict, ImageError, InvalidRequest, NotFound
from squib.contracts.image import Image, check_name, is_digest, is_name
from squib.contracts.snapshot import Snapshot
from squib.host import records
from squib.host.layout import StateDir
from squib.host.removal import remove_tree

_WORKSHOP = ".making-"
_SHORT = 12


@dataclass(frozen=True, slots=True)
class Kept:
    """An image in the store, and the names that mean it."""

    image: Image
    path: Path
    names: tuple[str, ...] = ()

    @property
    def rootfs(self) -> Path:
        """The unpacked root file system, for drivers that bind a directory. Nothing may write to it."""
        return self.path / "rootfs"

    @property
    def drive(self) -> Path:
        """The same as a squashfs, for drivers that hand a drive to a kernel of its own."""
        return self.path / "root.squashfs"


@dataclass(frozen=True, slots=True)
class Workshop:
    """A directory in which one image is made."""

    path: Path

    @property
    def rootfs(self) -> Path:
        """Becomes the image's root file system."""
        return self.path / "image" / "rootfs"

    @property
    def drive(self) -> Path:
        """Becomes the image's drive."""
        return self.path / "image" / "root.squashfs"

    @property
    def scratch(self) -> Path:
        """The /tmp of the steps."""
        return self.path / "scratch"


def snapshot_images(state_dir: Path) -> list[tuple[str, str]]:
    """Every snapshot's id, and the digest of the image that it needs to go on."""
    found = []
    for path in (state_dir / "snapshots").glob("snp-*/manifest.json"):
        with contextlib.suppress(OSError, InvalidRequest):
            found.append((path.parent.name, codec.loads(Snapshot, path.read_bytes(), lenient=True).image))
    return found


class Images:
    """The images of one installation."""

    def __init__(self, state_dir: Path):
        self._state = StateDir(state_dir.absolute())
        self.root = self._state.root / "images"
        self._names = self.root / "names"

    @contextlib.contextmanager
    def workshop(self) -> Iterator[Workshop]:
        """A directory to make an image in, gone at the end; first, what killed ones have left is cleared away."""
        for path in (self.root, self._names):
            path.mkdir(mode=0o711, parents=True, exist_ok=True)
            path.chmod(0o711)
        self._clear()
        path = Path(tempfile.mkdtemp(prefix=_WORKSHOP, dir=self.root))
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for folder in (path, path / "image"):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o711)
            yield Workshop(path)
        finally:
            remove_tree(path)
            os.close(lock)

    def _clear(self) -> None:
        for path in self.root.glob(_WORKSHOP + "*"):
            with contextlib.suppress(OSError):
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its maker lives
                    remove_tree(path)
                finally:
                    os.close(lock)

    def commit(self, workshop: Workshop, image: Image) -> Kept:
        """Keep what the workshop has made under its digest, unless it is there already, and let the name mean it."""
        made, target = workshop.path / "image", self.root / image.digest
        if not target.exists():
            manifest = made / "manifest.json"
            manifest.write_bytes(codec.dumps(image) + b"\n")
            for path in (manifest, workshop.drive):
                path.chmod(0o644)
            os.sync()  # a name must never lead to an image that a power cut has emptied
            with contextlib.suppress(FileExistsError, OSError):
                made.rename(target)
            if not target.exists():
                raise ImageError(f"{target} can't be made", advice="See whether the disk is full.")
        self._point(image.name, image.digest)
        return self.get(image.name)

    def _point(self, name: str, digest: str) -> None:
        with tempfile.TemporaryDirectory(prefix=_WORKSHOP, dir=self.root) as scratch:
            link = Path(scratch) / "name"
            link.symlink_to(f"../{digest}")
            link.replace(self._names / check_name(name))

    def get(self, name: str) -> Kept:
        """The image that a name, a digest or the beginning of one means. Raises NotFound or ImageError."""
        digest = self.digest_of(name)
        if digest is None:
            raise NotFound(f"there is no image {name}", advice="'squib image list' shows those that are here.")
        return self._load(digest)

    def digest_of(self, name: str) -> str | None:
        """The digest that a name, a digest or the beginning of one means; None where it means none."""
        if is_name(name) and (digest := _pointed(self._names / name)) is not None:
            return digest if (self.root / digest).is_dir() else None
        starts = [d for d in self._digests() if len(name) >= _SHORT and d.startswith(name)]
        return starts[0] if len(starts) == 1 else None

    def has(self, name: str) -> bool:
        """Whether it means one."""
        return self.digest_of(name) is not None

    def names(self) -> list[str]:
        """All names that mean one, in order."""
        return sorted(name for name in self._pointers() if self.has(name))

    def all(self) -> list[Kept]:
        """All that are whole, newest first."""
        found = []
        for digest in self._digests():
            with contextlib.suppress(ImageError):
                found.append(self._load(digest))
        return sorted(found, key=lambda kept: kept.image.created_at, reverse=True)

    def remove(self, name: str) -> Kept:
        """Remove a name, and the image once it has none; given a digest, the image with all of its names.

        Raises NotFound, or Conflict while a machine is made of it.
        """
        kept = self.get(name)
        gone = (name,) if name in kept.names else kept.names
        if set(kept.names) <= set(gone):
            self._check_unused(kept)
        for each in gone:
            (self._names / each).unlink(missing_ok=True)
        if set(kept.names) <= set(gone):
            with self.workshop() as bin_:  # one rename, and it is no image any more
                kept.path.rename(bin_.path / "removed")
        return kept

    def _check_unused(self, kept: Kept) -> None:
        places = self._state.found() if self._state.machines.is_dir() else []
        machines = [machine for place in places if (machine := records.load(place.root)) is not None]
        using = sum(machine.spec.image == str(kept.rootfs) for machine in machines)
        if using:
            raise Conflict(f"{using} machines are made of {kept.image.name}", advice="Wait until they have ended.")
        if names := [name for name, image in snapshot_images(self._state.root) if image == kept.image.digest]:
            advice = f"Remove it first: 'squib snapshot rm {names[0]}'."
            raise Conflict(f"the snapshot {names[0]} goes on in {kept.image.name}", advice=advice)

    def _load(self, digest: str) -> Kept:
        path = self.root / digest
        try:
            image = codec.loads(Image, (path / "manifest.json").read_bytes(), lenient=True)
        except (OSError, InvalidRequest) as error:
            advice = f"rm -r {path}, and build it again."
            raise ImageError(f"the image {digest[:_SHORT]} is damaged: {error}", advice=advice) from error
        return Kept(image, path, tuple(sorted(n for n, d in self._pointers().items() if d == digest)))

    def _digests(self) -> list[str]:
        return sorted(p.name for p in self.root.iterdir() if is_digest(p.name)) if self.root.is_dir() else []

    def _pointers(self) -> dict[str, str]:
        found = {}
        for path in self._names.iterdir() if self._names.is_dir() else ():
            if (digest := _pointed(path)) is not None:
                found[path.name] = digest
        return found


def _pointed(link: Path) -> str | None:
    """The digest that a name's link leads to."""
    try:
        digest = link.readlink().name
    except OSError:
        return None
    return digest if is_digest(digest) else None
