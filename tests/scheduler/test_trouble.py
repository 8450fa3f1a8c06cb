"""What goes wrong: cancels, limits, lost sandboxes, schedulers that stop."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from squib.contracts.errors import DriverUnavailable
from squib.contracts.guest import TerminalRequest
from squib.contracts.sandbox import Sandbox, SandboxSpec
from squib.contracts.task import Limits, SandboxRequest, TaskState
from squib.host.keeper import Keeper
from squib.orchestrator.local import LocalOrchestrator
from squib.store.tables import tasks
from tests.scheduler.stack import OWNER, WAIT, Stack, stack

pytestmark = pytest.mark.needs("git")
#: Ignores SIGTERM, as do its children, one of them in a session of its own; says its pids.
STUBBORN = (
    'Hold on.\nmock:run=trap "" TERM; setsid sh -c "trap \'\' TERM; echo \\$\\$ > pid2; while :; do sleep 1; done" & '
    "echo $$ > pid1; while :; do sleep 1; done"
)


async def kill(squib: Stack, task_id: str) -> Sandbox:
    """End the task's machine as a crash of it would."""
    sandbox = await squib.sandbox(task_id)
    machine = await squib.host.get(sandbox.id)
    assert machine is not None
    assert machine.pid is not None
    os.kill(machine.pid, signal.SIGKILL)
    return sandbox


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def read_when_there(squib: Stack, task_id: str, name: str) -> bytes:
    async with squib.link(await squib.sandbox(task_id)) as link, asyncio.timeout(10):
        while True:
            found = {entry.path: entry.size for entry in (await link.list()).entries}
            if found.get(name):
                return await link.read(name)
            await asyncio.sleep(0.02)


async def test_a_cancel_ends_a_stubborn_agents_whole_tree_and_keeps_its_work(squib: Stack) -> None:
    task_id = await squib.submit(STUBBORN)
    await squib.until_type(task_id, "agent.started")
    pids = [int(await read_when_there(squib, task_id, name)) for name in ("pid1", "pid2")]
    assert all(alive(pid) for pid in pids)
    asked = time.monotonic()
    await squib.store.tasks.request_cancel(task_id, owner=OWNER, reason="enough")
    task = await squib.ended(task_id)
    assert task.state is TaskState.CANCELLED
    assert not any(alive(pid) for pid in pids)
    assert time.monotonic() - asked < 10  # the promise is 5 s for the tree; this only guards against a hang
    kept = {artifact.name for artifact in await squib.store.artifacts.list(task_id)}
    assert kept == {"bundle", "patch", "workspace", "transcript"}
    assert "agent.failed" in await squib.types(task_id)
    await squib.clean(task_id)


async def test_a_cancel_of_a_task_whose_guest_is_dead_ends_it_all_the_same(squib: Stack) -> None:
    task_id = await squib.submit(f"Wait.\n{WAIT}")
    await squib.until_type(task_id, "agent.started")
    await squib.store.tasks.request_cancel(task_id, owner=OWNER, reason="enough")
    await kill(squib, task_id)
    assert (await squib.ended(task_id)).state is TaskState.CANCELLED
    await squib.clean(task_id)


async def test_a_cancel_while_idle_and_while_tests_run(squib: Stack) -> None:
    limits = Limits(seconds=60, turn_seconds=60, idle_seconds=30)
    idle = await squib.submit("One.", limits=limits)
    testing = await squib.submit("Two.", test_command="echo $$ > pid; exec sleep 60")
    await squib.until_type(idle, "task.idle")
    await squib.until_type(testing, "tests.started")
    pid = int(await read_when_there(squib, testing, "pid"))
    for task_id in (idle, testing):
        await squib.store.tasks.request_cancel(task_id, owner=OWNER, reason="enough")
        assert (await squib.ended(task_id)).state is TaskState.CANCELLED
        await squib.clean(task_id)
    assert not alive(pid)


async def test_a_turn_that_takes_too_long_times_out(squib: Stack) -> None:
    task_id = await squib.submit("mock:sleep=60", limits=Limits(seconds=60, turn_seconds=1))
    task = await squib.ended(task_id)
    assert task.state is TaskState.TIMED_OUT
    closing = (await squib.events(task_id))[-1]
    assert closing.data == {"limit": "turn", "seconds": 1}
    assert {a.name for a in await squib.store.artifacts.list(task_id)} >= {"patch", "transcript"}


async def test_a_task_that_takes_too_long_times_out_whatever_it_does(squib: Stack) -> None:
    task_id = await squib.submit("Hello.", test_command="sleep 60", limits=Limits(seconds=3, turn_seconds=60))
    await squib.ended(task_id)
    closing = (await squib.events(task_id))[-1]
    assert (closing.type, closing.data) == ("task.timed_out", {"limit": "task", "seconds": 3})
    await squib.clean(task_id)


async def test_a_lost_sandbox_is_replaced_by_one_that_goes_on_from_the_saved_work(squib: Stack) -> None:
    task_id = await squib.submit(f"Work.\nmock:write=notes.txt\n{WAIT}")
    await squib.until(task_id, lambda e: e.type == "git.saved" and e.data["work"] is not None)
    lost = await kill(squib, task_id)
    restored = await squib.until_type(task_id, "runtime.restored")
    assert restored.data["from"]["commit"]
    assert any("session" in item for item in restored.data["lost"])
    await squib.until(task_id, lambda e: e.type == "agent.tool" and e.data["id"] == "run", after=restored.seq)
    async with squib.link(await squib.sandbox(task_id)) as link:
        prompt = (await link.read("AGENT_TASK.md")).decode()
        assert "note from squib" in prompt.lower()
        assert (await link.read("notes.txt")).decode().startswith("[Note from squib")
        log = await link.terminal(TerminalRequest(command="git log --format=%s"))
        assert log.stdout.count("Plan:") == 2  # the first attempt's commit is there, and this one's
    await squib.go(task_id)
    task = await squib.ended(task_id)
    assert (task.state, task.attempt) == (TaskState.SUCCEEDED, 2)
    types = await squib.types(task_id)
    assert types.index("sandbox.lost") < types.index("task.queued", 1) < types.index("runtime.restored")
    assert task.sandbox_id != lost.id
    await squib.clean(task_id)


async def test_the_hosts_own_reason_for_a_lost_sandbox_is_told(squib: Stack) -> None:
    task_id = await squib.submit(f"Work.\n{WAIT}", sandbox=SandboxRequest(disk=64))
    await squib.until_type(task_id, "git.saved")
    async with squib.link(await squib.sandbox(task_id)) as link:
        for name in ("one", "two"):
            await link.write(name, b"x" * (33 << 20))
    await Keeper(squib.host._fleet).measure_disk()
    lost = await squib.until_type(task_id, "sandbox.lost")
    assert "over its limit of 64 MiB" in lost.data["detail"]
    await squib.store.tasks.request_cancel(task_id, owner=OWNER, reason="enough")
    await squib.ended(task_id)
    await squib.clean(task_id)


async def test_sandboxes_that_are_lost_again_and_again_fail_the_task_with_what_was_saved(shared_tmp: Path) -> None:
    async with stack(shared_tmp, max_attempts=2) as squib:
        squib.start()
        task_id = await squib.submit(f"Work.\n{WAIT}")
        seen = 0
        for _ in range(2):
            seen = (await squib.until_type(task_id, "git.saved", after=seen)).seq
            await kill(squib, task_id)
        task = await squib.ended(task_id)
        assert (task.state, task.attempt) == (TaskState.FAILED, 2)
        assert task.error is not None
        assert task.error["code"] == "sandbox_lost"
        assert {a.name for a in await squib.store.artifacts.list(task_id)} == {"bundle", "patch", "transcript"}
        await squib.clean(task_id)


async def test_a_sandbox_lost_while_idle_is_made_anew_for_the_next_message(squib: Stack) -> None:
    limits = Limits(seconds=60, turn_seconds=60, idle_seconds=30)
    task_id = await squib.submit("First.", limits=limits)
    await squib.until_type(task_id, "task.idle")
    await kill(squib, task_id)
    lost = await squib.until_type(task_id, "sandbox.lost")
    assert (await squib.store.tasks.get(task_id)).state is TaskState.IDLE
    await squib.store.messages.add(task_id, owner=OWNER, prompt="Second.")
    await squib.until(task_id, lambda e: e.type == "task.idle" and e.data["turn"] == 2, after=lost.seq)
    plan = next(e for e in await squib.events(task_id) if e.type == "runtime.restored")
    assert plan.seq > lost.seq
    async with squib.link(await squib.sandbox(task_id)) as link:
        text = (await link.read("AGENT_TASK.md")).decode()
    assert "First." in text
    assert "Second." in text
    await squib.store.tasks.request_cancel(task_id, owner=OWNER, reason="enough")
    await squib.ended(task_id)
    await squib.clean(task_id)


async def test_a_scheduler_that_stops_gives_its_task_back_and_the_next_goes_on_at_once(shared_tmp: Path) -> None:
    async with stack(shared_tmp, lease_seconds=600.0) as squib:
        squib.start()
        task_id = await squib.submit(f"Count.\nmock:lines=200\nmock:every_ms=5\nmock:sleep=1\n{WAIT}")
        await squib.until(task_id, lambda e: e.type == "agent.tool" and e.data["id"] == "run")
        await squib.stop()
        squib.scheduler = squib.another()
        squib.start()
        await squib.go(task_id)
        task = await squib.ended(task_id)
        assert (task.state, task.attempt) == (TaskState.SUCCEEDED, 1)
        lines = [e.data["n"] for e in await squib.events(task_id) if e.data.get("id") == "lines"]
        assert lines == list(range(1, 201))
        assert (await squib.types(task_id)).count("agent.started") == 1
        await squib.clean(task_id)


async def test_two_schedulers_share_the_work_and_no_task_runs_twice(shared_tmp: Path) -> None:
    async with stack(shared_tmp, concurrency=2) as squib:
        squib.start()
        squib.scheduler = squib.another()
        squib.start()
        submitted = [await squib.submit(f"Number {n}.") for n in range(5)]
        for task_id in submitted:
            assert (await squib.ended(task_id)).state is TaskState.SUCCEEDED
            assert (await squib.types(task_id)).count("agent.started") == 1


async def test_a_lease_that_is_lost_stops_the_work_without_a_further_write(shared_tmp: Path) -> None:
    async with stack(shared_tmp) as squib:
        squib.start()
        task_id = await squib.submit(f"Wait.\n{WAIT}")
        await squib.until_type(task_id, "agent.started")
        await squib.store._database.write(
            lambda tx: tx.execute(tasks.update().where(tasks.c.id == task_id).values(lease_until=0.0))
        )
        stolen = await squib.store.tasks.claim("wrk-thief", seconds=600, task_id=task_id)
        assert stolen is not None
        before = await squib.events(task_id)
        await squib.go(task_id)
        async with squib.link(await squib.sandbox(task_id)) as link, asyncio.timeout(10):
            while (await link.health()).run_id is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await squib.stop()
        assert await squib.events(task_id) == before


class Faulty(LocalOrchestrator):
    """A host without its driver, for a while."""

    failures = 1

    async def create(self, spec: SandboxSpec) -> Sandbox:
        if self.failures:
            self.failures -= 1
            raise DriverUnavailable("no driver boots here")
        return await super().create(spec)


async def test_a_fault_of_the_infrastructure_is_retried_after_a_pause(shared_tmp: Path) -> None:
    async with stack(shared_tmp) as squib:
        squib.orchestrator = Faulty(squib.host)
        squib.scheduler = squib.another()
        squib.start()
        task_id = await squib.submit("Hello.")
        task = await squib.ended(task_id)
        assert (task.state, task.attempt) == (TaskState.SUCCEEDED, 2)
        queued = [e for e in await squib.events(task_id) if e.type == "task.queued"][1]
        assert queued.data == {"attempt": 2, "reason": "no driver boots here"}
        assert "sandbox.lost" not in await squib.types(task_id)


async def test_a_driver_that_is_not_here_fails_the_task_with_advice(squib: Stack) -> None:
    task = await squib.ended(await squib.submit("Hello.", sandbox=SandboxRequest(driver="firecracker")))
    assert (task.state, task.attempt) == (TaskState.FAILED, 1)
    assert task.error is not None
    assert task.error["code"] == "driver_unavailable"
    assert task.error["advice"]


async def test_an_image_that_is_not_here_fails_the_task_at_once_with_advice(squib: Stack) -> None:
    task = await squib.ended(await squib.submit("Hello.", image="cobol"))
    assert (task.state, task.attempt) == (TaskState.FAILED, 1)
    assert task.error is not None
    assert "cobol" in task.error["detail"]
    assert "squib image" in task.error["advice"]
    await squib.clean(task.id)


async def test_orphaned_sandboxes_are_swept_and_others_are_not(squib: Stack) -> None:
    task_id = await squib.submit(f"Wait.\n{WAIT}")
    await squib.until_type(task_id, "agent.started")
    old = "sbx-" + "0" * 26
    await squib.host.claim(SandboxSpec(id=old, task_id="task-" + "0" * 26))
    async with asyncio.timeout(10):
        while await squib.host.get(old) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await squib.go(task_id)
    assert (await squib.ended(task_id)).attempt == 1
