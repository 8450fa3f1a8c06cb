"""Remembers what a probe found, so that a start need not boot a machine again where nothing has changed since."""

import json
import os
from pathlib import Path
from typing import Any

from squib.host.layout import StateDir

MAX_BYTES = 64 * 1024


def kernel() -> tuple[str, ...]:
    """This machine's kernel, and this boot of it: settings that a probe depends on may not survive a reboot."""
    system = os.uname()
    return system.release, system.version, system.machine, Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def fingerprint(program: Path) -> str:
    """Which build of the program this is: path, size and time of change."""
    try:
        found = program.stat()
    except OSError:
        return f"{program}: absent"
    return f"{program.resolve()}: {found.st_size} {found.st_mtime_ns}"


def remember(state: StateDir, driver: str, key: list[str], found: list[Any]) -> None:
    """Keep `found` for whoever asks under the same key. Raises OSError."""
    path = _path(state, driver)
    draft = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as file:
        json.dump([key, found], file)
    draft.replace(path)


def recall(state: StateDir, driver: str, key: list[str]) -> list[Any] | None:
    """What was found under the same key; None where it is another or nothing whole is there."""
    try:
        with _path(state, driver).open("rb") as file:
            known, found = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, TypeError):
        return None
    return found if known == key and isinstance(found, list) else None


def _path(state: StateDir, driver: str) -> Path:
    return state.root / f"probe-{driver}.json"
