"""Freezes a machine: its memory, its state and its drive into a directory that others, or itself, go on from."""

import asyncio
import contextlib
from pathlib import Path

from squib.contracts.errors import InfrastructureError
from squib.contracts.machine import Machine
from squib.host.drivers import qemu_qmp, qemu_start
from squib.host.vm import drives, memory


async def freeze(machine: Machine, target: Path, *, keep: bool) -> None:
    """Stop the machine, write it below `target`, and with `keep` let it go on. Raises InfrastructureError."""
    directory = Path(machine.directory)
    target.chmod(0o700)  # a tenant's memory and work: this process alone reads them, and hands on descriptors
    async with qemu_qmp.connected(directory / qemu_start.CONTROL) as monitor:
        await monitor.command("stop")
        try:
            with (target / qemu_start.STATE).open("wb") as file:
                await monitor.save_devices(file.fileno())
            await asyncio.to_thread(memory.save, machine.pid or 0, target)
            await drives.freeze(directory, target, qemu_start.drive_size(machine.spec), keep=keep)
        except BaseException as error:
            with contextlib.suppress(InfrastructureError):  # it goes on, if it still can
                await asyncio.shield(monitor.command("cont"))
            if isinstance(error, OSError):
                raise InfrastructureError(f"the machine can't be written to disk: {error}") from error
            raise
        if keep:
            await monitor.command("cont")
