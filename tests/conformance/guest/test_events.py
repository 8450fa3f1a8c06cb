"""The event stream: resumable, without a hole, explicit where something was lost, and paced by its reader."""

import itertools
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from squib.contracts.errors import InvalidRequest
from squib.contracts.event import GuestEvent
from squib.contracts.guest import CancelRequest, RunState
from tests.conformance.guest.conftest import Guest

Boot = Callable[..., Awaitable[Guest]]


async def _until(guest: Guest, epoch: str | None, n: int, last: int) -> list[GuestEvent]:
    seen: list[GuestEvent] = []
    async with aclosing(guest.link.events(epoch, n)) as batches:
        async for batch in batches:
            seen += batch
            if seen[-1].n >= last:
                break
    return seen


async def test_replay_from_anywhere(guest: Guest) -> None:
    status, _ = await guest.finished(await guest.start("mock:lines=500"))
    whole = await _until(guest, None, 0, status.last_event)
    assert [e.n for e in whole] == list(range(1, status.last_event + 1))
    chance = random.Random(1)
    for start in [0, 1, status.last_event - 1, *(chance.randrange(status.last_event) for _ in range(5))]:
        assert await _until(guest, status.epoch, start, status.last_event) == whole[start:]


async def test_a_reader_that_drops_and_comes_back_misses_nothing(guest: Guest) -> None:
    run_id = await guest.start("mock:lines=3000")
    first = (await guest.link.health()).epoch
    seen: list[GuestEvent] = []
    while not seen or seen[-1].type != "agent.completed" or seen[-1].n < (await guest.link.health()).last_event:
        async with aclosing(guest.link.events(first, seen[-1].n if seen else 0)) as batches:
            async for batch in batches:
                seen += batch
                break
    assert [e.n for e in seen] == list(range(1, len(seen) + 1))
    assert (await guest.finished(run_id))[0].state is RunState.SUCCEEDED


@pytest.mark.parametrize("after", ["x", "ep-1:1", ":1", "ep-01m86a8cxd5e00x327k5g0c2ep:-1"])
async def test_bad_positions(guest: Guest, after: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        epoch, _, n = after.rpartition(":")
        await anext(guest.link.events(epoch, n))  # type: ignore[arg-type]
    assert "after" in caught.value.fields


async def test_the_future_is_refused(guest: Guest) -> None:
    health = await guest.link.health()
    with pytest.raises(InvalidRequest):
        await anext(guest.link.events(health.epoch, health.last_event + 1000))


async def test_what_the_ring_lost_is_a_gap(boot: Boot) -> None:
    guest = await boot(ring_bytes=1_000_000)
    status, _ = await guest.finished(await guest.start("mock:lines=20000 mock:size=200"))
    seen = await _until(guest, None, 0, status.last_event)
    gap = seen[0]
    assert (gap.type, gap.data["first"], gap.data["last"], gap.n) == (
        "runtime.gap",
        1,
        gap.data["last"],
        gap.data["last"],
    )
    assert all(b.n == a.n + 1 for a, b in itertools.pairwise(seen))
    assert seen[-1].n == status.last_event
    assert seen[-1].type == "agent.completed"
    held = await guest.out("du -sb /run/squib/state 2>/dev/null || true")
    assert not held or int(held.split()[0]) < 1_300_000


async def _at_rest(guest: Guest) -> int:
    """The number of the last event once it has stopped growing; it is no deadline that a slow machine could miss."""
    last, now = -1, 0
    while last != now:
        last = now
        await guest.out("sleep 0.3")
        now = (await guest.link.health()).last_event
    return now


async def test_the_agent_waits_for_a_reader_that_is_behind(boot: Boot) -> None:
    guest = await boot(unread_events=500)
    run_id = await guest.start("mock:lines=60000 mock:size=100")
    async with aclosing(guest.link.events(None, 0)) as batches:
        seen = list(await anext(batches))
        counted = await _at_rest(guest)  # nobody reads
        assert counted < 40_000
        async for batch in batches:
            seen += batch
            if seen[-1].type == "agent.completed":
                break
    assert [e.n for e in seen] == list(range(1, len(seen) + 1))
    assert len(seen) > 60_000
    status = await guest.link.run_status()
    assert status is not None and (status.run_id, status.state) == (run_id, RunState.SUCCEEDED)


async def test_a_run_can_be_cancelled_while_its_reader_is_behind(boot: Boot) -> None:
    guest = await boot(unread_events=200)
    run_id = await guest.start("mock:lines=100000000 mock:size=100")
    async with aclosing(guest.link.events(None, 0)) as batches:
        await anext(batches)
        status = await guest.link.cancel(CancelRequest(run_id, grace_seconds=0.2))
    assert status.state is RunState.CANCELLED


async def test_output_is_bounded_in_total(boot: Boot) -> None:
    guest = await boot(run_output_bytes=1_000_000)
    status, events = await guest.finished(await guest.start("mock:lines=100000000 mock:size=100"))
    assert status.state is RunState.FAILED
    assert status.reason and "1000000" in status.reason
    assert len(events) < 20_000
