"""Tasks from their submission to their end, with real guests."""

import asyncio
import io
import json
import tarfile
from pathlib import Path

import pytest

from squib.contracts.event import Draft
from squib.contracts.task import Limits, Repository, TaskSpec, TaskState
from squib.scheduler.steps import agent
from squib.store import encode
from tests.scheduler.gitserver import git, make_repository
from tests.scheduler.stack import OWNER, WAIT, Stack, stack

pytestmark = pytest.mark.needs("git")


async def test_a_task_without_a_repository_runs_to_its_end_and_leaves_nothing(squib: Stack) -> None:
    task_id = await squib.submit("Say hello.", test_command="test -f AGENT_TASK.md")
    task = await squib.ended(task_id)
    assert task.state is TaskState.SUCCEEDED, task.error
    types = await squib.types(task_id)
    for earlier, later in [
        ("task.queued", "task.provisioning"),
        ("task.provisioning", "sandbox.created"),
        ("sandbox.created", "task.running"),
        ("task.running", "agent.started"),
        ("agent.started", "agent.completed"),
        ("agent.completed", "tests.completed"),
        ("tests.completed", "sandbox.deleted"),
        ("agent.started", "git.saved"),  # while it works, or after: whichever comes first
        ("git.saved", "sandbox.deleted"),
    ]:
        assert types.index(earlier) < types.index(later)
    assert types[-1] == "task.succeeded"
    assert task.usage.output_tokens == 12
    await squib.clean(task_id)


async def test_the_results_are_kept_and_agree(squib: Stack, tmp_path: Path) -> None:
    task_id = await squib.submit("Write.\nmock:write=notes.txt")
    task = await squib.ended(task_id)
    kept = {artifact.name for artifact in await squib.store.artifacts.list(task_id)}
    assert kept == {"bundle", "patch", "workspace", "transcript"}
    make_repository(tmp_path / "mine", {})
    git(tmp_path / "mine", "apply", "--index", str(await squib.artifact(task_id, "patch")))
    assert (tmp_path / "mine" / "notes.txt").read_text().startswith("Write.")
    bundle = str(await squib.artifact(task_id, "bundle"))
    git(tmp_path / "mine", "fetch", "-q", bundle, f"refs/heads/squib/{task_id}:refs/heads/result")
    assert git(tmp_path / "mine", "rev-parse", "result") == task.head_commit
    with tarfile.open(await squib.artifact(task_id, "workspace")) as archive:
        assert "notes.txt" in {name.removeprefix("./") for name in archive.getnames()}
    lines = (await squib.artifact(task_id, "transcript")).read_text().splitlines()
    events = await squib.events(task_id)
    assert [json.loads(line)["seq"] for line in lines] == [event.seq for event in events[:-1]]


async def test_an_agent_that_fails_is_not_retried_and_says_why(squib: Stack) -> None:
    task_id = await squib.submit("mock:fail")
    task = await squib.ended(task_id)
    assert (task.state, task.attempt) == (TaskState.FAILED, 1)
    assert task.error is not None
    assert task.error["code"] == "agent_failed"
    assert "mock:fail" in task.error["detail"]
    assert task.error["advice"]
    assert {a.name for a in await squib.store.artifacts.list(task_id)} >= {"patch", "transcript"}
    await squib.clean(task_id)


async def test_tests_that_fail_fail_the_task_and_keep_its_work(squib: Stack) -> None:
    task = await squib.ended(await squib.submit("Say hello.", test_command="echo broken; exit 3"))
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert task.error["code"] == "tests_failed"
    told = next(e for e in await squib.events(task.id) if e.type == "tests.completed")
    assert (told.data["exit_code"], told.data["passed"], told.data["output"]) == (3, False, "broken\n")


async def test_what_tests_print_fits_an_event_whatever_it_is(squib: Stack) -> None:
    noise = "head -c 300000 /dev/zero | tr '\\0' '\\033' | tee /dev/stderr"
    task = await squib.ended(await squib.submit("Say hello.", test_command=noise))
    assert task.state is TaskState.SUCCEEDED
    told = next(e for e in await squib.events(task.id) if e.type == "tests.completed")
    assert (told.data["passed"], told.data["truncated"]) == (True, True)


def test_an_agents_last_words_fit_the_closing_event_whatever_they_are() -> None:
    result = agent._short("\x1b" * 200_000, agent._MAX_RESULT)
    assert len(encode.drafts([Draft("task.succeeded", {"result": result})])) == 1


async def test_an_unknown_agent_fails_at_once_with_the_reason(squib: Stack) -> None:
    made, _ = await squib.store.tasks.create(TaskSpec(prompt="hello", agent="nobody"), owner=OWNER)
    await squib.queue.put(made.id)
    task = await squib.ended(made.id)
    assert (task.state, task.attempt) == (TaskState.FAILED, 1)
    assert task.error is not None
    assert "agent" in task.error["detail"]
    await squib.clean(task.id)


async def test_follow_ups_run_in_the_same_sandbox_and_session(squib: Stack) -> None:
    limits = Limits(seconds=60, turn_seconds=60, idle_seconds=30)
    task_id = await squib.submit("First.", limits=limits)
    idle = await squib.until_type(task_id, "task.idle")
    assert idle.data["turn"] == 1
    assert idle.data["until"] > idle.time
    await squib.store.messages.add(task_id, owner=OWNER, prompt="Second.")
    idle = await squib.until_type(task_id, "task.idle", after=idle.seq)
    assert idle.data["turn"] == 2
    completed = [e for e in await squib.events(task_id) if e.type == "agent.completed"]
    assert "turn 2 of this session" in completed[1].data["result"]
    assert completed[0].data["session_id"] == completed[1].data["session_id"]
    assert (await squib.types(task_id)).count("sandbox.created") == 1
    assert (await squib.store.tasks.get(task_id)).usage.output_tokens == 24
    await squib.store.tasks.request_cancel(task_id, owner=OWNER, reason="enough")
    assert (await squib.ended(task_id)).state is TaskState.CANCELLED
    await squib.clean(task_id)


async def test_a_message_that_comes_while_the_turn_runs_is_the_next_turn(squib: Stack) -> None:
    task_id = await squib.submit(f"First.\n{WAIT}")
    await squib.until_type(task_id, "agent.tool")
    await squib.store.messages.add(task_id, owner=OWNER, prompt="Second.")
    await squib.go(task_id)
    task = await squib.ended(task_id)
    assert (task.state, task.turn) == (TaskState.SUCCEEDED, 2)
    assert (await squib.types(task_id)).count("agent.completed") == 2


async def test_idle_time_that_is_over_ends_the_task_well(squib: Stack) -> None:
    task_id = await squib.submit("Hello.", limits=Limits(seconds=60, turn_seconds=60, idle_seconds=1))
    task = await squib.ended(task_id)
    assert task.state is TaskState.SUCCEEDED
    assert "task.idle" in await squib.types(task_id)


async def test_idle_tasks_do_not_count_against_the_bound(shared_tmp: Path) -> None:
    async with stack(shared_tmp, concurrency=1) as squib:
        squib.start()
        first = await squib.submit("First.", limits=Limits(seconds=60, turn_seconds=60, idle_seconds=30))
        await squib.until_type(first, "task.idle")
        second = await squib.submit("Second.")
        assert (await squib.ended(second)).state is TaskState.SUCCEEDED
        await squib.store.messages.add(first, owner=OWNER, prompt="More.")
        await squib.until(first, lambda e: e.type == "task.idle" and e.data["turn"] == 2)


async def test_an_upload_with_uncommitted_changes_comes_in_as_it_was(squib: Stack, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    base = make_repository(mine, {"README": "hello\n"})
    (mine / "draft").write_text("not yet\n")
    git(mine, "add", "-A")
    made = git(mine, "commit-tree", git(mine, "write-tree"), "-p", "HEAD", "-m", "uncommitted")
    git(mine, "update-ref", "refs/squib/work", made)
    git(mine, "bundle", "create", "-q", str(tmp_path / "b"), "main", "refs/squib/work")
    upload = await squib.store.uploads.put(
        OWNER, commit=made, base=base, branch="main", chunks=_chunks(tmp_path / "b"), max_bytes=10**8
    )
    task_id = await squib.submit(
        "Look.\nmock:run=git status --short draft; git log --format=%H -1 HEAD~1",
        repository=Repository(upload=upload.id),
    )
    task = await squib.ended(task_id)
    assert task.state is TaskState.SUCCEEDED, task.error
    assert task.base_commit == base
    shown = next(
        e.data["text"] for e in await squib.events(task_id) if e.data.get("id") == "run" and "text" in e.data
    )
    assert shown.splitlines() == ["?? draft", base]
    git(tmp_path, "clone", "-q", str(mine), "copy")
    git(tmp_path / "copy", "apply", "--index", str(await squib.artifact(task_id, "patch")))
    assert (tmp_path / "copy" / "draft").read_text() == "not yet\n"
    git(tmp_path / "copy", "fetch", "-q", str(await squib.artifact(task_id, "bundle")), f"refs/heads/squib/{task_id}")
    assert git(tmp_path / "copy", "rev-parse", "FETCH_HEAD") == task.head_commit


async def test_an_upload_that_is_no_bundle_fails_politely(squib: Stack) -> None:
    upload = await squib.store.uploads.put(
        OWNER, commit="0" * 39 + "1", branch="main", chunks=_bytes(b"no bundle at all"), max_bytes=10**8
    )
    task = await squib.ended(await squib.submit("Look.", repository=Repository(upload=upload.id)))
    assert (task.state, task.attempt) == (TaskState.FAILED, 1)
    assert task.error is not None
    assert (task.error["code"], task.error["detail"]) == ("repository", "this is not a git bundle")
    assert task.started_at is not None, "it had a sandbox"
    await squib.clean(task.id)


async def _chunks(path: Path):
    yield path.read_bytes()


async def _bytes(content: bytes):
    yield io.BytesIO(content).read()


async def test_a_full_host_makes_tasks_wait_not_fail(shared_tmp: Path) -> None:
    async with stack(shared_tmp, machines=2) as squib:
        squib.start()
        tasks = [await squib.submit(f"Number {n}.") for n in range(4)]
        ended = await asyncio.gather(*(squib.ended(task_id) for task_id in tasks))
        assert {task.state for task in ended} == {TaskState.SUCCEEDED}


async def test_who_waits_for_room_spends_none_of_its_time(shared_tmp: Path) -> None:
    async with stack(shared_tmp, machines=1) as squib:
        squib.start()
        first = await squib.submit(f"First.\n{WAIT}")
        await squib.until_type(first, "agent.tool")
        second = await squib.submit("Second.", limits=Limits(seconds=4, turn_seconds=4))
        entered = await squib.until_type(second, "task.provisioning")
        await asyncio.sleep(4.5)  # longer than the second may take
        await squib.go(first)
        task = await squib.ended(second)
        assert task.state is TaskState.SUCCEEDED, await squib.events(second)
        assert task.started_at is not None
        assert task.started_at > entered.time + 4
