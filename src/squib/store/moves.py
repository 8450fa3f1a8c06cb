"""A task's step from state to state, on a row that the transaction holds."""

import time
from typing import Any

import sqlalchemy as sa

from squib.contracts.task import Task, TaskState
from squib.store import rows, stream
from squib.store.database import Tx
from squib.store.encode import Row
from squib.store.tables import tasks

_t = tasks.c
#: Built once; what it writes is named by the parameters.
_MOVE = tasks.update().where(_t.id == sa.bindparam("wanted")).returning(*rows.SHOWN)


def move(tx: Tx, row: "sa.Row[Any]", to: TaskState, events: list[Row], written: dict[str, Any]) -> Task:
    """Write state, columns and events of a locked row, of which `id` and `last_seq` are known."""
    values = written | {"state": to.value, "last_seq": row.last_seq + len(events)}
    if to.terminal:
        values["finished_at"] = time.time()
        tx.wake(f"control:{row.id}")
    statement = _MOVE
    if isinstance(claim_at := values.get("claim_at"), sa.ColumnElement):
        statement = statement.values(claim_at=claim_at)
        del values["claim_at"]
    task = rows.task(tx.execute(statement, {"wanted": row.id, **values}).one())
    if events:
        stream.insert(tx, [(row.id, row.last_seq + 1, events)])
    return task
