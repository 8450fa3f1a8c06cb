"""Leases: who may work on a task. A later claim moves the token on, and the earlier holder's writes are refused."""

import json
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from squib.contracts.errors import Conflict, LeaseLost
from squib.contracts.event import Draft
from squib.contracts.task import TRANSITIONS, Task
from squib.store import encode, rows
from squib.store.database import Database, Tx, clock
from squib.store.lease import Begin, Lease, Taken
from squib.store.moves import move
from squib.store.tables import tasks

First = Callable[[Task, dict[str, Any]], Begin | None]
_t = tasks.c
# Literal, so that both planners see that the partial indices fit.
_WAITING = sa.text("lease_worker IS NULL AND finished_at IS NULL")
_LEASED = sa.text("lease_worker IS NOT NULL AND finished_at IS NULL")


class Claims:
    """What a worker does with leases. Part of `Tasks`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Built once: to build them took longer than to run them.
        self._claimable = _claimable(clock(database.postgres))
        one = [query.where(_t.id == sa.bindparam("wanted")) for query in self._claimable]
        self._claim_any, self._claim_one = self._claim(self._claimable), self._claim(one)
        self._take = self._claim(one, *rows.SHOWN, _t.progress)
        self._update = tasks.update().where(_t.id == sa.bindparam("wanted"), _t.lease_token == sa.bindparam("token"))
        self._renew = self._update.values(
            lease_until=clock(database.postgres) + sa.bindparam("seconds", type_=sa.Double)
        )
        self._release = (
            tasks.update()
            .where(_t.id == sa.bindparam("wanted"), _t.lease_token == sa.bindparam("token"))
            .values(lease_worker=None, lease_until=0.0, lease_token=_t.lease_token + 1)
            .returning(_t.finished_at)
        )

    def _claim(self, queries: "list[sa.Select[Any]]", *shown: "sa.Column[Any]") -> sa.Executable:
        firsts = [query.limit(1) for query in queries]
        if self._database.postgres:
            firsts = [query.with_for_update(skip_locked=True) for query in firsts]
        picked = sa.func.coalesce(*(query.scalar_subquery() for query in firsts))
        until = clock(self._database.postgres) + sa.bindparam("seconds", type_=sa.Double)
        values = {"lease_worker": sa.bindparam("worker"), "lease_token": _t.lease_token + 1, "lease_until": until}
        return (
            tasks.update()
            .where(_t.id == picked)
            .values(values)
            .returning(*(shown or (_t.id,)), _t.lease_token.label("token"))
        )

    async def claim(self, worker: str, *, seconds: float, task_id: str | None = None) -> Lease | None:
        """Lease a task that is not finished and nobody's: one whose lease is over, else the one that waits longest.

        None where there is none (or, with `task_id`, where that one is not to be had). Raises StoreUnavailable.
        """

        parameters = {"worker": worker, "seconds": seconds}
        statement = self._claim_any if task_id is None else self._claim_one
        if task_id is not None:
            parameters["wanted"] = task_id

        def work(tx: Tx) -> Lease | None:
            until = time.time() + seconds
            got = tx.execute(statement, parameters).one_or_none()
            return Lease(got.id, got.token, worker, until) if got is not None else None

        return await self._database.write(work)

    async def take(self, task_id: str, worker: str, *, seconds: float, begin: First | None = None) -> Taken | None:
        """Claim this task and read it in one go; None where it is not to be had. Raises StoreUnavailable.

        `begin` is shown the task and the worker's notes, and says whether the worker moves it on at once. It runs
        within the transaction, in its thread.
        """
        parameters = {"worker": worker, "seconds": seconds, "wanted": task_id}

        def work(tx: Tx) -> Taken | None:
            until = time.time() + seconds
            got = tx.execute(self._take, parameters).one_or_none()
            if got is None:
                return None
            lease, task, notes = Lease(got.id, got.token, worker, until), rows.task(got), json.loads(got.progress)
            first = begin(task, notes) if begin is not None else None
            if first is None:
                return Taken(lease, task, notes)
            if first.to not in TRANSITIONS[task.state]:
                raise Conflict(f"a task that is {task.state.value} does not become {first.to.value}")
            events = encode.drafts([Draft(first.to.event.value, first.data)])
            written = rows.columns({**first.columns, "progress": first.notes})
            return Taken(lease, move(tx, got, first.to, events, written), first.notes, begun=True)

        return await self._database.write(work)

    async def renew(self, lease: Lease, seconds: float) -> Lease:
        """Hold the lease until `seconds` from now. Raises LeaseLost, StoreUnavailable."""
        until = time.time() + seconds
        await self._fenced(lease, self._renew, {"seconds": seconds})
        return Lease(lease.task_id, lease.token, lease.worker, until)

    async def release(self, lease: Lease) -> None:
        """Give the task back: another worker may have it at once. A lease that was lost is none to give back."""

        def work(tx: Tx) -> None:
            found = tx.execute(self._release, {"wanted": lease.task_id, "token": lease.token}).one_or_none()
            if found is not None and found.finished_at is None:
                tx.wake("queue")

        await self._database.write(work, repeatable=True)

    async def update(self, lease: Lease, **columns: Any) -> None:
        """Set turn, attempt, started_at, sandbox_id, driver, image, suspended, base_commit, head_commit, result,
        error, usage, sandbox, and progress, as `save_progress` does.

        Also after the task has ended (what it used is known late). Raises LeaseLost, StoreUnavailable.
        """
        values = rows.columns(columns)
        await self._fenced(lease, self._update, values)

    async def progress(self, lease: Lease) -> dict[str, Any]:
        """The worker's own notes, from this lease or an earlier one; empty at first. Raises LeaseLost."""
        query = sa.select(_t.progress).where(_t.id == lease.task_id, _t.lease_token == lease.token)
        found = await self._database.read(lambda tx: tx.execute(query).scalar_one_or_none())
        if found is None:
            raise lost(lease)
        notes: dict[str, Any] = json.loads(found)
        return notes

    async def save_progress(self, lease: Lease, notes: dict[str, Any]) -> None:
        """Replace the worker's notes. Raises LeaseLost, StoreUnavailable."""
        await self._fenced(lease, self._update, {"progress": encode.column(notes)})

    async def waiting(self, limit: int = 100) -> list[str]:
        """Ids that could be claimed now: those whose lease is over first, then those that wait longest."""

        def work(tx: Tx) -> list[str]:
            found = [tx.execute(query.limit(limit)).scalars().all() for query in self._claimable]
            return [i for ids in found for i in ids][:limit]

        return await self._database.read(work)

    async def _fenced(self, lease: Lease, update: sa.Executable, values: dict[str, Any]) -> None:
        """Update the row as long as the token is still this lease's."""
        parameters = {"wanted": lease.task_id, "token": lease.token, **values}

        def work(tx: Tx) -> None:
            if tx.execute(update, parameters).rowcount != 1:
                raise lost(lease)

        await self._database.write(work, repeatable=True)


def lost(lease: Lease) -> LeaseLost:
    """The error that ends a worker's part in a task."""
    return LeaseLost(f"the lease of {lease.worker} on {lease.task_id} has moved on")


def _claimable(now: "sa.ColumnElement[float]") -> "list[sa.Select[Any]]":
    over = sa.select(_t.id).where(_LEASED, _t.lease_until <= now).order_by(_t.lease_until, _t.id)
    free = sa.select(_t.id).where(_WAITING, _t.claim_at <= now).order_by(_t.claim_at, _t.id)
    return [over, free]
