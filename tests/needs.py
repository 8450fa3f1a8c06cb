"""Which real programs are here: the other half of `@pytest.mark.needs(...)`."""

import ctypes.util
import functools
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
_TOOLS = Path("/opt/squib-tools") if os.geteuid() == 0 else _CACHE / "squib-tools"
#: Where `scripts/setup test` puts the agents' command lines: never in the checkout, which a sandbox may not read.
TOOLS = Path(os.environ.get("SQUIB_TEST_TOOLS") or _TOOLS)
#: A state directory with the image `python` and a kernel, which `scripts/setup test` makes.
IMAGES = Path(os.environ.get("SQUIB_TEST_IMAGES") or "/var/tmp/squib-images")
#: What a driver needs of this machine, for `needs`; the others need nothing.
OF_DRIVER = {
    "gvisor": ("runsc", "libseccomp"),
    "qemu": ("qemu", "image"),
    "container": ("podman", "libseccomp"),
    "bubblewrap": ("bwrap", "libseccomp"),
}
#: Container runtimes, in the order in which they are tried: podman's own choice first.
_RUNTIMES = (None, "runc", "crun")


@dataclass(frozen=True)
class Lack:
    """Why a test cannot run. `curable`: `make setup-test` would mend it, so a strict run must not skip it."""

    reason: str
    curable: bool


@functools.cache
def lack(tool: str) -> Lack | None:
    """Look for `tool` once; None where it is here and works."""
    special = {
        "bwrap": _bwrap,
        "podman": _podman,
        "qemu": _qemu,
        "image": _image,
        "postgres": _postgres,
        "claude": _claude,
        "projects": _projects,
        "root": _root,
        "libseccomp": _libseccomp,
    }
    if tool in special:
        return special[tool]()
    return None if shutil.which(tool) else Lack(f"{tool} is not installed", True)


def _bwrap() -> Lack | None:
    program = shutil.which("bwrap")
    if program is None:
        return Lack("bwrap is not installed (apt package bubblewrap)", True)
    argv = [program, "--unshare-all", "--ro-bind", "/", "/", "true"]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            return Lack("setpriv is not installed (apt package util-linux)", True)
        argv = ["setpriv", "--reuid", "199999", "--regid", "199999", "--clear-groups", "--", *argv]
    tried = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, cwd="/")
    return None if tried.returncode == 0 else Lack(f"this kernel boots no bwrap: {tried.stderr.strip()}", False)


def _podman() -> Lack | None:
    program = shutil.which("podman")
    if program is None:
        return Lack("podman is not installed (apt packages podman, runc)", True)
    said = ""
    with tempfile.TemporaryDirectory(prefix="sq-", dir="/tmp") as folder:
        root = Path(folder, "root")
        for name in ("usr", "etc", "proc", "dev", "sys", "run", "tmp"):
            (root / name).mkdir(parents=True)
        for name in ("bin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        places = ("--root", f"{folder}/storage", "--runroot", f"{folder}/run")
        options = ("--events-backend=none", "--cgroup-manager=cgroupfs", "--storage-driver=vfs", *places)
        for runtime in _RUNTIMES:
            chosen = ("--runtime", runtime) if runtime else ()
            limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
            what = ("--rm", "--network=none", *limits, "--volume=/usr:/usr:ro", "--rootfs", str(root), "/bin/true")
            argv = [program, *options, *chosen, "run", *what]
            tried = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, cwd="/")
            if tried.returncode == 0:
                return None
            said = said or tried.stderr.strip()
    return Lack(f"podman runs no container here: {said}", False)


def _qemu() -> Lack | None:
    missing = [name for name in ("qemu-system-x86_64", "qemu-img") if shutil.which(name) is None]
    if missing:
        return Lack(f"{missing[0]} is not installed (apt packages qemu-system-x86, qemu-utils)", True)
    if os.geteuid() != 0:
        return Lack("machines of QEMU's need root", False)
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return Lack(f"/dev/net/tun can't be opened: {error.strerror}", False)
    found = IMAGES / "kernel" / "current" / "manifest.json"
    return None if found.exists() else Lack(f"{found} is absent ('make setup-test' makes it)", True)


def _image() -> Lack | None:
    found = IMAGES / "images" / "names" / "python" / "manifest.json"
    if os.geteuid() != 0:
        return Lack("images are made as root", False)
    return None if found.exists() else Lack(f"{found} is absent ('make setup-test' builds it)", True)


def _runsc() -> Lack | None:
    program = shutil.which("runsc")
    if program is None:
        return Lack("gVisor is not installed (apt package runsc)", True)
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    dated = re.search(r"20\d{6}", said)
    return None if dated and int(dated[0]) >= 20240729 else Lack(f"gVisor is too old: {said.strip()}", True)


def _postgres() -> Lack | None:
    found = shutil.which("initdb") or any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return None if found else Lack("no PostgreSQL server is installed (apt package postgresql)", True)


def _claude() -> Lack | None:
    program = TOOLS / "node_modules" / ".bin" / "claude"
    return None if program.exists() else Lack(f"{program} is absent ('make setup-test' installs it)", True)


def _projects() -> Lack | None:
    found = TOOLS / "projects" / "projects.txt"
    return None if found.exists() else Lack(f"{found} is absent ('make setup-test' fetches it)", True)


def _root() -> Lack | None:
    return None if os.geteuid() == 0 else Lack("the tests do not run as root", False)


def _libseccomp() -> Lack | None:
    found = ctypes.util.find_library("seccomp")
    return None if found else Lack("libseccomp is not installed (apt package libseccomp2)", True)
