"""Control groups as the jailer makes them, of either version."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from squib.testing.firecracker.arguments import Arguments

_MOUNTS = Path("/proc/mounts")


class CgroupError(Exception):
    """A setting that can't be made."""


@dataclass
class Groups:
    """What to write where, and then the files in which the process enters itself."""

    settings: list[tuple[Path, str]] = field(default_factory=list)
    entries: list[Path] = field(default_factory=list)

    def enter(self) -> None:
        """Make the groups, set their values, enter. Raises OSError."""
        for path, value in self.settings:
            path.parent.mkdir(parents=True, exist_ok=True)
            if (
                path.name.partition(".")[0] != "cgroup"
                and path.parent.parent.joinpath("cgroup.subtree_control").exists()
            ):
                _enable(path.parent.parent, path.name.partition(".")[0])
            path.write_text(f"{value}\n")
        for path in dict.fromkeys(self.entries):
            path.write_text(f"{os.getpid()}\n")


def planned(given: Arguments, name: str, program: str) -> Groups:
    """What the arguments ask for. Raises CgroupError."""
    parent = Path(given.one("parent-cgroup") or program)
    if parent.is_absolute() or ".." in parent.parts:
        raise CgroupError("Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'")
    version = given.one("cgroup-version", "1")
    if version not in ("1", "2"):
        raise CgroupError(f"{version} is an invalid cgroup version specifier")
    wanted = [_setting(text) for text in given.given.get("cgroup", [])]
    if version == "1":
        return _first(wanted, parent / name)
    if not wanted:
        there = _unified() / parent
        return Groups(entries=[there / "cgroup.procs"] if there.exists() else [])
    place = _unified() / parent / name
    available = (_unified() / "cgroup.controllers").read_text().split()
    for file, _ in wanted:
        if (controller := file.partition(".")[0]) not in available:
            raise CgroupError(f"Controller {controller} is unavailable")
    return Groups([(place / file, value) for file, value in wanted], [place / "cgroup.procs"])


def _first(wanted: Sequence[tuple[str, str]], place: Path) -> Groups:
    groups = Groups()
    for file, value in wanted:
        controller = file.partition(".")[0]
        mounted = [Path(words[1]) for words in _mounts("cgroup") if controller in words[3].split(",")]
        if not mounted:
            raise CgroupError(f"Controller {controller} is unavailable")
        groups.settings.append((mounted[0] / place / file, value))
        groups.entries.append(mounted[0] / place / "tasks")
    return groups


def _setting(text: str) -> tuple[str, str]:
    file, equals, value = text.partition("=")
    if not equals or not value or "=" in value:
        raise CgroupError(f"Invalid format for cgroups: {text}")
    if "." not in file or "/" in file:
        raise CgroupError(f"Cgroup invalid file: {text}")
    return file, value


def _enable(group: Path, controller: str) -> None:
    """From the root of the hierarchy down: a child has what its parent hands on."""
    root = _unified()
    for path in reversed([group, *group.parents]):
        if path.is_relative_to(root):
            (path / "cgroup.subtree_control").write_text(f"+{controller}\n")


def _unified() -> Path:
    found = [Path(words[1]) for words in _mounts("cgroup2")]
    if not found:
        raise CgroupError("Hierarchy not found: No hierarchy found for this cgroup version.")
    return found[0]


def _mounts(kind: str) -> list[list[str]]:
    lines = [line.split() for line in _MOUNTS.read_text().splitlines()]
    return [words for words in lines if words[2] == kind]
