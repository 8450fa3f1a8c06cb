"""The command line that makes a bubblewrap sandbox: what a machine sees of the host, and nothing else.

Pure but for looking at what the host has. The order matters: later mounts lie over earlier ones.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.guest import GuestConfig
from squib.contracts.machine import MachineSpec
from squib.host.layout import MachineDir

UID = 1000  # inside; it is mapped to the machine's own user outside
GUEST = "/opt/squib/guest.pyz"
TOOLS = "/opt/squib/tools"
CONFIG = "/run/squib/config"
#: Of the host's /etc (patterns): how programs and libraries are found, which certificates are trusted, what language
#: run-times were packaged with. Nothing of users, and nothing where an administrator may have put a password.
ETC = (
    *("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "services"),
    *("protocols", "ssl/certs", "ssl/openssl.cnf", "ca-certificates", "pki/tls/certs", "pki/ca-trust"),
    *("crypto-policies", "fonts", "java-*", "python3*", "perl"),
)
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_NOT_OF_A_ROOTFS = frozenset(
    ("proc", "sys", "dev", "tmp", "run", "home", "root", "mnt", "media", "srv", "boot", "lost+found", "workspace")
)
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Files:
    """Descriptors that bubblewrap reads: accounts, the filter's program, and where it tells the child's pid."""

    passwd: int
    group: int
    hosts: int
    seccomp: int
    info: int


def accounts(hostname: str, uid: int = UID) -> tuple[bytes, bytes, bytes]:
    """The sandbox's /etc/passwd, /etc/group and /etc/hosts; `uid` is the guest's, as it sees itself."""
    passwd = f"agent:x:{uid}:{uid}:agent:/home/agent:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
    hosts = f"127.0.0.1 localhost {hostname}\n::1 localhost {hostname}\n"
    return passwd.encode(), f"agent:x:{uid}:\nnogroup:x:65534:\n".encode(), hosts.encode()


def arguments(
    bwrap: str, spec: MachineSpec, directory: MachineDir, config: GuestConfig, files: Files, extra: Sequence[str]
) -> list[str]:
    """The whole command line up to the program. `extra` are more options: read-only binds of the driver's own."""
    return [
        bwrap,
        *_namespaces(config.hostname),
        *root(spec.image),
        *_accounts(files),
        *_memory(spec, config),
        *("--ro-bind", str(directory.config), CONFIG),
        *("--bind", str(directory.guest), str(Path(config.listen.removeprefix("unix:")).parent)),
        *("--bind", str(directory.state), config.state_dir),
        *("--ro-bind", str(directory.gateway), "/run/squib/gateway"),
        *("--bind", str(directory.workspace), config.workspace),
        *extra,
        *(part for mount in spec.mounts for part in ("--ro-bind", mount.source, mount.target)),
        # The root and /dev are memory that nobody would count: read-only once everything hangs in them.
        *("--remount-ro", "/dev", "--remount-ro", "/"),
        *("--chdir", config.workspace, "--seccomp", str(files.seccomp), "--info-fd", str(files.info), "--"),
    ]


def root(image: str) -> tuple[str, ...]:
    """What a machine sees of `image` ("host", or the path of a root file system): --ro-bind, --symlink and --dir."""
    return _host_root() if image == "host" else _rootfs(image)


def _namespaces(hostname: str) -> list[str]:
    return [
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--unshare-cgroup"),
        *("--disable-userns", "--uid", str(UID), "--gid", str(UID), "--cap-drop", "ALL", "--hostname", hostname),
        *("--new-session", "--as-pid-1", "--clearenv"),
    ]


@functools.cache
def _host_root() -> tuple[str, ...]:
    """The host's own programs; looked at once, since they do not come and go while squib runs."""
    sources = [str(path) for pattern in ETC for path in sorted(Path("/etc").glob(pattern)) if path.exists()]
    etc = [part for source in sources for part in ("--ro-bind", source, source)]
    return ("--ro-bind", "/usr", "/usr", "--dir", "/etc", *_top_links(Path("/")), *etc)


def _top_links(root: Path) -> Iterator[str]:
    """/bin and its like: links into /usr where the system merged them, directories elsewhere."""
    for name in _TOP:
        path = root / name
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), f"/{name}")
        elif path.is_dir():
            yield from ("--ro-bind", str(path), f"/{name}")


@functools.cache
def _rootfs(image: str) -> tuple[str, ...]:
    """A root file system's own entries, each read-only: its root stays ours, so that it may lack mount points."""
    return tuple(_entries(Path(image)))


def _entries(root: Path) -> Iterator[str]:
    yield from _top_links(root)
    for path in sorted(root.iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name not in (*_TOP, *_NOT_OF_A_ROOTFS, "opt"):
            yield from ("--ro-bind", str(path), f"/{path.name}")
    if (root / "opt").is_dir() and not (root / "opt").is_symlink():
        for path in sorted((root / "opt").iterdir()):
            if path.is_symlink():  # bubblewrap would follow it on the host
                yield from ("--symlink", str(path.readlink()), f"/opt/{path.name}")
            elif path.name != "squib":
                yield from ("--ro-bind", str(path), f"/opt/{path.name}")


def _accounts(files: Files) -> Iterator[str]:
    for name, descriptor in (("passwd", files.passwd), ("group", files.group), ("hosts", files.hosts)):
        yield from ("--perms", "0644", "--ro-bind-data", str(descriptor), f"/etc/{name}")


def _memory(spec: MachineSpec, config: GuestConfig) -> list[str]:
    """Memory file systems, each bounded; what they hold counts to the machine's memory where groups limit it."""
    size = str(max(64, spec.memory // 2) * _MIB)
    return [
        # Settings of its own IPC namespace would be the machine's to write: none is.
        *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"),
        *("--dev", "/dev", "--perms", "1777", "--size", size, "--tmpfs", "/dev/shm"),
        *("--perms", "1777", "--size", size, "--tmpfs", "/tmp", "--dir", "/home"),
        *("--perms", "0700", "--size", size, "--tmpfs", config.home),
        *("--dir", "/run", "--dir", "/run/squib", "--dir", "/opt", "--dir", "/opt/squib"),
    ]
