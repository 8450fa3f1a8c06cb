"""The command line that makes a container: what it sees, what is held against it, what it may use."""

import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.errors import InfrastructureError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import MachineSpec
from squib.host.cgroups import Limits
from squib.host.drivers import sandbox, view
from squib.host.drivers.container_engine import Engine
from squib.host.drivers.container_root import SETTER
from squib.host.ground import MIB
from squib.host.launch import MAX_FILES

_PID_MAX = Path("/proc/sys/kernel/pid_max")
#: Docker hands its user's proxies, and with them passwords, on to containers, unless it is told to unset them.
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class Container:
    """All that a container is made from."""

    spec: MachineSpec
    config: GuestConfig
    installation: str  # for its label
    uid: int | None  # the machine's user outside; None: this process's own
    profile: Path  # the system call filter
    pid_file: Path  # where Podman leaves the pid of the first process
    group: str | None  # the control group above the container's, which holds its limits; None: the engine limits it
    root: Path | str  # a directory for Podman, an image's name for Docker
    binds: Sequence[view.Bind]
    bounds: Limits  # what all of the container may take


def inner_user(engine: Engine, uid: int) -> int:
    """The guest's user id as it sees itself: Docker's containers have no user ids of their own."""
    return sandbox.UID if engine.is_podman else uid


def arguments(engine: Engine, container: Container, own: int, argv: Sequence[str]) -> list[str]:
    """The arguments of `run`; `own` is this process's user. Raises InfrastructureError for an unspeakable path."""
    outside = own if container.uid is None else container.uid
    user = inner_user(engine, outside)
    parts = (
        _identity(container),
        ("--user", f"{user}:{user}"),
        _podman(container, own) if engine.is_podman else _docker(engine, container),
        _confinement(engine, container),
        _limits(engine, container),
        _memory(engine, container, user),
        (part for bind in container.binds for part in _bind(bind)),
        ("--rootfs", str(container.root)) if engine.is_podman else (str(container.root),),
        argv,
    )
    return ["run", "--detach", *(word for part in parts for word in part)]


def _identity(container: Container) -> Iterator[str]:
    config, machine_id = container.config, container.spec.id
    yield from ("--name", machine_id, "--hostname", config.hostname, "--workdir", config.workspace)
    yield from ("--label", f"squib.host={container.installation}", "--label", f"squib.machine={machine_id}")
    variables = {"PATH": config.path, "HOME": config.home, "LANG": "C.UTF-8"}
    yield from (part for name, value in variables.items() for part in ("--env", f"{name}={value}"))


def _confinement(engine: Engine, container: Container) -> Iterator[str]:
    yield from ("--network", "none", "--ipc", "none", "--cgroupns", "private", "--read-only", "--cap-drop", "ALL")
    profile = "unconfined" if engine.is_gvisor else container.profile  # the guest's first code brings its own
    yield from ("--security-opt", "no-new-privileges", "--security-opt", f"seccomp={profile}")
    # SELinux would keep the container from directories that are not labelled as its own.
    yield from ("--security-opt", "label=disable")


def _podman(container: Container, own: int) -> Iterator[str]:
    """User ids of the container's own: in it, user 1000 is the machine's, and user 0 nobody."""
    yield from ("--read-only-tmpfs=false", "--unsetenv-all", "--http-proxy=false", "--no-hosts", "--passwd=false")
    yield from ("--init=false", "--systemd=false", "--sdnotify=ignore", "--log-driver=passthrough")
    yield from ("--pidfile", str(container.pid_file))
    # An ordinary user's Podman counts from that user, as 0, and the ids that belong to it, from 1.
    zero, user = (1, 0) if container.uid is None and own != 0 else (SETTER, container.uid)
    for option in ("--uidmap", "--gidmap"):
        yield from (option, f"0:{zero}:1", option, f"{sandbox.UID}:{user}:1")


def _docker(engine: Engine, container: Container) -> Iterator[str]:
    yield from ("--pull", "never", "--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=1")
    if engine.runtime:
        yield from ("--runtime", engine.runtime)
    yield from (part for name in _PROXIES for part in ("--env", name, "--env", name.upper()))
    yield from ("--env", "HOSTNAME")


def _limits(engine: Engine, container: Container) -> Iterator[str]:
    spec, bounds = container.spec, container.bounds
    # Never more than this process has itself, which is all that the engine may give; Podman keeps to this many pids.
    processes = _at_most(resource.RLIMIT_NPROC, int(_PID_MAX.read_text()))
    if engine.is_gvisor:  # its kernel counts those inside; a limit outside would end all of it
        processes = min(processes, spec.pids)
    files, size = _at_most(resource.RLIMIT_NOFILE, MAX_FILES), _at_most(resource.RLIMIT_FSIZE, spec.disk * MIB)
    for name, most in (("core", 0), ("fsize", size), ("nofile", files), ("nproc", processes)):
        yield from ("--ulimit", f"{name}={most}:{most}")
    yield from ("--oom-score-adj", "500")
    if container.group is not None:
        yield from ("--cgroup-parent", container.group, "--pids-limit", "-1")
    else:
        memory = str(bounds.memory)
        yield from ("--memory", memory, "--memory-swap", memory)
        yield from ("--cpus", f"{max(bounds.cpu, 0.01):g}", "--pids-limit", str(bounds.pids))


def _at_most(kind: int, wanted: int) -> int:
    _, hard = resource.getrlimit(kind)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _memory(engine: Engine, container: Container, user: int) -> Iterator[str]:
    """Memory file systems, each bounded. The guest sees nothing of the kernel's /sys: it is covered and closed."""
    size = f"size={max(64, container.spec.memory // 2)}m"
    yield from _tmpfs(engine, "/sys", "ro", "mode=0000", "size=4k")
    yield from _tmpfs(engine, "/sys/fs/cgroup", "ro", "mode=0000", "size=4k")
    yield from _tmpfs(engine, "/dev/shm", "rw", "exec", "mode=1777", size)
    yield from _tmpfs(engine, "/tmp", "rw", "exec", "mode=1777", size)
    if engine.is_gvisor:  # it has a tun there that everybody may open
        yield from _tmpfs(engine, "/dev/net", "ro", "mode=0000", "size=4k")
    owner = ("U",) if engine.is_podman else (f"uid={user}", f"gid={user}")
    yield from _tmpfs(engine, container.config.home, "rw", "exec", "mode=0700", size, *owner)


def _tmpfs(engine: Engine, path: str, *options: str) -> tuple[str, str]:
    plain = ("notmpcopyup",) if engine.is_podman else ()
    return "--tmpfs", f"{path}:{','.join((*options, 'nosuid', 'nodev', *plain))}"


def _bind(bind: view.Bind) -> tuple[str, str]:
    if "," in bind.source + bind.path:
        raise InfrastructureError(f"no container engine can be told of a path with a comma in it: {bind.source}")
    return "--mount", f"type=bind,source={bind.source},target={bind.path}{'' if bind.writable else ',readonly'}"
