"""A run from its process to its outcome, with agents that misbehave: each a small shell script."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from squib.contracts import codec
from squib.contracts.guest import GuestConfig, RunState, RunStatus
from tests.guest import one_run

Go = Callable[..., tuple[RunStatus, list[str]]]


@pytest.fixture
def go(config: GuestConfig) -> Go:
    def run(script: str, program: str = "/bin/sh", seconds: int = 20) -> tuple[RunStatus, list[str]]:
        asked = {"config": codec.encode(config), "script": script, "program": program, "seconds": seconds}
        done = subprocess.run(
            [sys.executable, "-m", one_run.__name__],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        return codec.loads(RunStatus, json.dumps(told["status"])), told["types"]

    return run


def test_good(go: Go) -> None:
    status, types = go("cat > /dev/null; echo hello; echo done")
    assert (status.state, status.exit_code) == (RunState.SUCCEEDED, 0)
    assert types == ["runtime.ready", "agent.started", "agent.message", "agent.message", "agent.completed"]
    assert status.last_event == 5


def test_a_last_line_without_its_newline_counts(go: Go) -> None:
    assert go("printf done")[0].state is RunState.SUCCEEDED


def test_one_that_lives_on_after_its_last_word(go: Go) -> None:
    status, _ = go("echo done; exec sleep 400")
    assert (status.state, status.exit_code) == (RunState.SUCCEEDED, None)


def test_one_that_closes_its_output_and_lives_on(go: Go) -> None:
    status, types = go("echo x; exec >&- 2>&-; sleep 400")
    assert status.state is RunState.FAILED
    assert types[-1] == "agent.failed"


def test_one_that_never_reads_its_prompt(go: Go) -> None:
    assert go("exec <&-; echo done; #" + "x" * 99_000)[0].state is RunState.SUCCEEDED


def test_one_that_never_ends(go: Go) -> None:
    status, _ = go("trap '' TERM; while :; do sleep 1; done", seconds=1)
    assert status.state is RunState.TIMED_OUT and status.reason


def test_a_parser_that_fails_loses_no_line(go: Go) -> None:
    status, types = go("echo boom; echo done")
    assert status.state is RunState.SUCCEEDED
    assert types[2:4] == ["agent.log", "agent.message"]


def test_a_program_that_is_not_there(go: Go) -> None:
    status, types = go("x", program="no-such-agent")
    assert status.state is RunState.FAILED
    assert status.reason and "Get a shell." in status.reason
    assert types == ["runtime.ready", "agent.failed"]


def test_standard_error_reaches_the_outcome(go: Go) -> None:
    status, _ = go("echo 'what went wrong' >&2; exit 3")
    assert status.reason == "3 what went wrong"


def test_files_are_written_below_home(go: Go, config: GuestConfig) -> None:
    status, _ = go("test -r $HOME/.agent/settings.json && echo done")
    assert status.state is RunState.SUCCEEDED
