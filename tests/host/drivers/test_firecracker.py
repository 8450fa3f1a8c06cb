"""The driver on the stand-in: what each step's trouble ends in, and machines from boot to copies of them."""

import asyncio
import dataclasses
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from squib.contracts import ids
from squib.contracts.errors import InfrastructureError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Machine, MachineSpec
from squib.host import HostConfig, freezing, probes, ready
from squib.host.drivers import firecracker_steps as steps
from squib.host.drivers.base import Frozen
from squib.host.drivers.firecracker import FirecrackerDriver
from squib.host.firecracker import calls
from squib.host.ground import Ground
from squib.host.removal import remove_tree
from squib.link import GuestLink, guest_token, token_digest
from squib.testing.firecracker.install import install
from tests import leaks
from tests.needs import IMAGES

KEY = b"k" * 32
pytestmark = pytest.mark.needs("root", "bwrap", "unshare", "image")


@dataclass
class Stage:
    """A driver whose Firecracker is the stand-in, and the file that says what goes wrong."""

    driver: FirecrackerDriver
    ground: Ground
    faults: Path

    def spec(self) -> MachineSpec:
        base = self.ground.bases.default
        return MachineSpec(ids.new_id("mch"), base.image, base.name, base.drive, base.python, memory=256, disk=64)

    async def make(self, frozen: Frozen | None = None) -> Machine:
        spec = self.spec()
        place = self.ground.state.machine(spec.id)
        place.root.mkdir(mode=0o711)
        config = GuestConfig(spec.id, token_digest(guest_token(KEY, spec.id)), "unix:/run/squib/guest/guest.sock")
        return await self.driver.create(spec, place.root, config, frozen)

    def goes_wrong(self, step: str, **rule: Any) -> None:
        self.faults.write_text(json.dumps({step: rule}))

    async def left(self) -> list[str]:
        """What is left of all that was made, but directories: those are the host's to remove."""
        names = [path.name for path in self.ground.state.machines.iterdir()]
        return await leaks.gone(*names) if names else []


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """The stand-in's two programs, and a state directory: the guest's bundle and the probe's outcome stay in it."""
    with tempfile.TemporaryDirectory(prefix="sq-", dir="/tmp") as folder:
        place = Path(folder)
        place.chmod(0o755)
        install(place)
        (place / "state").mkdir(mode=0o711)
        for name in ("images", "kernel"):
            (place / "state" / name).symlink_to(IMAGES / name)
        yield place


@pytest.fixture
async def stage(place: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    config = HostConfig(place / "state", KEY, driver="firecracker", pool_size=0, image="python")
    ground = await probes.ground(config)
    driver = FirecrackerDriver(ground)
    if driver.recall() is None:
        found = await driver.probe()
        assert found.works, found
    yield Stage(driver, ground, place / "faults.json")
    (place / "faults.json").unlink(missing_ok=True)
    for path in ground.state.machines.iterdir():
        remove_tree(path)
    ground.children.close()
    ground.groups.close()


async def test_without_the_programs_it_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    found = await FirecrackerDriver(stage.ground).probe()
    assert not found.works
    assert found.why_not == "firecracker is not installed"
    assert found.advice


async def test_the_probe_boots_a_kernel_and_remembers_it(stage: Stage) -> None:
    found = await stage.driver.probe()
    assert found.works, found
    assert found.version == "1.17.0-dev (snapshots 11.0.0)"
    assert (found.snapshot, found.fork, found.pause, found.own_kernel) == (True,) * 4
    assert FirecrackerDriver(stage.ground).recall() == found
    assert list(stage.ground.state.machines.iterdir()) == []


async def test_a_probe_that_fails_says_why(stage: Stage) -> None:
    stage.goes_wrong("PUT /actions", do="refuse", message="Start microvm error: Kvm error: no")
    (stage.ground.state.root / "probe-firecracker.json").unlink()
    found = await stage.driver.probe()
    assert found.why_not == (
        "no machine of Firecracker's boots: the machine's start failed: Firecracker refused PUT /actions: "
        "Start microvm error: Kvm error: no (it said nothing)"
    )
    assert stage.driver.recall() is None


BOOT = {
    "serial": "PUT /serial",
    "machine": "PUT /machine-config",
    "kernel": "PUT /boot-source",
    "root": "PUT /drives/root",
    "drive": "PUT /drives/drive",
    "network": "PUT /network-interfaces/net",
    "entropy": "PUT /entropy",
    "start": "PUT /actions",
}
RESTORE = {"load": "PUT /snapshot/load", "limits": "PATCH /drives/drive", "resume": "PATCH /vm"}


def test_every_step_is_walked_through() -> None:
    assert [step.name for step in steps.STEPS if step.boot] == list(BOOT)
    assert [step.name for step in steps.STEPS if step.restore] == list(RESTORE)


async def test_whatever_step_of_a_boot_fails_nothing_is_left(stage: Stage) -> None:
    for number, (name, step) in enumerate(BOOT.items()):
        kind, says = (("die", "broke off|no answer"), ("refuse", "refused on demand"))[number % 2]
        stage.goes_wrong(step, do=kind)
        with pytest.raises(InfrastructureError, match=f"the machine's {name} failed: .*({says})"):
            await stage.make()
    stage.goes_wrong("start", do="die", code=148)
    with pytest.raises(InfrastructureError, match="ended before it listened"):
        await stage.make()
    assert await stage.left() == []


async def test_a_monitor_that_hangs_is_ended(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PUT_ENTROPY", dataclasses.replace(calls.PUT_ENTROPY, seconds=0.05))
    stage.goes_wrong("PUT /entropy", do="hang")
    with pytest.raises(InfrastructureError, match=r"the machine's entropy failed: .*did not answer"):
        await stage.make()
    assert await stage.left() == []


async def test_a_creation_that_is_cancelled_leaves_nothing(stage: Stage) -> None:
    stage.goes_wrong("PUT /entropy", do="hang")
    making = asyncio.create_task(stage.make())
    machines = stage.ground.state.machines
    while not any(machines.glob("*/machine.json")):  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert await stage.left() == []


async def test_from_boot_to_copies(stage: Stage, shared_tmp: Path) -> None:
    machine = await stage.make()
    await ready.wait(machine, stage.driver, KEY)
    async with GuestLink(machine.endpoint, guest_token(KEY, machine.id), uid=machine.uid) as guest:
        await guest.write("kept.txt", b"work")
    for name in ("one", "two"):
        (shared_tmp / name).mkdir()

    jail = Path(machine.directory, "jail", "firecracker", machine.id, "root")
    (jail / "faults.json").write_text('{"PUT /snapshot/create": {"do": "refuse", "message": "no room"}}')
    with pytest.raises(InfrastructureError, match="no room"):
        await freezing.freeze(stage.driver, machine, KEY, shared_tmp / "one", keep=True)
    (jail / "faults.json").unlink()
    assert await ready.answers(machine, KEY)  # it went on

    await freezing.freeze(stage.driver, machine, KEY, shared_tmp / "one", keep=True)
    assert sorted(path.name for path in (shared_tmp / "one").iterdir()) == ["drive.ext4", "memory", "state"]
    frozen = Frozen(shared_tmp / "one", machine.spec)
    for name, step in RESTORE.items():
        stage.goes_wrong(step, do="die")
        with pytest.raises(InfrastructureError, match=f"the machine's {name} failed: "):
            await stage.make(frozen)
    stage.faults.unlink()

    copies = [await stage.make(frozen) for _ in range(2)]
    for copy in copies:
        await freezing.wake(stage.driver, copy, KEY, machine.id)
        async with GuestLink(copy.endpoint, guest_token(KEY, copy.id), uid=copy.uid) as guest:
            assert await guest.read("kept.txt") == b"work"
    assert await ready.answers(machine, KEY)

    await freezing.freeze(stage.driver, copies[0], KEY, shared_tmp / "two", keep=False)
    assert not await stage.driver.alive(copies[0])
    again = await stage.make(Frozen(shared_tmp / "two", copies[0].spec))
    await freezing.wake(stage.driver, again, KEY, copies[0].id)
    for each in (machine, *copies, again):
        await stage.driver.destroy(each)
        await stage.driver.destroy(each)
    assert await stage.left() == []


async def test_a_damaged_snapshot_is_refused(stage: Stage, shared_tmp: Path) -> None:
    machine = await stage.make()
    await ready.wait(machine, stage.driver, KEY)
    (shared_tmp / "one").mkdir()
    await freezing.freeze(stage.driver, machine, KEY, shared_tmp / "one", keep=False)
    state = shared_tmp / "one" / "state"
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(InfrastructureError, match=r"the machine's load failed: .*CRC64 validation failed"):
        await stage.make(Frozen(shared_tmp / "one", machine.spec))
    assert await stage.left() == []


async def test_what_the_machines_user_puts_in_the_monitors_place_is_not_taken(stage: Stage, shared_tmp: Path) -> None:
    """A guest that has taken its monitor over must not get a file of the host's into a snapshot."""
    machine = await stage.make()
    await ready.wait(machine, stage.driver, KEY)
    (shared_tmp / "one").mkdir()
    jail = Path(machine.directory, "jail", "firecracker", machine.id, "root")
    (jail / "drive.ext4").rename(jail / "elsewhere")
    secret = shared_tmp / "secret"
    secret.write_text("the host's")
    for plant in ((jail / "drive.ext4").symlink_to, (jail / "drive.ext4").hardlink_to):
        plant(secret)
        with pytest.raises(InfrastructureError):
            await stage.driver.freeze(machine, shared_tmp / "one", keep=True)
        assert not (shared_tmp / "one" / "drive.ext4").exists()
        (jail / "drive.ext4").unlink()
        for part in (shared_tmp / "one").iterdir():
            part.unlink()
    await stage.driver.destroy(machine)
