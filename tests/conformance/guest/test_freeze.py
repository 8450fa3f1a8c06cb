"""Around being frozen: who refuses, who lets go, and who comes back as somebody else."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.errors import Conflict, GuestUnreachable, InvalidRequest
from squib.contracts.guest import CancelRequest, FreezeRequest, Health, RunRequest, TerminalRequest
from squib.link import GuestLink
from tests.conformance.guest.conftest import Boot, Guest, Place, resume_request

THAW = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _config_from_outside(place: Place) -> None:
    if not place.shared_config:
        pytest.skip("this driver's machines are frozen as they are: their configuration is not the host's to add to")


async def _gone(guest: Guest) -> None:
    """Return once the guest has let go of everything: its socket goes last."""
    async with asyncio.timeout(20):
        while os.path.lexists(guest.place.socket):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def _back(guest: Guest) -> Health:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(GuestUnreachable):
                return await guest.link.health()
            await asyncio.sleep(0.01)


def _thaw(guest: Guest, name: str = THAW) -> Path:
    path = guest.place.config / name
    path.touch()
    return path


async def test_it_lets_go_and_comes_back_as_it_was_and_then_as_another(boot: Boot) -> None:
    guest = await boot(gateway="unix:/run/squib/gateway/gateway.sock", environment={"OF_IMAGE": "1"})
    await guest.out('test "$OF_IMAGE" = 1 && echo work > file && echo kept > ~/kept')
    before = await guest.link.health()
    async with contextlib.aclosing(guest.link.events(None, 0)) as following:
        await anext(following)
        frozen = await guest.link.freeze(FreezeRequest(THAW))
        assert frozen.epoch == before.epoch
        with pytest.raises(GuestUnreachable):
            async for _ in following:  # the guest lets go of its readers too
                pass
    await _gone(guest)
    _thaw(guest, "ff").unlink()
    _thaw(guest)
    assert (await _back(guest)).epoch == before.epoch
    assert await guest.out("cat file ~/kept") == "work\nkept\n"

    after = await guest.link.resume(resume_request(hostname="another"))
    assert (after.sandbox_id, after.epoch == before.epoch) == ("sbx-2", False)
    with pytest.raises(GuestUnreachable, match="token"):
        await guest.link.health()
    async with GuestLink(guest.endpoint, "a new token", uid=guest.owner) as link:
        events = [e async for e in _first(link.events(before.epoch, 0), 2)]
        assert [(e.epoch, e.n) for e in events] == [(before.epoch, 1), (after.epoch, 1)]
        assert (await link.terminal(TerminalRequest("cat file"))).stdout == "work\n"
        await link.freeze(FreezeRequest("aa"))
    await _gone(guest)
    _thaw(guest, "aa")


async def _first(batches: AsyncIterator[list], count: int) -> AsyncIterator:
    async for batch in batches:
        for event in batch:
            yield event
            count -= 1
            if not count:
                return


async def test_without_a_file_it_goes_on(guest: Guest) -> None:
    pid = await guest.out("sleep 400 > /dev/null 2>&1 & echo $!")
    before = await guest.link.health()
    assert (await guest.link.freeze(FreezeRequest())).epoch == before.epoch
    assert await guest.out("echo on") == "on\n"
    with pytest.raises(Conflict, match="sleep"):  # it has the workspace open
        await guest.link.freeze(FreezeRequest(THAW))
    await guest.out(f"kill {pid}")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", ".", "é", "0" * 65])
async def test_a_file_name_is_plain_hex(guest: Guest, name: str) -> None:
    with pytest.raises(InvalidRequest, match="thaw"):
        await guest.link.freeze(FreezeRequest(name))


@pytest.mark.parametrize("thaw", [None, THAW])
async def test_it_is_refused_at_work(guest: Guest, thaw: str | None) -> None:
    command = asyncio.ensure_future(guest.sh("touch begun; until test -e end; do sleep 0.01; done"))
    while not (await guest.link.list()).entries:
        pass
    with pytest.raises(Conflict, match="/terminal is active"):
        await guest.link.freeze(FreezeRequest(thaw))
    await guest.link.write("end", b"")
    await command
    run = await guest.link.run(RunRequest(ids.new_id("run"), "mock", "mock:sleep=30"))
    with pytest.raises(Conflict, match="run"):
        await guest.link.freeze(FreezeRequest(thaw))
    await guest.link.cancel(CancelRequest(run.run_id))
    await guest.link.health()
