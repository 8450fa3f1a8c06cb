"""Copies of a running sandbox, memory and work, each a stranger to the others; the first goes on undisturbed."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from squib.contracts import ids
from squib.contracts.errors import DriverUnavailable, HostFull, InfrastructureError
from squib.contracts.machine import Machine, MachinePhase, MachineSpec
from squib.contracts.sandbox import SandboxSpec
from squib.host import copying, freezing
from squib.host.drivers.base import Driver, Freezing, Frozen
from squib.host.fleet import Fleet
from squib.host.removal import remove_tree
from squib.host.snapshots.store import Snapshots

log = structlog.get_logger(__name__)
AT_ONCE = 4


async def fork(fleet: Fleet, machine: Machine, specs: Sequence[SandboxSpec]) -> list[Machine]:
    """Make a claimed machine for each spec, in their order: all of them or none. They have the first one's measure.

    Raises DriverUnavailable, Conflict while an agent runs there, HostFull, SandboxLost or InfrastructureError.
    """
    driver = fleet.drivers.of(machine)
    capability = await fleet.drivers.capability(machine.driver)
    if not (capability.fork and isinstance(driver, Freezing)):
        raise DriverUnavailable(f"machines of {driver.name} can't be copied", advice="Name gvisor or qemu.")
    if (lack := fleet.lack([machine.spec] * len(specs))) is not None:
        raise HostFull(lack)
    wanted = [(replace(machine.spec, id=ids.new_id("mch")), spec) for spec in specs]
    with (
        fleet.counting(*(spec for spec, _ in wanted)),
        Snapshots(fleet.config.state_dir).workshop() as workshop,
    ):
        (parts := workshop / "parts").mkdir()
        parts.chmod(0o711)
        try:
            thaw = await _freeze(fleet, driver, machine, parts)
            return await _all(fleet, machine, wanted, Frozen(parts, machine.spec, thaw))
        finally:
            await asyncio.shield(asyncio.to_thread(remove_tree, parts))  # gigabytes, perhaps: not in this thread


async def _freeze(fleet: Fleet, driver: Driver, machine: Machine, parts: Path) -> str | None:
    """Write the first one down; whatever comes between, it goes on."""
    try:
        return await freezing.freeze(driver, machine, fleet.config.key, parts, keep=True)
    except (InfrastructureError, asyncio.CancelledError):
        await asyncio.shield(freezing.recovered(driver, machine, fleet.config.key))
        raise


async def _all(
    fleet: Fleet, machine: Machine, wanted: Sequence[tuple[MachineSpec, SandboxSpec]], frozen: Frozen
) -> list[Machine]:
    """Several at a time; if one fails or is cancelled, none stays."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(spec: MachineSpec, sandbox: SandboxSpec) -> Machine:
        async with slots:
            return await _copy(fleet, machine, spec, sandbox, frozen)

    began = time.perf_counter()
    tasks = [asyncio.ensure_future(one(*each)) for each in wanted]
    try:
        made = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.shield(asyncio.gather(*tasks, return_exceptions=True))
        await asyncio.shield(fleet.destroy_all([spec.id for spec, _ in wanted]))
        raise
    took = round((time.perf_counter() - began) * 1000)
    log.info("forked a sandbox", sandbox=machine.sandbox_id, copies=len(made), ms=took)
    return made


async def _copy(fleet: Fleet, machine: Machine, spec: MachineSpec, sandbox: SandboxSpec, frozen: Frozen) -> Machine:
    """One copy. Its user is taken before it is made: the work is copied into that user's hands."""
    driver, uids = fleet.drivers.of(machine), fleet.ground.uids
    place = fleet.ground.state.machine(spec.id)
    uid = uids.take(spec.id) if uids else None
    try:
        async with fleet.undone_on_failure(place):
            place.prepare(uid)
            there = driver.workspace(replace(machine, id=spec.id, directory=str(place.root)))
            if (work := driver.workspace(machine)) is not None and there is not None:
                await copying.copy(work, machine.uid, there, uid, spec.disk)
            copy = await fleet.go_on(spec, driver, frozen)
            return fleet.keep(
                replace(
                    copy,
                    phase=MachinePhase.CLAIMED,
                    made_with=machine.made_with,
                    snapshot=machine.snapshot,
                    sandbox_id=sandbox.id,
                    task_id=sandbox.task_id,
                    expires_at=time.time() + sandbox.ttl_seconds,
                )
            )
    except BaseException:
        if uids and uid is not None:
            uids.release(uid, spec.id)
        raise
