"""Which real programs are here: the other half of `@pytest.mark.needs(...)`."""

import ctypes.util
import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
_TOOLS = Path("/opt/squib-tools") if os.geteuid() == 0 else _CACHE / "squib-tools"
#: Where `scripts/setup test` puts the agents' command lines: never in the checkout, which a sandbox may not read.
TOOLS = Path(os.environ.get("SQUIB_TEST_TOOLS") or _TOOLS)
#: What a driver needs of this machine, for `needs`; the others need nothing.
OF_DRIVER = {"gvisor": ("runsc", "libseccomp"), "bubblewrap": ("bwrap", "libseccomp")}


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
