"""Host users for machines: as root, each machine runs under a user id of its own, and never under 0."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from squib.contracts.errors import HostFull, InvalidRequest
from squib.host import processes

REGISTRY = Path("/run/squib/uids")  # one file a block of ids, holding the state directory that uses it
SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))


class Uids:
    """Hands out ids of one block. An id goes round before it comes again, so that a late signal hits nobody."""

    def __init__(self, block: range):
        if 0 in block or len(block) == 0:
            raise ValueError("a block of user ids must not be empty or hold 0")
        self.block = block
        self._owners: dict[int, str] = {}
        self._pinned: set[str] = set()
        self._next = block.start

    def take(self, machine_id: str) -> int:
        """The id that is held for the machine, or one that no machine has. Raises HostFull where all are taken."""
        if (held := next((uid for uid, owner in self._owners.items() if owner == machine_id), None)) is not None:
            return held
        for step in range(len(self.block)):
            uid = self.block.start + (self._next - self.block.start + step) % len(self.block)
            if uid not in self._owners:
                self._owners[uid] = machine_id
                self._next = uid + 1
                return uid
        raise HostFull(
            f"all {len(self.block)} user ids for machines are in use", advice="Raise the host's uid_count."
        )

    def hold(self, uid: int, machine_id: str) -> None:
        """Mark the id of a machine that another process has started as taken."""
        self._owners[uid] = machine_id

    def pin(self, uid: int, machine_id: str) -> None:
        """Keep the id for the machine also while it has no process: its files on the disk are that user's."""
        self._owners[uid] = machine_id
        self._pinned.add(machine_id)

    def unpin(self, machine_id: str) -> None:
        """Let the machine's id go with the machine."""
        self._pinned.discard(machine_id)

    def foreign(self, uid: int, machine_id: str) -> bool:
        """Whether another machine has the id by now."""
        return self._owners.get(uid, machine_id) != machine_id

    def release(self, uid: int, machine_id: str) -> None:
        """Give an id back once no process of that machine has it. Harmless where it is free or another's."""
        if not self.foreign(uid, machine_id) and machine_id not in self._pinned:
            self._owners.pop(uid, None)


def reserve(state_dir: Path, base: int, count: int, registry: Path = REGISTRY) -> range:
    """Claim a block of `count` ids from `base` on for this state directory, apart from every other installation's.

    The registry lies in /run: it goes with a reboot, as all machines do. A block is free again when the state
    directory that it names is gone and no process runs under its ids. Ranges that /etc/subuid gives to other users
    are passed over. Raises InvalidRequest for a base below 1000, where the system's own users are, and for a count
    below 2.
    """
    if base < 1000:
        raise InvalidRequest("uid_base: must be 1000 or more", fields={"uid_base": "must be 1000 or more"})
    if count < 2:
        raise InvalidRequest("uid_count: must be 2 or more", fields={"uid_count": "must be 2 or more"})
    registry.mkdir(mode=0o755, parents=True, exist_ok=True)
    foreign = list(_subordinate())
    with _locked(registry / "lock"):
        owners = {int(p.name): p for p in registry.iterdir() if p.name.isdecimal()}
        for start, path in sorted(owners.items()):
            owner, _, length = path.read_text().rpartition("\n")
            if owner == str(state_dir) and int(length) == count and start >= base:
                return range(start, start + count)
            if not Path(owner).is_dir() and not processes.any_of(range(start, start + int(length))):
                path.unlink()
                del owners[start]
        blocks = [range(s, s + int(p.read_text().rpartition("\n")[2])) for s, p in owners.items()]
        start = base
        while clash := next((b for b in (*blocks, *foreign) if _overlap(b, range(start, start + count))), None):
            start = clash.stop
        (registry / str(start)).write_text(f"{state_dir}\n{count}")
        return range(start, start + count)


def give_back(state_dir: Path, block: range, registry: Path = REGISTRY) -> None:
    """Let others have the block: only once no process runs under one of its ids."""
    with _locked(registry / "lock"):
        path = registry / str(block.start)
        if path.exists() and path.read_text().rpartition("\n")[0] == str(state_dir):
            path.unlink()


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def _subordinate() -> Iterator[range]:
    for path in SUBORDINATE:
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                _, first, length = line.split(":")
                yield range(int(first), int(first) + int(length))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
