"""Machines that go on from one snapshot are strangers to each other before anybody's program runs in them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from squib.contracts import ids
from squib.contracts.errors import GuestUnreachable
from squib.contracts.machine import Machine
from squib.contracts.sandbox import SandboxSpec
from squib.gateway import Gateway
from squib.host import Host, ready
from squib.host.snapshots import Stored
from tests.conformance.drivers.bench import Bench
from tests.conformance.drivers.conftest import KEY, Run

COUNT = 16
AT_ONCE = 4
#: What a program sees that would be the same in all clones, were they not told to differ.
LOOK = """
import json, os, pathlib, random, shutil, socket, subprocess, tempfile, time, uuid
def read(path):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return None
seen = {
    "time": time.time(),
    "getrandom": os.getrandom(32).hex(),
    "urandom": open("/dev/urandom", "rb").read(32).hex(),
    "uuid4": str(uuid.uuid4()),
    "random": random.getrandbits(128),
    "temporary": tempfile.mkdtemp(),
    "hostname": socket.gethostname(),
    "machine_id": read("/etc/machine-id"),
    "boot_id": read("/proc/sys/kernel/random/boot_id"),
}
if shutil.which("ssh-keygen"):
    made = subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", seen["temporary"] + "/key"])
    seen["ssh"] = read(seen["temporary"] + "/key.pub") if made.returncode == 0 else None
print(json.dumps(seen))
"""


@dataclass(frozen=True)
class Clone:
    machine: Machine
    epoch: str
    seen: dict[str, object]
    clock_error: float  # seconds, with the time that asking took


@pytest.fixture
async def clones(bench: Bench, snapshot: Stored, run: Run) -> AsyncIterator[list[Clone]]:
    slots = asyncio.Semaphore(AT_ONCE)
    async with Gateway({}) as gateway, Host(bench.config, gateway) as host:
        await host._shelf.looked.wait()

        async def make() -> Clone:
            async with slots:
                machine = await host.claim(SandboxSpec(ids.new_id("sbx"), ids.new_id("task")))
                assert machine.snapshot == snapshot.id
                before = time.time()
                said = await run(machine, ["python3", "-c", LOOK])
                after = time.time()
                assert said.exit_code == 0, said
                seen = json.loads(said.stdout)
                error = max(before - seen["time"], seen["time"] - after, 0.0)
                return Clone(machine, (await ready.health(machine, KEY)).epoch, seen, error)

        yield await asyncio.gather(*(make() for _ in range(COUNT)))


@pytest.mark.timeout(240)
async def test_sixteen_clones_have_sixteen_answers_to_everything(
    clones: list[Clone], snapshot: Stored, bench: Bench
) -> None:
    answers = {name: {str(clone.seen[name]) for clone in clones} for name in clones[0].seen}
    same = {name: values for name, values in answers.items() if len(values) != COUNT}
    absent = {name for name, values in same.items() if values == {"None"}}
    assert absent <= {"boot_id", "ssh"} | ({"machine_id"} if bench.config.image is None else set())
    assert same.keys() == absent, same
    assert len({clone.epoch for clone in clones}) == COUNT, "the supervisor's own random numbers"
    assert max(clone.clock_error for clone in clones) < 1.0
    assert snapshot.snapshot is not None
    for clone, other in zip(clones, (*clones[1:], clones[0]), strict=True):
        assert await ready.answers(clone.machine, KEY)
        for name in (other.machine.id, snapshot.snapshot.machine_id):
            with pytest.raises(GuestUnreachable, match="token"):
                async with ready.link(clone.machine, KEY, known_as=name) as guest:
                    await guest.health()
