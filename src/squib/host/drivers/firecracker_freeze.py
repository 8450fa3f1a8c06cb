"""Freezes a machine: its memory, its state and its drive into a directory that others, or itself, go on from."""

import asyncio
import contextlib
from pathlib import Path

from squib.contracts.errors import InfrastructureError
from squib.contracts.machine import Machine
from squib.host.drivers import firecracker_jail as jails
from squib.host.drivers.firecracker_start import Start, inside
from squib.host.firecracker import models
from squib.host.firecracker.command import Jail


async def freeze(start: Start, machine: Machine, target: Path, *, keep: bool) -> None:
    """Pause the machine, write it below `target`, and with `keep` let it go on. Raises InfrastructureError."""
    jail = start.jail(machine)
    target.chmod(0o700)  # a tenant's memory and work: root alone links it into jails
    async with start.client(machine) as vmm:
        await vmm.attach()
        try:
            await vmm.pause()
            await vmm.create_snapshot(models.SnapshotCreateParams(jails.NEW_STATE, jails.NEW_MEMORY))
            await asyncio.to_thread(_take, jail, machine.uid or -1, target, keep)
        except BaseException as error:
            with contextlib.suppress(InfrastructureError):  # it goes on, if it still can
                await asyncio.shield(vmm.resume())
            if isinstance(error, OSError):
                raise InfrastructureError(f"the machine can't be written to disk: {error}") from error
            raise
        if keep:
            await vmm.resume()


def _take(jail: Jail, uid: int, target: Path, keep: bool) -> None:
    """What the monitor wrote is ours now; the drive too, unless the machine goes on with it."""
    for name, new in ((jails.STATE, jails.NEW_STATE), (jails.MEMORY, jails.NEW_MEMORY)):
        jails.take(jail, new, inside(target, name), uid, move=True)
        with contextlib.suppress(FileNotFoundError):
            jail.outside(new).unlink()
    jails.take(jail, jails.DRIVE, inside(target, jails.DRIVE), uid, move=not keep)
