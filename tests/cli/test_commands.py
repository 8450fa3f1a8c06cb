"""What the commands print and how they end, over tasks that a test moves."""

import asyncio
import json

import pytest

from squib.cli import exits
from squib.contracts.task import TaskState


async def kept(backend, lease, name, content):
    async def pieces():
        yield content

    await backend.store.artifacts.put(lease.task_id, name, "application/octet-stream", pieces())


async def test_run_in_the_background_and_list_it(squib):
    done = await squib("run", "do it", "--detach", "--label", "team=core", "--label", "kind=test")
    assert done.code == exits.OK
    task_id = done.out.strip()
    listed = (await squib("list", "--label", "team=core", "--json")).json
    assert listed["id"] == task_id
    assert listed["spec"]["labels"] == {"team": "core", "kind": "test"}
    assert task_id in (await squib("list", "--state", "queued")).out
    assert (await squib("list", "--label", "team=other")).out == "no tasks\n"
    assert (await squib("show", task_id)).out.startswith("id          " + task_id)


@pytest.mark.parametrize(
    ("state", "code"), [(TaskState.SUCCEEDED, exits.OK), (TaskState.FAILED, exits.FAILED), (TaskState.IDLE, exits.OK)]
)
async def test_run_follows_to_the_end_and_says_how_it_went(squib, backend, state, code):
    running = asyncio.create_task(squib("run", "do it"))
    lease = await backend.store.tasks.claim("worker", seconds=60, task_id=await backend.queue.get(20))
    await backend.store.tasks.transition(lease, TaskState.PROVISIONING, {})
    await backend.store.tasks.transition(lease, TaskState.RUNNING, {"turn": 1})
    await backend.say(lease, "Hello \x1b[31mthere")
    error = {"detail": "it broke", "advice": "mend it"}
    await backend.store.tasks.transition(lease, state, {"error": error} if state is TaskState.FAILED else {})
    done = await running
    assert done.code == code
    assert "Hello \ufffd[31mthere" in done.out
    assert f"\n{state.value}  {lease.task_id}" in done.out
    assert ("it broke mend it" in done.out) == (state is TaskState.FAILED)


async def test_events_are_printed_as_lines_and_as_json(squib, backend):
    lease = await backend.running()
    await backend.say(lease, *(f"word {n}" for n in range(450)))
    done = await squib("events", lease.task_id, "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len(events) == 453
    done = await squib("events", lease.task_id, "--after", "450")
    assert [line.split()[-1] for line in done.out.splitlines()] == ["447", "448", "449"]
    following = asyncio.create_task(squib("events", lease.task_id, "--follow", "--json", "--after", "453"))
    await backend.end(lease)
    assert json.loads((await following).out)["type"] == "task.succeeded"


async def test_cancel_send_and_retry(squib, backend):
    lease = await backend.running()
    assert (await squib("send", lease.task_id, "more", "--detach")).out == "turn 2\n"
    done = await squib("cancel", lease.task_id, "--reason", "enough")
    assert (done.code, done.out) == (exits.OK, f"{lease.task_id} is running, and ends soon\n")
    assert (await squib("retry", lease.task_id, "--detach")).code == exits.REFUSED
    await backend.end(lease, TaskState.CANCELLED)
    again = (await squib("retry", lease.task_id, "--detach", "--json")).json
    assert again["retry_of"] == lease.task_id
    done = await squib("send", lease.task_id, "more")
    assert done.code == exits.REFUSED
    assert len(done.err.splitlines()) == 2


async def test_a_diff_in_a_pipe_is_byte_for_byte_what_is_kept(squib, backend):
    lease = await backend.running()
    patch = b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -0,0 +1,2 @@\n+\xff\x1b[31m\r\n+b\n"
    await kept(backend, lease, "patch", patch)
    await backend.end(lease)
    await squib("diff", lease.task_id)
    assert "+b\n" in (await squib("diff", lease.task_id)).out
    assert (await squib("diff", lease.task_id, "--stat")).out.splitlines() == [
        "x  +2 -0",
        "1 file changed, 2 insertions, 0 deletions",
    ]
    assert (await squib("diff", lease.task_id, "--json")).json["files"] == [
        {"path": "x", "added": 2, "removed": 0, "binary": False}
    ]


async def test_tokens(squib, backend):
    made = await squib("token", "create", "laptop")
    secret = made.out.strip()
    assert secret.startswith("sqb_")
    assert await backend.store.users.authenticate(secret) == backend.user
    assert secret not in (await squib("token", "list")).out
    token_id = made.err.split()[1].rstrip(";")
    assert (await squib("token", "revoke", token_id)).code == exits.OK
    assert await backend.store.users.authenticate(secret) is None
    assert (await squib("token", "revoke", token_id)).code == exits.NOT_FOUND


@pytest.mark.parametrize("command", ["show", "events", "cancel", "retry", "diff", "apply"])
async def test_a_task_that_is_not_there(squib, repo, monkeypatch, command):
    monkeypatch.chdir(repo.path)
    done = await squib(command, "task-0")
    assert done.code == exits.NOT_FOUND
    assert "squib list" in done.err


async def test_a_token_that_is_not_known(squib, monkeypatch):
    monkeypatch.setenv("SQUIB_TOKEN", "sqb_wrong")
    assert (await squib("list")).code == exits.CONNECTION


async def test_what_needs_a_sandbox_says_so_where_there_is_none(squib, backend):
    lease = await backend.running()
    for arguments in (["files", "ls"], ["files", "cat"], ["shell"]):
        more = {"cat": ["x"], "shell": ["--command", "id"]}.get(arguments[-1], [])
        done = await squib(*arguments, lease.task_id, *more)
        assert done.code == exits.REFUSED
        assert "no sandbox" in done.err
