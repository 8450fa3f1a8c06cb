"""An API, a scheduler and a host as three processes, on PostgreSQL; the host is killed while a task is at work."""

import json
import signal
import subprocess

import pytest

from tests import leaks
from tests.e2e.conftest import Instance, instance, wait_for

pytestmark = pytest.mark.needs("bwrap", "git", "postgres")
KEY = "0123456789abcdef0123456789abcdef"


def started(squib: Instance, *arguments: str) -> subprocess.Popen[str]:
    process = squib.open(*arguments, "--json")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    json.loads(line)
    return process


async def test_a_task_goes_on_in_its_sandbox_when_the_host_is_killed(postgres, repo):
    url = postgres.database()
    with instance(
        SQUIB_DATABASE_URL=url, SQUIB_SECRET_KEY=KEY, SQUIB_SANDBOX__POOL_SIZE="0", SQUIB_SANDBOX__DRIVER="bubblewrap"
    ) as squib:
        place = f"unix:{squib.state.parent}/host.sock"
        squib.extra["SQUIB_HOST_URL"] = place
        roles = []
        try:
            roles.append(host := started(squib, "host", "--listen", place))
            roles.append(started(squib, "scheduler"))
            roles.append(started(squib, "api", "--port", "0"))
            prompt = "mock:run=echo begun; until [ -e go ]; do sleep 0.1; done; echo gone on"
            task = squib("run", prompt, "--repo", ".", "--keep", "5m", "--detach", "--json", cwd=repo.path).json
            following = squib.open("events", task["id"], "--follow", "--json")
            wait_for(following.stdout, "begun")
            host.send_signal(signal.SIGKILL)
            host.communicate()
            roles[0] = started(squib, "host", "--listen", place)
            assert squib("shell", task["id"], "--command", "touch go && echo there").out == "there\n"
            seen = wait_for(following.stdout, '"task.idle"')
            following.kill()
            following.communicate()
            assert "gone on" in seen
            events = squib("events", task["id"], "--json").lines
            assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
            assert [event["type"] for event in events].count("sandbox.created") == 1
            squib("cancel", task["id"])
            squib("events", task["id"], "--follow", "--json")
        finally:
            for process in reversed(roles):
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=30)
                assert process.returncode == 0, err
        assert await leaks.gone(str(squib.state)) == []
    postgres.drop(url)
