"""Every driver, one after the other, with real guests in real machines."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.guest import GuestConfig, TerminalRequest, TerminalResult
from squib.contracts.machine import Capability, Machine, MachineSpec
from squib.host import HostConfig, probes, ready
from squib.host.drivers import registry
from squib.host.drivers.base import Driver
from squib.host.ground import Ground
from squib.host.removal import remove_tree
from squib.link import GuestLink, guest_token, token_digest
from tests import leaks
from tests.needs import OF_DRIVER

KEY = b"k" * 32

Create = Callable[..., Awaitable[Machine]]
Run = Callable[..., Awaitable[TerminalResult]]


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.needs(*OF_DRIVER.get(name, ()))) for name in registry.DRIVERS]
)
def driver_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host_config(shared_tmp: Path, driver_name: str) -> HostConfig:
    return HostConfig(shared_tmp, KEY, driver=driver_name, pool_size=0)


@pytest.fixture
async def ground(host_config: HostConfig) -> AsyncIterator[Ground]:
    made = await probes.ground(host_config)
    yield made
    made.children.close()
    made.groups.close()


@pytest.fixture
async def driver(driver_name: str, ground: Ground) -> Driver:
    return registry.make(driver_name, ground)


@pytest.fixture
async def capability(driver: Driver) -> Capability:
    found = await driver.probe()
    assert found.works, found
    return found


def guest_config(machine_id: str, lease: float = 120.0) -> GuestConfig:
    token = guest_token(KEY, machine_id)
    return GuestConfig(machine_id, token_digest(token), "unix:/run/squib/guest/guest.sock", lease_seconds=lease)


@pytest.fixture
async def create(ground: Ground, driver: Driver) -> AsyncIterator[Create]:
    """Makes machines whose guests answer. They are ended afterwards, and must then have left nothing."""
    made: list[Machine] = []

    async def make(answering: bool = True, lease: float = 120.0, **spec: int | float) -> Machine:
        machine_id = ids.new_id("mch")
        place = ground.state.machine(machine_id)
        place.root.mkdir(mode=0o711)
        machine = await driver.create(
            replace(MachineSpec(machine_id), **spec), place.root, guest_config(machine_id, lease)
        )  # type: ignore[arg-type]
        made.append(machine)
        if answering:
            await ready.wait(machine, driver, KEY)
        return machine

    yield make
    for machine in made:
        await driver.destroy(machine)
        await asyncio.to_thread(remove_tree, Path(machine.directory))
        assert await leaks.gone(machine.id) == []


@pytest.fixture
def run() -> Run:
    """Runs a command in a machine, through its guest."""

    async def execute(machine: Machine, command: str | list[str], timeout: float = 60.0) -> TerminalResult:
        owner = os.geteuid() if machine.uid is None else machine.uid
        async with GuestLink(machine.endpoint, guest_token(KEY, machine.id), uid=owner, timeout=timeout) as link:
            return await link.terminal(TerminalRequest(command, timeout_seconds=timeout))

    return execute
