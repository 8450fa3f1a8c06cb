"""A machine's record on disk: written in one step, read with suspicion."""

import os
from pathlib import Path

from squib.contracts import codec
from squib.contracts.errors import InvalidRequest
from squib.contracts.machine import Machine

MAX_BYTES = 1024 * 1024


def save(machine: Machine) -> None:
    """Replace the machine's record.

    The rename makes it whole or absent for whoever reads it after this process has died. It is not forced to the
    disk: only a crash of the kernel could lose it, and that ends every machine as well.
    """
    path = Path(machine.directory) / "machine.json"
    draft = path.with_suffix(".tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, codec.dumps(machine))
    finally:
        os.close(descriptor)
    draft.replace(path)


def load(directory: Path) -> Machine | None:
    """The record of the machine in `directory`; None where it is absent, broken or another machine's."""
    try:
        with (directory / "machine.json").open("rb") as file:
            machine = codec.loads(Machine, file.read(MAX_BYTES), lenient=True)
    except (OSError, InvalidRequest):
        return None
    return machine if machine.id == directory.name and Path(machine.directory) == directory else None
