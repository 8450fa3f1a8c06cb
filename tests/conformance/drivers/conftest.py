"""Every driver, one after the other, with real guests in real machines."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.guest import GuestConfig, TerminalRequest, TerminalResult
from squib.contracts.machine import Capability, Machine, MachineSpec
from squib.host import HostConfig, freezing, probes, ready
from squib.host.bases import Bases
from squib.host.drivers import registry
from squib.host.drivers.base import Driver, Frozen
from squib.host.ground import Ground
from squib.host.images import Images
from squib.host.removal import remove_tree
from squib.host.snapshots import Stored
from squib.link import GuestLink, guest_token, token_digest
from tests import leaks
from tests.conformance.drivers.bench import KEY, Bench
from tests.needs import OF_DRIVER

__all__ = ["KEY", "Create", "Run", "guest_config"]

Create = Callable[..., Awaitable[Machine]]
Run = Callable[..., Awaitable[TerminalResult]]


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.needs(*OF_DRIVER.get(name, ()))) for name in registry.DRIVERS]
)
def driver_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(benches: Callable[[str], Bench], driver_name: str) -> Bench:
    """The driver's bench, its capability known."""
    found = benches(driver_name)
    assert found.capability.works
    return found


@pytest.fixture
def snapshot(bench: Bench) -> Stored:
    """A snapshot of the driver's, in the bench's state directory."""
    if not bench.capability.snapshot:
        pytest.skip(f"{bench.capability.driver} can't freeze machines here")
    return bench.stored


@pytest.fixture
def host_config(shared_tmp: Path, driver_name: str, bench: Bench) -> HostConfig:
    bench.teach(shared_tmp)
    return HostConfig(shared_tmp, KEY, driver=driver_name, pool_size=0, image=bench.image)


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
    found = await probes.probe(driver)
    assert found.works, found
    return found


def guest_config(machine_id: str, lease: float = 120.0) -> GuestConfig:
    token = guest_token(KEY, machine_id)
    return GuestConfig(machine_id, token_digest(token), "unix:/run/squib/guest/guest.sock", lease_seconds=lease)


def machine_spec(ground: Ground, **measure: int | float) -> MachineSpec:
    """A machine of what the host's tasks get that name no image."""
    base = ground.bases.default
    return MachineSpec(
        ids.new_id("mch"),
        image=base.image,
        image_name=base.name,
        drive=base.drive,
        python=base.python,
        environment=dict(base.environment),
        **measure,  # type: ignore[arg-type]
    )


@pytest.fixture
def frozen(bench: Bench, request: pytest.FixtureRequest) -> Frozen | None:
    """What machines go on from where the processor is software, which makes booting slow."""
    if not bench.capability.emulated:
        return None
    stored: Stored = request.getfixturevalue("snapshot")
    return stored.frozen(Bases(Images(bench.state), bench.config.image).default)


@pytest.fixture
async def create(ground: Ground, driver: Driver, frozen: Frozen | None) -> AsyncIterator[Create]:
    """Makes machines whose guests answer. They are ended afterwards, and must then have left nothing.

    Where booting is slow, those of the usual measure go on from the bench's snapshot.
    """
    made: list[Machine] = []

    async def make(answering: bool = True, lease: float = 120.0, **measure: int | float) -> Machine:
        spec = machine_spec(ground, **measure)
        place = ground.state.machine(spec.id)
        place.root.mkdir(mode=0o711)
        continued = frozen if not measure and lease == 120.0 else None
        machine = await driver.create(spec, place.root, guest_config(spec.id, lease), continued)
        made.append(machine)
        if continued is not None:
            await freezing.wake(driver, machine, KEY, continued.spec.id)
        elif answering:
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
