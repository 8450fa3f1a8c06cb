"""Events: numbered without holes, never after the last one, and a guest's each exactly once."""

import asyncio
import json
import math

import pytest

from squib.contracts.errors import Conflict, InvalidRequest, LeaseLost, NotFound, SquibError, TooLarge
from squib.contracts.event import MAX_DATA_BYTES, Draft, GuestEvent
from squib.store import Lease
from tests.conformance.store.conftest import Desk, drafts, parse, said


async def test_many_writers_number_without_a_hole(desk: Desk) -> None:
    leases = [await desk.leased() for _ in range(4)]
    sizes = [1, 7, 0, 30, 2]
    appended = await asyncio.gather(
        *(desk.store.events.append(x.task_id, drafts(n), lease=x) for n in sizes for x in leases for _ in range(3))
    )
    for lease in leases:
        assert await desk.seqs(lease.task_id) == list(range(1, 2 + 3 * sum(sizes)))
    assert max(appended) == 1 + 3 * sum(sizes)


async def test_one_that_may_not_be_stored_fails_alone(desk: Desk) -> None:
    good, bad = await desk.leased(), await desk.leased()
    stale = Lease(bad.task_id, bad.token - 1, "wrk-0", 0.0)
    calls = [desk.store.events.append(good.task_id, drafts(2), lease=good) for _ in range(5)]
    calls[2:2] = [
        desk.store.events.append(bad.task_id, drafts(2), lease=stale),
        desk.store.events.append("task-unknown", drafts(2)),
    ]
    got = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(g) for g in got] == [int, int, LeaseLost, NotFound, int, int, int]
    assert await desk.seqs(good.task_id) == list(range(1, 12)) and await desk.seqs(bad.task_id) == [1]


async def test_more_than_may_wait_is_stored_all_the_same(desk: Desk) -> None:
    lease = await desk.leased()
    sizes = [1500, 1500, 1500, 6000, 1, 1500]
    await asyncio.gather(*(desk.store.events.append(lease.task_id, drafts(n), lease=lease) for n in sizes))
    assert (await desk.store.tasks.get(lease.task_id)).last_seq == 1 + sum(sizes)
    last = await desk.store.events.page(lease.task_id, after=sum(sizes))
    assert [e.seq for e in last] == [1 + sum(sizes)]


async def test_nothing_follows_the_last_event(desk: Desk) -> None:
    lease = await desk.running()
    await desk.store.events.append_guest(lease, said("ep-1", 1))
    await desk.end(lease)
    for write in (
        lambda: desk.store.events.append(lease.task_id, drafts(1), lease=lease),
        lambda: desk.store.events.append(lease.task_id, drafts(1)),
        lambda: desk.store.events.append_guest(lease, said("ep-1", 2)),
        lambda: desk.store.messages.add(lease.task_id, owner="usr-a", prompt="more"),
    ):
        with pytest.raises(Conflict):
            await write()
    assert (await desk.store.events.page(lease.task_id))[-1].type == "task.failed"


@pytest.mark.parametrize(
    ("draft", "error"),
    [
        (Draft("agent.log\nid: 7", {}), InvalidRequest),
        (Draft("", {}), InvalidRequest),
        (Draft("task.succeeded", {}), InvalidRequest),
        (Draft("agent.log", {"x": math.nan}), InvalidRequest),
        (Draft("agent.log", {"x": object()}), InvalidRequest),
        (Draft("agent.log", {"x": "y" * MAX_DATA_BYTES}), TooLarge),
    ],
)
async def test_a_bad_draft_stores_nothing(desk: Desk, draft: Draft, error: type[SquibError]) -> None:
    task_id = await desk.task()
    with pytest.raises(error):
        await desk.store.events.append(task_id, [*drafts(1), draft])
    assert await desk.seqs(task_id) == [1]


async def test_text_of_every_kind_comes_back_as_it_was(desk: Desk) -> None:
    task_id = await desk.task()
    told = {"text": "ü 🐙 \u2028 \x00 \x1e \x1f \r\n\n data: \\ \" ' % %s ? {} \ud800", "": [1, None, {"a": 1.5}]}
    await desk.store.events.append(task_id, [Draft("agent.own.kind_2", told, "agent", 12.25)])
    (event,) = await desk.store.events.page(task_id, after=1)
    assert (event.type, event.data, event.source, event.time) == ("agent.own.kind_2", told, "agent", 12.25)
    frames = await anext(aiter(desk.store.events.follow(task_id, after=1)))
    (shown,) = parse(frames.data)
    assert shown["data"] == told and shown["task_id"] == task_id


async def test_a_guest_is_stored_once_and_its_holes_are_told(desk: Desk) -> None:
    lease = await desk.leased()
    append = desk.store.events.append_guest
    assert await append(lease, said("ep-1", 1, 2, 3)) == 4
    assert await append(lease, said("ep-1", 2, 3)) == 4
    assert await append(lease, said("ep-1", 3, 4, 4, 7)) == 7
    assert await desk.store.events.cursor(lease.task_id) == ("ep-1", 7)
    assert await append(lease, said("ep-1", 5, 6) + said("ep-2", 1)) == 8
    assert await append(lease, said("ep-1", 6, 7) + said("ep-2", 1, 2) + said("ep-3", 3)) == 11
    assert await desk.store.events.cursor(lease.task_id) == ("ep-3", 3)
    told = [e.data for e in await desk.store.events.page(lease.task_id, after=1)]
    gaps = [{k: d[k] for k in ("epoch", "first", "last")} for d in told if "first" in d]
    assert gaps == [{"epoch": "ep-1", "first": 5, "last": 6}, {"epoch": "ep-3", "first": 1, "last": 2}]
    texts = [d["text"] for d in told if "text" in d]
    assert texts == ["ep-1 1", "ep-1 2", "ep-1 3", "ep-1 4", "ep-1 7", "ep-2 1", "ep-2 2", "ep-3 3"]


async def test_wide_data_is_not_taken_for_deep(desk: Desk) -> None:
    lease = await desk.leased()
    data = {"x": [{"y": []}] * 500}
    await desk.store.events.append_guest(lease, [GuestEvent("ep-1", 1, "agent.tool", 1.0, "agent", data)])
    assert (await desk.store.events.page(lease.task_id, after=1))[0].data == data


async def test_the_guests_own_gap_is_not_told_twice(desk: Desk) -> None:
    lease = await desk.leased()
    lost = GuestEvent("ep-1", 9, "runtime.gap", 1.0, "guest", {"epoch": "ep-1", "first": 2, "last": 9})
    await desk.store.events.append_guest(lease, [*said("ep-1", 1), lost, *said("ep-1", 10)])
    later = GuestEvent("ep-1", 20, "runtime.gap", 1.0, "guest", {"epoch": "ep-1", "first": 15, "last": 20})
    await desk.store.events.append_guest(lease, [later])
    events = await desk.store.events.page(lease.task_id, after=1)
    assert [e.type for e in events] == ["agent.log", *["runtime.gap", "agent.log"], *["runtime.gap"] * 2]
    assert [(e.data["first"], e.data["last"]) for e in events if "first" in e.data] == [(2, 9), (11, 14), (15, 20)]


@pytest.mark.parametrize(
    "change",
    [
        {"type": "task.succeeded"},
        {"type": "sandbox.deleted"},
        {"type": "agent.log\nid: 99\ndata: {}"},
        {"data": {"x": math.inf}},
        {"data": {"x": "y" * MAX_DATA_BYTES}},
        {"data": {"x": json.loads("[" * 101 + "]" * 101)}},  # no stack is too high for what is stored
    ],
)
async def test_what_a_guest_may_not_say_is_replaced_and_its_number_kept(desk: Desk, change: dict) -> None:
    lease = await desk.leased()
    fields = {"epoch": "ep-1", "n": 1, "type": "agent.log", "time": math.nan, "source": "api", "data": {}}
    await desk.store.events.append_guest(lease, [GuestEvent(**(fields | change)), *said("ep-1", 2)])
    replaced, second = await desk.store.events.page(lease.task_id, after=1)
    assert (replaced.type, replaced.source, second.data["text"]) == ("runtime.log", "guest", "ep-1 2")
    assert math.isfinite(replaced.time)


@pytest.mark.parametrize(("epoch", "n"), [("ep-1", 0), ("ep-1", 2**60), ("", 1), ("e" * 65, 1), ("a\nb", 1)])
async def test_numbers_that_no_guest_gives_are_refused(desk: Desk, epoch: str, n: int) -> None:
    lease = await desk.leased()
    with pytest.raises(InvalidRequest):
        await desk.store.events.append_guest(lease, said(epoch, n))
    assert await desk.seqs(lease.task_id) == [1]


async def test_pages_of_large_events_stay_bounded(desk: Desk) -> None:
    task_id = await desk.task()
    await desk.store.events.append(task_id, [Draft("agent.log", {"text": "y" * 200_000})] * 12)
    seen: list[int] = []
    while page := await desk.store.events.page(task_id, after=seen[-1] if seen else 0, limit=100):
        assert len(page) <= 7
        seen += [e.seq for e in page]
    assert seen == list(range(1, 14))
