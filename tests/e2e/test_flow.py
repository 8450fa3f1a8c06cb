"""A user's day with the mock agent in a real sandbox."""

import json
import os
import pty
import signal
import subprocess

import pytest

from squib.cli import exits
from tests.e2e.conftest import SQUIB, Instance, wait_for

pytestmark = pytest.mark.needs("bwrap", "git")


def test_from_a_repository_to_a_branch(squib: Instance, repo):
    before = [repo.git("status", "--porcelain"), repo.git("rev-parse", "HEAD"), repo.git("for-each-ref")]
    done = squib(
        "run", "Tidy up", "--repo", ".", "--test", "test -e note && ! test -e secret", "--label", "a=1", cwd=repo.path
    )
    assert "sending main and 3 uncommitted files" in done.err
    assert "tests        passed" in done.out
    task = done.err.split("squib: task-")[1].split()[0]
    task = f"task-{task}"
    assert f"squib apply {task}" in done.out

    shown = squib("show", task, "--json").json
    assert shown["state"] == "succeeded"
    assert shown["base_commit"] == repo.git("rev-parse", "HEAD")
    assert {artifact["name"] for artifact in shown["artifacts"]} == {"bundle", "patch", "transcript", "workspace"}
    assert [found["id"] for found in squib("list", "--label", "a=1", "--json").lines] == [task]

    events = squib("events", task, "--json").lines
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    kinds = [event["type"] for event in events]
    assert kinds[0] == "task.queued"
    assert kinds[-1] == "task.succeeded"
    assert {"sandbox.created", "git.cloned", "agent.started", "agent.completed", "git.commit"} <= set(kinds)

    patch = squib.raw("diff", task).stdout
    assert patch.startswith(b"diff --git")
    repo.git("worktree", "add", "-q", "--detach", "../other", "HEAD")
    subprocess.run(["git", "apply", "--check"], cwd=repo.path.parent / "other", input=patch, check=True)
    repo.git("worktree", "remove", "--force", "../other")

    squib("apply", task, cwd=repo.path)
    after = [repo.git("status", "--porcelain"), repo.git("rev-parse", "HEAD"), repo.git("for-each-ref")]
    assert after[:2] == before[:2]
    branch = f"squib/{task}"
    assert repo.git("show", f"{branch}:AGENT_TASK.md").startswith("# Task")
    assert repo.git("show", f"{branch}:README") == "hello, changed"
    assert repo.git("log", "-1", "--format=%s", branch) == f"Uncommitted work of {task}"
    assert "secret" not in repo.git("ls-tree", "-r", "--name-only", branch).splitlines()


def test_a_second_turn_files_a_command_and_the_end(squib: Instance):
    task = squib("run", "Begin", "--keep", "10m", "--json").json["id"]
    assert squib("show", task, "--json").json["state"] == "idle"
    turned = squib("send", task, "Go on", "--json").json
    assert (turned["state"], turned["turn"]) == ("idle", 2)
    assert squib("files", "put", task, "deep/in/it", stdin="héllo\n").out == "deep/in/it, 7 bytes\n"
    assert squib("files", "cat", task, "deep/in/it").out == "héllo\n"
    names = [entry["path"] for entry in squib("files", "ls", task, "--json", "--depth", "3").json["entries"]]
    assert {"AGENT_TASK.md", "deep/in/it"} <= set(names)
    assert squib("files", "cat", task, "../../etc/passwd", code=None).code == exits.USAGE
    assert squib("files", "cat", task, "absent", code=exits.NOT_FOUND).out == ""
    done = squib("shell", task, "--command", "echo out; echo err >&2; exit 7", code=7)
    assert (done.out, done.err) == ("out\n", "err\n")
    assert "deep/in/it" in squib("diff", task).out
    following = squib.open("events", task, "--follow")
    squib("cancel", task)
    out, _ = following.communicate(timeout=30)
    assert "cancelled" in out.splitlines()[-1]
    assert squib("show", task, "--json").json["state"] == "cancelled"
    assert squib("send", task, "more", code=exits.REFUSED).err.startswith("squib: ")
    again = squib("retry", task, "--json").json
    assert (again["state"], again["retry_of"]) == ("idle", task)
    squib("cancel", again["id"])


def test_an_interactive_shell_is_a_real_terminal_and_leaves_the_users_as_it_was(squib: Instance):
    task = squib("run", "Begin", "--keep", "10m", "--json").json["id"]
    outer, inner = pty.openpty()
    before = subprocess.run(["stty", "-g"], stdin=inner, capture_output=True, check=True).stdout
    subprocess.run(["stty", "rows", "33", "cols", "111"], stdin=inner, check=True)
    process = subprocess.Popen(
        [SQUIB, "shell", task], env=squib.env, stdin=inner, stdout=inner, stderr=inner, cwd="/"
    )
    os.write(outer, b"stty size; exit 5\n")
    assert process.wait(30) == 5
    assert b"33 111" in os.read(outer, 65_536)
    after = subprocess.run(["stty", "-g"], stdin=inner, capture_output=True, check=True).stdout
    assert after == before
    os.close(inner)
    os.close(outer)
    squib("cancel", task)


def test_an_agents_own_failure_is_told_and_not_tried_again(squib: Instance):
    done = squib("run", "mock:fail please", code=exits.FAILED)
    assert "failed  task-" in done.out
    task = squib("list", "--limit", "1", "--json").json
    assert (task["state"], task["attempt"]) == ("failed", 1)
    assert "mock:fail" in task["error"]["detail"]


def test_a_time_limit_ends_the_task(squib: Instance):
    done = squib("run", "mock:sleep=60", "--timeout", "2s", code=exits.FAILED)
    assert "timed out" in done.out


def test_ctrl_c_cancels_and_twice_leaves_it_to_the_server(squib: Instance):
    first = squib.open("run", "mock:sleep=60")
    wait_for(first.stdout, "agent")
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=30)
    assert first.returncode == exits.FAILED
    assert "cancelled" in out
    assert "Ctrl-C again" in err


def test_ctrl_c_of_a_reader_leaves_the_task_alone(squib: Instance):
    task = squib("run", "mock:sleep=3", "--detach").out.strip()
    reader = squib.open("events", task, "--follow")
    wait_for(reader.stdout, "agent")
    reader.send_signal(signal.SIGINT)
    reader.communicate(timeout=30)
    assert reader.returncode == exits.INTERRUPTED
    assert "succeeded" in squib("events", task, "--follow").out.splitlines()[-1]


def test_what_a_program_reads_is_json_alone(squib: Instance):
    done = squib("run", "x", "--json")
    assert done.err == ""
    assert json.loads(done.out)["state"] == "succeeded"
    assert json.loads(squib("show", "task-0", "--json", code=exits.NOT_FOUND).err)["code"] == "not_found"


def test_a_token_for_another_place(squib: Instance):
    secret = squib("token", "create", "elsewhere").out.strip()
    elsewhere = Instance(
        squib.state.parent / "nothing", extra={"SQUIB_URL": squib.ready["url"], "SQUIB_TOKEN": secret}
    )
    assert elsewhere("list", "--json").code == exits.OK
    token = next(t for t in squib("token", "list", "--json").lines if t["name"] == "elsewhere")
    squib("token", "revoke", token["id"])
    assert elsewhere.raw("list").returncode == exits.CONNECTION


def test_doctor_says_that_tasks_can_run(squib: Instance):
    report = squib("doctor", "--json").json
    found = {(f["kind"], f["name"]): f for f in report["findings"]}
    assert report["ready"]
    assert found["driver", "bubblewrap"]["works"]
    assert found["driver", "bubblewrap"]["capability"]["isolation"] == 1
    assert found["image", "host"]["works"]
    assert next(f for f in report["findings"] if f["kind"] == "chosen")["works"]
    assert found["agent", "mock"]["works"]
    assert not found["agent", "claude"]["works"]
    assert found["agent", "claude"]["advice"]
