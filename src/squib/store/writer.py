"""Group commit: one transaction stores whatever was handed in while the last one was being committed.

No window of time: a lone event is committed at once, and under load the batches grow by themselves. A batch that
may not be stored (its lease is lost, its task has ended or never was) fails alone, not its neighbours.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from squib.contracts.errors import NotFound, SquibError, StoreUnavailable
from squib.store import stream
from squib.store.database import CommitUnknown, Database, Tx, broken, passing, unavailable
from squib.store.encode import GuestRow, Row
from squib.store.lease import Lease
from squib.store.stream import Head

MAX_DRAFTS = 4_000  # that wait, and that one transaction stores; further appends wait
MAX_CHARS = 32 * 1024 * 1024  # the same, of their JSON


@dataclass(slots=True, eq=False)
class Batch:
    """One append on its way: rows of our own, or a guest's."""

    task_id: str
    lease: Lease | None
    rows: list[Row]
    guest: list[GuestRow]
    done: "asyncio.Future[int]"
    previous: "Placed | None" = field(default=None)  # where it was put by a commit whose outcome is unknown

    drafts: int = field(init=False)
    chars: int = field(init=False)

    def __post_init__(self) -> None:
        self.drafts = len(self.rows) + len(self.guest)
        self.chars = sum(len(r.body) for r in self.rows) + sum(len(g.row.body) for g in self.guest)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a transaction put a batch."""

    first: int
    rows: list[Row]
    last: int


class Writer:
    """The only writer of appended events in this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[Batch] = deque()
        self._drafts = self._chars = 0  # of what waits
        self._room = asyncio.Event()
        self._work = asyncio.Event()
        self._closing = False

    async def append(
        self, task_id: str, lease: Lease | None, rows: list[Row], guest: list[GuestRow] | None = None
    ) -> int:
        """Hand a batch in and wait for its commit; the last seq. Raises LeaseLost, NotFound, Conflict,
        StoreUnavailable."""
        batch = Batch(task_id, lease, rows, guest or [], asyncio.get_running_loop().create_future())
        while self._waiting and not _fits(self._drafts, self._chars, batch):
            room = self._room
            await room.wait()
        if self._closing:
            raise StoreUnavailable("the store is closing")
        self._waiting.append(batch)
        self._drafts += batch.drafts
        self._chars += batch.chars
        self._work.set()
        return await batch.done

    async def run(self) -> None:
        """Commit until closed; what was handed in before is committed still."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                await self._commit(self._take())
            if self._closing:
                return

    def close(self) -> None:
        """Let `run` end once nothing waits."""
        self._closing = True
        self._work.set()

    def _take(self) -> list[Batch]:
        taken: list[Batch] = []
        drafts = chars = 0
        while self._waiting and (not taken or _fits(drafts, chars, self._waiting[0])):
            taken.append(self._waiting.popleft())
            drafts += taken[-1].drafts
            chars += taken[-1].chars
        self._drafts -= drafts
        self._chars -= chars
        self._room.set()
        self._room = asyncio.Event()
        return taken

    async def _commit(self, batches: list[Batch]) -> None:
        deadline, delay = time.monotonic() + self._database.patience, 0.02
        while True:
            work = _Group(batches)
            try:
                await self._database.once(work)
                break
            except Exception as error:
                if isinstance(error, CommitUnknown):
                    work.remember()
                elif not broken(error):
                    await self._alone(batches, error)
                    return
                if time.monotonic() > deadline or not passing(error):
                    _fail(batches, unavailable(error))
                    return
            await asyncio.sleep(delay)
            delay = min(delay * 2, 0.5)
        work.settle()

    async def _alone(self, batches: list[Batch], error: Exception) -> None:
        """Something in the group was refused, or went wrong: let only that one fail."""
        if len(batches) == 1:
            _fail(batches, error)
            return
        for batch in batches:
            await self._commit([batch])


def _fits(drafts: int, chars: int, batch: Batch) -> bool:
    return drafts + batch.drafts <= MAX_DRAFTS and chars + batch.chars <= MAX_CHARS


def _fail(batches: list[Batch], error: Exception) -> None:
    for batch in batches:
        if not batch.done.done():
            batch.done.set_exception(error)


class _Group:
    """The unit of work for some batches. Runs in the database's thread; its outcome is read afterwards."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches
        self._outcomes: list[Placed | SquibError] = []

    def __call__(self, tx: Tx) -> None:
        self._outcomes = []
        heads = stream.lock(tx, sorted({b.task_id for b in self._batches}))
        changed: dict[str, Head] = {}
        for batch in self._batches:
            outcome = _place(tx, heads.get(batch.task_id), batch)
            self._outcomes.append(outcome)
            if isinstance(outcome, Placed) and outcome.rows:
                changed[batch.task_id] = heads[batch.task_id]
        stream.save(tx, changed)
        stream.insert(tx, [(b.task_id, o.first, o.rows) for b, o in self._new()])

    def _new(self) -> list[tuple[Batch, Placed]]:
        pairs = zip(self._batches, self._outcomes, strict=True)
        return [(b, o) for b, o in pairs if isinstance(o, Placed) and o.rows]

    def remember(self) -> None:
        """Note where the rows went, for a second try that must not store them twice."""
        for batch, placed in self._new():
            batch.previous = placed

    def settle(self) -> None:
        """Tell each caller."""
        for batch, outcome in zip(self._batches, self._outcomes, strict=True):
            if batch.done.done():
                continue
            if isinstance(outcome, Placed):
                batch.done.set_result(outcome.last)
            else:
                batch.done.set_exception(outcome)


def _place(tx: Tx, head: Head | None, batch: Batch) -> Placed | SquibError:
    """Number a batch behind its task's head, which moves on; or say why not."""
    if head is None:
        return NotFound(f"there is no task {batch.task_id}")
    if batch.previous is not None and stream.holds(tx, batch.task_id, batch.previous.last, batch.previous.rows[-1]):
        tx.wake(f"events:{batch.task_id}")  # nobody has been told of that commit
        return Placed(batch.previous.first, [], batch.previous.last)
    if (refusal := stream.refusal(head, batch.lease)) is not None:
        return refusal
    rows = batch.rows + head.admit(batch.guest) if batch.guest else batch.rows
    first = head.last_seq + 1
    head.last_seq += len(rows)
    return Placed(first, rows, head.last_seq)
