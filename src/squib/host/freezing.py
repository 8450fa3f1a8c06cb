"""Machines frozen and let go on: what their guests are told before and after, alike for all who freeze."""

import contextlib
import functools
import secrets
from dataclasses import replace
from pathlib import Path

from squib.contracts.errors import Conflict, GuestUnreachable, SquibError, Unsupported
from squib.contracts.guest import FreezeRequest
from squib.contracts.machine import Machine
from squib.host import making, ready
from squib.host.drivers.base import Driver, Freezing
from squib.host.layout import MachineDir

FREEZE_SECONDS = 300.0  # for the guest to let go of what it holds


def able(driver: Driver) -> Freezing:
    """The driver as one that can freeze. Raises Unsupported."""
    if not isinstance(driver, Freezing):
        raise Unsupported(f"machines of {driver.name} can't be frozen")
    return driver


async def freeze(driver: Driver, machine: Machine, key: bytes, target: Path, *, keep: bool) -> str | None:
    """Write the machine below `target`; with `keep` it then runs on. Gives the file that its guest waits for, if any.

    Raises Conflict while an agent runs there, the machine as it was; Unsupported; InfrastructureError, after which
    it runs on if it still can: ask it.
    """
    freezing = able(driver)
    thaw = secrets.token_hex(16) if freezing.lets_go else None
    try:
        async with ready.link(machine, key, seconds=FREEZE_SECONDS) as guest:
            await guest.freeze(FreezeRequest(thaw))
        await freezing.freeze(replace(machine, thaw=thaw), target, keep=keep)
    except BaseException as error:
        if not isinstance(error, Conflict):  # refused: it holds all that it held. Else its answer may be lost
            _let_on(machine, thaw)
        raise
    if keep:
        _let_on(machine, thaw)
        await wake(driver, machine, key, machine.id)
    return thaw


async def wake(
    driver: Driver, machine: Machine, key: bytes, known_as: str, *, seconds: float = ready.READY_SECONDS
) -> None:
    """Wait for a guest that goes on with the identity of the machine `known_as`, and give it this machine's.

    The first request is that very one: all that a guest does first takes longest. Returns once it has answered.
    Raises SandboxLost, or InfrastructureError after `seconds`.
    """
    became = functools.partial(_became, machine, key, known_as)
    await ready.wait(machine, driver, key, answered=became, seconds=seconds)


async def _became(machine: Machine, key: bytes, known_as: str) -> bool:
    """Whether the guest has taken on the machine's identity, now or before, when its answer was lost."""
    try:
        async with ready.link(machine, key, known_as=known_as) as guest:
            return (await guest.resume(making.identity(key, machine.id))).sandbox_id == machine.id
    except (GuestUnreachable, OSError):
        return known_as != machine.id and await ready.answers(machine, key)


async def recovered(driver: Driver, machine: Machine, key: bytes) -> bool:
    """Whether a machine goes on after a failed freeze."""
    with contextlib.suppress(SquibError, OSError):
        if await driver.alive(machine):
            await wake(driver, machine, key, machine.id)
            return True
    return False


def _let_on(machine: Machine, thaw: str | None) -> None:
    """Leave the file for which the guest waits."""
    if thaw is not None:
        place = MachineDir(Path(machine.directory))
        with contextlib.suppress(OSError):
            (place.config / thaw).touch()
            (place.config / thaw).chmod(0o444)
