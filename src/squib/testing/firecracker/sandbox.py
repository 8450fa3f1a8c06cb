"""The command that runs a machine's guest: bubblewrap, with what a real machine's initramfs would set up."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "etc")
_USER = "1000"
_PYTHON = "/usr/bin/python3"
_GUEST = "/opt/squib/guest.pyz"
_SPACES = ("user", "pid", "ipc", "uts", "cgroup-try")


@dataclass(frozen=True)
class Inside:
    """Where a machine's parts lie: `run` is its memory, `drive` what is on its drive of `size` bytes (0: none).

    `image` is the root; None: the system's own.
    """

    run: Path
    drive: Path
    image: Path | None
    size: int

    def command(self, name: str, filters: Sequence[int]) -> list[str]:
        """For a machine of that host name; `filters` are descriptors of system call filters."""
        limits = {"fsize": str(self.size or ""), "nproc": self._word("pids", "")}
        argv = ["prlimit", *(f"--{name}={limit}" for name, limit in limits.items() if limit), "bwrap"]
        argv += [f"--unshare-{space}" for space in _SPACES]
        argv += ["--uid", _USER, "--gid", _USER, "--cap-drop", "ALL", "--die-with-parent", "--new-session"]
        argv += ["--hostname", name, *(_host() if self.image is None else ("--ro-bind", str(self.image), "/"))]
        argv += ["--tmpfs", "/run", "--proc", "/proc", "--dev", "/dev"]
        argv += ["--perms", "1777", "--tmpfs", "/dev/shm"]
        for inside, outside in (("/tmp", "tmp"), ("/workspace", "workspace"), ("/home/agent", "home")):
            argv += ["--bind", str(self.drive / outside), inside]
        argv += ["--bind", str(self.run / "state"), "/run/squib/state"]
        argv += ["--ro-bind", str(self.run / "config"), "/run/squib/config"]
        argv += ["--ro-bind", str(self.run / "guest.pyz"), _GUEST]
        argv += ["--remount-ro", "/dev", "--remount-ro", "/run"]
        argv += ["--clearenv", "--setenv", "PATH", _PATH, "--setenv", "HOME", "/home/agent"]
        argv += [word for number in filters for word in ("--seccomp", str(number))]
        python = _PYTHON if self.image is None else self._word("python", _PYTHON)
        return [*argv, "--", python, "-I", "-S", _GUEST, "serve", "--config", "/run/squib/config/guest.json"]

    def _word(self, name: str, otherwise: str) -> str:
        """What the kernel's command line says of it."""
        words = (self.run / "words").read_text().split()
        found = [word.partition("=")[2] for word in words if word.startswith(f"squib.{name}=")]
        return found[-1] if found else otherwise


def _host() -> list[str]:
    """The system's own root, as far as programs need it."""
    argv = ["--ro-bind", "/usr", "/usr"]
    for name in _TOP:
        path = Path("/", name)
        if path.is_symlink():
            argv += ["--symlink", str(path.readlink()), f"/{name}"]
        elif path.is_dir():
            argv += ["--ro-bind", str(path), str(path)]
    return argv
