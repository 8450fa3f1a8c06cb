import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts.errors import InfrastructureError
from squib.contracts.machine import MachinePhase
from squib.gateway import Gateway
from squib.host import Host, HostConfig, ready
from squib.host.keeper import Keeper
from tests.host.conftest import KEY, sandbox
from tests.needs import OF_DRIVER


async def filled(host: Host, count: int) -> None:
    async with asyncio.timeout(60):
        while len(host._fleet.in_phase(MachinePhase.READY)) < count:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)


async def test_a_claim_takes_a_ready_guest_and_the_pool_fills_again(config: HostConfig, gateway: Gateway) -> None:
    async with Host(replace(config, pool_size=1), gateway) as host:
        await filled(host, 1)
        (pooled,) = host._fleet.in_phase(MachinePhase.READY)
        machine = await host.claim(sandbox())
        assert machine.id == pooled.id
        assert machine.warm
        await filled(host, 1)
        assert (await ready.health(machine, KEY)).sandbox_id == machine.id


async def test_a_dead_guest_in_the_pool_is_never_handed_out(config: HostConfig, gateway: Gateway) -> None:
    async with Host(replace(config, pool_size=1), gateway) as host:
        await filled(host, 1)
        (pooled,) = host._fleet.in_phase(MachinePhase.READY)
        await host._fleet.drivers.own.destroy(pooled)
        machine = await host.claim(sandbox())
        assert machine.id != pooled.id
        assert await host.alive(machine)


async def test_a_machine_whose_claim_can_not_be_recorded_does_not_stay(config: HostConfig, gateway: Gateway) -> None:
    async with Host(replace(config, pool_size=1), gateway) as host:
        await filled(host, 1)
        (pooled,) = host._fleet.in_phase(MachinePhase.READY)
        (Path(pooled.directory) / "machine.tmp").mkdir()  # where a record over a page is drafted
        with pytest.raises(InfrastructureError, match="record"):
            await host.claim(replace(sandbox(), task_id="x" * 5000))
        await Keeper(host._fleet).reap()
        assert pooled.id not in host._fleet.machines
        assert not Path(pooled.directory).exists()


async def test_other_limits_are_set_on_a_pooled_machine(config: HostConfig, gateway: Gateway) -> None:
    async with Host(replace(config, pool_size=1), gateway) as host:
        if "memory" not in host._fleet.ground.groups.controllers:
            pytest.skip("no control group limits memory here")
        await filled(host, 1)
        machine = await host.claim(sandbox(memory=512, cpu=0.5))
        assert machine.warm
        assert (machine.spec.memory, machine.spec.cpu) == (512, 0.5)
        files = [Path(p) / f for p in machine.cgroups for f in ("memory.limit_in_bytes", "memory.max")]
        assert {int(f.read_text()) for f in files if f.exists()} == {512 << 20}


async def test_more_disk_than_the_pool_has_is_a_new_machine(config: HostConfig, gateway: Gateway) -> None:
    async with Host(replace(config, pool_size=1), gateway) as host:
        await filled(host, 1)
        machine = await host.claim(sandbox(disk=20_000))
        assert not machine.warm
        assert machine.spec.disk == 20_000


async def test_a_full_host_gives_up_a_pooled_machine_that_does_not_fit(config: HostConfig, gateway: Gateway) -> None:
    async with Host(replace(config, pool_size=1, max_machines=1), gateway) as host:
        await filled(host, 1)
        assert not (await host.claim(sandbox(disk=20_000))).warm
        assert host.status().used.machines == 1


async def test_claims_at_once_each_get_their_own(config: HostConfig, gateway: Gateway) -> None:
    async with Host(replace(config, pool_size=2), gateway) as host:
        await filled(host, 2)
        machines = await asyncio.gather(*(host.claim(sandbox()) for _ in range(4)))
        assert len({m.id for m in machines}) == 4
        assert [m.warm for m in machines].count(True) == 2


@pytest.mark.parametrize(("agents", "kept"), [({}, True), ({"claude": {"model": "other"}}, False)])
async def test_a_pooled_machine_of_other_settings_is_not_adopted(
    config: HostConfig, gateway: Gateway, agents: dict[str, dict[str, str]], kept: bool
) -> None:
    async with Host(replace(config, pool_size=1), gateway) as host:
        await filled(host, 1)
        (pooled,) = host._fleet.in_phase(MachinePhase.READY)
        del host._fleet.machines[pooled.id]  # as if this process were killed: nobody ends it
    async with Host(replace(config, agents=agents, pool_size=1), gateway) as host:
        assert [m.id for m in host._fleet.in_phase(MachinePhase.READY)] == ([pooled.id] if kept else [])
        assert await host.alive(pooled) is kept


@pytest.mark.needs(*OF_DRIVER["bubblewrap"])
async def test_what_tasks_ask_for_waits_too_for_a_while_and_gives_way(config: HostConfig, gateway: Gateway) -> None:
    async with Host(replace(config, pool_size=1, max_machines=4), gateway) as host:
        await host.claim(sandbox(driver="bubblewrap"))
        await filled(host, 2)
        assert {machine.driver for machine in host._fleet.in_phase(MachinePhase.READY)} == {"process", "bubblewrap"}
        spare = host._pool.spare()
        assert spare is not None
        assert spare.driver == "bubblewrap", "the usual kind stays longest"
        machine = await host.claim(sandbox(driver="bubblewrap"))
        assert (machine.id, machine.warm) == (spare.id, True)

        for wish in host._pool._demand:
            wish.until = 0.0
        wishes = host._pool._wishes()
        assert [wish.order.driver.name for wish in wishes] == ["process"]
        left = {m.driver for m in host._fleet.in_phase(MachinePhase.READY)}
        assert {host._fleet.machines[name].driver for name in host._pool._surplus(wishes)} == left - {"process"}


async def test_a_host_without_a_pool_makes_none_on_demand(config: HostConfig, gateway: Gateway) -> None:
    async with Host(config, gateway) as host:
        await host.claim(sandbox())
        assert host._pool._missing(host._pool._wishes()) == []
