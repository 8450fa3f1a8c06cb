"""When the database goes away, or the process does."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from squib.contracts.errors import StoreUnavailable
from squib.contracts.event import Event
from squib.store import Store
from squib.store.database import CommitUnknown, Tx
from tests.conformance.store.conftest import Desk, drafts, parse, said
from tests.postgres import Server

WRITER = Path(__file__).with_name("writer.py")


async def test_a_process_killed_amid_appends_leaves_a_whole_log(desk: Desk) -> None:
    leases = [await desk.leased() for _ in range(3)]
    arguments = [desk.url, str(desk.files), json.dumps([[x.task_id, x.token] for x in leases])]
    told = dict.fromkeys((x.task_id for x in leases), 0)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(WRITER), *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        for _ in range(60):
            task_id, seq = (await process.stdout.readline()).split()
            told[task_id.decode()] = int(seq)
    finally:
        process.kill()
        rest = await process.stdout.read()
        await process.wait()
    for line in rest.splitlines(keepends=True):
        if line.endswith(b"\n"):
            told[line.split()[0].decode()] = int(line.split()[1])
    for lease in leases:
        task = await desk.store.tasks.get(lease.task_id)
        log: list[Event] = []
        while page := await desk.store.events.page(lease.task_id, after=len(log), limit=1000):
            log += page
        assert [e.seq for e in log] == list(range(1, task.last_seq + 1))
        assert task.last_seq >= told[lease.task_id] > 1
        _, n = await desk.store.events.cursor(lease.task_id)
        assert [e.data["n"] for e in log if e.source == "agent"] == list(range(1, n + 1))
        assert await desk.store.events.append(lease.task_id, drafts(1), lease=lease) == task.last_seq + 1


@pytest.mark.parametrize("happened", [True, False])
async def test_a_commit_whose_outcome_is_unknown_is_looked_up(desk: Desk, happened: bool) -> None:
    lease, other = await desk.running(), await desk.running()
    commit, broken = desk.store._database.once, [True]

    async def once(work: Callable[[Tx], None]) -> None:
        if not broken:
            return await commit(work)
        broken.clear()

        def lost(tx: Tx) -> None:
            work(tx)
            raise CommitUnknown

        if happened:
            await commit(work)
        await commit(lost if not happened else _unknown)

    desk.store._database.once = once
    reader = asyncio.create_task(desk.collect(lease.task_id))
    appended = await asyncio.gather(
        desk.store.events.append(lease.task_id, drafts(3), lease=lease),
        desk.store.events.append(other.task_id, drafts(1), lease=other),
        desk.store.events.append_guest(lease, said("ep-1", 1, 2)),
    )
    assert appended == [6, 4, 8] and not broken
    assert await desk.store.events.append(lease.task_id, drafts(1), lease=lease) == 9
    assert await desk.seqs(lease.task_id) == list(range(1, 10))
    texts = [e.data["text"] for e in await desk.store.events.page(lease.task_id, after=3)]
    assert texts == ["line 0", "line 1", "line 2", "ep-1 1", "ep-1 2", "line 0"]
    await desk.end(lease)
    assert [e["seq"] for f in await reader for e in parse(f.data)] == list(range(1, 11))


def _unknown(_tx: Tx) -> None:
    raise CommitUnknown


@pytest.mark.needs("postgres")
async def test_a_restart_of_the_server_is_survived(postgres: Server, tmp_path: Path) -> None:
    if not postgres.ours:
        pytest.skip("the server that SQUIB_TEST_POSTGRES names is not ours to stop")
    url = postgres.database()
    async with Store.open(url, files=tmp_path) as store:
        desk = Desk(store, url, tmp_path)
        lease = await desk.running()
        reader = asyncio.create_task(desk.collect(lease.task_id))
        stop = asyncio.Event()

        async def write() -> int:
            n = 0
            while not stop.is_set() or n < 40:
                n += 1
                await store.events.append_guest(lease, said("ep-1", n))
            return n

        writer = asyncio.create_task(write())
        await store.events.append(lease.task_id, drafts(1), lease=lease)
        await asyncio.to_thread(postgres.stop)
        during = asyncio.create_task(store.tasks.renew(lease, 60))
        await asyncio.to_thread(postgres.start)
        assert (await during).token == lease.token
        await store.ping()
        stop.set()
        n = await writer
        await desk.end(lease)
        await reader
        assert (await store.tasks.get(lease.task_id)).last_seq == 3 + 1 + n + 1
        assert await store.events.cursor(lease.task_id) == ("ep-1", n)
    postgres.drop(url)


@pytest.mark.needs("postgres")
async def test_a_server_that_stays_away_is_said_to(postgres: Server, tmp_path: Path) -> None:
    if not postgres.ours:
        pytest.skip("the server that SQUIB_TEST_POSTGRES names is not ours to stop")
    url = postgres.database()
    async with Store.open(url, files=tmp_path) as store:
        lease = await Desk(store, url, tmp_path).running()
        store._database.patience = 0.2
        await asyncio.to_thread(postgres.stop)
        try:
            for call in (
                store.ping,
                lambda: store.tasks.get(lease.task_id),
                lambda: store.tasks.renew(lease, 60),
                lambda: store.events.append(lease.task_id, drafts(1), lease=lease),
            ):
                with pytest.raises(StoreUnavailable):
                    await call()
        finally:
            await asyncio.to_thread(postgres.start)
        assert await store.events.append(lease.task_id, drafts(1), lease=lease) == 4
    postgres.drop(url)
