"""Messages: the prompt of each turn. Turn 1 is the task's own."""

import time
from typing import Any

import sqlalchemy as sa

from squib.contracts import ids
from squib.contracts.errors import Conflict, NotFound
from squib.contracts.event import Draft, EventType, Source
from squib.contracts.task import Message
from squib.store import encode, stream
from squib.store.database import Database, Tx
from squib.store.tables import messages, tasks

_MAX_TOLD = 40_000  # characters of the prompt in the event: within MAX_DATA_BYTES however they are escaped


class Messages:
    """Follow-ups to a task."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, task_id: str, *, owner: str | None, prompt: str) -> Message:
        """Accept the prompt of the next turn.

        Raises NotFound, Conflict (the task has ended or is to be cancelled), InvalidRequest, StoreUnavailable.
        """
        encode.check_text("prompt", prompt)
        if not ids.is_id(task_id, "task"):
            raise _absent(task_id)

        def work(tx: Tx) -> Message:
            fields = (tasks.c.state, tasks.c.finished_at, tasks.c.cancel_requested, tasks.c.last_seq)
            query = sa.select(*fields).where(tasks.c.id == task_id)
            if owner is not None:
                query = query.where(tasks.c.owner == owner)
            row = tx.execute(tx.locked(query)).one_or_none()
            if row is None:
                raise _absent(task_id)
            if row.finished_at is not None or row.cancel_requested:
                raise Conflict(f"the task takes no more messages: it is {row.state}")
            return _insert(tx, task_id, row.last_seq, prompt)

        return await self._database.write(work)

    async def get(self, task_id: str, turn: int) -> Message | None:
        """The prompt of that turn, None where there is none yet."""
        query = sa.select(messages).where(messages.c.task_id == task_id, messages.c.turn == turn)
        found = await self._database.read(lambda tx: tx.execute(query).one_or_none())
        return Message(found.task_id, found.turn, found.prompt, found.created_at) if found is not None else None


def _absent(task_id: str) -> NotFound:
    return NotFound(f"there is no task {encode.clean(task_id[:64])}")


def _insert(tx: Tx, task_id: str, last_seq: int, prompt: str) -> Message:
    last = tx.execute(sa.select(sa.func.max(messages.c.turn)).where(messages.c.task_id == task_id)).scalar_one()
    message = Message(task_id, (last or 0) + 1, prompt, time.time())
    values = {"task_id": task_id, "turn": message.turn, "prompt": prompt, "created_at": message.created_at}
    tx.execute(messages.insert().values(values))
    told: dict[str, Any] = {"turn": message.turn, "prompt": prompt[:_MAX_TOLD]}
    if len(prompt) > _MAX_TOLD:
        told["truncated"] = True
    event = encode.drafts([Draft(EventType.TASK_MESSAGE.value, told, Source.API, message.created_at)])
    tx.execute(
        tasks.update().where(tasks.c.id == task_id).values(last_seq=last_seq + 1, updated_at=message.created_at)
    )
    stream.insert(tx, [(task_id, last_seq + 1, event)])
    tx.wake(f"control:{task_id}")
    return message
