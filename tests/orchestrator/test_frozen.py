"""Sandboxes put to disk and copied, by the local orchestrator over a host that can."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.contracts.errors import NotFound
from squib.contracts.sandbox import Sandbox, SandboxPhase
from squib.gateway import Gateway
from squib.host import Host, HostConfig
from squib.link import GuestLink, guest_token
from squib.orchestrator.local import LocalOrchestrator
from tests.orchestrator.test_local import spec

_KEY = b"a key for tests, of 32 bytes or so"


@pytest.fixture
async def orchestrator(shared_tmp: Path) -> AsyncIterator[LocalOrchestrator]:
    config = HostConfig(state_dir=shared_tmp / "host", key=_KEY, driver="gvisor", pool_size=0)
    async with Gateway({}) as gateway, Host(config, gateway) as host:
        yield LocalOrchestrator(host)


def link(sandbox: Sandbox) -> GuestLink:
    return GuestLink(sandbox.endpoint, guest_token(_KEY, sandbox.machine_id))


@pytest.mark.needs("runsc", "libseccomp")
async def test_a_sandbox_goes_to_disk_comes_back_and_is_copied(orchestrator: LocalOrchestrator) -> None:
    wanted = spec()
    first = await orchestrator.create(wanted)
    assert (first.image, first.isolation) == ("host", "userspace_kernel")
    async with link(first) as guest:
        await guest.write("note", b"of the first")
    assert await orchestrator.suspend(wanted.id)
    assert await orchestrator.suspend(wanted.id)
    frozen = await orchestrator.get(wanted.id)
    assert frozen is not None
    assert frozen.phase is (await orchestrator.list())[0].phase is SandboxPhase.SUSPENDED
    again = await orchestrator.resume(wanted.id)
    assert again is not None
    assert (again.id, again.machine_id, again.phase) == (first.id, first.machine_id, SandboxPhase.READY)
    assert await orchestrator.resume(wanted.id) == again
    copies = await orchestrator.fork(wanted.id, [spec(), spec()])
    assert len({sandbox.machine_id for sandbox in (again, *copies)}) == 3
    for number, sandbox in enumerate((again, *copies)):
        async with link(sandbox) as guest:
            assert await guest.read("note") == b"of the first"
            await guest.write("note", str(number).encode())
    for number, sandbox in enumerate((again, *copies)):
        async with link(sandbox) as guest:
            assert await guest.read("note") == str(number).encode()


@pytest.mark.needs("runsc", "libseccomp")
async def test_an_image_that_is_not_here_is_not_found(orchestrator: LocalOrchestrator) -> None:
    with pytest.raises(NotFound, match="cobol"):
        await orchestrator.create(spec(image="cobol"))
    assert await orchestrator.resume(spec().id) is None
    assert not await orchestrator.suspend(spec().id)
