"""Sandboxes put to disk, their memory freed, and brought back: the same machine, under the same id and user."""

import asyncio
import contextlib
import shutil
import time
from dataclasses import replace
from pathlib import Path

import structlog

from squib.contracts.errors import Conflict, HostFull, SquibError
from squib.contracts.machine import Machine, MachinePhase
from squib.host import freezing
from squib.host.drivers.base import Driver, Freezing, Frozen
from squib.host.fleet import Fleet
from squib.host.ground import MIB
from squib.host.layout import MachineDir
from squib.host.removal import remove_tree

log = structlog.get_logger(__name__)
SPARE_DISK = 512  # MiB that stay free whatever is suspended


async def suspend(fleet: Fleet, machine: Machine) -> bool:
    """Put a claimed machine to disk. False, and it runs on, where that can't be done here or now."""
    driver, place = fleet.drivers.of(machine), MachineDir(Path(machine.directory))
    capability = await fleet.drivers.capability(machine.driver)
    if not (capability.pause and isinstance(driver, Freezing)) or not await driver.alive(machine):
        return False
    if (free := shutil.disk_usage(place.root).free // MIB) < machine.spec.memory + SPARE_DISK:
        log.warning("a sandbox is not suspended: the disk is full", sandbox=machine.sandbox_id, free_mib=free)
        return False
    await asyncio.to_thread(_fresh, place.frozen)
    if fleet.ground.uids and machine.uid is not None:
        fleet.ground.uids.pin(machine.uid, machine.id)
    try:
        thaw = await freezing.freeze(driver, machine, fleet.config.key, place.frozen, keep=False)
        await fleet.gateway.close(machine.id)
        # Its groups are gone, but their names stay: by those it is ended, not by a user who may be another's then.
        suspended = replace(machine, phase=MachinePhase.SUSPENDED, pid=None, pid_start=None, thaw=thaw)
        fleet.keep(suspended)
    except BaseException as error:
        await asyncio.shield(_undo(fleet, driver, machine, error))
        if isinstance(error, SquibError | OSError):
            return False
        raise
    log.info("suspended a sandbox", machine=machine.id, sandbox=machine.sandbox_id)
    return True


async def resume(fleet: Fleet, machine: Machine) -> Machine | None:
    """Let a suspended machine go on. None where it can't, and is lost. Raises HostFull, and it can be tried again."""
    driver, place = fleet.drivers.of(machine), MachineDir(Path(machine.directory))
    await asyncio.to_thread(remove_tree, place.socket)  # the old guest's: nobody listens there
    began = time.perf_counter()
    try:
        with fleet.counting(machine.spec):
            frozen = Frozen(place.frozen, machine.spec, machine.thaw)
            claimed = fleet.keep(_as_before(await fleet.go_on(machine.spec, driver, frozen), machine))
    except HostFull:
        raise
    except (SquibError, OSError) as error:
        why = f"it could not go on after it was suspended: {error}"
        log.error("a sandbox is lost", machine=machine.id, sandbox=machine.sandbox_id, reason=why)
        fleet.keep(replace(machine, phase=MachinePhase.CLAIMED, thaw=None, ended=why))
        _unpin(fleet, machine)
        await asyncio.to_thread(remove_tree, place.frozen)
        return None
    except BaseException:  # given up meanwhile: on disk it is one that is being made, which nobody would adopt
        with contextlib.suppress(OSError):
            fleet.keep(machine)
        raise
    _unpin(fleet, machine)
    await asyncio.to_thread(remove_tree, place.frozen)
    took = round((time.perf_counter() - began) * 1000)
    log.info("resumed a sandbox", machine=machine.id, sandbox=machine.sandbox_id, ms=took)
    return claimed


def _as_before(awake: Machine, machine: Machine) -> Machine:
    """The machine that was suspended, with the processes, groups and user that it has now."""
    return replace(
        machine,
        phase=MachinePhase.CLAIMED,
        endpoint=awake.endpoint,
        pid=awake.pid,
        pid_start=awake.pid_start,
        uid=awake.uid,
        cgroups=awake.cgroups,
        thaw=None,
    )


async def _undo(fleet: Fleet, driver: Driver, machine: Machine, error: BaseException) -> None:
    """After a freeze that failed: the machine runs on, or its record says what ended it."""
    place = MachineDir(Path(machine.directory))
    _unpin(fleet, machine)
    on = isinstance(error, Conflict) or await freezing.recovered(driver, machine, fleet.config.key)
    log.warning("a sandbox was not suspended", sandbox=machine.sandbox_id, runs_on=on, error=str(error))
    if not on:
        await driver.destroy(machine)
        fleet.keep(replace(machine, ended=f"it could not be suspended: {error}"))
    await asyncio.to_thread(remove_tree, place.frozen)


def _unpin(fleet: Fleet, machine: Machine) -> None:
    if fleet.ground.uids:
        fleet.ground.uids.unpin(machine.id)


def _fresh(path: Path) -> None:
    """An empty directory, through which the machine's user may pass."""
    remove_tree(path)
    path.mkdir()
    path.chmod(0o711)
