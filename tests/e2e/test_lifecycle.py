"""How squib starts, ends, dies and comes back."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import squib as package
from squib.cli import exits
from tests import leaks
from tests.e2e.conftest import Instance, instance, wait_for

pytestmark = pytest.mark.needs("bwrap", "git")
MOCK = ("--sandbox", "bubblewrap")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_orderly_end_leaves_nothing_though_a_task_runs(number):
    with instance(*MOCK) as squib:
        squib.start()
        running = squib.open("run", "mock:spawn mock:sleep=60")
        wait_for(running.stdout, "agent")
        assert leaks.find(str(squib.state))
        assert squib.end(number) == 0
        assert await leaks.gone(str(squib.state)) == []
        assert not (squib.state / "connection.json").exists()
        assert list((squib.state / "machines").iterdir()) == []
        running.kill()
        running.communicate()
        assert "Traceback" not in squib.log()


def test_a_killed_squib_is_taken_over_and_its_task_goes_on():
    with instance(*MOCK, SQUIB_SCHEDULER__LEASE_SECONDS="2") as squib:
        squib.start()
        squib.port = squib.ready["url"].rsplit(":", 1)[1]
        following = squib.open("run", "mock:lines=40 mock:every_ms=200")
        wait_for(following.stdout, "agent")
        assert squib.end(signal.SIGKILL) == -signal.SIGKILL
        squib.start()
        out, err = following.communicate(timeout=60)
        assert following.returncode == 0, err
        assert "succeeded" in out
        task = squib("list", "--json").json
        assert (task["state"], task["attempt"]) == ("succeeded", 1)
        events = squib("events", task["id"], "--json").lines
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert [event["type"] for event in events].count("agent.started") == 1
        assert not [event for event in events if event["type"] in ("runtime.gap", "sandbox.lost")]
        assert squib.end() == 0


def test_the_token_is_the_same_after_a_restart():
    with instance(*MOCK, SQUIB_SANDBOX__POOL_SIZE="0") as squib:
        squib.start()
        first = squib.ready["token"]
        squib.end()
        squib.start()
        assert squib.ready["token"] == first
        assert (squib.state / "connection.json").stat().st_mode & 0o777 == 0o600


def test_what_cannot_start_says_why_and_what_to_do():
    with instance(*MOCK, SQUIB_SANDBOX__POOL_SIZE="0") as squib:
        squib.start()
        port = squib.ready["url"].rsplit(":", 1)[1]
        second = squib("up", "--port", "0", code=exits.REFUSED)
        assert "another squib" in second.err
        elsewhere = Instance(squib.state.parent / "other")
        taken = elsewhere("up", "--port", port, code=exits.SERVER)
        assert "--port 0" in taken.err
        unknown = elsewhere("up", "--port", "0", "--sandbox", "firecracker-on-toast", code=exits.SERVER)
        assert "bubblewrap" in unknown.err
        for role in ("api", "scheduler"):
            assert "SQLite serves one process" in squib(role, code=exits.USAGE).err
        assert squib("list").out == "no tasks\n"


def test_a_machine_without_an_isolating_driver_refuses_and_shows_only_the_mock_agent(tmp_path: Path):
    """No bwrap on the PATH: what `auto` finds then."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("git", "setpriv", "sh", "env"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    with instance(PATH=str(tools)) as squib:
        refused = squib("up", "--port", "0", code=exits.SERVER)
        assert "--sandbox process" in refused.err
        assert "bubblewrap" in refused.err
        shown = squib.open("up", "--demo", "--port", "0")
        out = wait_for(shown.stdout, "squib stays up")
        assert "+# Task" in out
        assert squib("run", "x", "--agent", "claude", code=None).code == exits.USAGE
        shown.send_signal(signal.SIGINT)
        _, err = shown.communicate(timeout=30)
        assert "NO ISOLATION" in err
        assert shown.returncode == 0


def test_the_demonstration_runs_to_its_end_for_an_ordinary_user(shared_tmp: Path):
    """`make run` by a user who is not root: what root's own machine is asked, as that user."""
    program = _another_users_python()
    home = shared_tmp / "home"
    home.mkdir()
    source, site = Path(package.__file__).parents[1], Path(pytest.__file__).parents[1]
    drop: list[str] = []
    if os.geteuid() == 0:
        os.chown(home, 12345, 12345)
        drop = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", "--"]
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"{source}:{site}",
    }
    command = [*drop, program, "-c", "from squib.cli.app import main; main()"]
    readable = subprocess.run([*command, "--version"], env=env, capture_output=True, cwd="/", check=False)
    if readable.returncode != 0:
        pytest.skip("another user may not read this checkout")
    process = subprocess.Popen(
        [*command, "up", "--demo", "--port", "0"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    try:
        out = wait_for(process.stdout, "squib stays up", 60)
        assert "(the strongest that works here" in out
        assert "succeeded" in out
        assert "+# Task" in out
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert leaks.find(str(home)) == []
    finally:
        process.kill()
        process.communicate()


def _another_users_python() -> str:
    """A Python of this version that any user may run; our own may lie in root's home."""
    if os.geteuid() != 0:
        return sys.executable
    name = f"/usr/bin/python3.{sys.version_info.minor}"
    if not Path(name).exists():
        pytest.skip(f"{name} is not there for another user to run")
    return name


def test_a_port_is_free_again_at_once():
    with instance(*MOCK, SQUIB_SANDBOX__POOL_SIZE="0") as squib:
        squib.start()
        port = int(squib.ready["url"].rsplit(":", 1)[1])
        squib("list")
        squib.end()
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
