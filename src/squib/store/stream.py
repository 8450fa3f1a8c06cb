"""The rows of a task's stream inside a transaction: lock its head, number, save, insert. No event is stored else.

Gap-free by construction: the head (last_seq and the guest's cursor) is read under the row's lock and saved in the
transaction that inserts the events.
"""

import json
from dataclasses import dataclass

from squib.contracts.errors import Conflict, LeaseLost, SquibError
from squib.store import encode
from squib.store.database import Tx
from squib.store.encode import GuestRow, Row
from squib.store.feed import Block
from squib.store.lease import Lease

_MAX_EPOCHS = 64  # of a task's guests that are remembered
_CHUNK = 250  # rows in one statement on SQLite: one step, during which other threads run
_FIELDS = "id, finished_at, lease_token, last_seq, guest_cursor"
_LOCK_SQLITE = f"SELECT {_FIELDS} FROM tasks WHERE id IN (SELECT value FROM json_each(?))"
_LOCK_POSTGRES = f"SELECT {_FIELDS} FROM tasks WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
_SAVE_SQLITE = "UPDATE tasks SET last_seq = ?, guest_cursor = ? WHERE id = ?"
_SAVE_POSTGRES = (
    "UPDATE tasks t SET last_seq = n.last_seq, guest_cursor = n.guest_cursor"
    " FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS n(id, last_seq, guest_cursor) WHERE t.id = n.id"
)
#: Four texts, not four arrays: psycopg quotes an array's items one by one in Python, which took most of the time.
#: A record separator is in none of them: JSON escapes it.
_SEPARATOR = "\x1e"
_INSERT_POSTGRES = (
    "INSERT INTO events (task_id, seq, type, body) SELECT * FROM unnest(string_to_array(%s, E'\\x1e'),"
    " string_to_array(%s, E'\\x1e')::bigint[], string_to_array(%s, E'\\x1e'), string_to_array(%s, E'\\x1e'))"
)


def _insert_sqlite(rows: int) -> str:
    return "INSERT INTO events (task_id, seq, type, body) VALUES " + ",".join(["(?,?,?,?)"] * rows)


#: Few shapes, so that SQLite's cache of prepared statements always holds them.
_INSERTS = [(size, _insert_sqlite(size)) for size in (_CHUNK, 50, 10, 1)]


@dataclass(slots=True)
class Head:
    """Where a task's stream stands, as long as its row is locked."""

    finished: bool
    token: int
    last_seq: int
    cursor: str  # JSON: epoch -> n, the newest epoch last

    def admit(self, batch: list[GuestRow]) -> list[Row]:
        """What is new of a guest's batch, with a gap event where numbers are missing; moves the cursor on."""
        cursors: dict[str, int] = json.loads(self.cursor)
        rows: list[Row] = []
        for event in batch:
            stored = cursors.get(event.epoch, 0)
            if event.n <= stored:
                continue
            if event.first > stored + 1:
                rows.append(encode.gap(event.epoch, stored + 1, event.first - 1))
            rows.append(event.row)
            cursors[event.epoch] = event.n
        while len(cursors) > _MAX_EPOCHS:
            del cursors[next(iter(cursors))]
        self.cursor = encode.column(cursors)
        return rows


def lock(tx: Tx, ids: list[str]) -> dict[str, Head]:
    """Lock these tasks in the order of their ids (so that two processes cannot wait for each other)."""
    if tx.postgres:
        found = tx.connection.exec_driver_sql(_LOCK_POSTGRES, (ids,))
    else:
        found = tx.connection.exec_driver_sql(_LOCK_SQLITE, (json.dumps(ids),))
    return {r[0]: Head(r[1] is not None, r[2], r[3], r[4]) for r in found}


def refusal(head: Head, lease: Lease | None) -> SquibError | None:
    """Why nothing may be appended, if so: the lease has moved on, or the task has ended."""
    if lease is not None and head.token != lease.token:
        return LeaseLost(f"the lease of {lease.worker} on {lease.task_id} has moved on")
    if head.finished:
        return Conflict("the task has ended: nothing follows its last event")
    return None


def save(tx: Tx, heads: dict[str, Head]) -> None:
    """Write the heads back."""
    if not heads:
        return
    if tx.postgres:
        values = list(heads.values())
        parameters = (list(heads), [h.last_seq for h in values], [h.cursor for h in values])
        tx.connection.exec_driver_sql(_SAVE_POSTGRES, parameters)
    else:
        tx.connection.exec_driver_sql(_SAVE_SQLITE, [(h.last_seq, h.cursor, i) for i, h in heads.items()])


def insert(tx: Tx, blocks: list[tuple[str, int, list[Row]]]) -> None:
    """Insert numbered events, and have them published and their readers woken after the commit."""
    for task_id, first, rows in blocks:
        tx.blocks.append(Block(task_id, first, rows))
        tx.wake(f"events:{task_id}")
    if tx.postgres:
        _insert_postgres(tx, blocks)
        return
    flat = [(t, first + i, r.type, r.body) for t, first, rows in blocks for i, r in enumerate(rows)]
    at = 0
    for size, statement in _INSERTS:
        while len(flat) - at >= size:
            parameters = tuple(value for row in flat[at : at + size] for value in row)
            tx.connection.exec_driver_sql(statement, parameters)
            at += size


def _insert_postgres(tx: Tx, blocks: list[tuple[str, int, list[Row]]]) -> None:
    ids = [t for t, _, rows in blocks for _ in rows]
    seqs = [str(first + i) for _, first, rows in blocks for i in range(len(rows))]
    types = [r.type for _, _, rows in blocks for r in rows]
    bodies = [r.body for _, _, rows in blocks for r in rows]
    if ids:
        tx.connection.exec_driver_sql(_INSERT_POSTGRES, tuple(map(_SEPARATOR.join, (ids, seqs, types, bodies))))


def holds(tx: Tx, task_id: str, seq: int, row: Row) -> bool:
    """Whether this very event is stored under this number."""
    mark = "%s" if tx.postgres else "?"
    query = f"SELECT type, body FROM events WHERE task_id = {mark} AND seq = {mark}"
    found = tx.connection.exec_driver_sql(query, (task_id, seq)).one_or_none()
    return found is not None and tuple(found) == tuple(row)
