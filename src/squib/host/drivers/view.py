"""What a machine sees of its root file system, as bind mounts and a skeleton of directories for them to hang in.

The rule of what is visible is `sandbox.root`'s, for every driver: this only puts it into another form.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Machine
from squib.host.bases import HOST
from squib.host.drivers import sandbox
from squib.host.ground import Ground
from squib.host.layout import MachineDir


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link of the root itself."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory outside that shows at `path`."""

    source: str
    path: str
    writable: bool = False


def of_root(image: str) -> list[Link | Bind]:
    """What the machine sees of `image` ("host", or the path of a root file system)."""
    return list(_parse(sandbox.root(image)))


def of_machine(ground: Ground, machine: Machine, config: GuestConfig) -> list[Bind]:
    """What the machine has besides its root file system."""
    place, spec = MachineDir(Path(machine.directory)), machine.spec
    binds = [
        Bind(str(place.config), sandbox.CONFIG),
        Bind(str(place.guest), str(Path(config.listen.removeprefix("unix:")).parent), writable=True),
        Bind(str(place.state), config.state_dir, writable=True),
        Bind(str(place.gateway), "/run/squib/gateway"),
        Bind(str(place.workspace), config.workspace, writable=True),
        Bind(str(ground.guest), sandbox.GUEST),
        *(Bind(mount.source, mount.target) for mount in spec.mounts),
    ]
    if ground.tools:
        binds.append(Bind(str(ground.tools), sandbox.TOOLS))
    if spec.image == HOST and ground.python and not ground.python.startswith("/usr/"):
        prefix = str(Path(ground.python).resolve().parent.parent)
        binds.append(Bind(prefix, prefix))
    return binds


def _parse(options: Sequence[str]) -> Iterator[Link | Bind]:
    left = iter(options)
    for option in left:
        if option == "--symlink":
            target = next(left)
            yield Link(next(left), target)
        elif option == "--ro-bind":
            source = next(left)
            yield Bind(source, next(left))
        else:  # --dir: whoever needs the directory makes it
            next(left)


def build(root: Path, entries: Sequence[Link | Bind], directories: Sequence[str], files: dict[str, bytes]) -> None:
    """Make the skeleton at `root`, all of it this process's user's and readable by others. Raises OSError."""
    root.mkdir()
    for path in directories:
        _below(root, path).mkdir(parents=True, exist_ok=True)
    for entry in entries:
        place = _below(root, entry.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, Link):
            place.symlink_to(entry.target)
        elif Path(entry.source).is_dir():
            place.mkdir(exist_ok=True)
        else:
            place.touch()
    for path, content in files.items():
        place = _below(root, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    for folder, _, names in os.walk(root):  # whatever this process's umask is
        Path(folder).chmod(0o755)
        for name in names:
            if not (file := Path(folder, name)).is_symlink():
                file.chmod(0o644)


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
