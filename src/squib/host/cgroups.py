"""Control groups of either version: one for each machine in every hierarchy that helps, with limits and an end.

Version 1 has a hierarchy for each controller, version 2 one for all; a machine may be in both at once (hybrid).
"""

import asyncio
import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from squib.contracts import ids
from squib.host import processes

CONTROLLERS = ("memory", "cpu", "pids")
PERIOD_US = 100_000
KILL_SECONDS = 10.0
_SMALL_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A place where this process may make groups, and which controllers' limits hold there."""

    root: Path
    version: int
    controllers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Limits:
    """cpu in cores, memory in bytes, pids as a count."""

    cpu: float
    memory: int
    pids: int


class Cgroups:
    """The groups of one installation, below one group of its own in each hierarchy."""

    def __init__(self, hierarchies: tuple[Hierarchy, ...], name: str):
        self.name = name
        self.hierarchies = tuple(h for h in hierarchies if _prepare(h, name))

    @property
    def controllers(self) -> dict[str, int]:
        """Each controller that limits here, and the version that does."""
        return {c: h.version for h in self.hierarchies for c in CONTROLLERS if c in h.controllers}

    @property
    def places(self) -> list[Path]:
        """The installation's own groups."""
        return [hierarchy.root / self.name for hierarchy in self.hierarchies]

    def create(self, machine_id: str, limits: Limits) -> tuple[str, ...]:
        """Make the machine's groups, limited; gives their directories. Raises OSError, leaving none."""
        paths = tuple(str(h.root / self.name / machine_id) for h in self.hierarchies)
        try:
            for hierarchy, path in zip(self.hierarchies, paths, strict=True):
                if not Path(path).parent.exists():  # a probe beside us removed it, empty as it was
                    _prepare(hierarchy, self.name)
                Path(path).mkdir(exist_ok=True)
            limit(paths, limits)
        except OSError:
            remove(paths)
            raise
        return paths

    def orphans(self, known: set[str]) -> dict[str, tuple[str, ...]]:
        """Groups of ours, by machine id, of machines that are not `known`. Other names are not ours to touch."""
        found: dict[str, tuple[str, ...]] = {}
        for hierarchy in self.hierarchies:
            for path in (hierarchy.root / self.name).glob("mch-*"):
                if ids.is_id(path.name, "mch") and path.name not in known:
                    found[path.name] = (*found.get(path.name, ()), str(path))
        return found

    def close(self) -> None:
        """Remove the installation's own groups where they are empty."""
        for hierarchy in self.hierarchies:
            with contextlib.suppress(OSError):
                (hierarchy.root / self.name).rmdir()


def group_name(state_dir: Path) -> str:
    """The installation's group: two installations on one machine never share one."""
    return "squib-" + hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:16]


def entrances(paths: tuple[str, ...]) -> list[str]:
    """The files where a process of one thread enters itself by writing 0. Version 1's `tasks` costs no waiting."""
    files = []
    for path in map(Path, paths):
        tasks = path / "tasks"
        files.append(str(tasks if tasks.exists() else path / "cgroup.procs"))
    return files


def limit(paths: tuple[str, ...], limits: Limits) -> None:
    """Set or change the limits, also of a group that is in use. Raises OSError where the kernel refuses."""
    quota = max(1000, int(limits.cpu * PERIOD_US))
    for path in map(Path, paths):
        _write_if(path / "pids.max", str(limits.pids))
        _write_if(path / "memory.max", str(limits.memory))
        _write_if(path / "memory.swap.max", "0")
        _write_if(path / "cpu.max", f"{quota} {PERIOD_US}")
        _write_if(path / "cpu.cfs_period_us", str(PERIOD_US))
        _write_if(path / "cpu.cfs_quota_us", str(quota))
        if (path / "memory.limit_in_bytes").exists():
            _limit_memory_v1(path, limits.memory)


def _limit_memory_v1(path: Path, size: int) -> None:
    """Memory, and memory with swap, which must never be the smaller: so the order depends on the direction."""
    plain, swap = path / "memory.limit_in_bytes", path / "memory.memsw.limit_in_bytes"
    if not swap.exists():
        _write(plain, str(size))
    elif int(swap.read_text()) < size:
        _write(swap, str(size))
        _write(plain, str(size))
    else:
        _write(plain, str(size))
        _write(swap, str(size))


@contextlib.contextmanager
def yielding(paths: tuple[str, ...], really: bool = True) -> Iterator[None]:
    """For the length of the block the groups have a small share of the processors where others want them too."""
    if really:
        _weigh(paths, _SMALL_SHARE)
    try:
        yield
    finally:
        if really:
            _weigh(paths, 1.0)


def _weigh(paths: tuple[str, ...], share: float) -> None:
    for path in map(Path, paths):
        with contextlib.suppress(OSError):  # they are gone, or the kernel has no such thing
            _write_if(path / "cpu.weight", str(int(100 * share)))
            _write_if(path / "cpu.shares", str(int(1024 * share)))


def members(paths: tuple[str, ...]) -> set[int]:
    """The processes in the groups, and in any below them."""
    found: set[int] = set()
    for path in paths:
        for folder, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                found.update(map(int, (Path(folder) / "cgroup.procs").read_text().split()))
    return found - {0}


async def kill(paths: tuple[str, ...]) -> bool:
    """End every process in the groups and wait until none is left; False if some outlast KILL_SECONDS."""
    deadline = asyncio.get_running_loop().time() + KILL_SECONDS
    pause = 0.001
    seen: dict[int, int | None] = {}  # a process leaves its groups a moment before it has ended
    for path in paths:
        with contextlib.suppress(OSError):
            _write_if(Path(path) / "pids.max", "0")  # no fork may outrun us
    while True:
        left = members(paths)
        seen.update({pid: processes.start_time(pid) for pid in left - seen.keys()})
        for path in paths:
            with contextlib.suppress(OSError):
                _write_if(Path(path) / "cgroup.kill", "1")
        processes.kill(sorted(left))
        if not left and not any(processes.running(pid, started) for pid, started in seen.items()):
            return True
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.05)


def remove(paths: tuple[str, ...]) -> bool:
    """Remove the groups, and any below them; absent is fine. False where one is still in use."""
    left = [path for path in paths if not _remove(Path(path))]
    return not left


def _remove(path: Path) -> bool:
    try:
        for folder, _, _ in os.walk(path, topdown=False):
            Path(folder).rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        return error.errno == errno.ENODEV
    return True


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _write_if(path: Path, text: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        _write(path, text)


def _prepare(hierarchy: Hierarchy, name: str) -> bool:
    """Make the installation's group, with its controllers handed down; False where this process may not."""
    path = hierarchy.root / name
    try:
        path.mkdir(exist_ok=True)
        if hierarchy.version == 2 and hierarchy.controllers:
            _write(path / "cgroup.subtree_control", " ".join(f"+{c}" for c in sorted(hierarchy.controllers)))
        # Together the machines weigh as many processes as there are cores: squib's own must stay quick beside them.
        cores = os.cpu_count() or 1
        _write_if(path / "cpu.weight", str(min(100 * cores, 10_000)))
        _write_if(path / "cpu.shares", str(1024 * cores))
        return os.access(path / "cgroup.procs", os.W_OK)
    except OSError:
        return False


def detect(mountinfo: str, own: str) -> tuple[Hierarchy, ...]:
    """What this machine offers, from the text of /proc/self/mountinfo and /proc/self/cgroup."""
    found: list[Hierarchy] = []
    covered: set[str] = set()
    for mount, kind, options in sorted(_mounts(mountinfo), key=lambda m: m[1], reverse=True):
        hierarchy = _version2(mount, own) if kind == "cgroup2" else _version1(mount, options, covered)
        if hierarchy is not None:
            covered |= hierarchy.controllers
            found.append(hierarchy)
    # A version 2 hierarchy whose controllers are all version 1's limits nothing, but it can end all that it holds at
    # one stroke: of use only where no version 1 group could hold them.
    return tuple(h for h in found if h.controllers) or tuple(found)


def here(state_dir: Path) -> Cgroups:
    """The groups of the installation with this state directory, on this machine."""
    mountinfo = Path("/proc/self/mountinfo").read_text()
    return Cgroups(detect(mountinfo, Path("/proc/self/cgroup").read_text()), group_name(state_dir))


def in_all(path: str) -> list[Path]:
    """Where the group at `path`, as seen from the top of its hierarchy, lies in each that is mounted here."""
    mountinfo = Path("/proc/self/mountinfo").read_text()
    return [mount / path.lstrip("/") for mount, _, _ in _mounts(mountinfo)]


def from_top(path: str) -> str:
    """A group's path as seen from the top of its hierarchy. Raises ValueError for what is no group's."""
    mountinfo = Path("/proc/self/mountinfo").read_text()
    mount = max((m for m, _, _ in _mounts(mountinfo) if Path(path).is_relative_to(m)), key=lambda m: len(str(m)))
    return f"/{Path(path).relative_to(mount)}"


def _mounts(mountinfo: str) -> list[tuple[Path, str, frozenset[str]]]:
    """Mount point, type and super options of each control group file system (proc(5), mountinfo)."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            found.append((Path(left.split(" ")[4]), kind, frozenset(options.split(","))))
    return found


def _version1(mount: Path, options: frozenset[str], covered: set[str]) -> Hierarchy | None:
    controllers = (options & set(CONTROLLERS)) - covered
    if not controllers or not os.access(mount, os.W_OK):
        return None
    return Hierarchy(mount, 1, frozenset(controllers))


def _version2(mount: Path, own: str) -> Hierarchy | None:
    """The highest group, from the top down to our own's parent, where we may make groups and move processes."""
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), "/").strip("/")
    parts = path.split("/") if path else []
    candidates = [mount.joinpath(*parts[:depth]) for depth in range(max(1, len(parts)))]
    for candidate in candidates:
        if os.access(candidate, os.W_OK) and os.access(candidate / "cgroup.procs", os.W_OK):
            with contextlib.suppress(OSError):
                return Hierarchy(candidate, 2, _hand_down(candidate))
    return None


def _hand_down(group: Path) -> frozenset[str]:
    """Enable our controllers for the groups below; gives those that are."""
    available = set((group / "cgroup.controllers").read_text().split()) & set(CONTROLLERS)
    control = group / "cgroup.subtree_control"
    for controller in available - set(control.read_text().split()):
        # Refused where the group has processes of its own and is not the root: then go without.
        with contextlib.suppress(OSError):
            _write(control, f"+{controller}")
    return frozenset(available & set(control.read_text().split()))
