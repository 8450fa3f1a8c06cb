"""A machine's record on disk: written in one step, read with suspicion."""

import os
from pathlib import Path

from squib.contracts import codec
from squib.contracts.errors import InvalidRequest
from squib.contracts.machine import Machine

MAX_BYTES = 1024 * 1024
PAGE = 4096


def save(machine: Machine) -> None:
    """Replace the machine's record. Whoever reads it after this process has died finds the old one or the new one.

    A record that fits a page, as nearly all do, is written over in one call that a signal can't cut short. A longer
    one comes by a rename, which on some file systems waits for the disk: milliseconds, and every claim saves one.
    Nothing is forced to the disk: only a crash of the kernel could lose it, and that ends every machine as well.
    """
    path, content = Path(machine.directory) / "machine.json", codec.dumps(machine)
    page = content.ljust(PAGE)  # JSON may end in blanks
    if len(page) == PAGE and _overwrite(path, page):
        return
    draft = path.with_suffix(".tmp")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(page)  # all of it, or OSError where the disk is full
    draft.replace(path)


def _overwrite(path: Path, page: bytes) -> bool:
    """Write over a record of one page; False where there is none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return os.fstat(descriptor).st_size == PAGE and os.pwrite(descriptor, page, 0) == PAGE
    finally:
        os.close(descriptor)


def load(directory: Path) -> Machine | None:
    """The record of the machine in `directory`; None where it is absent, broken or another machine's."""
    try:
        with (directory / "machine.json").open("rb") as file:
            machine = codec.loads(Machine, file.read(MAX_BYTES), lenient=True)
    except (OSError, InvalidRequest):
        return None
    return machine if machine.id == directory.name and Path(machine.directory) == directory else None
