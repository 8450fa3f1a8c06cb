"""Waits until a machine's guest answers, and asks whether one still does."""

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

from squib.contracts.errors import InfrastructureError, SandboxLost, SquibError
from squib.contracts.guest import Health
from squib.contracts.machine import Machine
from squib.host import processes, watch
from squib.host.drivers.base import Driver
from squib.host.ground import console_tail
from squib.link import GuestLink, guest_token

READY_SECONDS = 60.0
PATIENT_SECONDS = 300.0  # for machines that nobody waits for, and that give way to others
ANSWER_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.01


def link(machine: Machine, key: bytes, *, known_as: str | None = None, seconds: float = ANSWER_SECONDS) -> GuestLink:
    """The way to the guest, which answers to the token of the machine `known_as`; None: of its own."""
    owner = os.geteuid() if machine.uid is None else machine.uid
    return GuestLink(machine.endpoint, guest_token(key, known_as or machine.id), uid=owner, timeout=seconds)


async def health(machine: Machine, key: bytes) -> Health:
    """Ask the guest, which renews its lease. Raises GuestUnreachable or another SquibError."""
    async with link(machine, key) as guest:
        return await guest.health()


async def answers(machine: Machine, key: bytes) -> bool:
    """Whether the guest answers."""
    try:
        await health(machine, key)
    except (SquibError, OSError):
        return False
    return True


async def wait(
    machine: Machine,
    driver: Driver,
    key: bytes,
    *,
    answered: Callable[[], Awaitable[bool]] | None = None,
    seconds: float = READY_SECONDS,
) -> None:
    """Return once the guest answers, or `answered` says so. Raises SandboxLost if it ends first.

    Raises InfrastructureError after `seconds`.
    """
    socket = Path(machine.endpoint.removeprefix("unix:"))
    try:
        async with asyncio.timeout(seconds):
            await _either(watch.appears(socket), processes.ended(machine.pid or 0))
            await _first_answer(machine, driver, answered or functools.partial(answers, machine, key))
    except TimeoutError as error:
        said = console_tail(Path(machine.directory))
        raise InfrastructureError(
            f"the guest of {machine.id} does not answer: {said or 'it said nothing'}"
        ) from error


async def _either(*waits: Coroutine[None, None, None]) -> None:
    """Return when the first of them does; the rest is given up."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first_answer(machine: Machine, driver: Driver, answered: Callable[[], Awaitable[bool]]) -> None:
    pause = _FIRST_PAUSE
    while not await answered():  # bound, and not yet listening
        await _still_runs(machine, driver)
        await asyncio.sleep(pause)
        pause = min(pause * 1.3, _LONGEST_PAUSE)


async def _still_runs(machine: Machine, driver: Driver) -> None:
    if not await driver.alive(machine):
        said = console_tail(Path(machine.directory))
        raise SandboxLost(f"machine {machine.id} ended while it started: {said or 'it said nothing'}")
