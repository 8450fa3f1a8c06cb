"""What a person asks of the snapshots: which are there, and why one is not used."""

import asyncio
import contextlib

from squib.host import probes
from squib.host.config import HostConfig
from squib.host.drivers import registry
from squib.host.snapshots.judge import Judge, damage
from squib.host.snapshots.quiet import quietly
from squib.host.snapshots.store import Snapshots, Stored


async def verdicts(config: HostConfig) -> list[tuple[Stored, str | None]]:
    """Every snapshot, newest first, with why machines can't go on from it here, or None. Reads all their parts.

    Takes no lock and changes nothing that a host uses.
    """
    store = Snapshots(config.state_dir)
    ground = await probes.ground(config, probing=True)
    with contextlib.closing(ground.children), contextlib.closing(ground.groups):
        judge = Judge(config, ground, lambda name: registry.make(name, ground))
        found = []
        for stored in await asyncio.to_thread(store.all):
            why = await judge.incompatible(stored) or await quietly(damage, stored)
            found.append((stored, why))
        return found
