"""The command lines of Firecracker and its jailer, and where a jail's parts lie. Pure: nothing is looked at."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from squib.contracts.errors import InvalidRequest

API_SOCKET = "/run/firecracker.socket"  # as Firecracker itself has it, inside a jail too
_ID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_MAX_UID = 2**32 - 2
_CGROUP_FILE = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Vmm:
    """Firecracker's own arguments. Paths are as it sees them. Its seccomp filter is its default, always."""

    api_sock: str = API_SOCKET
    log_path: str | None = None
    level: str | None = None
    metrics_path: str | None = None
    mmds_size_limit: int | None = None  # bytes
    boot_timer: bool = False

    def arguments(self) -> list[str]:
        """All but its id, which the jailer adds: given twice, it is refused."""
        values = {
            "--api-sock": self.api_sock,
            "--log-path": self.log_path,
            "--level": self.level,
            "--metrics-path": self.metrics_path,
            "--mmds-size-limit": self.mmds_size_limit,
        }
        argv = [text for name, value in values.items() if value is not None for text in (name, str(value))]
        return argv + (["--boot-timer"] if self.boot_timer else [])

    def argv(self, program: Path, vmm_id: str) -> list[str]:
        """The whole command, for a VMM without a jail. Raises InvalidRequest for a bad id."""
        return [str(program), "--id", _checked(vmm_id), *self.arguments()]


@dataclass(frozen=True, slots=True)
class Jail:
    """Where a jailed VMM's parts lie on the host: `<base>/<program's name>/<id>/root` is its root."""

    base: Path
    program: Path  # Firecracker itself, which is copied in
    id: str

    @property
    def directory(self) -> Path:
        """All of it, for removal."""
        return self.base / self.program.name / self.id

    @property
    def root(self) -> Path:
        """What the VMM sees as `/`: its own user's, mode 0700."""
        return self.directory / "root"

    @property
    def pid_file(self) -> Path:
        """Where the jailer leaves the VMM's pid: needed where that is a new process."""
        return self.root / f"{self.program.name}.pid"

    def outside(self, inside: str) -> Path:
        """The host's name of a path that is absolute inside. Raises InvalidRequest where it is not, or leads out."""
        path = Path(inside)
        if not path.is_absolute() or ".." in path.parts:
            raise InvalidRequest(f"{inside!r} is no path in a jail", fields={"path": "must be absolute, without .."})
        return self.root / path.relative_to("/")


@dataclass(frozen=True, slots=True)
class Jailer:
    """The jailer's arguments: who the VMM becomes, and within what bounds.

    `cgroups` are (file, value) pairs; with version 2 and none of them, the VMM is moved into `parent_cgroup` if that
    is there. `fsize` bounds each file that it writes, in bytes.
    """

    jail: Jail
    uid: int
    gid: int
    netns: str | None = None
    cgroup_version: int = 2
    parent_cgroup: str | None = None
    cgroups: Sequence[tuple[str, str]] = ()
    fsize: int | None = None
    no_file: int | None = None
    new_pid_ns: bool = False
    daemonize: bool = False
    vmm: Vmm = field(default_factory=Vmm)

    def argv(self, program: Path) -> list[str]:
        """The whole command, Firecracker's own arguments after `--`. Raises InvalidRequest, which names the field."""
        self._check()
        argv = [str(program), "--id", _checked(self.jail.id), "--exec-file", str(self.jail.program)]
        argv += ["--uid", str(self.uid), "--gid", str(self.gid), "--chroot-base-dir", str(self.jail.base)]
        argv += ["--cgroup-version", str(self.cgroup_version)]
        argv += ["--parent-cgroup", self.parent_cgroup] if self.parent_cgroup else []
        for file, value in self.cgroups:
            argv += ["--cgroup", f"{file}={value}"]
        argv += ["--netns", self.netns] if self.netns else []
        for name, limit in (("fsize", self.fsize), ("no-file", self.no_file)):
            argv += ["--resource-limit", f"{name}={limit}"] if limit is not None else []
        argv += ["--new-pid-ns"] if self.new_pid_ns else []
        argv += ["--daemonize"] if self.daemonize else []
        return [*argv, "--", *self.vmm.arguments()]

    def _check(self) -> None:
        for name, user in (("uid", self.uid), ("gid", self.gid)):
            if not 0 < user <= _MAX_UID:  # root in a jail is root on the host
                raise _wrong(name, f"{user} is no ordinary user")
        if self.cgroup_version not in (1, 2):
            raise _wrong("cgroup_version", "is 1 or 2")
        if self.parent_cgroup is not None:
            parts = Path(self.parent_cgroup).parts
            if not parts or ".." in parts or Path(self.parent_cgroup).is_absolute():
                raise _wrong("parent_cgroup", "is relative, without ..")
        for file, value in self.cgroups:
            if not _CGROUP_FILE.fullmatch(file) or not value or "=" in value:
                raise _wrong("cgroups", f"{file}={value} is no setting of a control group")


def _checked(vmm_id: str) -> str:
    if not _ID.fullmatch(vmm_id):
        raise _wrong("id", f"{vmm_id!r} has more than 64 letters, digits and hyphens, or others")
    return vmm_id


def _wrong(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: {why}", fields={name: why})
