"""What holds for machines of QEMU's alone: what their processes may, and how they end."""

import asyncio
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts.errors import SandboxLost
from squib.contracts.machine import Machine
from squib.host import cgroups, processes, ready
from squib.host.drivers import qemu_qmp, qemu_start
from squib.host.drivers.base import Driver
from squib.host.ground import Ground
from tests import leaks
from tests.conformance.drivers.conftest import KEY, Create, Run, guest_config, machine_spec
from tests.needs import OF_DRIVER

pytestmark = pytest.mark.needs(*OF_DRIVER["qemu"])


@pytest.fixture
def driver_name() -> str:
    return "qemu"


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def relay_of(machine: Machine) -> int:
    (found,) = cgroups.members(machine.cgroups) - {machine.pid}
    return found


async def test_its_processes_have_no_right_that_a_guest_could_gain(create: Create) -> None:
    machine = await create()
    assert machine.pid is not None
    monitor, relay = status(machine.pid), status(relay_of(machine))
    for found in (monitor, relay):
        assert set(found["Uid"].split()) == set(found["Gid"].split()) == {str(machine.uid)}
        assert found["Groups"] == ""
        assert {found[kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert (monitor["NoNewPrivs"], monitor["Seccomp"]) == ("1", "2")
    root = Path(f"/proc/{machine.pid}/root")
    assert {path.name for path in root.iterdir()} <= {
        "usr",
        "proc",
        "dev",
        "bin",
        "sbin",
        "lib",
        "lib32",
        "lib64",
        "libx32",
    }
    assert list((root / "dev").iterdir()) == []
    for kind in ("mnt", "ipc", "uts", "net"):
        assert Path(f"/proc/{machine.pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()
    rooms = {Path(f"/proc/{pid}/ns/net").readlink() for pid in (machine.pid, relay_of(machine))}
    assert len(rooms) == 1
    assert Path("/proc/self/ns/net").readlink() not in rooms


async def test_the_monitor_holds_its_own_files_alone_and_can_reach_no_others_of_squibs(create: Create) -> None:
    machine, neighbour = await create(), await create()
    folder = Path(f"/proc/{machine.pid}/fd")
    held = {str(entry.readlink()).removesuffix(" (deleted)") for entry in folder.iterdir()}
    files = [path for path in held if path.startswith("/") and not path.startswith(("/dev/", "/memfd:"))]
    assert all(path.startswith((machine.directory, "/tmp/", "/var/tmp/")) for path in files)
    assert not [path for path in files if neighbour.id in path]
    written = Path(neighbour.directory) / "drive"
    assert written.stat().st_mode & 0o777 == 0o600
    with pytest.raises(PermissionError):
        _as_user(machine.uid or 0, Path(neighbour.directory) / qemu_start.CONTROL)


def _as_user(uid: int, path: Path) -> None:
    """Connect to the socket as that user, from a child of this process."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
        except OSError as error:
            code = error.errno or 1
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


async def test_the_relay_ends_with_the_machine_and_the_machine_is_then_dead(create: Create, driver: Driver) -> None:
    machine, neighbour = await create(), await create()
    relay = relay_of(machine)
    processes.kill([machine.pid or 0])
    async with asyncio.timeout(10):
        await processes.ended(relay)
        await processes.ended(machine.pid or 0)
    assert not await driver.alive(machine)
    assert (await ready.health(neighbour, KEY)).sandbox_id == neighbour.id


@pytest.mark.parametrize(
    ("memory", "python", "why"),
    [(64, None, "Kernel panic"), (128, "/no/such/python", "the image has no /no/such/python")],
)
async def test_what_keeps_a_machine_from_starting_is_told(
    ground: Ground, driver: Driver, memory: int, python: str | None, why: str
) -> None:
    spec = machine_spec(ground, memory=memory, cpu=1)
    spec = replace(spec, python=python or spec.python)
    place = ground.state.machine(spec.id)
    place.root.mkdir(mode=0o711)
    machine = await driver.create(spec, place.root, guest_config(spec.id))
    try:
        with pytest.raises(SandboxLost, match=why):
            await ready.wait(machine, driver, KEY, seconds=60)
        assert not await driver.alive(machine)
    finally:
        await driver.destroy(machine)
    assert await leaks.gone(str(place.root)) == []


async def test_a_full_drive_leaves_the_guest_its_events(create: Create, run: Run) -> None:
    machine = await create()
    async with qemu_qmp.connected(Path(machine.directory) / qemu_start.CONTROL) as monitor:
        assert (await monitor.command("query-status"))["status"] == "running"
    result = await run(machine, "fallocate -l 9500M a; fallocate -l 900M b; head -c 1M /dev/zero > c; stat -c %s c")
    assert int(result.stdout.split()[-1]) < 1 << 20
    assert "No space left" in result.stderr
    assert (await ready.health(machine, KEY)).sandbox_id == machine.id
