"""Where things lie: the host's state directory, and one directory for each machine."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from squib.contracts import ids
from squib.contracts.errors import InvalidRequest

DRAFTS = ".guest-"  # how names of a guest's unfinished builds begin, in the state directory
MAX_SOCKET_PATH = 107  # bytes: sockaddr_un (unix(7))


@dataclass(frozen=True, slots=True)
class StateDir:
    """The host's own directory."""

    root: Path

    @property
    def machines(self) -> Path:
        """One directory for each machine, named by its id."""
        return self.root / "machines"

    @property
    def lock(self) -> Path:
        """Held by the one process that uses this directory."""
        return self.root / "host.lock"

    def prepare(self) -> None:
        """Make what is missing. Others may pass through, not look: sandboxes run under other users.

        Raises InvalidRequest where the path is too long for the sockets below it.
        """
        longest = len(os.fsencode(self.machine("mch-" + "0" * 26).gateway_socket)) + 1  # bound as a draft first
        if longest > MAX_SOCKET_PATH:
            detail = f"{self.root} is {longest - MAX_SOCKET_PATH} bytes too long for the sockets of its machines"
            raise InvalidRequest(detail, fields={"state_dir": "is too long"}, advice="Choose a shorter path.")
        for path in (self.root, self.machines):
            path.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.machines.chmod(0o711)

    def machine(self, machine_id: str) -> "MachineDir":
        """The directory of that machine. Raises ValueError for what is no machine's id."""
        if not ids.is_id(machine_id, "mch"):
            raise ValueError(f"not a machine's id: {machine_id!r}")
        return MachineDir(self.machines / machine_id)

    def found(self) -> list["MachineDir"]:
        """Every machine's directory that is there, in order of creation; other names are not ours to touch."""
        return [MachineDir(p) for p in sorted(self.machines.iterdir()) if ids.is_id(p.name, "mch")]


@dataclass(frozen=True, slots=True)
class MachineDir:
    """A machine's directory. What the guest may write is `guest`, `state` and `workspace`: hostile content."""

    root: Path

    @property
    def id(self) -> str:
        """The machine's id."""
        return self.root.name

    @property
    def record(self) -> Path:
        """The machine's record, for this user's eyes only."""
        return self.root / "machine.json"

    @property
    def config(self) -> Path:
        """The directory of the guest's configuration, which it reads only."""
        return self.root / "config"

    @property
    def guest(self) -> Path:
        """The directory of the guest's socket."""
        return self.root / "guest"

    @property
    def socket(self) -> Path:
        """The guest's socket."""
        return self.guest / "guest.sock"

    @property
    def state(self) -> Path:
        """The guest's event ring and log."""
        return self.root / "state"

    @property
    def gateway(self) -> Path:
        """The directory of the gateway's socket: bound as a whole, so that a new gateway may bind it anew."""
        return self.root / "gateway"

    @property
    def gateway_socket(self) -> Path:
        """The gateway's socket, which the host binds."""
        return self.gateway / "gateway.sock"

    @property
    def workspace(self) -> Path:
        """The agent's work."""
        return self.root / "workspace"

    @property
    def home(self) -> Path:
        """The agent's home, where the driver has no memory file system for it."""
        return self.root / "home"

    @property
    def console(self) -> Path:
        """The guest's standard output and error."""
        return self.root / "console.log"

    @property
    def frozen(self) -> Path:
        """What a suspended machine goes on from."""
        return self.root / "frozen"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from taking it for a leftover, for as long as the block and this process last."""
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @property
    def in_use(self) -> bool:
        """Whether another process holds it."""
        try:
            handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def prepare(self, uid: int | None) -> None:
        """Make the directories, those that the guest writes for `uid` alone (None: this process's user)."""
        self.root.mkdir(mode=0o711, exist_ok=True)
        self.root.chmod(0o711)
        for path in (self.config, self.gateway):
            path.mkdir(mode=0o711, exist_ok=True)
            path.chmod(0o711)
        for path in (self.guest, self.state, self.workspace, self.home):
            path.mkdir(mode=0o700, exist_ok=True)
            if uid is not None:
                os.chown(path, uid, uid)
