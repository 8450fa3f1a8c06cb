"""Which machines fit beside others: pure sums, and a host that goes by them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.contracts.errors import HostFull
from squib.contracts.host import Capacity, Used
from squib.contracts.ids import new_id
from squib.contracts.machine import MachinePhase
from squib.contracts.sandbox import SandboxSpec
from squib.contracts.task import SandboxRequest
from squib.gateway import Gateway
from squib.host import Host, HostConfig, admission
from tests.host.test_pool import filled

_ONE = SandboxRequest(cpu=2, memory=1024, disk=1000)


def test_a_suspended_machine_takes_its_disk_and_its_memory_on_disk() -> None:
    assert admission.used([_ONE, _ONE], [_ONE]) == Used(2, 4.0, 2048, 2000 + 2024)
    assert admission.used([]) == Used()


@pytest.mark.parametrize(
    ("limits", "missing"),
    [
        (Capacity(10), None),
        (Capacity(3, 6.0, 3072, 3000), None),
        (Capacity(2), "its 2 machines"),
        (Capacity(10, cpu=5.5), "1.5 cores of cpu left to promise, 2 are asked"),
        (Capacity(10, memory=3071), "1023 MiB of memory left to promise, 1024 are asked"),
        (Capacity(10, disk=2999), "999 MiB of disk left to promise, 1000 are asked"),
    ],
)
def test_what_is_missing_is_named(limits: Capacity, missing: str | None) -> None:
    said = admission.lack(limits, admission.used([_ONE, _ONE]), [_ONE])
    assert said is None if missing is None else missing in str(said)


def test_a_machine_has_cores_and_memory() -> None:
    assert admission.own_cpu() >= 1
    assert admission.own_memory() > 256


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway({}) as made:
        yield made


def sandbox(**measure: float) -> SandboxSpec:
    return SandboxSpec(new_id("sbx"), new_id("task"), SandboxRequest(**measure))  # type: ignore[arg-type]


async def test_pooled_machines_give_way_only_where_that_makes_room(shared_tmp: Path, gateway: Gateway) -> None:
    config = HostConfig(shared_tmp / "host", b"k" * 32, driver="process", pool_size=1, memory=4096)
    async with Host(config, gateway) as host:
        await filled(host, 1)
        waiting = host._fleet.in_phase(MachinePhase.READY)
        with pytest.raises(HostFull, match="memory"):
            await host.claim(sandbox(memory=8192))
        assert host._fleet.in_phase(MachinePhase.READY) == waiting
        assert (await host.claim(sandbox(memory=4096))).spec.memory == 4096
        assert host._fleet.in_phase(MachinePhase.READY) == []
        assert host.status().used.memory == 4096
        with pytest.raises(HostFull, match="0 MiB of memory"):
            await host.claim(sandbox(memory=256))


async def test_a_host_whose_disk_is_full_makes_nothing_new(
    shared_tmp: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = HostConfig(shared_tmp / "host", b"k" * 32, driver="process", pool_size=0)
    async with Host(config, gateway) as host:
        monkeypatch.setattr(admission, "SPARE_DISK", 1 << 40)
        with pytest.raises(HostFull, match="disk has"):
            await host.claim(sandbox())
        assert host.status().used.machines == 0
