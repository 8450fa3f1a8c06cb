"""Which Python the guest runs under: any CPython >= 3.11 that the machine's own user can run."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

USUAL = ("/usr/bin/python3", "/usr/local/bin/python3", *(f"/usr/bin/python3.{minor}" for minor in range(15, 10, -1)))
#: No environment, no user's or site's packages: the guest brings all that it needs.
FLAGS = ("-I", "-S")
OLDEST = (3, 11)
ADVICE = "Install python3 (3.11 or newer) under /usr, or name one with SQUIB_SANDBOX__PYTHON."

#: Says which Python this is and what the kernel holds against it (proc(5), status).
CHECK = """
import json, sys
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
keys = ("CapEff", "NoNewPrivs", "Seccomp")
print(json.dumps({"version": list(sys.version_info[:3]), **{k: status.get(k, "") for k in keys}}))
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What CHECK printed."""

    version: tuple[int, ...]
    capabilities: int
    no_new_privileges: bool
    filtered: bool

    @property
    def recent(self) -> bool:
        """Whether the guest can run under it."""
        return self.version >= OLDEST

    @property
    def confined(self) -> bool:
        """Whether the kernel shows what a namespace sandbox must have: no capability, no way to one, a filter."""
        return self.capabilities == 0 and self.no_new_privileges and self.filtered


def parse(output: bytes) -> Finding | None:
    """Read what CHECK printed; None where it did not get that far."""
    try:
        seen = json.loads(output.splitlines()[-1])
        return Finding(
            tuple(map(int, seen["version"])),
            int(seen["CapEff"], 16),
            seen["NoNewPrivs"] == "1",
            seen["Seccomp"] == "2",
        )
    except (ValueError, LookupError, TypeError):
        return None


def candidates(named: str | None, root: Path = Path("/")) -> list[str]:
    """Paths to try, inside `root`: the named one alone, or the usual ones that are there."""
    names = [named] if named else list(dict.fromkeys(USUAL))
    return [name for name in names if (root / name.lstrip("/")).exists() or (root / name.lstrip("/")).is_symlink()]


def running() -> str:
    """The interpreter of this process."""
    return sys.executable
