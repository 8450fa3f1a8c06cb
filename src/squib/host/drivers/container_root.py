"""The root of a container: a skeleton of directories and links in which a machine's binds hang.

All containers of one image share it, read-only. It has whatever an engine wants to mount something on: engines can't
make mount points in an image, which is not theirs to write.
"""

import asyncio
import hashlib
import io
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.guest import GuestConfig
from squib.host.bases import HOST
from squib.host.drivers import view
from squib.host.layout import StateDir
from squib.host.removal import remove_tree

_FORM = "1"  # of skeletons: others are made anew
_DIRECTORIES = ("/proc", "/sys", "/dev", "/tmp", "/etc", "/opt/squib", "/run/squib")
#: Files that engines, or a machine's own accounts, are bound over.
_PLACES = ("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv")
_MARKER = "image"  # a file beside the skeleton: where the image is that it was made for
SETTER = 65534  # nobody: the container's user 0 outside, which sets it up and runs nothing in it


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A skeleton on the disk, and what is bound into it of the image."""

    path: Path
    name: str  # says what is in it
    binds: tuple[view.Bind, ...]


async def skeleton(state: StateDir, image: str, config: GuestConfig, own: Sequence[view.Bind]) -> Skeleton:
    """The skeleton for machines of that image, with places for their `own` binds, made where it is not there yet."""
    return await asyncio.to_thread(_skeleton, state, image, config, own)


def _skeleton(state: StateDir, image: str, config: GuestConfig, own: Sequence[view.Bind]) -> Skeleton:
    seen = view.of_root(image)
    # An image's /etc is copied: it lacks places of ours, and is small.
    copied = Path(image, "etc") if image != HOST else None
    entries = [e for e in seen if not (copied and isinstance(e, view.Bind) and e.path == "/etc")]
    places = sorted((bind.path, Path(bind.source).is_dir()) for bind in own)
    about = (_FORM, image, entries, places, config.home, config.workspace, os.geteuid())
    name = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    path = state.root / "containers" / name / "root"
    if not path.exists():
        _make(path, [*entries, *own], copied, config)
    return Skeleton(path, name, tuple(e for e in entries if isinstance(e, view.Bind)))


def _make(path: Path, entries: Sequence[view.Link | view.Bind], copied: Path | None, config: GuestConfig) -> None:
    """Make it apart and move it there, complete; where another was quicker, that one stays."""
    folder = path.parent
    for place in (folder.parent, folder):
        place.mkdir(mode=0o711, exist_ok=True)
        place.chmod(0o711)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=folder) as scratch:
        draft = Path(scratch, "root")
        view.build(draft, entries, (*_DIRECTORIES, config.home, config.workspace), {})
        if copied is not None:
            remove_tree(draft / "etc")
            _copy(copied, draft / "etc")
            (folder / _MARKER).write_text(str(copied.parent))
        for place_name in _PLACES:
            _touch(draft, place_name)
        _settle(draft, config)
        try:
            draft.rename(path)
        except OSError:
            if not path.exists():
                raise


def _copy(source: Path, target: Path) -> None:
    """Directories, links and plain files, none of them with more rights than reading and running."""

    def others(folder: str, names: list[str]) -> list[str]:
        kinds = {name: Path(folder, name).lstat().st_mode for name in names}
        kept = (stat.S_ISDIR, stat.S_ISLNK, stat.S_ISREG)
        return [name for name, mode in kinds.items() if not any(is_kind(mode) for is_kind in kept)]

    shutil.copytree(source, target, symlinks=True, ignore=others)
    for folder, _, names in os.walk(target):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o755)


def _touch(root: Path, place: str) -> None:
    path = root / place.lstrip("/")
    if path.is_symlink():  # as /etc/resolv.conf often is: what it leads to is not there
        path.unlink()
    if not path.exists():
        path.touch(mode=0o644)
        path.chmod(0o644)


def _settle(root: Path, config: GuestConfig) -> None:
    """The modes that memory file systems take over from the directories which they cover."""
    (root / "tmp").chmod(0o1777)
    (root / "sys").chmod(0)
    home = root / config.home.lstrip("/")
    home.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(home, SETTER, SETTER)


def archive(path: Path) -> bytes:
    """The skeleton as a tar, the same for the same content, for engines that take a root file system only so."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        tar.add(path, arcname=".", filter=_plain)
    return target.getvalue()


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def sweep(state: StateDir) -> list[str]:
    """Remove the skeletons of images that are not here any more; gives their names."""
    gone = [
        marker.parent
        for marker in (state.root / "containers").glob(f"*/{_MARKER}")
        if not Path(marker.read_text()).is_dir()
    ]
    for folder in gone:
        remove_tree(folder)
    return [folder.name for folder in gone]
