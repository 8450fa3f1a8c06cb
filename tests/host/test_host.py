import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts.errors import (
    Conflict,
    DriverUnavailable,
    HostFull,
    InfrastructureError,
    InvalidRequest,
    NotFound,
)
from squib.contracts.machine import Isolation, MachinePhase
from squib.gateway import Gateway
from squib.host import Host, HostConfig, probe_all, processes, ready
from squib.host.drivers import registry
from squib.host.keeper import Keeper
from squib.host.layout import DRAFTS
from tests import leaks
from tests.host.conftest import KEY, ordered, sandbox
from tests.needs import OF_DRIVER


class Deaf(Gateway):
    """A gateway on a full disk."""

    def __init__(self) -> None:
        super().__init__({})

    async def open(self, machine_id: str, socket: Path, uid: int | None) -> None:
        raise OSError("no space left on device")


async def test_a_claim_is_on_disk_ready_and_idempotent(config: HostConfig, gateway: Gateway) -> None:
    async with Host(config, gateway) as host:
        spec = sandbox()
        first, second = await asyncio.gather(host.claim(spec), host.claim(spec))
        assert first == second == await host.get(spec.id)
        assert await host.list() == [first]
        assert (first.sandbox_id, first.task_id, first.warm) == (spec.id, spec.task_id, False)
        assert (await ready.health(first, KEY)).sandbox_id == first.id
        record = json.loads((Path(first.directory) / "machine.json").read_text())
        assert (record["phase"], record["sandbox_id"]) == ("claimed", spec.id)
        assert (Path(first.directory) / "gateway" / "gateway.sock").is_socket()
        assert host.driver == host.capability.driver == "process"


async def test_delete_leaves_nothing_and_knows_no_strangers(config: HostConfig, gateway: Gateway) -> None:
    async with Host(config, gateway) as host:
        spec = sandbox()
        machine = await host.claim(spec)
        await asyncio.gather(host.delete(spec.id), host.delete(spec.id))
        assert await host.get(spec.id) is None
        assert leaks.find(machine.id) == []
        assert not Path(machine.directory).exists()
        await host.delete(spec.id)
        await host.delete("sbx-unknown")


async def test_leaving_removes_everything(config: HostConfig, gateway: Gateway) -> None:
    async with Host(replace(config, pool_size=1), gateway) as host:
        await host.claim(sandbox())
    assert leaks.find(str(config.state_dir)) == []
    assert list((config.state_dir / "machines").iterdir()) == []


async def test_a_machine_that_dies_is_known_but_not_alive(config: HostConfig, gateway: Gateway) -> None:
    async with Host(config, gateway) as host:
        spec = sandbox()
        machine = await host.claim(spec)
        assert machine.pid
        os.kill(machine.pid, 9)
        await processes.ended(machine.pid)
        assert not await host.alive(machine)
        assert await host.get(spec.id) == machine
        await host.delete(spec.id)
        assert await host.get(spec.id) is None


async def test_a_host_that_is_full_says_so_and_has_room_again(config: HostConfig, gateway: Gateway) -> None:
    async with Host(replace(config, max_machines=1), gateway) as host:
        spec = sandbox()
        await host.claim(spec)
        with pytest.raises(HostFull):
            await host.claim(sandbox())
        await host.delete(spec.id)
        await host.claim(sandbox())


@pytest.mark.needs(*OF_DRIVER["bubblewrap"])
async def test_a_task_may_name_a_stronger_driver_and_never_a_weaker_one(config: HostConfig, gateway: Gateway) -> None:
    async with Host(config, gateway) as host:
        machine = await host.claim(sandbox(driver="bubblewrap"))
        assert machine.driver == "bubblewrap"
        assert host.isolation(machine) is Isolation.NAMESPACE
        assert (await host.claim(sandbox(driver="process"))).driver == "process"
        with pytest.raises(DriverUnavailable, match="no driver"):
            await host.claim(sandbox(driver="vmware"))
    async with Host(replace(config, driver="bubblewrap"), gateway) as host:
        with pytest.raises(DriverUnavailable, match="weaker"):
            await host.claim(sandbox(driver="process"))


async def test_a_driver_that_does_not_work_is_refused_with_its_reason(
    config: HostConfig, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Host(config, gateway) as host:
        monkeypatch.setenv("PATH", "/nonexistent")
        with pytest.raises(DriverUnavailable, match="not installed"):
            await host.claim(sandbox(driver="bubblewrap"))


async def test_an_image_that_is_not_there_is_named(config: HostConfig, gateway: Gateway) -> None:
    async with Host(config, gateway) as host:
        with pytest.raises(NotFound, match="there is no image pascal") as caught:
            await host.claim(replace(sandbox(), image="pascal"))
        assert "squib image list" in (caught.value.advice or "")


async def test_one_process_at_a_time_uses_a_state_directory(config: HostConfig, gateway: Gateway) -> None:
    async with Host(config, gateway):
        with pytest.raises(Conflict, match="another squib"):
            await Host(config, gateway).__aenter__()
    async with Host(config, gateway):
        pass


async def test_an_unknown_driver_names_those_that_there_are(config: HostConfig, gateway: Gateway) -> None:
    with pytest.raises(DriverUnavailable) as caught:
        await Host(replace(config, driver="vmware"), gateway).__aenter__()
    assert "bubblewrap" in caught.value.advice
    async with Host(config, gateway):
        pass


async def test_claimed_machines_are_kept_for_the_next_host(config: HostConfig, gateway: Gateway) -> None:
    spec = sandbox()
    async with Host(replace(config, keep_machines=True, pool_size=1), gateway) as host:
        machine = await host.claim(spec)
    async with Host(config, gateway) as host:
        assert await host.get(spec.id) == machine
        assert await host.alive(machine)
        assert await host.claim(spec) == machine
    assert leaks.find(str(config.state_dir)) == []


async def test_an_older_build_of_the_guest_goes_once_no_machine_uses_it(config: HostConfig, gateway: Gateway) -> None:
    old = config.state_dir / "guest-0123.pyz"
    async with Host(replace(config, keep_machines=True), gateway) as host:
        await host.claim(sandbox())
    old.touch()
    async with Host(config, gateway):
        assert old.exists()
    async with Host(config, gateway) as host:
        assert list(config.state_dir.glob("guest-*.pyz")) == [host._fleet.ground.guest]


async def test_what_a_killed_build_of_the_guest_left_is_removed(config: HostConfig, gateway: Gateway) -> None:
    old, young = config.state_dir / f"{DRAFTS}old", config.state_dir / f"{DRAFTS}young"
    for path in (old, young):
        path.mkdir()
        (path / "guest.pyz").touch()
    os.utime(old, (0, 0))
    async with Host(config, gateway):
        assert not old.exists()
        assert young.exists()


async def test_machines_of_another_installation_are_not_touched(config: HostConfig, gateway: Gateway) -> None:
    other = replace(config, state_dir=config.state_dir / "other")
    async with Host(config, gateway) as one:
        mine = await one.claim(sandbox())
        async with Host(other, gateway) as two:
            theirs = await two.claim(sandbox())
            assert mine.uid != theirs.uid or mine.uid is None
            await Keeper(two._fleet).sweep()
        assert await one.alive(mine)
        assert [path for path in mine.cgroups if not Path(path).exists()] == []
        assert (await ready.health(mine, KEY)).sandbox_id == mine.id


async def test_a_sandbox_ends_when_its_time_is_over(config: HostConfig, gateway: Gateway) -> None:
    async with Host(config, gateway) as host:
        spec, lasting = replace(sandbox(), ttl_seconds=0.0), sandbox()
        machine = await host.claim(spec)
        await host.claim(lasting)
        await Keeper(host._fleet).reap()
        assert await host.get(spec.id) is None
        assert await host.get(lasting.id) is not None
        assert leaks.find(machine.id) == []


async def test_too_much_on_the_disk_ends_a_machine_and_its_record_says_so(
    config: HostConfig, gateway: Gateway
) -> None:
    async with Host(config, gateway) as host:
        spec, frugal = sandbox(disk=64), sandbox(disk=64)
        machine, other = await host.claim(spec), await host.claim(frugal)
        for name in ("one", "two"):
            (Path(machine.directory) / "workspace" / name).write_bytes(b"x" * (33 << 20))
        await Keeper(host._fleet).measure_disk()
        ended = await host.get(spec.id)
        assert ended is not None
        assert "over its limit of 64 MiB" in (ended.ended or "")
        assert not await host.alive(ended)
        assert await host.alive(other)


async def test_too_much_memory_without_a_control_group_ends_a_machine(config: HostConfig, gateway: Gateway) -> None:
    async with Host(config, gateway) as host:
        spec = sandbox()
        machine = await host.claim(spec)
        host._fleet.keep(replace(machine, spec=replace(machine.spec, memory=1)))
        await Keeper(host._fleet).measure_memory()
        ended = await host.get(spec.id)
        assert ended is not None
        assert "of memory" in (ended.ended or "")
        assert not await host.alive(ended)


async def test_the_console_is_bounded(config: HostConfig, gateway: Gateway) -> None:
    async with Host(config, gateway) as host:
        machine = await host.claim(sandbox())
        console = Path(machine.directory) / "console.log"
        console.write_bytes(b"x" * (2 << 20))
        await Keeper(host._fleet).reap()
        assert console.stat().st_size == 0


async def test_renewal_keeps_guests_and_ends_a_silent_one_in_the_pool(config: HostConfig, gateway: Gateway) -> None:
    async with Host(config, gateway) as host:
        machine = await host.claim(sandbox())
        pooled = replace(await host._fleet.create(ordered(host)), phase=MachinePhase.READY)
        host._fleet.keep(pooled)
        (Path(pooled.directory) / "guest" / "guest.sock").unlink()
        await Keeper(host._fleet).renew()
        assert await host.alive(machine)
        assert host._fleet.in_phase(MachinePhase.READY) == []


async def test_leftovers_without_a_machine_are_swept_when_they_are_old(
    config: HostConfig, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Host(config, gateway) as host:
        machine = await host.claim(sandbox())
        lost = await host._fleet.create(ordered(host))  # and nobody keeps it
        await Keeper(host._fleet).sweep()
        assert Path(lost.directory).exists(), "it may be a probe's of another process"
        monkeypatch.setattr("squib.host.keeper.LEFTOVER_AGE", -1.0)
        await Keeper(host._fleet).sweep()
        assert not Path(lost.directory).exists()
        assert leaks.find(lost.id) == []
        assert await host.alive(machine)


async def test_a_guest_that_does_not_start_tells_what_it_said_and_leaves_nothing(
    config: HostConfig, gateway: Gateway
) -> None:
    async with Host(config, gateway) as host:
        host._fleet.ground.guest.write_text("raise SystemExit('no good')")  # this state directory's own copy
        with pytest.raises(InfrastructureError, match="no good"):
            await host.claim(sandbox())
        assert host._fleet.machines == {}
        assert list((config.state_dir / "machines").iterdir()) == []


@pytest.mark.parametrize("turns", [1, 5, 20, 60])
async def test_a_claim_that_is_cancelled_leaves_nothing(config: HostConfig, gateway: Gateway, turns: int) -> None:
    async with Host(config, gateway) as host:
        spec = sandbox()
        claiming = asyncio.create_task(host.claim(spec))
        for _ in range(turns):
            await asyncio.sleep(0)
        claiming.cancel()
        (outcome,) = await asyncio.gather(claiming, return_exceptions=True)
        if isinstance(outcome, asyncio.CancelledError):
            assert await host.get(spec.id) is None
            assert host._fleet.machines == {}
            assert list((config.state_dir / "machines").iterdir()) == []
            assert leaks.find(str(config.state_dir / "machines")) == []
        else:
            assert await host.get(spec.id) == outcome


@pytest.mark.needs("root")
@pytest.mark.parametrize("change", [{"uid_base": 0}, {"uid_count": 1}])
async def test_a_range_of_users_that_can_not_be_is_named(
    config: HostConfig, gateway: Gateway, change: dict[str, int]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await Host(replace(config, **change), gateway).__aenter__()  # type: ignore[arg-type]
    assert list(caught.value.fields) == list(change)


async def test_a_state_directory_with_too_long_a_path_is_named(config: HostConfig, gateway: Gateway) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await Host(replace(config, state_dir=config.state_dir / ("d" * 50)), gateway).__aenter__()
    assert list(caught.value.fields) == ["state_dir"]


async def test_a_gateway_that_can_not_listen_is_the_hosts_trouble_and_leaves_nothing(config: HostConfig) -> None:
    async with Host(config, Gateway({})) as host:
        host._fleet.gateway = Deaf()
        with pytest.raises(InfrastructureError, match="listen"):
            await host.claim(sandbox())
        assert list((config.state_dir / "machines").iterdir()) == []


async def test_probing_all_tells_of_every_driver_beside_a_host_that_runs(
    config: HostConfig, gateway: Gateway
) -> None:
    async with Host(config, gateway) as host:
        machine = await host.claim(sandbox())
        found = await probe_all(config)
        assert [c.driver for c in found] == list(registry.DRIVERS)
        assert all(c.works or (c.why_not and c.advice) for c in found)
        assert await host.alive(machine)


async def test_a_driver_that_can_not_work_says_what_to_install(
    config: HostConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    found = next(c for c in await probe_all(config) if c.driver == "bubblewrap")
    assert not found.works
    assert "bwrap" in (found.why_not or "")
    assert "apt-get install bubblewrap" in (found.advice or "")


@pytest.mark.needs("root", "bwrap")
async def test_a_state_directory_that_the_sandbox_can_not_reach_is_named(shared_tmp: Path) -> None:
    shared_tmp.chmod(0o700)
    found = next(c for c in await probe_all(HostConfig(shared_tmp / "state", KEY)) if c.driver == "bubblewrap")
    assert not found.works
    assert "state directory" in (found.advice or "")
