"""A machine that takes too much is its own trouble: the limits that a driver claims hold, and its neighbour goes on.

All of a driver's hogs run in one small machine, one after the other; where one of them has ended it, another is made.
"""

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import pytest_asyncio

from squib.contracts.errors import GuestUnreachable
from squib.contracts.guest import TerminalRequest, TerminalResult
from squib.contracts.machine import Capability, Isolation, Machine
from squib.host import HostConfig, cgroups, freezing, probes, processes, ready
from squib.host.bases import Bases
from squib.host.drivers import registry
from squib.host.drivers.base import Driver
from squib.host.ground import Ground
from squib.host.images import Images
from squib.host.removal import remove_tree
from squib.link import GuestLink, guest_token
from tests import leaks
from tests.conformance.drivers.bench import KEY, Bench
from tests.conformance.drivers.conftest import guest_config, machine_spec
from tests.conformance.escape.arena import made_ready
from tests.needs import OF_DRIVER

pytestmark = pytest.mark.asyncio(loop_scope="module")
MIB = 1024 * 1024
SMALL = {"memory": 256, "pids": 100, "disk": 64, "cpu": 1.0}

HOG = "held = []\nwhile True: held.append(bytearray(16 << 20))"
FORKS = """
import os, time, json
born = []
try:
    while len(born) < 500:
        if (pid := os.fork()) == 0:
            time.sleep(60)
            os._exit(0)
        born.append(pid)
except OSError as error:
    print(json.dumps([len(born), error.errno]))
for pid in born:
    os.kill(pid, 9)
"""
BOMB = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
DESCRIPTORS = """
import os
held = []
try:
    while len(held) < 1 << 20:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    print(len(held), error.errno)
"""
FILES = "for name in one two three; do head -c 30M /dev/zero > $name; done; du -sm . | cut -f1; rm one two three"


@dataclass
class Yard:
    """What machines are made on, those that were made, and the small one among them."""

    ground: Ground
    driver: Driver
    bench: Bench
    made: list[Machine] = field(default_factory=list)
    _small: Machine | None = None
    _neighbour: Machine | None = None

    @property
    def capability(self) -> Capability:
        return self.bench.capability

    def claims(self, limit: str) -> None:
        """Skip where nothing holds that limit as it is taken."""
        if not any(c.startswith(f"{limit}: ") and " looked at " not in c for c in self.capability.limits):
            pytest.skip(f"nothing limits {limit} here as it is taken: {self.capability.limits}")

    async def make(self, **measure: float) -> Machine:
        """A machine that answers; one of the usual measure goes on from the snapshot where booting is slow."""
        spec = machine_spec(self.ground, **measure)
        place = self.ground.state.machine(spec.id)
        place.root.mkdir(mode=0o711)
        frozen = None
        if self.capability.emulated and not measure:
            frozen = self.bench.stored.frozen(Bases(Images(self.bench.state), self.bench.config.image).default)
        machine = await self.driver.create(spec, place.root, guest_config(spec.id), frozen)
        self.made.append(machine)
        if frozen is None:
            await ready.wait(machine, self.driver, KEY)
        else:
            await freezing.wake(self.driver, machine, KEY, frozen.spec.id)
        return machine

    async def small(self) -> Machine:
        """The one that the hogs run in."""
        if self._small is None or not await self.driver.alive(self._small):
            self._small = await self.make(**SMALL)
        return self._small

    async def neighbour(self) -> Machine:
        """The one that nothing may happen to."""
        self._neighbour = self._neighbour or await self.make()
        return self._neighbour

    async def run(self, machine: Machine, command: str | list[str], **more: float) -> TerminalResult:
        owner = os.geteuid() if machine.uid is None else machine.uid
        async with GuestLink(machine.endpoint, guest_token(KEY, machine.id), uid=owner, timeout=60.0) as link:
            return await link.terminal(TerminalRequest(command, **more))  # type: ignore[arg-type]

    async def python(self, machine: Machine, program: str) -> TerminalResult:
        return await self.run(machine, ["/usr/bin/python3", "-c", program])

    async def goes_on(self, machine: Machine) -> None:
        """It answers, and so does its neighbour."""
        for one in (machine, await self.neighbour()):
            assert (await self.run(one, "echo here")).stdout == "here\n"


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.needs(*OF_DRIVER.get(name, ()))) for name in registry.DRIVERS],
)
def driver_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bench(benches: Callable[[str], Bench], driver_name: str) -> Bench:
    return made_ready(benches(driver_name))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yard(bench: Bench, driver_name: str) -> AsyncIterator[Yard]:
    folder = Path(tempfile.mkdtemp(prefix="sq-", dir="/tmp"))
    folder.chmod(0o711)
    bench.teach(folder)
    ground = await probes.ground(HostConfig(folder, KEY, driver=driver_name, pool_size=0, image=bench.image))
    made = Yard(ground, registry.make(driver_name, ground), bench)
    assert (await probes.probe(made.driver)).works
    try:
        yield made
    finally:
        for machine in made.made:
            await made.driver.destroy(machine)
            await asyncio.to_thread(remove_tree, Path(machine.directory))
        assert await leaks.gone(*(machine.id for machine in made.made)) == []
        ground.children.close()
        ground.groups.close()
        shutil.rmtree(folder, ignore_errors=True)


async def test_processes_are_counted(yard: Yard) -> None:
    yard.claims("pids")
    machine = await yard.small()
    born, error = json.loads((await yard.python(machine, FORKS)).stdout)
    assert born < SMALL["pids"]
    assert error == 11  # EAGAIN
    await yard.goes_on(machine)


async def test_descriptors_end_before_the_hosts_do(yard: Yard) -> None:
    machine = await yard.small()
    held, error = map(int, (await yard.python(machine, DESCRIPTORS)).stdout.split())
    assert held <= 65_536
    assert error in ((23, 24) if yard.capability.own_kernel else (24,))  # ENFILE: a small kernel's own bound; EMFILE
    await yard.goes_on(machine)


async def test_a_gigabyte_of_output_is_cut_and_costs_the_guest_no_memory(yard: Yard) -> None:
    machine = await yard.small()
    size = 64 if yard.capability.own_kernel else 1024  # whose own kernel copies it, at a tenth of the speed
    result = await yard.run(machine, f"head -c {size}M /dev/zero", max_output_bytes=1000)
    assert (result.exit_code, len(result.stdout), result.stdout_truncated) == (0, 1000, True)
    assert (await ready.health(machine, KEY)).rss_bytes < 100 * MIB
    await yard.goes_on(machine)


async def test_a_file_does_not_grow_beyond_the_disk_limit(yard: Yard) -> None:
    machine = await yard.small()
    result = await yard.run(machine, "head -c 100M /dev/zero > big; stat -c %s big; rm big")
    assert 32 * MIB < int(result.stdout) <= 64 * MIB
    assert result.stderr
    await yard.goes_on(machine)


async def test_all_files_together_end_with_the_drive(yard: Yard) -> None:
    """Elsewhere the host looks at them from time to time: `tests/host` has that."""
    if yard.capability.isolation is not Isolation.VIRTUAL_MACHINE:
        pytest.skip("the workspace is a directory of the host's")
    machine = await yard.small()
    assert int((await yard.run(machine, FILES)).stdout) <= 64
    await yard.goes_on(machine)


async def test_no_core_is_dumped(yard: Yard) -> None:
    assert (await yard.run(await yard.small(), "ulimit -c")).stdout.strip() == "0"


async def test_a_claim_that_asks_for_the_least_leaves_it_alive(yard: Yard) -> None:
    yard.claims("memory")
    machine = await yard.neighbour()
    least = replace(machine.spec, memory=256, cpu=0.5)
    cgroups.limit(machine.cgroups, yard.driver.bounds(least))
    result = await yard.run(machine, "python3 -c 'print(len(bytearray(64 << 20)))'")
    cgroups.limit(machine.cgroups, yard.driver.bounds(machine.spec))
    assert result.stdout == "67108864\n"


async def test_a_memory_hog_ends_and_its_neighbour_does_not(yard: Yard) -> None:
    """The program is ended, or the machine with it: then its end is seen."""
    yard.claims("memory")
    machine = await yard.small()
    try:
        result = await yard.python(machine, HOG)
    except GuestUnreachable:
        async with asyncio.timeout(20):
            await processes.ended(machine.pid or 0)
        assert not await yard.driver.alive(machine)
        await yard.goes_on(await yard.neighbour())
    else:
        assert result.exit_code != 0
        await yard.goes_on(machine)


async def test_the_death_of_what_runs_it_is_seen_and_hurts_nobody_else(yard: Yard) -> None:
    """gVisor's kernel, QEMU, the container's first process or the guest itself, killed from outside."""
    machine = await yard.make()
    assert machine.pid is not None
    os.kill(machine.pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        await processes.ended(machine.pid)
    assert not await yard.driver.alive(machine)
    await yard.driver.destroy(machine)
    assert await leaks.gone(machine.id) == []
    await yard.goes_on(await yard.neighbour())


async def test_a_fork_bomb_ends_with_its_machine(yard: Yard) -> None:
    yard.claims("pids")
    machine = await yard.small()
    await yard.run(machine, ["sh", "-c", f"setsid /usr/bin/python3 -c '{BOMB}' > /dev/null 2>&1 < /dev/null &"])
    await yard.goes_on(await yard.neighbour())
    async with asyncio.timeout(10):
        await yard.driver.destroy(machine)
    assert not await yard.driver.alive(machine)


@pytest.mark.needs("root")
async def test_without_control_groups_processes_are_counted_and_a_bomb_ends_all_the_same(yard: Yard) -> None:
    if yard.capability.isolation is Isolation.VIRTUAL_MACHINE:
        pytest.skip("its own kernel counts, with groups and without")
    bare = replace(yard.ground, groups=cgroups.Cgroups((), "squib-none"))
    driver = registry.make(yard.driver.name, bare)
    assert "pids: RLIMIT_NPROC" in (await driver.probe()).limits
    machine = await Yard(bare, driver, yard.bench, yard.made).make(pids=100)
    born, _ = json.loads((await yard.python(machine, FORKS)).stdout)
    assert born < 100
    await yard.run(machine, ["sh", "-c", f"setsid /usr/bin/python3 -c '{BOMB}' > /dev/null 2>&1 < /dev/null &"])
    async with asyncio.timeout(15):
        await driver.destroy(machine)
    assert processes.of_uid(machine.uid or 0) == []
