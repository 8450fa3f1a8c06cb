"""At the start: what an earlier process left is taken over where it answers, and removed where it does not."""

import asyncio
import contextlib
import time
from pathlib import Path

import structlog

from squib.contracts.errors import SquibError
from squib.contracts.guest import CONTRACT_VERSION
from squib.contracts.machine import Machine, MachinePhase
from squib.host import cgroups, ready, records
from squib.host.fleet import Fleet
from squib.host.layout import DRAFTS, MachineDir
from squib.host.removal import remove_tree

log = structlog.get_logger(__name__)
AT_ONCE = 16
DRAFT_AGE = 600.0  # seconds; building takes one


async def adopt(fleet: Fleet) -> None:
    """Look at every machine's directory, then at every group, of this installation; others' are not touched."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(place: MachineDir) -> None:
        async with slots:
            await _adopt_or_remove(fleet, place)

    async with asyncio.TaskGroup() as group:
        for place in fleet.ground.state.found():
            if not place.in_use:  # a snapshot is being made of it
                group.create_task(one(place))
    await remove_orphaned_groups(fleet)
    await asyncio.to_thread(_remove_drafts, fleet.ground.guest.parent)
    if not fleet.machines:  # none can use an older build
        for path in fleet.ground.guest.parent.glob("guest-*.pyz"):
            if path != fleet.ground.guest:
                path.unlink()


def _remove_drafts(state_dir: Path) -> None:
    """What a process that was killed while it built the guest left; a young one may be being built."""
    for path in state_dir.glob(f"{DRAFTS}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > DRAFT_AGE:
                remove_tree(path)


async def _adopt_or_remove(fleet: Fleet, place: MachineDir) -> None:
    machine = records.load(place.root)
    try:
        if machine is None:
            await asyncio.to_thread(remove_tree, place.root)
        elif await _worth_keeping(fleet, machine):
            if machine.phase is not MachinePhase.SUSPENDED:
                await fleet.gateway.open(machine.id, place.gateway_socket, machine.uid)
            fleet.machines[machine.id] = machine
            log.info("adopted a machine", machine=machine.id, sandbox=machine.sandbox_id)
        else:
            await fleet.remove(machine)
            log.info("removed a machine that an earlier process left", machine=machine.id, phase=machine.phase)
    except Exception as error:  # one broken directory must not keep the rest from being adopted
        log.error("what an earlier process left can't be removed", directory=str(place.root), error=str(error))


async def _worth_keeping(fleet: Fleet, machine: Machine) -> bool:
    """A sandbox's machine whose time is not over, or a pooled one as we would make it; unless it is suspended, one
    whose guest answers."""
    in_time = machine.expires_at is None or machine.expires_at > time.time()
    wanted = {
        MachinePhase.CLAIMED: in_time,
        MachinePhase.SUSPENDED: in_time,
        MachinePhase.READY: machine.made_with == fleet.made_with(machine),
    }
    if not wanted.get(machine.phase, False) or not await fleet.alive(machine):
        return False
    if machine.phase is MachinePhase.SUSPENDED:  # after a reboot the installation may have other users
        return fleet.ground.uids is None or machine.uid in fleet.ground.uids.block
    try:
        return (await ready.health(machine, fleet.config.key)).contract == CONTRACT_VERSION
    except (SquibError, OSError):
        return False


async def remove_orphaned_groups(fleet: Fleet) -> None:
    """Remove groups of machines that have no directory any more."""
    known = {place.id for place in fleet.ground.state.found()}
    for machine_id, paths in fleet.ground.groups.orphans(known).items():
        await cgroups.kill(paths)
        cgroups.remove(paths)
        log.info("removed control groups without a machine", machine=machine_id)
