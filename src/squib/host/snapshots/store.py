"""Where snapshots are kept: `<state>/snapshots/<snp id>/`, the manifest beside the parts that its driver wrote.

A snapshot is there once its directory has its id's name, which is one rename. What is being made lies in a workshop
whose lock dies with its maker, so that the next one clears it away. A tenant's memory never gets here: what is frozen
for a snapshot has seen an image and nothing else.
"""

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from squib.contracts import codec, ids
from squib.contracts.errors import Conflict, InfrastructureError, InvalidRequest, NotFound
from squib.contracts.machine import MachinePhase, MachineSpec
from squib.contracts.snapshot import MANIFEST_VERSION, Part, Snapshot
from squib.host import records
from squib.host.bases import Base
from squib.host.drivers.base import Frozen
from squib.host.layout import StateDir
from squib.host.removal import remove_tree
from squib.host.snapshots import digest

_WORKSHOP = ".making-"
_MANIFEST = "manifest.json"
_MAX_MANIFEST = 1024 * 1024
_SHORT = 8


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot's directory: its manifest, or why that can't be read."""

    id: str
    path: Path
    snapshot: Snapshot | None
    why_not: str | None = None

    @property
    def parts(self) -> Path:
        """What the driver wrote."""
        return self.path / "parts"

    def frozen(self, base: Base) -> Frozen:
        """What a driver goes on from; `base` is the snapshot's own."""
        snapshot = self.snapshot
        assert snapshot is not None, "a snapshot without a manifest was never usable"
        spec = MachineSpec(
            snapshot.machine_id,
            image=base.image,
            image_name=base.name,
            drive=base.drive,
            python=base.python,
            environment=dict(base.environment),
            cpu=snapshot.cpu,
            memory=snapshot.memory,
            disk=snapshot.disk,
        )
        return Frozen(self.parts, spec, snapshot.thaw)


class Snapshots:
    """The snapshots of one installation."""

    def __init__(self, state_dir: Path):
        self._state = StateDir(state_dir.absolute())
        self.root = self._state.root / "snapshots"

    def all(self) -> list[Stored]:
        """All that are there, whole or not, newest first."""
        names = os.listdir(self.root) if self.root.is_dir() else []  # noqa: PTH208
        return [self._load(name) for name in sorted(names, reverse=True) if ids.is_id(name, "snp")]

    def get(self, name: str) -> Stored:
        """The snapshot of that id, or with an id that ends so. Raises NotFound."""
        found = [s for s in self.all() if s.id == name or (len(name) >= _SHORT and s.id.endswith(name))]
        if len(found) != 1:
            raise NotFound(f"there is no snapshot {name}", advice="'squib snapshot list' shows those that are here.")
        return found[0]

    def remove(self, name: str) -> Stored:
        """Remove a snapshot. Raises NotFound, or Conflict while a sandbox that was made from it is there."""
        stored = self.get(name)
        places = self._state.found() if self._state.machines.is_dir() else []
        machines = [machine for place in places if (machine := records.load(place.root)) is not None]
        if using := sum(m.snapshot == stored.id and m.phase is not MachinePhase.READY for m in machines):
            raise Conflict(f"{using} machines run from {stored.id}", advice="Wait until they have ended.")
        with self.workshop() as bin_:  # one rename, and it is no snapshot any more
            stored.path.rename(bin_ / "removed")
        return stored

    @contextlib.contextmanager
    def workshop(self) -> Iterator[Path]:
        """A directory to make a snapshot in, gone at the end; first, what killed makers have left is cleared away.

        Other users pass through: machines that go on from what lies there run under users of their own.
        """
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.root.chmod(0o711)
        self._clear()
        path = Path(tempfile.mkdtemp(prefix=_WORKSHOP, dir=self.root))
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path.chmod(0o711)
            yield path
        finally:
            remove_tree(path)
            os.close(lock)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn: builders share the one user that is kept for them."""
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict("another snapshot is being built", advice="Wait until it is finished.") from error
            yield
        finally:
            os.close(lock)

    def commit(self, made: Path, snapshot: Snapshot) -> Stored:
        """Keep `made`, a directory in a workshop with `parts` in it. Raises InfrastructureError."""
        manifest, target = made / _MANIFEST, self.root / snapshot.id
        try:
            with open(os.open(manifest, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(codec.dumps(snapshot) + b"\n")
            made.chmod(0o711)
            os.sync()  # an id must never lead to a snapshot that a power cut has emptied
            made.rename(target)
        except OSError as error:
            raise InfrastructureError(f"the snapshot can't be kept: {error}") from error
        return self._load(snapshot.id)

    def _clear(self) -> None:
        for path in self.root.glob(_WORKSHOP + "*"):
            with contextlib.suppress(OSError):
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its maker lives
                    remove_tree(path)
                finally:
                    os.close(lock)

    def _load(self, name: str) -> Stored:
        path = self.root / name
        try:
            with (path / _MANIFEST).open("rb") as file:
                snapshot = codec.loads(Snapshot, file.read(_MAX_MANIFEST), lenient=True)
        except (OSError, InvalidRequest) as error:
            return Stored(name, path, None, f"its manifest can't be read: {error}")
        if snapshot.version != MANIFEST_VERSION:
            return Stored(name, path, None, f"its manifest is of version {snapshot.version}, not {MANIFEST_VERSION}")
        if snapshot.id != name:
            return Stored(name, path, None, f"its manifest is that of {snapshot.id}")
        return Stored(name, path, snapshot)


def take_over(root: Path) -> tuple[Part, ...]:
    """Make the files below `root` this process's own, readable by all and writable by none; tells of each.

    They come from a program that a hostile image may have taken over: nothing but plain files and directories is
    taken, and no link is followed. Raises InfrastructureError.
    """
    parts = []
    try:
        for folder, folders, names, handle in os.fwalk(root, follow_symlinks=False):
            if any(stat.S_ISLNK(os.lstat(name, dir_fd=handle).st_mode) for name in folders):
                raise OSError(f"there are links in {folder}")
            ours = _is_ours(handle)
            os.fchown(handle, os.geteuid(), os.getegid())
            os.fchmod(handle, 0o711)
            for name in sorted(names):
                parts.append(_take_file(handle, name, str(Path(folder, name).relative_to(root)), linked=ours))
    except OSError as error:
        raise InfrastructureError(f"the frozen machine can't be taken over: {error}") from error
    return tuple(sorted(parts, key=lambda part: part.name))


def on_disk(root: Path) -> int:
    """Bytes that the files below `root` take: most of a drive or a memory is holes."""
    return sum(
        os.lstat(name, dir_fd=handle).st_blocks * 512 for _, _, names, handle in os.fwalk(root) for name in names
    )


def _is_ours(folder: int) -> bool:
    """Whether nobody else could have put a link there, to a file that is not to be read by all."""
    found = os.fstat(folder)
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _take_file(folder: int, name: str, path: str, *, linked: bool) -> Part:
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with open(file, "rb") as content:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or (found.st_nlink != 1 and not linked):
            raise OSError(f"{path} is no plain file of its own")
        os.fchown(file, os.geteuid(), os.getegid())
        os.fchmod(file, 0o444)
        return Part(path, found.st_size, digest.of(content))
