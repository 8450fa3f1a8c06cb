import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from squib.host import launch, processes

UID = 34_567 if os.geteuid() == 0 else None


@pytest.fixture
async def children() -> AsyncIterator[launch.Children]:
    made = launch.Children()
    yield made
    made.close()


@pytest.fixture
def output(shared_tmp: Path) -> Iterator[int]:
    descriptor = os.open(shared_tmp / "out", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    yield descriptor
    os.close(descriptor)


def said(output: int) -> str:
    return os.pread(output, 100_000, 0).decode()


async def test_the_program_runs_only_once_it_is_let_go(output: int, children: launch.Children) -> None:
    held = launch.start(launch.Start(["echo", "ran"], output, uid=UID), children)
    assert processes.start_time(held.pid) is not None
    assert said(output) == ""
    held.go()
    await processes.ended(held.pid)
    assert said(output) == "ran\n"


async def test_a_gate_that_closes_ends_the_process(output: int, children: launch.Children) -> None:
    held = launch.start(launch.Start(["echo", "ran"], output, uid=UID), children)
    held.abandon()
    held.abandon()
    await processes.ended(held.pid)
    assert said(output) == ""


async def test_groups_that_are_gone_end_the_process(output: int, children: launch.Children, shared_tmp: Path) -> None:
    joins = [str(shared_tmp / "gone" / "tasks")]
    held = launch.start(launch.Start(["echo", "ran"], output, uid=UID, joins=joins), children)
    held.go()
    await processes.ended(held.pid)
    assert "ran\n" not in said(output)


async def test_it_starts_limited_detached_clean_and_as_the_user(output: int, children: launch.Children) -> None:
    script = "ulimit -c; ulimit -f; umask; id -u; id -G; cat /proc/self/oom_score_adj; pwd; env; ls /proc/self/fd"
    start = launch.Start(["sh", "-c", script], output, uid=UID, disk=64, env={"MARK": "1"})
    held = launch.start(start, children)
    assert os.getsid(held.pid) == held.pid
    held.go()
    await processes.ended(held.pid)
    lines = said(output).splitlines()
    user = str(UID or os.getuid())
    assert lines[:4] == ["0", str(64 * 2048), "0022", user]
    assert UID is None or lines[4] == user
    assert lines[5:7] == ["500", "/"]
    assert {line.partition("=")[0] for line in lines[7:] if "=" in line} <= {
        "MARK",
        "PATH",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    }
    assert [line for line in lines[7:] if "=" not in line] == ["0", "1", "2", "3"], "3 is the listing's own"


async def test_a_child_is_reaped_when_it_ends(output: int, children: launch.Children) -> None:
    held = launch.start(launch.Start(["true"], output, uid=UID), children)
    held.go()
    await processes.ended(held.pid)
    async with asyncio.timeout(10):
        while Path(f"/proc/{held.pid}").exists():  # noqa: ASYNC110 - the loop itself reaps it
            await asyncio.sleep(0.001)


@pytest.mark.needs("root")
@pytest.mark.parametrize("uid", [None, 0])
async def test_root_never_starts_a_machine_as_itself(uid: int | None, output: int, children: launch.Children) -> None:
    with pytest.raises(PermissionError, match="as root"):
        launch.start(launch.Start(["true"], output, uid=uid), children)
