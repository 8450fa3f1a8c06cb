"""A machine that takes too much is its own trouble: the limits that a driver claims hold."""

import asyncio
import json
from dataclasses import replace

import pytest

from squib.contracts import ids
from squib.contracts.machine import Capability, MachineSpec
from squib.host import cgroups, processes, ready
from squib.host.drivers import registry
from squib.host.drivers.base import Driver
from squib.host.ground import Ground
from tests.conformance.drivers.conftest import KEY, Create, Run, guest_config

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


def claims(capability: Capability, limit: str) -> None:
    if not any(claim.startswith(f"{limit}: ") and " looked at " not in claim for claim in capability.limits):
        pytest.skip(f"nothing limits {limit} here as it is taken: {capability.limits}")


async def test_a_memory_hog_ends_and_its_machine_and_neighbour_do_not(
    create: Create, run: Run, capability: Capability
) -> None:
    claims(capability, "memory")
    machine, neighbour = await create(memory=256), await create()
    result = await run(machine, ["/usr/bin/python3", "-c", HOG])
    assert result.exit_code != 0
    assert (await run(machine, "echo still here")).stdout == "still here\n"
    assert (await run(neighbour, "echo unharmed")).stdout == "unharmed\n"


async def test_processes_are_counted(create: Create, run: Run, capability: Capability) -> None:
    claims(capability, "pids")
    machine = await create(pids=64)
    born, error = json.loads((await run(machine, ["/usr/bin/python3", "-c", FORKS])).stdout)
    assert born < 64
    assert error == 11  # EAGAIN
    assert (await run(machine, "echo still here")).stdout == "still here\n"


async def test_a_fork_bomb_ends_with_its_machine(
    create: Create, run: Run, capability: Capability, driver: Driver
) -> None:
    claims(capability, "pids")
    machine, neighbour = await create(pids=100, cpu=0.5), await create()
    await run(machine, ["sh", "-c", f"setsid /usr/bin/python3 -c '{BOMB}' > /dev/null 2>&1 < /dev/null &"])
    assert (await run(neighbour, "echo unharmed")).stdout == "unharmed\n"
    async with asyncio.timeout(10):
        await driver.destroy(machine)
    assert not await driver.alive(machine)


@pytest.mark.needs("root")
async def test_without_control_groups_processes_are_counted_and_a_bomb_ends_all_the_same(
    run: Run, ground: Ground, driver_name: str
) -> None:
    bare = replace(ground, groups=cgroups.Cgroups((), "squib-none"))
    driver = registry.make(driver_name, bare)
    assert "pids: RLIMIT_NPROC" in (await driver.probe()).limits
    spec = MachineSpec(ids.new_id("mch"), pids=100)
    place = bare.state.machine(spec.id)
    place.root.mkdir(mode=0o711)
    machine = await driver.create(spec, place.root, guest_config(spec.id))
    try:
        await ready.wait(machine, driver, KEY)
        born, _ = json.loads((await run(machine, ["/usr/bin/python3", "-c", FORKS])).stdout)
        assert born < 100
        await run(machine, ["sh", "-c", f"setsid /usr/bin/python3 -c '{BOMB}' > /dev/null 2>&1 < /dev/null &"])
    finally:
        async with asyncio.timeout(15):
            await driver.destroy(machine)
    assert processes.of_uid(machine.uid or 0) == []


async def test_a_file_does_not_grow_beyond_the_disk_limit(create: Create, run: Run) -> None:
    machine = await create(disk=64)
    result = await run(machine, "head -c 100M /dev/zero > big; stat -c %s big")
    assert result.stdout.strip() == str(64 * 1024 * 1024)


async def test_no_core_is_dumped(create: Create, run: Run) -> None:
    assert (await run(await create(), "ulimit -c")).stdout.strip() == "0"


async def test_a_claim_that_asks_for_the_least_leaves_it_alive(
    create: Create, run: Run, driver: Driver, capability: Capability
) -> None:
    claims(capability, "memory")
    machine = await create()
    cgroups.limit(machine.cgroups, driver.bounds(replace(machine.spec, memory=256, cpu=0.5)))
    assert (await run(machine, "python3 -c 'print(len(bytearray(64 << 20)))'")).stdout == "67108864\n"
