"""Following: everything once and in order, from any place, until the last event."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from squib.contracts.errors import NotFound
from squib.contracts.event import Draft
from squib.store import Frames, Store, events
from squib.store.database import Tx
from tests.conformance.store.conftest import Desk, drafts, parse
from tests.postgres import Server


def seqs(frames: list[Frames]) -> list[int]:
    return [event["seq"] for f in frames for event in parse(f.data)]


async def _some(reader: AsyncIterator[Frames]) -> Frames:
    """The next frames that hold anything."""
    while not (frames := await anext(reader)).data:
        pass
    return frames


async def test_readers_from_everywhere_see_the_rest(desk: Desk) -> None:
    lease = await desk.running()
    readers = [asyncio.create_task(desk.collect(lease.task_id, after)) for after in (0, 0, 2, 3, 100, 999)]
    for size in (1, 300, 1, 1, 450, 2):
        await desk.store.events.append(lease.task_id, drafts(size), lease=lease)
        readers.append(asyncio.create_task(desk.collect(lease.task_id, size)))
    await desk.end(lease)
    last = 3 + 755 + 1
    starts = [0, 0, 2, 3, 100, 999, 1, 300, 1, 1, 450, 2]
    for after, frames in zip(starts, await asyncio.gather(*readers), strict=True):
        assert seqs(frames) == list(range(after + 1, last + 1))
        assert [f.terminal for f in frames] == [False] * (len(frames) - 1) + [True] * bool(frames)


async def test_an_ended_task_is_told_and_left(desk: Desk) -> None:
    lease = await desk.running()
    await desk.end(lease)
    assert seqs(await desk.collect(lease.task_id)) == [1, 2, 3, 4]
    for after in (4, 70, 2**70):
        assert await desk.collect(lease.task_id, after) == []
    with pytest.raises(NotFound):
        await desk.collect("task-unknown")


async def test_an_end_between_two_looks_is_not_missed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    lease, loop, look = await desk.running(), asyncio.get_running_loop(), events._ended

    def ended(tx: Tx, task_id: str) -> bool:
        """The reader has found no more events; before it asks whether there will be any, the task ends."""
        monkeypatch.undo()
        asyncio.run_coroutine_threadsafe(desk.end(lease), loop).result(30)
        return look(tx, task_id)

    monkeypatch.setattr(events, "_ended", ended)
    assert seqs(await desk.collect(lease.task_id, after=3)) == [4]


async def test_a_quiet_task_has_a_heartbeat(desk: Desk) -> None:
    task_id = await desk.task()
    async with aclosing(desk.store.events.follow(task_id, after=1, heartbeat=0.01)) as beats:
        assert await anext(beats) == await anext(beats) == Frames(b"", 1, False)
        await desk.store.events.append(task_id, drafts(1))
        async for frames in beats:
            if frames.data:
                break
    assert seqs([frames]) == [2]


async def test_readers_at_the_same_place_share_their_bytes(desk: Desk) -> None:
    lease = await desk.leased()
    readers = [aiter(desk.store.events.follow(lease.task_id, after=1, heartbeat=0.01)) for _ in range(3)]
    for reader in readers:
        assert not (await anext(reader)).data  # it stands at the head now
    waiting = [asyncio.ensure_future(_some(reader)) for reader in readers]
    await desk.store.events.append(lease.task_id, drafts(5), lease=lease)
    got = await asyncio.gather(*waiting)
    assert seqs(got[:1]) == [2, 3, 4, 5, 6] and len({id(f.data) for f in got}) == 1
    for reader in readers:
        await reader.aclose()
    assert desk.store.events._feeds == {}


async def test_a_reader_that_stalls_catches_up_from_the_database(desk: Desk) -> None:
    lease = await desk.running()
    async with aclosing(desk.store.events.follow(lease.task_id)) as slow:
        got = [await anext(slow)]
        big = [Draft("agent.log", {"text": "z" * 2000})] * 200
        for _ in range(20):
            await desk.store.events.append(lease.task_id, big, lease=lease)
        await desk.end(lease)
        got += [frames async for frames in slow]
    assert seqs(got) == list(range(1, 4005))


@pytest.mark.needs("postgres")
async def test_another_process_is_heard_each_time(postgres: Server, tmp_path: Path) -> None:
    url = postgres.database()
    async with Store.open(url, files=tmp_path / "1") as one, Store.open(url, files=tmp_path / "2") as two:
        desk = Desk(one, url, tmp_path)
        lease = await desk.running()
        async with aclosing(two.events.follow(lease.task_id, heartbeat=0.01)) as reader:
            seen = seqs([await anext(reader)])
            for _ in range(5):
                assert not (await anext(reader)).data  # it waits at the head
                last = await one.events.append(lease.task_id, drafts(2), lease=lease)
                while seen[-1] < last:
                    seen += seqs([await _some(reader)])
            assert seen == list(range(1, last + 1))
        async with two.signals.subscribe("queue") as queue, two.signals.subscribe(f"control:{lease.task_id}") as ctl:
            await desk.task()
            assert await queue.wait(5)
            await one.messages.add(lease.task_id, owner="usr-a", prompt="more")
            assert await ctl.wait(5)
    postgres.drop(url)


@pytest.mark.needs("postgres")
async def test_two_processes_that_write_in_turn_are_heard(postgres: Server, tmp_path: Path) -> None:
    url = postgres.database()
    async with Store.open(url, files=tmp_path / "1") as one, Store.open(url, files=tmp_path / "2") as two:
        desk = Desk(one, url, tmp_path)
        lease = await desk.running()
        readers = [asyncio.create_task(Desk(two, url, tmp_path).collect(lease.task_id)) for _ in range(3)]
        readers.append(asyncio.create_task(desk.collect(lease.task_id)))
        for n in range(20):
            await (one, two)[n % 2].events.append(lease.task_id, drafts(3), lease=lease)
        await desk.end(lease)
        for frames in await asyncio.gather(*readers):
            assert seqs(frames) == list(range(1, 3 + 60 + 1 + 1))
    postgres.drop(url)


@pytest.mark.needs("postgres")
async def test_a_broken_listener_comes_back_and_misses_nothing(postgres: Server, tmp_path: Path) -> None:
    url = postgres.database()
    async with Store.open(url, files=tmp_path / "1") as one, Store.open(url, files=tmp_path / "2") as two:
        desk = Desk(one, url, tmp_path)
        lease = await desk.running()
        reader = asyncio.create_task(Desk(two, url, tmp_path).collect(lease.task_id))
        name = url.split("?")[0].rsplit("/", 1)[1]
        await desk.store.events.append(lease.task_id, drafts(2), lease=lease)
        await asyncio.to_thread(
            postgres.execute,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        await desk.store.events.append(lease.task_id, drafts(2), lease=lease)
        await desk.end(lease)
        assert seqs(await reader) == list(range(1, 9))
    postgres.drop(url)
