"""Builds a snapshot: boots a machine of the usual measure, warms it up, freezes it.

It needs no host, and runs beside one: under a user of its own, and giving way to whatever tasks have to do.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from squib.contracts import ids
from squib.contracts.errors import DriverUnavailable, ImageError
from squib.contracts.guest import TerminalRequest
from squib.contracts.machine import Machine
from squib.contracts.snapshot import Snapshot
from squib.contracts.task import SandboxRequest
from squib.host import cgroups, freezing, making, probes, ready
from squib.host.bases import Base
from squib.host.config import HostConfig
from squib.host.ground import Ground
from squib.host.images.runner import Progress
from squib.host.making import Order
from squib.host.removal import remove_tree
from squib.host.snapshots import judge
from squib.host.snapshots.quiet import quietly
from squib.host.snapshots.store import Snapshots, Stored, on_disk, take_over

STEPS = ("boot", "warm up", "freeze", "digest")
WARMUP_SECONDS = 900.0  # each command
_SAID = 2000  # characters of a failed command's output
#: In a directory of its own, which goes again: a clone's workspace is to be empty.
_AWAY = 'd=$(mktemp -d) && cd "$d" && { ( eval "$SQUIB_WARMUP" ); s=$?; cd / && rm -rf "$d"; exit $s; }'


async def build(config: HostConfig, image: str | None, progress: Progress, *, driver: str | None = None) -> Stored:
    """Make a snapshot of the image (None: the default) by the driver (None: the host's) and keep it.

    Raises NotFound for an unknown image, DriverUnavailable, Conflict while another is being built, ImageError where
    a warm-up command fails, or InfrastructureError. Ended at any point, it leaves nothing that counts.
    """
    store = Snapshots(config.state_dir)
    ground = await probes.ground(config, probing=True)
    with contextlib.closing(ground.children), contextlib.closing(ground.groups), store.turn():
        order = await _order(config, ground, image, driver)
        with store.workshop() as workshop:
            made = workshop / "snapshot"
            (made / "parts").mkdir(parents=True)
            made.chmod(0o711)
            return await _freeze(config, ground, order, store, made, progress)


async def _order(config: HostConfig, ground: Ground, image: str | None, driver: str | None) -> Order:
    base = ground.bases.resolve(image)
    chosen, capability = await probes.choose(driver or config.driver, ground)
    if not capability.snapshot:
        raise DriverUnavailable(
            f"{chosen.name} can't freeze machines here", advice="Name another with --driver; see 'squib doctor'."
        )
    if base.is_host and capability.needs_image:
        raise DriverUnavailable(f"{chosen.name} makes sandboxes of images alone", advice="Name an image.")
    return Order(chosen, capability, base, SandboxRequest())


async def _freeze(
    config: HostConfig, ground: Ground, order: Order, store: Snapshots, made: Path, progress: Progress
) -> Stored:
    driver, base = order.driver, order.base
    progress.step(STEPS[0], 1, len(STEPS))
    async with _machine(config, ground, order) as machine:
        fabric = await freezing.able(driver).fabric(machine.spec)
        await ready.wait(machine, driver, config.key, seconds=ready.PATIENT_SECONDS)
        progress.step(STEPS[1], 2, len(STEPS))
        await _warm_up(machine, config.key, base, progress)
        progress.step(STEPS[2], 3, len(STEPS))
        parts = made / "parts"
        thaw = await freezing.freeze(driver, machine, config.key, parts, keep=False)
        progress.step(STEPS[3], 4, len(STEPS))
        found = await quietly(take_over, parts)
        snapshot = Snapshot(
            id=ids.new_id("snp"),
            image=base.digest,
            image_name=base.name,
            fabric=fabric,
            guest=ground.guest.name,
            cpu=machine.spec.cpu,
            memory=machine.spec.memory,
            disk=machine.spec.disk,
            machine_id=machine.id,
            made_with=judge.made_with(config, ground, driver.name, base.image),
            created_at=time.time(),
            size=await asyncio.to_thread(on_disk, parts),
            parts=found,
            thaw=thaw,
        )
        return await asyncio.to_thread(store.commit, made, snapshot)


@contextlib.asynccontextmanager
async def _machine(config: HostConfig, ground: Ground, order: Order) -> AsyncIterator[Machine]:
    """A machine that boots, for the length of the block: nobody's sandbox, and not to be swept away meanwhile."""
    spec = making.spec(order, config)
    place = ground.state.machine(spec.id)
    place.root.mkdir(mode=0o711)
    try:
        with place.held():
            machine = await order.driver.create(spec, place.root, making.guest_config(spec, config.key))
            try:
                with cgroups.yielding(machine.cgroups):
                    yield machine
            finally:
                await asyncio.shield(order.driver.destroy(machine))
    finally:
        await asyncio.shield(asyncio.to_thread(remove_tree, place.root))


async def _warm_up(machine: Machine, key: bytes, base: Base, progress: Progress) -> None:
    """Run the image's own commands. Raises ImageError where one fails."""
    async with ready.link(machine, key, seconds=WARMUP_SECONDS) as guest:
        for command in base.warmup:
            progress.line(command)
            asked = TerminalRequest(_AWAY, env={"SQUIB_WARMUP": command}, timeout_seconds=WARMUP_SECONDS)
            done = await guest.terminal(asked)
            if done.exit_code != 0:
                said = f"{done.stdout}\n{done.stderr}".strip()[-_SAID:]
                raise ImageError(
                    f"the warm-up command {command!r} failed: {said}", advice="Correct the image's definition."
                )
