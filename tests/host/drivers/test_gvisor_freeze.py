"""gVisor machines frozen and let go on: as others, twice, with their work; and what is refused."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.errors import InfrastructureError
from squib.contracts.guest import FreezeRequest, GuestConfig, TerminalRequest
from squib.contracts.machine import Machine, MachineSpec
from squib.host import HostConfig, freezing, probes, ready
from squib.host.drivers import gvisor_frozen
from squib.host.drivers.base import Freezing, Frozen
from squib.host.drivers.gvisor import GvisorDriver
from squib.host.drivers.gvisor_frozen import processor
from squib.host.ground import Ground
from squib.host.layout import MachineDir
from squib.host.removal import remove_tree
from squib.link import guest_token, token_digest
from tests import leaks
from tests.host.conftest import KEY

THAW = "0123456789abcdef"
Start = Callable[..., Awaitable[Machine]]


@pytest.fixture
async def ground(shared_tmp: Path) -> AsyncIterator[Ground]:
    made = await probes.ground(HostConfig(shared_tmp, KEY))
    yield made
    made.children.close()
    made.groups.close()


@pytest.fixture
async def driver(ground: Ground) -> GvisorDriver:
    return GvisorDriver(ground)


@pytest.fixture
async def start(ground: Ground, driver: GvisorDriver) -> AsyncIterator[Start]:
    """Starts a machine, or lets one go on and be itself; in the end nothing of any must be left."""
    made: dict[str, Machine] = {}
    begun: set[str] = set()

    async def begin(frozen: Frozen | None = None, machine_id: str | None = None) -> Machine:
        spec = MachineSpec(machine_id or ids.new_id("mch"))
        place = ground.state.machine(spec.id)
        place.root.mkdir(mode=0o711, exist_ok=True)
        begun.add(spec.id)
        digest = token_digest(guest_token(KEY, spec.id))
        config = GuestConfig(spec.id, digest, "unix:/run/squib/guest/guest.sock")
        machine = made[spec.id] = await driver.create(spec, place.root, config, frozen)
        if frozen is None:
            await ready.wait(machine, driver, KEY)
        else:
            await freezing.wake(driver, machine, KEY, frozen.spec.id)
        return machine

    yield begin
    for machine in made.values():
        await driver.destroy(machine)
    for machine_id in begun:
        await asyncio.to_thread(remove_tree, ground.state.machine(machine_id).root)
    assert await leaks.gone(*begun) == []


async def said(machine: Machine, command: str) -> str:
    async with ready.link(machine, KEY, seconds=30) as guest:
        result = await guest.terminal(TerminalRequest(command))
    assert result.exit_code == 0, result
    return result.stdout.strip()


async def freeze(driver: GvisorDriver, machine: Machine, target: Path, *, keep: bool = False) -> Frozen:
    target.mkdir()
    async with ready.link(machine, KEY, seconds=30) as guest:
        await guest.freeze(FreezeRequest(THAW))
    await driver.freeze(replace(machine, thaw=THAW), target, keep=keep)
    return Frozen(target, machine.spec, THAW)


def sealed(frozen: Path) -> Path:
    """The directory of the frozen memory, once it is seen that only squib itself can change it."""
    (place,) = [path for path in frozen.iterdir() if path.is_dir()]
    for path in (place, *place.iterdir()):
        assert path.stat().st_uid == os.geteuid()
        assert stat.S_IMODE(path.stat().st_mode) in (0o711, 0o444)
    return place


@pytest.mark.needs("runsc", "libseccomp")
async def test_a_suspended_machine_goes_on_in_its_place_and_what_is_not_whole_is_refused(
    driver: GvisorDriver, start: Start, shared_tmp: Path
) -> None:
    assert isinstance(driver, Freezing)
    machine = await start()
    await said(machine, "mkdir deep && chmod 700 deep && echo work > deep/file && echo memory > /tmp/file")
    fabric = await driver.fabric(machine.spec)
    frozen = await freeze(driver, machine, Path(machine.directory) / "frozen")
    assert not await driver.alive(machine)
    assert await leaks.gone(machine.id) == []
    assert await driver.fabric(machine.spec) == fabric

    again = await start(frozen, machine.id)
    assert again.uid == machine.uid
    assert await said(again, "cat deep/file /tmp/file; echo more > deep/more") == "work\nmemory"
    kept = sealed(frozen.directory)

    state = kept / "checkpoint.img"
    os.truncate(state, state.stat().st_size // 2)
    with pytest.raises(InfrastructureError, match="did not start"):
        await start(frozen)
    state.unlink()
    with pytest.raises(InfrastructureError, match="no frozen machine"):
        await start(frozen)
    state.symlink_to("/etc/shadow")
    with pytest.raises(InfrastructureError, match="squib's own"):
        await start(frozen)
    assert await said(again, "cat deep/more") == "more"


@pytest.mark.needs("runsc", "libseccomp")
async def test_two_others_go_on_from_one_that_runs_on(driver: GvisorDriver, start: Start, shared_tmp: Path) -> None:
    machine = await start()
    await said(machine, "echo work > file && echo memory > /tmp/file && echo home > ~/file")
    frozen = await freeze(driver, machine, shared_tmp / "frozen", keep=True)
    await ready.wait(machine, driver, KEY)
    assert await said(machine, "cat file /tmp/file ~/file") == "work\nmemory\nhome"

    others = [await start(frozen), await start(frozen)]
    machines = [machine, *others]
    if os.geteuid() == 0:
        assert len({m.uid for m in machines}) == 3
    secret = sealed(frozen.directory).name
    for other in others:
        assert await said(other, "cat /tmp/file ~/file; ls -A; id -u") == "memory\nhome\n1000"
        assert (
            await said(other, "stat -c %u . /tmp/file ~; echo $$ > file; echo $$ > /tmp/file") == "1000\n1000\n1000"
        )
        written = MachineDir(Path(other.directory)).workspace / "file"
        assert written.stat().st_uid == (os.geteuid() if other.uid is None else other.uid)
        assert leaks.find(secret) == []
    assert await said(machine, "cat file /tmp/file") == "work\nmemory"
    epochs = {(await ready.health(m, KEY)).epoch for m in machines}
    assert len(epochs) == 3


@pytest.mark.needs("runsc", "libseccomp")
async def test_one_that_does_not_let_go_runs_on(
    driver: GvisorDriver, start: Start, shared_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gvisor_frozen, "LET_GO_SECONDS", 0.05)
    machine = await start()
    target = shared_tmp / "frozen"
    target.mkdir()
    with pytest.raises(InfrastructureError, match="still listens"):
        await driver.freeze(machine, target, keep=True)
    assert list(target.iterdir()) == []
    assert await said(machine, "echo on") == "on"
    await driver.destroy(machine)
    with pytest.raises(InfrastructureError, match="could not freeze"):
        await driver.freeze(machine, target, keep=False)
    assert list(target.iterdir()) == []


def test_a_processor_is_named_by_its_features_alone() -> None:
    one = "processor\t: 0\nvendor_id\t: X\ncpu MHz\t: 1000\nflags\t\t: fpu sse2\n\nprocessor\t: 1\n"
    assert processor(one) == processor(one.replace("1000", "2000").replace("fpu sse2", "sse2 fpu"))
    assert len({processor(one), processor(one.replace("sse2", "avx")), processor(one.replace(": X", ": Y"))}) == 3
