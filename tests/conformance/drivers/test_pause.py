"""A sandbox that is put to disk goes on where it was, also under the next process; meanwhile it has no memory."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.machine import MachinePhase
from squib.contracts.sandbox import SandboxPhase, SandboxSpec
from squib.gateway import Gateway
from squib.host import Host, HostConfig, processes, ready, records
from squib.host.snapshots import Stored
from squib.orchestrator.local import LocalOrchestrator
from tests import leaks
from tests.conformance.drivers.bench import Bench
from tests.conformance.drivers.conftest import KEY, Run

#: A program whose state is in memory alone. It holds nothing of the workspace's open.
COUNTER = """
import os, signal, time
os.chdir("/")
count = 0
def tell(*_):
    with open("/tmp/count.new", "w") as file:
        file.write(str(count))
    os.replace("/tmp/count.new", "/tmp/count")
signal.signal(signal.SIGUSR1, tell)
if os.fork():
    os._exit(0)
os.setsid()
open("/tmp/pid", "w").write(str(os.getpid()))
while True:
    count += 1
    time.sleep(0.02)
"""
ASK = "rm -f /tmp/count; kill -USR1 $(cat /tmp/pid); until test -e /tmp/count; do sleep 0.01; done; cat /tmp/count"


@pytest.fixture
async def host(bench: Bench, snapshot: Stored) -> AsyncIterator[Host]:
    async with Gateway({}) as gateway, Host(bench.config, gateway) as opened:
        await opened._shelf.looked.wait()
        yield opened


def _sandbox() -> SandboxSpec:
    return SandboxSpec(ids.new_id("sbx"), ids.new_id("task"))


async def test_a_sandbox_goes_on_where_it_was(host: Host, bench: Bench, run: Run) -> None:
    if not bench.capability.pause:
        pytest.skip("its machines can't be suspended")
    spec, orchestrator = _sandbox(), LocalOrchestrator(host)
    before = await host.claim(spec)
    await run(before, "echo work > file; echo memory > /tmp/file; hostname > /tmp/name")
    epoch = (await ready.health(before, KEY)).epoch
    assert await host.suspend(spec.id)
    assert await host.suspend(spec.id), "it is suspended already"

    asleep = await host.get(spec.id)
    assert asleep is not None
    assert (asleep.phase, await host.alive(asleep)) == (MachinePhase.SUSPENDED, True)
    assert before.pid is not None
    assert not processes.running(before.pid, before.pid_start)
    assert [path for path in before.cgroups if Path(path).exists()] == []
    assert [line for line in leaks.find(before.id) if not line.startswith("socket")] == []
    found = await orchestrator.get(spec.id)
    assert found is not None and found.phase is SandboxPhase.SUSPENDED
    assert host.status().used.machines == 0

    after = await host.resume(spec.id)
    assert after is not None
    assert (after.id, after.uid, after.expires_at) == (before.id, before.uid, before.expires_at)
    assert await host.resume(spec.id) == after, "one that runs is given as it is"
    said = await run(after, "cat file /tmp/file; hostname | cmp - /tmp/name && echo same; echo more >> file")
    assert said.stdout == "work\nmemory\nsame\n"
    assert (await ready.health(after, KEY)).epoch != epoch
    assert not (Path(after.directory) / "frozen").exists()

    assert await host.suspend(spec.id), "again"
    assert await host.claim(spec) == await host.get(spec.id), "who claims it wakes it"
    machine = await host.get(spec.id)
    assert machine is not None
    assert (await run(machine, "cat file")).stdout == "work\nmore\n"
    await host.delete(spec.id)
    assert leaks.find(machine.id) == []


async def test_a_running_program_goes_on_or_keeps_its_sandbox_awake(host: Host, bench: Bench, run: Run) -> None:
    spec = _sandbox()
    machine = await host.claim(spec)
    assert (await run(machine, ["python3", "-c", COUNTER])).exit_code == 0
    first = int((await run(machine, ASK)).stdout)
    if await host.suspend(spec.id):
        resumed = await host.resume(spec.id)
        assert resumed is not None
        machine = resumed
    assert int((await run(machine, ASK)).stdout) > first


async def test_it_survives_the_end_of_squib(bench: Bench, snapshot: Stored, run: Run) -> None:
    spec, gone = _sandbox(), _sandbox()
    async with Gateway({}) as gateway, Host(bench.config, gateway) as host:
        await host._shelf.looked.wait()
        before = await host.claim(spec)
        await host.claim(gone)
        await run(before, "echo work > file")
        assert await host.suspend(spec.id)
        assert await host.suspend(gone.id)
        damaged = await host.get(gone.id)
        assert damaged is not None
        _damage(Path(damaged.directory) / "frozen")
    async with Gateway({}) as gateway, Host(bench.config, gateway) as host:
        asleep = await host.get(spec.id)
        assert asleep is not None and asleep.phase is MachinePhase.SUSPENDED
        after = await host.resume(spec.id)
        assert after is not None
        assert after.uid == before.uid
        assert (await run(after, "cat file")).stdout == "work\n"

        assert await host.resume(gone.id) is None
        lost = await LocalOrchestrator(host).get(gone.id)
        assert lost is not None
        assert lost.phase is SandboxPhase.LOST
        assert "could not go on" in (lost.detail or "")
    assert leaks.find(before.id, damaged.id) == []


async def test_one_whose_return_is_given_up_stays_on_the_disk(host: Host, bench: Bench, run: Run) -> None:
    if not bench.capability.pause:
        pytest.skip("its machines can't be suspended")
    spec = _sandbox()
    machine = await host.claim(spec)
    await run(machine, "echo work > file")
    assert await host.suspend(spec.id)
    place = Path(machine.directory)
    returning = asyncio.create_task(host.resume(spec.id))
    async with asyncio.timeout(20):
        while (record := records.load(place)) is not None and record.phase is MachinePhase.SUSPENDED:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    returning.cancel()
    await asyncio.gather(returning, return_exceptions=True)
    record = records.load(place)
    assert record is not None
    assert (record.phase, record.sandbox_id) == (MachinePhase.SUSPENDED, spec.id), "the next squib would keep it"
    again = await host.resume(spec.id)
    assert again is not None
    assert (await run(again, "cat file")).stdout == "work\n"


def _damage(frozen: Path) -> None:
    """Put rubbish in the place of every file; they may be shared with a snapshot."""
    for path in [path for path in frozen.rglob("*") if path.is_file()]:
        path.unlink()
        path.write_bytes(b"rubbish" * 100)


@pytest.fixture
def small_disk(shared_tmp: Path) -> Iterator[Path]:
    """A directory on a disk that no memory fits on."""
    (path := shared_tmp / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=711", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.needs("root")
async def test_one_that_finds_no_room_on_the_disk_runs_on(
    bench: Bench, small_disk: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not bench.capability.pause:
        pytest.skip("its machines can't be suspended")
    bench.teach(small_disk)
    spec = _sandbox()
    monkeypatch.setattr("squib.host.admission.SPARE_DISK", 0)  # it would be seen before there is a machine
    async with Gateway({}) as gateway, Host(replace(bench.config, state_dir=small_disk), gateway) as host:
        machine = await host.claim(spec)
        await run(machine, "echo work > file")
        assert not await host.suspend(spec.id), "it is seen before"
        monkeypatch.setattr("squib.host.suspension.SPARE_DISK", -(1 << 30))
        assert not await host.suspend(spec.id), "it is seen while it is written"
        assert await host.get(spec.id) == machine
        assert (await run(machine, "cat file")).stdout == "work\n"
        assert not (Path(machine.directory) / "frozen").exists()


async def test_what_can_not_be_suspended_runs_on(bench: Bench, host_config: HostConfig, run: Run) -> None:
    if bench.capability.pause:
        pytest.skip("its machines can be suspended")
    async with Gateway({}) as gateway, Host(host_config, gateway) as host:
        spec = _sandbox()
        machine = await host.claim(spec)
        assert not await host.suspend(spec.id)
        assert await host.resume(spec.id) == machine
        assert (await run(machine, "echo on")).stdout == "on\n"
