"""A machine outlives the process that made it, however that ended, and the next one takes it over."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts.machine import MachinePhase
from squib.host import Host, HostConfig, probes
from tests import leaks
from tests.conformance.drivers.bench import Bench
from tests.conformance.drivers.conftest import KEY, Run
from tests.conformance.escape.arena import config, made_ready

MAKER = """
import asyncio, json, sys
from pathlib import Path
from squib.contracts.machine import MachinePhase
from squib.contracts.sandbox import SandboxSpec
from squib.host import Host, HostConfig

class Gate:
    async def open(self, machine_id, socket, uid): pass
    async def close(self, machine_id): pass

async def main():
    config = HostConfig(
        Path(sys.argv[1]), b"k" * 32, driver=sys.argv[2], pool_size=1, image=sys.argv[4] or None
    )
    async with Host(config, Gate()) as host:
        machine = await host.claim(SandboxSpec(sys.argv[3], "task-x"))
        while not host._fleet.in_phase(MachinePhase.READY):
            await asyncio.sleep(0.01)
        print(json.dumps([machine.id, machine.pid]), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""
SANDBOX = "sbx-0123456789abcdefghjkmnpqrs"


class Gate:
    """Listens nowhere: the gateway has its own tests."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    async def open(self, machine_id: str, socket: Path, uid: int | None) -> None:
        self.opened.append(machine_id)

    async def close(self, machine_id: str) -> None:
        self.opened = [known for known in self.opened if known != machine_id]


@pytest.fixture
def host_config(shared_tmp: Path, driver_name: str, bench: Bench) -> HostConfig:
    """As elsewhere, with the bench's snapshot where booting is slow."""
    return config(shared_tmp / "host", driver_name, made_ready(bench))


@pytest.fixture
async def orphan(host_config: HostConfig) -> AsyncIterator[str]:
    """The id of a claimed machine (and one that is pooled) whose host was killed."""
    probes._guest.cache_clear()  # both processes must build the same guest, also where its code has just changed
    arguments = (str(host_config.state_dir), host_config.driver, SANDBOX, host_config.image or "")
    maker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MAKER, *arguments), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert maker.stdout is not None
        while (said := await maker.stdout.readline()) and not said.startswith(b'["mch-'):
            pass  # what it logs
    finally:
        if maker.returncode is None:
            maker.send_signal(signal.SIGKILL)
        await maker.wait()
    yield str(json.loads(said)[0])
    assert await leaks.gone(str(host_config.state_dir)) == []


async def test_the_next_host_adopts_claimed_and_pooled_machines(
    orphan: str, host_config: HostConfig, run: Run
) -> None:
    gate = Gate()
    async with Host(replace(host_config, pool_size=1), gate) as host:
        machine = await host.get(SANDBOX)
        assert machine is not None
        assert machine.id == orphan
        assert await host.alive(machine)
        assert (await run(machine, "echo here")).stdout == "here\n"
        assert len(gate.opened) == 2, "the pooled one too"
        await host.delete(SANDBOX)
        assert await host.get(SANDBOX) is None
    assert gate.opened == []


async def test_the_next_host_removes_what_does_not_answer_and_what_nobody_claimed(
    orphan: str, host_config: HostConfig
) -> None:
    place = host_config.state_dir / "machines" / orphan
    record = json.loads((place / "machine.json").read_text())
    assert record["phase"] == MachinePhase.CLAIMED
    os.kill(record["pid"], signal.SIGKILL)
    stray = host_config.state_dir / "machines" / "not-a-machine"
    stray.mkdir()
    async with Host(host_config, Gate()) as host:
        assert await host.get(SANDBOX) is None
        assert await host.list() == []
        assert not place.exists()
        assert stray.exists(), "what is not ours is not touched"
    stray.rmdir()


async def test_a_machine_whose_time_is_over_is_not_adopted(orphan: str, host_config: HostConfig) -> None:
    record = host_config.state_dir / "machines" / orphan / "machine.json"
    document = json.loads(record.read_text())
    record.write_text(json.dumps({**document, "expires_at": 1.0}))
    async with Host(host_config, Gate()) as host:
        assert await host.list() == []
    assert host_config.key == KEY
