"""Tasks: made, read, moved from state to state, cancelled. Each move writes its event in the same transaction."""

import hashlib
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from squib.contracts import ids
from squib.contracts.errors import Conflict, IdempotencyMismatch, InvalidRequest, NotFound
from squib.contracts.event import Draft, EventType, Source
from squib.contracts.sandbox import Sandbox
from squib.contracts.task import TRANSITIONS, Task, TaskSpec, TaskState
from squib.store import encode, rows, stream
from squib.store.claims import Claims, lost
from squib.store.database import Tx, clock
from squib.store.lease import Lease
from squib.store.moves import move
from squib.store.tables import labels as labels_table
from squib.store.tables import messages, tasks

_t = tasks.c
_MAX_PAGE = 500
_GET = sa.select(_t.owner, *rows.SHOWN).where(_t.id == sa.bindparam("wanted"))
# Built once, as the statements of `claims`; what they write is named by the parameters.
_OWNED = sa.select(
    *(_t.id, _t.owner, _t.state, _t.finished_at, _t.last_seq, _t.lease_token, _t.lease_worker, _t.cancel_requested)
).where(_t.id == sa.bindparam("wanted"))
_LOCKED = {True: _OWNED.with_for_update(), False: _OWNED}
_MAKE = {
    postgres: tasks.insert().values(claim_at=clock(postgres)).returning(*rows.SHOWN) for postgres in (True, False)
}
_MESSAGE = messages.insert()


class Tasks(Claims):
    """The task rows."""

    async def create(
        self, spec: TaskSpec, *, owner: str, idempotency_key: str | None = None, retry_of: str | None = None
    ) -> tuple[Task, bool]:
        """Make a queued task with message 1 and event 1; False where this owner's key has made it before.

        The workers of this process are woken by whoever puts the id into their queue, those of others by the commit.

        Raises IdempotencyMismatch (same key, other request), InvalidRequest, StoreUnavailable.
        """
        text = rows.spec_text(spec)
        digest = hashlib.sha256(f"{retry_of}\n{text}".encode()).hexdigest()
        if idempotency_key is not None:
            encode.check_text("Idempotency-Key", idempotency_key)
        encode.check_text("prompt", spec.prompt)
        values = {
            "id": ids.new_id("task"),
            "owner": owner,
            "spec": text,
            "retry_of": retry_of,
            "upload": spec.repository.upload if spec.repository else None,
            "idempotency_key": idempotency_key,
            "request_digest": digest,
        }

        def work(tx: Tx) -> tuple[Task, bool]:
            if idempotency_key is not None and (known := _by_key(tx, owner, idempotency_key, digest)) is not None:
                return known, False
            return _insert(tx, values, spec), True

        repeatable = idempotency_key is not None
        try:
            return await self._database.write(work, repeatable=repeatable)
        except IntegrityError:  # another process was first with this key
            return await self._database.write(work, repeatable=repeatable)

    async def get(self, task_id: str, *, owner: str | None = None) -> Task:
        """The task. Raises NotFound, also for another owner's."""
        if not ids.is_id(task_id, "task"):
            raise _absent(task_id)
        found = await self._database.read(lambda tx: tx.execute(_GET, {"wanted": task_id}).one_or_none())
        if found is None or owner not in (None, found.owner):
            raise _absent(task_id)
        return rows.task(found)

    async def sandbox(self, task_id: str) -> Sandbox | None:
        """The sandbox that the worker has noted for the task, if any. Raises NotFound."""
        query = _of(sa.select(_t.sandbox), task_id, None)
        found = await self._database.read(lambda tx: tx.execute(query).one_or_none())
        if found is None:
            raise _absent(task_id)
        return rows.sandbox(found.sandbox)

    async def want(self, task_id: str) -> None:
        """Note that someone reaches into the task's sandbox now, and wake its worker: it keeps the sandbox awake.

        An unknown or ended task is fine. Raises StoreUnavailable.
        """
        note = tasks.update().where(_t.id == task_id, _t.finished_at.is_(None))

        def work(tx: Tx) -> None:
            tx.execute(note.values(wanted_at=tx.now))
            tx.wake(f"control:{task_id}")

        await self._database.write(work, repeatable=True)

    async def wanted_at(self, task_id: str) -> float:
        """When that was last, in seconds by the database's clock; 0 where never, or where there is no such task."""
        query = sa.select(_t.wanted_at).where(_t.id == task_id)
        found: float | None = await self._database.read(lambda tx: tx.execute(query).scalar_one_or_none())
        return found or 0.0

    async def page(
        self,
        *,
        owner: str | None = None,
        states: Collection[TaskState] = (),
        labels: Mapping[str, str] | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> tuple[list[Task], str | None]:
        """Tasks, newest first, at most `limit` (1 to 500), and the cursor of the next page, None after the last.

        Stable while tasks are added. All `labels` must match. Raises InvalidRequest for a cursor that is none.
        """
        if cursor is not None and not ids.is_id(cursor, "task"):
            raise InvalidRequest("cursor: is not one that a page ended with", fields={"cursor": "is not valid"})
        limit = max(1, min(limit, _MAX_PAGE))
        query = sa.select(*rows.SHOWN).order_by(_t.id.desc()).limit(limit + 1)
        if owner is not None:
            query = query.where(_t.owner == owner)
        if states:
            query = query.where(_t.state.in_(sorted(s.value for s in states)))
        if cursor is not None:
            query = query.where(_t.id < cursor)
        for key, value in (labels or {}).items():
            encode.check_text("labels", key + value)
            match = labels_table.c.key == key, labels_table.c.value == value
            query = query.where(_t.id.in_(sa.select(labels_table.c.task_id).where(*match)))
        found = await self._database.read(lambda tx: tx.execute(query).all())
        page = [rows.task(row) for row in found[:limit]]
        return page, page[-1].id if len(found) > limit else None

    async def transition(
        self,
        lease: Lease,
        to: TaskState,
        data: dict[str, Any],
        *,
        before: Sequence[Draft] = (),
        not_before: float = 0.0,
        last_turn: int | None = None,
        **columns: Any,
    ) -> Task:
        """Move the task on and write the event of its new state, with `data`, behind the events `before`.

        `not_before` (seconds since 1970) holds a task that goes back to `queued` out of the queue until then, once
        it is released. With `last_turn`, refuses where a message of a later turn has come in. `columns` as for
        `update`. Raises LeaseLost, Conflict (no such transition, or that message), TooLarge, StoreUnavailable.
        """
        written = rows.columns(columns)
        events = encode.drafts([*before, Draft(to.event.value, data)])

        def work(tx: Tx) -> Task:
            row = _lock(tx, lease.task_id, None)
            if row is None or row.lease_token != lease.token:
                raise lost(lease)
            if to not in TRANSITIONS[TaskState(row.state)]:
                raise Conflict(f"a task that is {row.state} does not become {to.value}")
            if last_turn is not None and (turn := _last_turn(tx, lease.task_id)) > last_turn:
                raise Conflict(f"turn {turn} waits to be run")
            if to is TaskState.QUEUED:
                now = row.cancel_requested or not not_before
                written["claim_at"] = tx.now if now else not_before
                tx.wake("queue")
            return move(tx, row, to, events, written)

        return await self._database.write(work)

    async def request_cancel(self, task_id: str, *, owner: str | None, reason: str) -> Task:
        """Ask for the task's end; asked twice is asked once. One that nobody has begun is cancelled at once.

        Raises NotFound, Conflict (it has ended already), StoreUnavailable.
        """
        if not ids.is_id(task_id, "task"):
            raise _absent(task_id)
        told = {"by": owner or Source.API.value, "reason": encode.clean(reason)}
        asked = encode.drafts([Draft(EventType.TASK_CANCEL_REQUESTED.value, told, Source.API)])
        ended = encode.drafts([Draft(EventType.TASK_CANCELLED.value, {"reason": told["reason"]}, Source.API)])

        def work(tx: Tx) -> Task:
            row = _lock(tx, task_id, owner)
            if row is None:
                raise _absent(task_id)
            if row.finished_at is not None:
                raise Conflict(f"the task is {row.state} already")
            tx.wake(f"control:{task_id}")
            begun = row.state != TaskState.QUEUED.value or row.lease_worker is not None
            if row.cancel_requested and begun:
                return _read(tx, task_id)
            # Out of a backoff, too: whoever claims the task next ends it.
            written: dict[str, Any] = {"cancel_requested": True, "updated_at": time.time(), "claim_at": tx.now}
            events = [] if row.cancel_requested else asked
            if begun:
                return move(tx, row, TaskState(row.state), events, written)
            return move(tx, row, TaskState.CANCELLED, events + ended, written)

        return await self._database.write(work)

    async def counts(self) -> dict[str, int]:
        """How many tasks are in each state; states without any are 0."""
        query = sa.select(_t.state, sa.func.count().label("n")).group_by(_t.state)
        found = await self._database.read(lambda tx: {row.state: row.n for row in tx.execute(query)})
        return {state.value: found.get(state.value, 0) for state in TaskState}

    async def live_sandboxes(self) -> set[str]:
        """Ids of the sandboxes of all tasks that have not ended."""
        query = sa.select(_t.sandbox_id).where(sa.text("sandbox_id IS NOT NULL AND finished_at IS NULL"))
        return await self._database.read(lambda tx: set(tx.execute(query).scalars()))


def _absent(task_id: str) -> NotFound:
    return NotFound(f"there is no task {encode.clean(task_id[:64])}")


def _of(query: "sa.Select[Any]", task_id: str, owner: str | None) -> "sa.Select[Any]":
    query = query.where(_t.id == task_id)
    return query if owner is None else query.where(_t.owner == owner)


def _lock(tx: Tx, task_id: str, owner: str | None) -> "sa.Row[Any] | None":
    found = tx.execute(_LOCKED[tx.postgres], {"wanted": task_id}).one_or_none()
    return found if found is not None and owner in (None, found.owner) else None


def _read(tx: Tx, task_id: str) -> Task:
    return rows.task(tx.execute(_GET, {"wanted": task_id}).one())


def _last_turn(tx: Tx, task_id: str) -> int:
    query = sa.select(sa.func.max(messages.c.turn)).where(messages.c.task_id == task_id)
    return int(tx.execute(query).scalar_one() or 0)


def _by_key(tx: Tx, owner: str, key: str, digest: str) -> Task | None:
    query = sa.select(_t.request_digest, *rows.SHOWN).where(_t.owner == owner, _t.idempotency_key == key)
    found = tx.execute(query).one_or_none()
    if found is None:
        return None
    if found.request_digest != digest:
        raise IdempotencyMismatch("this Idempotency-Key was used for another request")
    return rows.task(found)


def _insert(tx: Tx, values: dict[str, Any], spec: TaskSpec) -> Task:
    now, task_id = time.time(), values["id"]
    more = {"state": TaskState.QUEUED.value, "created_at": now, "updated_at": now, "last_seq": 1}
    row = tx.execute(_MAKE[tx.postgres], values | more).one()
    first = {"task_id": task_id, "turn": 1, "prompt": spec.prompt, "created_at": now}
    tx.execute(_MESSAGE, first)
    if spec.labels:
        marks = [{"task_id": task_id, "key": k, "value": v} for k, v in spec.labels.items()]
        tx.execute(labels_table.insert().values(marks))
    event = encode.drafts([Draft(EventType.TASK_QUEUED.value, {"attempt": 1}, Source.API, now)])
    stream.insert(tx, [(task_id, 1, event)])
    tx.wake_others("queue")
    return rows.task(row)
