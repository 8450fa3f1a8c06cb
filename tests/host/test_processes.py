import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from squib.host import processes


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_process_is_known_by_pid_and_start_time(sleeper: "subprocess.Popen[bytes]") -> None:
    started = processes.start_time(sleeper.pid)
    assert started is not None
    assert processes.running(sleeper.pid, started)
    assert not processes.running(sleeper.pid, started + 1), "its pid is another's by now"
    assert not processes.running(sleeper.pid, None)
    assert not processes.running(None, started)


def test_a_zombie_does_not_run(sleeper: "subprocess.Popen[bytes]") -> None:
    started = processes.start_time(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.running(sleeper.pid, started)


async def test_ended_returns_for_a_process_that_ends_and_for_one_that_is_gone(
    sleeper: "subprocess.Popen[bytes]",
) -> None:
    sleeper.kill()
    await processes.ended(sleeper.pid)
    sleeper.wait()
    await processes.ended(sleeper.pid)


async def test_a_tree_is_ended_with_children_in_sessions_of_their_own() -> None:
    script = "import os, subprocess; subprocess.Popen(['sleep', '77'], start_new_session=True); print(1, flush=True)"
    script += "; subprocess.run(['sleep', '78'])"
    root = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert root.stdout is not None
    await root.stdout.readline()
    family = processes.tree([root.pid])
    assert len(family) >= 2
    assert processes.kill_tree(lambda: [root.pid])
    await asyncio.gather(*(processes.ended(pid) for pid in family), root.wait())
    assert not processes.kill_tree(list)


def test_roots_processes_are_never_looked_for() -> None:
    with pytest.raises(ValueError, match="user 0"):
        processes.of_uid(0)


def test_processes_are_found_by_what_their_command_line_names() -> None:
    marker = "squib-marker-for-this-test"
    argv = [sys.executable, "-c", "print(1, flush=True); input()", marker]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert processes.naming(marker) == [process.pid]
        process.kill()


def test_memory_of_processes_that_are_gone_counts_nothing() -> None:
    pids = [os.getpid(), 2**22 + 1]
    assert processes.most_memory(pids) > 1024 * 1024
    assert processes.memory(pids) > 1024 * 1024
    assert processes.memory([2**22 + 1]) == processes.most_memory([2**22 + 1]) == 0
