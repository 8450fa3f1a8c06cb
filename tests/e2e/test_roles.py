"""The same installation in several processes, on PostgreSQL."""

import json
import signal

import pytest

from tests import leaks
from tests.e2e.conftest import instance

pytestmark = pytest.mark.needs("bwrap", "git", "postgres")
KEY = "0123456789abcdef0123456789abcdef"


async def test_an_api_and_a_scheduler_apart(postgres, repo):
    url = postgres.database()
    with instance(SQUIB_DATABASE_URL=url, SQUIB_SECRET_KEY=KEY, SQUIB_SANDBOX__POOL_SIZE="0") as squib:
        report = squib("doctor", "--json").json
        database = next(f for f in report["findings"] if f["kind"] == "database")
        assert database["works"]
        assert database["detail"].startswith("PostgreSQL ")
        roles = []
        for arguments in (["api", "--port", "0"], ["scheduler", "--sandbox", "bubblewrap"]):
            process = squib.open(*arguments, "--json")
            roles.append(process)
            assert process.stdout is not None
            json.loads(process.stdout.readline())
        try:
            task = squib("run", "hello", "--repo", ".", "--keep", "5m", "--json", cwd=repo.path).json
            assert task["state"] == "idle"
            assert squib("shell", task["id"], "--command", "echo here").out == "here\n"
            assert "succeeded" not in squib("cancel", task["id"]).out
            assert squib("events", task["id"], "--follow", "--json").lines[-1]["type"] == "task.cancelled"
        finally:
            for process in reversed(roles):
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=30)
                assert process.returncode == 0, err
        assert await leaks.gone(str(squib.state)) == []
    postgres.drop(url)


def test_a_database_that_is_not_there_is_told_in_words():
    with instance(SQUIB_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none", SQUIB_SECRET_KEY=KEY) as squib:
        done = squib("api", "--port", "0", code=6)
        assert done.err.startswith("squib: ")
        assert len(done.err.splitlines()) <= 3
        report = squib("doctor", "--json", code=1).json
        database = next(f for f in report["findings"] if f["kind"] == "database")
        assert not database["works"]
        assert "SQUIB_DATABASE_URL" in database["advice"]
