"""Split roles: what another process asks for arrives through the database."""

from pathlib import Path

import pytest

from squib.contracts.task import Limits, TaskSpec, TaskState
from squib.store import Store
from tests.postgres import Server
from tests.scheduler.stack import OWNER, WAIT, stack

pytestmark = pytest.mark.needs("git", "postgres")


async def test_a_task_a_message_and_a_cancel_of_another_process_are_heard(shared_tmp: Path, postgres: Server) -> None:
    url = postgres.database()
    async with Store.open(url, files=shared_tmp / "files") as elsewhere, stack(shared_tmp, database=url) as squib:
        squib.start()
        limits = Limits(seconds=60, turn_seconds=60, idle_seconds=30)
        task, _ = await elsewhere.tasks.create(TaskSpec("First.", agent="mock", limits=limits), owner=OWNER)
        idle = await squib.until_type(task.id, "task.idle")
        await elsewhere.messages.add(task.id, owner=OWNER, prompt=f"Second.\n{WAIT}")
        await squib.until(task.id, lambda e: e.type == "agent.tool" and e.data["id"] == "run", after=idle.seq)
        await elsewhere.tasks.request_cancel(task.id, owner=OWNER, reason="enough")
        assert (await squib.ended(task.id)).state is TaskState.CANCELLED
        types = await squib.types(task.id)
        assert types.count("sandbox.created") == 1
        assert types[-1] == "task.cancelled"
        await squib.clean(task.id)
    postgres.drop(url)
