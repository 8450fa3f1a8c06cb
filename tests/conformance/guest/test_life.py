"""Who may ask, how long a guest lives without being asked, and what a restored clone becomes."""

import asyncio
import time

import pytest

from squib.contracts.errors import GuestUnreachable, InvalidRequest, NotFound
from squib.contracts.guest import CONTRACT_VERSION, TerminalRequest
from squib.link import GuestLink
from tests.conformance.guest.conftest import Boot, Guest, Place, resume_request


async def test_health(guest: Guest) -> None:
    health = await guest.link.health()
    assert health.contract == CONTRACT_VERSION
    assert health.epoch.startswith("ep-")
    assert health.run_id is None
    assert 5_000_000 < health.rss_bytes < 64_000_000


async def test_logs(guest: Guest) -> None:
    assert "ready" in await guest.link.logs()


@pytest.mark.parametrize("token", ["-", "x", "another"])
async def test_stranger_is_refused(guest: Guest, token: str) -> None:
    async with GuestLink(guest.endpoint, token) as link:
        for call in (link.health, link.logs, link.run_status):
            with pytest.raises(GuestUnreachable, match="token"):
                await call()


async def test_unanswered_guest_ends_itself(boot: Boot) -> None:
    guest = await boot(lease_seconds=1.5)
    await guest.link.health()
    with pytest.raises(GuestUnreachable):
        async for _ in guest.link.events(None, 0):  # ends when the guest does
            pass
    with pytest.raises(GuestUnreachable):
        await guest.link.health()


async def test_asking_renews_the_lease(boot: Boot) -> None:
    guest = await boot(lease_seconds=1.5)
    began = time.monotonic()
    while time.monotonic() - began < 2.5:
        await guest.link.health()
        await asyncio.sleep(0.05)
    await guest.link.health()


async def test_resume_begins_a_new_life(boot: Boot, place: Place) -> None:
    guest = await boot()
    before = await guest.link.health()
    asked = resume_request()
    after = await guest.link.resume(asked)
    assert (after.sandbox_id, before.epoch == after.epoch) == ("sbx-2", False)
    with pytest.raises(GuestUnreachable, match="token"):
        await guest.link.health()
    async with GuestLink(guest.endpoint, "a new token", uid=guest.owner) as link:
        batch = await anext(link.events(None, 0))
        assert batch[0].type == "runtime.ready"
        if place.capability.own_kernel:
            assert len(batch) == 1  # no word of a step that failed
            names = await link.terminal(TerminalRequest("hostname; cat /etc/machine-id"))
            assert names.stdout.split() == [asked.hostname, asked.machine_id]
        assert {e.epoch for e in batch} == {after.epoch}
        old = await anext(link.events(before.epoch, before.last_event))
        assert [(e.epoch, e.n) for e in old][:1] == [(after.epoch, 1)]
        unknown = await anext(link.events(before.epoch[:-4] + "zzzz", 0))
        assert (unknown[0].type, unknown[0].data["first"]) == ("runtime.gap", 1)


@pytest.mark.parametrize("field", ["token_sha256", "machine_id", "entropy", "hostname", "time"])
async def test_bad_resume_changes_nothing(guest: Guest, field: str) -> None:
    before = await guest.link.health()
    with pytest.raises(InvalidRequest) as caught:
        await guest.link.resume(resume_request(**{field: -1.0 if field == "time" else "\n"}))
    assert list(caught.value.fields) == [field]
    assert (await guest.link.health()).epoch == before.epoch


async def test_unknown_path(guest: Guest) -> None:
    with pytest.raises(NotFound):
        await guest.link._get(dict, "/nothing")
