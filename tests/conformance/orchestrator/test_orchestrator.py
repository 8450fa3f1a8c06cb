"""What the scheduler may rely on, whichever orchestrator it has. One host serves a whole story."""

import asyncio
import os
import signal

import pytest

from squib.contracts.errors import DriverUnavailable, HostFull, NotFound, SandboxLost
from squib.contracts.sandbox import Sandbox, SandboxPhase
from squib.contracts.task import SandboxRequest
from squib.link import GuestLink, guest_token
from tests.conformance.orchestrator.conftest import Place
from tests.daemon.conftest import KEY, spec


def link(sandbox: Sandbox) -> GuestLink:
    return GuestLink(sandbox.endpoint, guest_token(KEY, sandbox.machine_id))


async def test_a_sandbox_from_its_making_to_its_end(place: Place) -> None:
    orchestrator, wanted = place.orchestrator, spec()
    assert await orchestrator.get(wanted.id) is None
    assert await orchestrator.list() == []
    first, second = await asyncio.gather(orchestrator.create(wanted), orchestrator.create(wanted))
    assert first == second == await orchestrator.create(wanted)
    assert (first.id, first.task_id, first.phase) == (wanted.id, wanted.task_id, SandboxPhase.READY)
    assert await orchestrator.get(wanted.id) == first
    assert await orchestrator.list() == [first]
    assert await orchestrator.resume(wanted.id) == first
    async with link(first) as guest:
        await guest.write("note", b"kept")
        assert await guest.read("note") == b"kept"
    assert not await orchestrator.suspend(wanted.id)  # neither driver can
    assert await orchestrator.get(wanted.id) == first
    await asyncio.gather(orchestrator.delete(wanted.id), orchestrator.delete(wanted.id))
    await orchestrator.delete(wanted.id)
    assert await orchestrator.get(wanted.id) is None
    assert await orchestrator.resume(wanted.id) is None
    assert await orchestrator.list() == []


async def test_what_can_not_be_had_is_told_by_its_kind(place: Place) -> None:
    orchestrator = place.orchestrator
    with pytest.raises(DriverUnavailable):
        await orchestrator.create(spec(request=SandboxRequest(driver="no-such")))
    with pytest.raises(NotFound, match="cobol"):
        await orchestrator.create(spec(image="cobol"))
    with pytest.raises(SandboxLost):
        await orchestrator.fork(spec().id, [spec()])
    assert not await orchestrator.suspend(spec().id)
    one, two = await orchestrator.create(spec()), await orchestrator.create(spec())
    with pytest.raises(HostFull, match="its 2 machines"):
        await orchestrator.create(spec())
    with pytest.raises((DriverUnavailable, HostFull)):
        await orchestrator.fork(one.id, [spec()])
    await orchestrator.delete(two.id)
    with pytest.raises(DriverUnavailable):
        await orchestrator.fork(one.id, [spec()])
    assert [sandbox.id for sandbox in await orchestrator.list()] == [one.id]


async def test_a_sandbox_whose_machine_has_died_is_lost(place: Place) -> None:
    orchestrator, wanted = place.orchestrator, spec()
    await orchestrator.create(wanted)
    machine = await place.host.get(wanted.id)
    assert machine is not None
    assert machine.pid is not None
    os.kill(machine.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while (found := await orchestrator.get(wanted.id)) is not None and found.phase is SandboxPhase.READY:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert found is None or found.phase is SandboxPhase.LOST
    assert await orchestrator.resume(wanted.id) is None
