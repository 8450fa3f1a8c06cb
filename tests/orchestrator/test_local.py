"""The local orchestrator over a real host."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.contracts.errors import DriverUnavailable
from squib.contracts.ids import new_id
from squib.contracts.sandbox import SandboxPhase, SandboxSpec
from squib.contracts.task import SandboxRequest
from squib.gateway import Gateway
from squib.host import Host, HostConfig
from squib.link import GuestLink, guest_token
from squib.orchestrator.local import LocalOrchestrator

_KEY = b"a key for tests, of 32 bytes or so"


@pytest.fixture
async def host(shared_tmp: Path) -> AsyncIterator[Host]:
    config = HostConfig(state_dir=shared_tmp / "host", key=_KEY, driver="process", pool_size=0)
    async with Gateway({}) as gateway, Host(config, gateway) as made:
        yield made


def spec(**more: object) -> SandboxSpec:
    return SandboxSpec(id=new_id("sbx"), task_id=new_id("task"), **more)  # type: ignore[arg-type]


async def test_a_sandbox_asked_for_twice_is_one_and_its_guest_answers(host: Host) -> None:
    orchestrator, wanted = LocalOrchestrator(host), spec()
    first, second = await asyncio.gather(orchestrator.create(wanted), orchestrator.create(wanted))
    assert first == second
    assert (first.id, first.task_id, first.phase) == (wanted.id, wanted.task_id, SandboxPhase.READY)
    assert (first.driver, first.isolation, first.warm) == ("process", "none", False)
    async with GuestLink(first.endpoint, guest_token(_KEY, first.machine_id)) as link:
        assert (await link.health()).contract == 1
    assert await orchestrator.get(wanted.id) == first
    assert await orchestrator.list() == [first]


async def test_a_sandbox_whose_machine_has_died_is_lost(host: Host) -> None:
    orchestrator, wanted = LocalOrchestrator(host), spec()
    await orchestrator.create(wanted)
    machine = await host.get(wanted.id)
    assert machine is not None
    assert machine.pid is not None
    os.kill(machine.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while (found := await orchestrator.get(wanted.id)) is not None and found.phase is SandboxPhase.READY:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert found is None or found.phase is SandboxPhase.LOST


async def test_deleting_is_idempotent_and_leaves_nothing_known(host: Host) -> None:
    orchestrator, wanted = LocalOrchestrator(host), spec()
    await orchestrator.create(wanted)
    await orchestrator.delete(wanted.id)
    await orchestrator.delete(wanted.id)
    assert await orchestrator.get(wanted.id) is None
    assert await orchestrator.list() == []


async def test_another_driver_than_the_hosts_is_refused(host: Host) -> None:
    with pytest.raises(DriverUnavailable):
        await LocalOrchestrator(host).create(spec(request=SandboxRequest(driver="firecracker")))
