"""Idle tasks' sandboxes put to disk: their memory where the driver can, else their work, and what follows."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from squib.contracts.guest import TerminalRequest
from squib.contracts.sandbox import SandboxPhase
from squib.contracts.task import Limits, TaskState
from squib.scheduler import attach
from squib.store.tables import tasks
from tests.scheduler.stack import OWNER, WAIT, Stack, stack

#: Something of the user's that goes on when the agent's turn is over, for a while.
BESIDE = "setsid sh -c 'echo beside > /tmp/beside; sleep 2' >/dev/null 2>&1 &"
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
        task = await squib.until_suspended(task_id)
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


async def test_a_task_whose_sandbox_is_put_away_ends_well_when_its_time_is_over(shared_tmp: Path) -> None:
    async with stack(shared_tmp, suspend_seconds=0.05, put_away_seconds=0.1) as squib:
        squib.start()
        limits = Limits(seconds=60, turn_seconds=60, idle_seconds=1)
        task = await squib.ended(await squib.submit("First.", limits=limits))
        assert (task.state, task.suspended) == (TaskState.SUCCEEDED, None)
        assert "sandbox.suspended" in await squib.types(task.id)
        await squib.clean(task.id)


@pytest.mark.needs("runsc", "libseccomp")
async def test_where_memory_can_be_kept_a_follow_up_and_a_visitor_find_all_as_it_was(shared_tmp: Path) -> None:
    async with stack(shared_tmp, driver="gvisor", suspend_seconds=0.5) as squib:
        squib.start()
        task_id = await squib.submit(f"First.\n{WAIT}", limits=LIMITS)
        await squib.until_type(task_id, "agent.tool")
        async with squib.link(await squib.sandbox(task_id)) as link:
            assert (await link.terminal(TerminalRequest(BESIDE))).exit_code == 0
        await squib.go(task_id)
        told = await squib.until_type(task_id, "sandbox.suspended")
        assert told.data["how"] == "memory"
        await squib.until_suspended(task_id)
        before = await squib.sandbox(task_id)
        assert (await squib.orchestrator.list())[0].phase is before.phase is SandboxPhase.SUSPENDED
        await squib.store.tasks.want(task_id)  # as whoever opens a terminal does
        resumed = await squib.until_type(task_id, "sandbox.resumed", after=told.seq)
        again = await squib.until_type(task_id, "sandbox.suspended", after=resumed.seq)
        await squib.stop()
        squib.scheduler = squib.another()  # the one that suspended it is gone
        squib.start()
        await follow_up(squib, task_id, "Second.\nmock:run=cat /tmp/beside")
        events = await squib.events(task_id)
        types = [event.type for event in events]
        assert types.count("sandbox.created") == 1
        assert "runtime.gap" not in types
        assert types.index("sandbox.resumed", again.seq) < types.index("agent.started", again.seq)
        first, second = [e.data for e in events if e.type == "agent.completed"]
        assert first["session_id"] == second["session_id"]
        _, shown = [e.data["text"] for e in events if e.data.get("id") == "run" and "text" in e.data]
        assert shown == "beside\n"
        await squib.until(task_id, lambda e: e.type == "sandbox.suspended" and e.seq > again.seq)
        await cancel(squib, task_id)
        assert (await squib.types(task_id)).count("sandbox.resumed") == 2
        assert {a.name for a in await squib.store.artifacts.list(task_id)} >= {"bundle", "patch", "workspace"}


@pytest.mark.needs("runsc", "libseccomp")
async def test_a_suspended_sandbox_waits_on_disk_until_there_is_room(
    shared_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "_FULL_TRIES", 1)
    async with stack(shared_tmp, driver="gvisor", machines=1, suspend_seconds=0.1) as squib:
        squib.start()
        task_id = await squib.submit("First.", limits=LIMITS)
        await squib.until_suspended(task_id)
        other = await squib.submit(f"Beside.\n{WAIT}")
        await squib.until_type(other, "agent.tool")
        message = await squib.store.messages.add(task_id, owner=OWNER, prompt="Second.")
        async with asyncio.timeout(30):
            while task_id not in await released(squib):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await squib.go(other)
        await squib.until(task_id, lambda e: e.type == "task.idle" and e.data["turn"] == message.turn)
        assert (await squib.store.tasks.get(task_id)).attempt == 1
        assert (await squib.types(task_id)).count("sandbox.created") == 1
        await cancel(squib, task_id)


async def released(squib: Stack) -> list[str]:
    """Tasks that no worker holds."""
    query = sa.select(tasks.c.id).where(tasks.c.lease_worker.is_(None), tasks.c.finished_at.is_(None))
    found: list[str] = await squib.store._database.read(lambda tx: list(tx.execute(query).scalars()))
    return found
