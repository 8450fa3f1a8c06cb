"""Events: append in groups, page, follow. Readers are cursors: one that stalls holds nothing but its place."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa

from squib.contracts.errors import InvalidRequest, NotFound
from squib.contracts.event import Draft, Event, GuestEvent
from squib.store import encode
from squib.store.database import Database, Tx
from squib.store.encode import Row
from squib.store.feed import Block, Encoded, Feed, Frames
from squib.store.lease import Lease
from squib.store.signals import Signals
from squib.store.tables import events, tasks
from squib.store.writer import Writer

_PAGE = 200
_MAX_PAGE = 1_000
_MAX_SEQ = 2**53
_MAX_PAGE_CHARS = 1024 * 1024


def _behind() -> "sa.Select[Any]":
    page = (
        sa.select(events.c.seq, events.c.type, events.c.body, sa.func.length(events.c.body).label("size"))
        .where(events.c.task_id == sa.bindparam("wanted"), events.c.seq > sa.bindparam("after"))
        .order_by(events.c.seq)
        .limit(sa.bindparam("most"))
        .subquery()
    )
    upto = sa.func.sum(page.c.size).over(order_by=page.c.seq)
    summed = sa.select(page.c.seq, page.c.type, page.c.body, (upto - page.c.size).label("before")).subquery()
    return (
        sa.select(summed.c.seq, summed.c.type, summed.c.body)
        .where(summed.c.before < _MAX_PAGE_CHARS)
        .order_by(summed.c.seq)
    )


_BEHIND = _behind()  # built once: to build it took longer than to run it, and every reader begins with it
_END = sa.select(tasks.c.finished_at).where(tasks.c.id == sa.bindparam("wanted"))


class Events:
    """The log of each task: numbered from 1 without a hole, ended by the event of a terminal state."""

    def __init__(self, database: Database, writer: Writer, signals: Signals) -> None:
        self._database = database
        self._writer = writer
        self._signals = signals
        self._feeds: dict[str, Feed] = {}

    async def append(self, task_id: str, drafts: Sequence[Draft], *, lease: Lease | None = None) -> int:
        """Store drafts in order, all or none; the seq of the last one (or the task's, where there are none).

        Waits while 4,000 drafts are on their way. Raises LeaseLost, NotFound, Conflict (the task has ended, whose
        last event only `tasks.transition` writes), InvalidRequest, TooLarge, StoreUnavailable.
        """
        rows = encode.drafts(drafts)
        if any(row.type in encode.TERMINAL for row in rows):
            raise InvalidRequest("a task is ended by a transition", fields={"type": "ends a task"})
        return await self._writer.append(task_id, lease, rows)

    async def append_guest(self, lease: Lease, batch: Sequence[GuestEvent]) -> int:
        """Store what is new of a guest's events, by (epoch, n); the seq of the task's last event.

        A hole in n becomes a `runtime.gap`. What the guest may not say is replaced by a `runtime.log` that says
        so. Raises as `append` does.
        """
        return await self._writer.append(lease.task_id, lease, [], encode.guest(batch))

    async def cursor(self, task_id: str) -> tuple[str | None, int]:
        """The guest's newest epoch and the last n stored of it; (None, 0) before the first. Raises NotFound."""
        query = sa.select(tasks.c.guest_cursor).where(tasks.c.id == task_id)
        found = await self._database.read(lambda tx: tx.execute(query).scalar_one_or_none())
        if found is None:
            raise NotFound(f"there is no task {task_id}")
        cursors: dict[str, int] = json.loads(found)
        return next(reversed(cursors.items()), (None, 0))

    async def page(self, task_id: str, *, after: int = 0, limit: int = _PAGE) -> list[Event]:
        """Events behind `after`, in order, at most `limit` (1 to 1,000). An unknown task has none."""
        after = max(0, min(after, _MAX_SEQ))
        rows = await self._database.read(lambda tx: _rows(tx, task_id, after, max(1, min(limit, _MAX_PAGE))))
        return [_event(task_id, seq, body) for seq, _, body in rows]

    async def follow(self, task_id: str, *, after: int = 0, heartbeat: float = 15.0) -> AsyncGenerator[Frames, None]:
        """All events behind `after` as they come, as ready frames, until the task's last one.

        After `heartbeat` seconds without any, yields a Frames without data. Raises NotFound, StoreUnavailable.
        """
        cursor, foreign = max(0, min(after, _MAX_SEQ)), -1
        async with self._signals.subscribe(f"events:{task_id}") as woken, self._feed(task_id) as feed:
            while True:
                others = woken.catch_up() - feed.commits  # moves on when another process has stored something
                frames = feed.take(cursor)
                if frames is None and (others != foreign or feed.begins_behind(cursor)):
                    frames = await self._load(task_id, feed, cursor, woken.seen)
                    foreign = -1 if frames is not None and _is_full(frames, cursor) else others
                if frames is None:
                    if not await woken.wait(heartbeat):
                        yield Frames(b"", cursor, False)
                    continue
                if frames.data:
                    cursor = frames.last
                    yield frames
                if frames.terminal:
                    return

    @asynccontextmanager
    async def _feed(self, task_id: str) -> AsyncIterator[Feed]:
        feed = self._feeds.setdefault(task_id, Feed())
        feed.readers += 1
        try:
            yield feed
        finally:
            feed.readers -= 1
            if not feed.readers:
                del self._feeds[task_id]
                for load in feed.loads.values():
                    load.cancel()

    def publish(self, blocks: list[Block]) -> None:
        """Put the blocks of one commit into the rings of those tasks that anyone follows."""
        touched = set()
        for block in blocks:
            if (feed := self._feeds.get(block.task_id)) is not None:
                feed.publish(block)
                touched.add(feed)
        for feed in touched:
            feed.commits += 1

    async def _load(self, task_id: str, feed: Feed, cursor: int, seen: int) -> Frames | None:
        """The next page from the database; readers that stand at the same place share it and its bytes."""
        key = (cursor, seen)
        load = feed.loads.get(key)
        if load is None:
            load = asyncio.create_task(self._database.read(lambda tx: _frames(tx, task_id, cursor)))
            feed.loads[key] = load
            load.add_done_callback(lambda done: _forget(feed, key, done))
        frames: Frames | None = await asyncio.shield(load)
        return frames


def _forget(feed: Feed, key: tuple[int, int], load: "asyncio.Task[Frames | None]") -> None:
    feed.loads.pop(key, None)
    if not load.cancelled():
        load.exception()  # whoever waited has been given it


def _rows(tx: Tx, task_id: str, after: int, limit: int) -> list[tuple[int, str, str]]:
    """Up to `limit` events, fewer where they are large: about _MAX_PAGE_CHARS, and one at least."""
    found = tx.execute(_BEHIND, {"wanted": task_id, "after": after, "most": limit})
    return [(r.seq, r.type, r.body) for r in found]


def _frames(tx: Tx, task_id: str, cursor: int) -> Frames | None:
    """A page of frames; None where there is nothing yet; an empty last one where nothing will come."""
    rows = _rows(tx, task_id, cursor, _PAGE)
    if not rows and (ended := _ended(tx, task_id)):
        rows = _rows(tx, task_id, cursor, _PAGE)  # PostgreSQL: the end may have come between the two looks
    if rows:
        block = Encoded(task_id, rows[0][0], [Row(kind, body) for _, kind, body in rows])
        return Frames(block.data, block.last, block.terminal)
    return Frames(b"", cursor, True) if ended else None


def _is_full(frames: Frames, cursor: int) -> bool:
    """Whether there may be more behind this page; a page that is not full has all that was there."""
    return frames.last - cursor >= _PAGE or len(frames.data) >= _MAX_PAGE_CHARS


def _ended(tx: Tx, task_id: str) -> bool:
    head = tx.execute(_END, {"wanted": task_id}).one_or_none()
    if head is None:
        raise NotFound(f"there is no task {task_id}")
    return head.finished_at is not None


def _event(task_id: str, seq: int, body: str) -> Event:
    document: dict[str, Any] = json.loads(body)
    return Event(task_id, seq, document["type"], document["time"], document["source"], document["data"])
