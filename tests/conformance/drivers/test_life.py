"""A machine's life on every driver: made, asked, ended, and nothing left of it."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Capability
from squib.host import HostConfig, probes, processes, ready, records
from squib.host.drivers import registry
from squib.host.drivers.base import Driver, Freezing
from squib.host.ground import Ground
from tests import leaks
from tests.conformance.drivers.conftest import KEY, Create, Run, machine_spec


async def test_the_probe_says_what_works_and_leaves_nothing(driver: Driver, ground: Ground) -> None:
    found = await driver.probe()
    assert found.works
    assert found.driver == driver.name
    assert found.boot_ms
    assert any(claim.startswith("disk:") for claim in found.limits)
    assert ground.state.found() == []
    assert await leaks.gone(str(ground.state.machines)) == []


async def test_what_is_made_to_freeze_machines_can_do_so_here(driver: Driver, capability: Capability) -> None:
    """Suites about frozen machines ask the probe who can: it must not let a driver off that has broken."""
    able = isinstance(driver, Freezing)
    assert (capability.snapshot, capability.fork, capability.pause) == (able, able, able)


async def test_a_machine_answers_and_runs_commands(
    create: Create, run: Run, driver: Driver, capability: Capability
) -> None:
    machine = await create()
    assert (await ready.health(machine, KEY)).sandbox_id == machine.id
    result = await run(machine, "echo out; echo err >&2; echo file > made; exit 3")
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")
    workspace = driver.workspace(machine)
    assert workspace is None or (workspace / "made").read_text() == "file\n"
    assert workspace is not None or capability.own_kernel, "only a kernel of its own can keep work from the host"


async def test_alive_knows_its_own_process_from_a_reuse_of_the_pid(create: Create, driver: Driver) -> None:
    machine = await create()
    assert machine.pid is not None
    assert machine.pid_start is not None
    assert await driver.alive(machine)
    assert not await driver.alive(replace(machine, pid_start=machine.pid_start + 1))
    assert not await driver.alive(replace(machine, pid=None, pid_start=None))
    assert await driver.alive(machine), "asking has changed nothing"


async def test_the_record_on_disk_is_enough_for_another_instance_to_end_it(
    create: Create, run: Run, host_config: HostConfig, driver: Driver
) -> None:
    machine = await create()
    await run(machine, "setsid sleep 1000 > /dev/null 2>&1 &")
    stranger = registry.make(driver.name, await probes.ground(host_config))
    record = records.load(Path(machine.directory))
    assert record is not None
    await stranger.destroy(record)
    assert not await driver.alive(machine)
    assert [path for path in machine.cgroups if Path(path).exists()] == []
    assert await leaks.gone(machine.id) == []


async def test_destroying_twice_and_what_never_started_is_fine(create: Create, driver: Driver) -> None:
    machine = await create(answering=False)
    await driver.destroy(machine)
    await driver.destroy(machine)
    await driver.destroy(replace(machine, pid=None, pid_start=None, cgroups=()))


async def test_destroying_a_record_whose_pid_is_anothers_by_now_spares_that_one(
    create: Create, driver: Driver
) -> None:
    machine = await create(answering=False)
    await driver.destroy(machine)
    innocent = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        await driver.destroy(replace(machine, pid=innocent.pid))
        assert innocent.returncode is None
        assert processes.start_time(innocent.pid) is not None
    finally:
        innocent.kill()
        await innocent.wait()


async def test_children_in_sessions_of_their_own_end_with_the_machine(
    create: Create, run: Run, driver: Driver
) -> None:
    machine = await create()
    for _ in range(3):
        await run(machine, "setsid sh -c 'setsid sleep 1000 & sleep 1000' > /dev/null 2>&1 < /dev/null &")
    await driver.destroy(machine)
    left = processes.of_uid(machine.uid) if machine.uid else processes.naming(machine.directory)
    assert left == []


@pytest.mark.parametrize("turns", [1, 3, 30])
async def test_creation_that_is_cancelled_leaves_nothing(
    driver: Driver, capability: Capability, ground: Ground, turns: int
) -> None:
    spec = machine_spec(ground)
    place = ground.state.machine(spec.id)
    place.root.mkdir()
    config = GuestConfig(spec.id, "", "unix:/run/squib/guest/guest.sock")
    making = asyncio.create_task(driver.create(spec, place.root, config))
    for _ in range(turns):
        await asyncio.sleep(0)
    making.cancel()
    (machine,) = await asyncio.gather(making, return_exceptions=True)
    if not isinstance(machine, BaseException):
        await driver.destroy(machine)
    assert await leaks.gone(spec.id) == []


async def test_nothing_of_the_host_process_is_inherited(
    create: Create, run: Run, monkeypatch: pytest.MonkeyPatch, shared_tmp: Path
) -> None:
    monkeypatch.setenv("SQUIB_SECRET_FOR_TEST", "hunter2")
    secret = shared_tmp / "open-in-the-host"
    secret.write_text("hunter2")
    descriptor = os.open(secret, os.O_RDONLY)
    try:
        os.set_inheritable(descriptor, True)
        machine = await create()
    finally:
        os.close(descriptor)
    assert machine.pid is not None
    opened = [str(Path(entry.path).readlink()) for entry in os.scandir(f"/proc/{machine.pid}/fd")]
    assert str(secret) not in opened
    assert not [path for path in opened if path.startswith("/memfd:squib")]
    assert b"hunter2" not in Path(f"/proc/{machine.pid}/environ").read_bytes()
    assert "hunter2" not in (await run(machine, "env; cat /proc/[0-9]*/environ 2>/dev/null")).stdout


async def test_ten_at_once_share_nothing(create: Create, run: Run) -> None:
    machines = await asyncio.gather(*(create() for _ in range(10)))
    results = await asyncio.gather(*(run(m, f"echo {m.id} > mine; ls; cat mine") for m in machines))
    assert [r.stdout for r in results] == [f"mine\n{m.id}\n" for m in machines]
    if os.geteuid() == 0:
        assert len({m.uid for m in machines} - {0, None}) == 10


async def test_a_guest_that_nobody_asks_after_ends_itself(create: Create, driver: Driver) -> None:
    machine = await create(lease=0.5)
    async with asyncio.timeout(30):
        await processes.ended(machine.pid or 0)
    assert not await driver.alive(machine)
