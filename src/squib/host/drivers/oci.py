"""An OCI bundle's config.json (runtime-spec 1.0.2) for a machine: pure."""

from collections.abc import Sequence
from typing import Any

from squib.contracts.guest import GuestConfig
from squib.contracts.machine import MachineSpec
from squib.host.drivers import view

_MIB = 1024 * 1024
_NAMESPACES = ("pid", "ipc", "uts", "mount", "network")
_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
#: Directories that the skeleton needs besides those that entries bring.
DIRECTORIES = ("/proc", "/sys", "/dev", "/tmp", "/home/agent", "/opt/squib", "/run/squib")


def document(
    spec: MachineSpec,
    config: GuestConfig,
    argv: Sequence[str],
    entries: Sequence[view.Link | view.Bind],
    *,
    capabilities: Sequence[str] = (),
    max_files: int = 65_536,
) -> dict[str, Any]:
    """The bundle's configuration: `entries` bound below its directory `root`, `argv` run as user 0."""
    return {
        "ociVersion": "1.0.2",
        "hostname": config.hostname,
        "root": {"path": "root", "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "cwd": config.workspace,
            "args": list(argv),
            "env": [f"PATH={config.path}", f"HOME={config.home}", "LANG=C.UTF-8"],
            "noNewPrivileges": True,
            "capabilities": {name: list(capabilities) if name != "ambient" else [] for name in _SETS},
            "rlimits": [
                _limit("RLIMIT_CORE", 0),
                _limit("RLIMIT_FSIZE", spec.disk * _MIB),
                _limit("RLIMIT_NOFILE", max_files),
                _limit("RLIMIT_NPROC", spec.pids),
            ],
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            *_memory(spec, config),
            *(_bind(entry) for entry in entries if isinstance(entry, view.Bind)),
        ],
        "linux": {"namespaces": [{"type": kind} for kind in _NAMESPACES]},
    }


def _limit(name: str, most: int) -> dict[str, Any]:
    return {"type": name, "soft": most, "hard": most}


def _memory(spec: MachineSpec, config: GuestConfig) -> list[dict[str, Any]]:
    """Memory file systems, each bounded. The guest sees nothing of the kernel's /sys: it is covered and closed."""
    size = f"size={max(64, spec.memory // 2) * _MIB}"
    return [
        _tmpfs("/dev", "mode=0755", "size=1048576"),
        _tmpfs("/dev/shm", "mode=1777", size),
        _tmpfs("/sys", "mode=0000", "size=4096", "ro"),
        _tmpfs("/tmp", "mode=1777", size),
        _tmpfs(config.home, "mode=0700", size),
    ]


def _tmpfs(path: str, *options: str) -> dict[str, Any]:
    return {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", *options]}


def _bind(entry: view.Bind) -> dict[str, Any]:
    options = ["rbind", "nosuid", "nodev", "rw" if entry.writable else "ro"]
    return {"destination": entry.path, "type": "bind", "source": entry.source, "options": options}
