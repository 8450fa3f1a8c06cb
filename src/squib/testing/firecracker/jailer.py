"""The process that stands in for the jailer: it makes the jail as the real one does, and becomes the VMM in it.

One thing is different: the program is no static binary, so that the jail's own mount namespace also has the host's
/usr (and /proc, for the guest's sandbox) in it, read-only, and any squashfs that lies in the jail, for the guest's
root. On disk these are empty directories in the jail's root, as is /tmp. And where the VMM's network has a tap whose
network has room for two, the other one's address, to which a real machine would answer, is the loopback's: the
guest's process answers there.
"""

import contextlib
import ctypes
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from squib.testing.firecracker import cgroup, network
from squib.testing.firecracker.arguments import Arguments, BadArguments, Option, bad_id, parse
from squib.testing.firecracker.names import FAULTS, VERSION

_VALUED = ("chroot-base-dir", "netns", "cgroup-version", "parent-cgroup")
OPTIONS = {
    **{name: Option(required=True) for name in ("id", "exec-file", "uid", "gid")},
    **{name: Option() for name in _VALUED},
    **{name: Option(many=True) for name in ("cgroup", "resource-limit")},
    **{name: Option(value=False) for name in ("daemonize", "new-pid-ns", "version")},
}
_NO_FILE = 2048
_NEWNS, _NEWNET, _NEWPID = 0x00020000, 0x40000000, 0x20000000
_BIND, _REC, _REMOUNT, _RDONLY, _SLAVE, _DETACH = 0x1000, 0x4000, 0x20, 0x1, 0x80000, 2
_NOSUID = 0x2
_DEVICES = (("dev/net/tun", 10, 200), ("dev/kvm", 10, 232), ("dev/urandom", 1, 9))
_PLAIN = ("null", "zero", "full", "random", "tty")
_FOLDERS = ("", "dev", "dev/net", "run")
_SQUASHFS = b"hsqs"
_TOP = ("bin", "sbin", "lib", "lib32", "lib64")


class JailError(Exception):
    """A jail that can't be made."""


def main(words: Sequence[str]) -> int:
    """Make the jail and become the VMM; returns only where that fails, or nothing is to be made."""
    began = time.monotonic_ns() // 1000
    try:
        given = parse(words, OPTIONS)
        if given.flag("help") or given.flag("version"):
            print(f"Jailer v{VERSION}\n")  # noqa: T201
            return 0
        _jail(given, began)
    except BadArguments as error:
        sys.stderr.write(f"Failed to parse arguments: {error}\n")
    except (JailError, cgroup.CgroupError, OSError) as error:
        sys.stderr.write(f"{error}\n")
    return 1


def _jail(given: Arguments, began: int) -> None:
    for name in list(os.environ):
        del os.environ[name]
    name = given.one("id") or ""
    if (why := bad_id(name)) is not None:
        raise JailError(f"Invalid instance ID: {why}")
    program = Path(given.one("exec-file") or "").resolve(strict=True)
    if not program.is_file():
        raise JailError(f"{program} is not a file")
    base = Path(given.one("chroot-base-dir") or "/srv/jailer").resolve(strict=True)
    root = base / program.name / name / "root"
    uid, gid = _user(given, "uid"), _user(given, "gid")
    cgroups = cgroup.planned(given, name, program.name)
    root.mkdir(parents=True, exist_ok=True)
    _copy(program, root / program.name, uid, gid)
    if (path := given.one("netns")) is not None:
        _join(path)
        network.stand_in()
    _limit(given.given.get("resource-limit", []))
    cgroups.enter()
    _enclose(root, uid, gid)
    argv = [f"/{program.name}", "--id", name, "--start-time-us", str(began), "--start-time-cpu-us", "0"]
    argv += ["--parent-cpu-time-us", "0", *given.rest]
    _become(argv, uid, gid, given)


def _user(given: Arguments, name: str) -> int:
    text = given.one(name) or ""
    if not text.isdecimal() or int(text) >= 2**32:
        raise JailError(f"Invalid {name}: {text}")
    return int(text)


def _copy(source: Path, target: Path, uid: int, gid: int) -> None:
    """The program, and what is to go wrong with it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(target, flags, source.stat().st_mode & 0o777)
    with os.fdopen(descriptor, "wb") as file:
        if os.fstat(descriptor).st_nlink > 1:
            raise JailError(f"Detected hard link at: {target}")
        os.fchown(descriptor, uid, gid)
        file.write(source.read_bytes())
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(source.with_name(FAULTS), target.with_name(FAULTS))
        target.with_name(FAULTS).chmod(0o644)


def _join(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise JailError(f"Failed to open file {path}: {error.strerror}") from error
    try:
        _call("setns", descriptor, _NEWNET)
    finally:
        os.close(descriptor)


def _limit(texts: Sequence[str]) -> None:
    limits = {"no-file": _NO_FILE}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise JailError(f"Invalid format for resources limits: {text}")
        if not value.isdecimal():
            raise JailError(f"Invalid limit value for resource: {value}: invalid digit found in string")
        if name not in ("fsize", "no-file"):
            raise JailError(f"Invalid resource argument: {name}")
        limits[name] = int(value)
    for name, kind in (("fsize", resource.RLIMIT_FSIZE), ("no-file", resource.RLIMIT_NOFILE)):
        if name in limits:
            resource.setrlimit(kind, (limits[name], limits[name]))


def _enclose(root: Path, uid: int, gid: int) -> None:
    """Make the jail's root this process's only one."""
    _call("unshare", _NEWNS)
    _mount(None, "/", _SLAVE | _REC)
    _mount(str(root), str(root), _BIND | _REC)
    os.chdir(root)
    _furnish()
    Path("old_root").mkdir(mode=0o700)
    _call("syscall", _pivot_root(), b".", b"old_root")
    os.chdir("/")
    _call("umount2", b"old_root", _DETACH)
    Path("old_root").rmdir()
    for name in _FOLDERS:
        path = Path("/", name)
        path.mkdir(exist_ok=True)
        path.chmod(0o700)
        os.chown(path, uid, gid)
    for name, major, minor in _DEVICES:
        os.mknod(f"/{name}", 0o020600, os.makedev(major, minor))
        os.chown(f"/{name}", uid, gid)


def _furnish() -> None:
    """What the stand-in needs and the real one does not, mounted at the present directory."""
    for name in ("usr", "proc", "dev", "etc", "tmp"):
        Path(name).mkdir(exist_ok=True)
    for name in _TOP:
        outside = Path("/", name)
        if outside.is_symlink() and not Path(name).is_symlink():
            Path(name).symlink_to(outside.readlink())
        elif outside.is_dir() and not outside.is_symlink():
            Path(name).mkdir(exist_ok=True)
            _show(f"/{name}", name)
    _show("/usr", "usr")
    for name in ("alternatives", "ld.so.cache", "ssl"):
        inside = Path("etc", name)
        outside = Path("/etc", name)
        if outside.is_dir():
            inside.mkdir(exist_ok=True)
        elif outside.exists():
            inside.touch()
        if outside.exists():
            _show(str(outside), str(inside))
    for drive in sorted(Path().glob("*.squashfs")):
        _show_image(drive, Path("mnt", drive.name))
    _mount("proc", "proc", _NOSUID, "proc")
    for name in _PLAIN:
        Path("dev", name).touch()
        _mount(f"/dev/{name}", f"dev/{name}", _BIND)


def _show_image(drive: Path, place: Path) -> None:
    """Where it can't be mounted, the guest has the host's own root."""
    with drive.open("rb") as file:
        if file.read(len(_SQUASHFS)) != _SQUASHFS:
            return
    place.mkdir(parents=True, exist_ok=True)
    options = "ro,loop,nosuid,nodev"
    argv = ("/usr/bin/mount", "-t", "squashfs", "-o", options, str(drive), str(place))
    if subprocess.run(argv, env={"PATH": "/usr/sbin:/usr/bin"}, check=False).returncode:
        place.rmdir()


def _show(outside: str, inside: str) -> None:
    _mount(outside, inside, _BIND | _REC)
    _mount(None, inside, _BIND | _REMOUNT | _RDONLY | _NOSUID)


def _become(argv: list[str], uid: int, gid: int, given: Arguments) -> None:
    """Detach and enter a process namespace where that is asked for; then be the VMM."""
    if given.flag("daemonize"):
        _detach()
    pid_file = Path(f"{argv[0]}.pid")
    if given.flag("new-pid-ns"):
        _call("unshare", _NEWPID)
        if (child := os.fork()) != 0:
            pid_file.write_text(str(child))
            os._exit(0)
    else:
        pid_file.write_text(str(os.getpid()))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    os.execve(argv[0], argv, {})


def _detach() -> None:
    """A process of no terminal's, and that can get none."""
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)


def _mount(source: str | None, target: str, flags: int, kind: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _call("mount", encoded[0], encoded[1], encoded[2], flags, None)


def _pivot_root() -> int:
    numbers = {"x86_64": 155, "aarch64": 41}
    return numbers[os.uname().machine]


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise JailError(f"{name}: {os.strerror(code)} (os error {code})")
