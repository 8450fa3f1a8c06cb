"""Idle tasks' sandboxes put to disk: their memory where the driver can, else their work, and what follows."""

from pathlib import Path

from squib.contracts.task import Limits, TaskState
from tests.scheduler.stack import OWNER, Stack, stack

LIMITS = Limits(seconds=300, turn_seconds=60, idle_seconds=120)


async def follow_up(squib: Stack, task_id: str, prompt: str) -> None:
    """Send a message, and wait until its turn is over."""
    message = await squib.store.messages.add(task_id, owner=OWNER, prompt=prompt)
    await squib.until(task_id, lambda e: e.type == "task.idle" and e.data["turn"] == message.turn)


async def cancel(squib: Stack, task_id: str) -> None:
    """End the task; nothing is left of it."""
    await squib.store.tasks.request_cancel(task_id, owner=OWNER, reason="enough")
    assert (await squib.ended(task_id)).state is TaskState.CANCELLED
    await squib.clean(task_id)


async def test_where_memory_cannot_be_kept_the_work_is_and_the_agent_is_told(shared_tmp: Path) -> None:
    async with stack(shared_tmp, suspend_seconds=0.05, put_away_seconds=0.1, max_attempts=1) as squib:
        squib.start()
        task_id = await squib.submit("First.\nmock:run=echo kept > notes.txt", limits=LIMITS)
        told = await squib.until_type(task_id, "sandbox.suspended")
        assert told.data["how"] == "workspace"
        while (task := await squib.store.tasks.get(task_id)).suspended is None:
            pass
        assert (task.state, task.suspended, task.sandbox_id) == (TaskState.IDLE, "workspace", None)
        await follow_up(squib, task_id, "Second.\nmock:run=cat notes.txt AGENT_TASK.md")
        events = await squib.events(task_id)
        types = [event.type for event in events]
        assert (await squib.store.tasks.get(task_id)).attempt == 1
        assert types.count("sandbox.created") == 2
        assert "sandbox.lost" not in types
        assert types.index("sandbox.suspended") < types.index("runtime.restored")
        _, shown = [e.data["text"] for e in events if e.data.get("id") == "run" and "text" in e.data]
        assert shown.startswith("kept\n")
        assert "put away while the task waited" in shown
        await cancel(squib, task_id)
        assert {a.name for a in await squib.store.artifacts.list(task_id)} >= {"bundle", "patch", "workspace"}
