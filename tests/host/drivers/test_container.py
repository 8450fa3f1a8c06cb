"""The container driver on a real Podman: what it does with what others have left or ended."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.errors import InfrastructureError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Machine, MachineSpec
from squib.host import HostConfig, probes, processes, records
from squib.host.drivers import container, trial
from squib.host.drivers.container import ContainerDriver
from squib.host.drivers.container_engine import Engine
from squib.host.ground import Ground
from squib.host.images import Images
from squib.host.removal import remove_tree
from tests import leaks
from tests.host.conftest import KEY
from tests.needs import IMAGES, OF_DRIVER

real = pytest.mark.needs(*OF_DRIVER["container"])


@pytest.fixture
async def ground(shared_tmp: Path) -> AsyncIterator[Ground]:
    made = await probes.ground(HostConfig(shared_tmp, KEY))
    yield made
    made.children.close()
    made.groups.close()
    assert await leaks.gone(str(shared_tmp)) == []
    assert [path for path in Path("/sys/fs/cgroup").glob(f"*/{made.groups.name}") if path.is_dir()] == []


async def start(ground: Ground, driver: ContainerDriver, spec: MachineSpec) -> Machine:
    place = ground.state.machine(spec.id)
    place.root.mkdir(mode=0o711)
    config = GuestConfig(spec.id, "", "unix:/run/squib/guest/guest.sock", environment=spec.environment)
    return await driver.create(spec, place.root, config)


def watchers(machine: Machine) -> list[int]:
    return [pid for pid in processes.naming(machine.id) if "conmon" in Path(f"/proc/{pid}/comm").read_text()]


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("neither Podman nor Docker is installed", "apt-get install podman"),
        ("docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock", "group docker"),
        ("permission denied while trying to connect to unix:///var/run/docker.sock", "group docker"),
        ("docker: its containers run on another kernel (Docker Desktop)", "Linux machine"),
        ('podman: command required for rootless mode: exec: "newuidmap": not found', "uidmap"),
        ("podman: crun: cgroups in hybrid mode not supported", "runc"),
        ("podman: unknown flag: --unsetenv-all", "4.3"),
        ("/usr/bin/python3 is older than 3.11", "3.11"),
    ],
)
def test_what_went_wrong_comes_with_what_to_do(said: str, advice: str) -> None:
    assert advice in trial.advise(said, container._ADVICE, "")


async def test_a_machine_without_an_engine_is_told_what_to_install(
    shared_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await probes.ground(HostConfig(shared_tmp, KEY), probing=True)
    monkeypatch.setenv("PATH", str(shared_tmp))
    found = await ContainerDriver(here).probe()
    assert not found.works
    assert "neither Podman nor Docker" in (found.why_not or "")
    assert "apt-get install podman" in (found.advice or "")


@real
async def test_a_probe_is_remembered_with_its_engine(ground: Ground) -> None:
    found = await ContainerDriver(ground).probe()
    assert found.works, found
    assert ContainerDriver(ground).recall() == found


@real
async def test_what_the_engine_lost_while_nobody_looked_is_removed_all_the_same(ground: Ground) -> None:
    driver = ContainerDriver(ground)
    machine = await start(ground, driver, MachineSpec(ids.new_id("mch")))
    (watcher,) = watchers(machine)
    os.kill(watcher, signal.SIGKILL)
    os.kill(machine.pid or 0, signal.SIGKILL)
    await processes.ended(machine.pid or 0)
    await driver.destroy(machine)
    assert await leaks.gone(machine.id) == []
    record = records.load(Path(machine.directory))
    assert record is not None
    await ContainerDriver(ground).destroy(record)
    remove_tree(Path(machine.directory))


@real
async def test_a_container_whose_machine_has_no_directory_goes_with_the_next_start(ground: Ground) -> None:
    driver = ContainerDriver(ground)
    stray = await start(ground, driver, MachineSpec(ids.new_id("mch")))
    Path(stray.directory).rename(ground.state.root / "lost")
    other = ContainerDriver(ground)
    machine = await start(ground, other, MachineSpec(ids.new_id("mch")))
    await processes.ended(stray.pid or 0)
    assert watchers(stray) == []
    assert await other.alive(machine)
    await other.destroy(machine)
    for path in (ground.state.root / "lost", Path(machine.directory)):
        remove_tree(path)
    await driver.destroy(stray)


@real
@pytest.mark.needs("root")
async def test_an_engine_that_fails_keeps_nothing_running(ground: Ground) -> None:
    driver = ContainerDriver(ground)
    machine = await start(ground, driver, MachineSpec(ids.new_id("mch")))
    file = Path(machine.directory) / "engine.json"
    known = file.read_bytes()
    file.write_bytes(Engine("podman", "/bin/false").saved())
    with pytest.raises(InfrastructureError, match="can't remove"):
        await driver.destroy(machine)
    assert not await driver.alive(machine)
    assert [path for path in machine.cgroups if Path(path).exists()] == []
    file.write_bytes(known)
    await driver.destroy(machine)
    assert watchers(machine) == []
    await asyncio.to_thread(remove_tree, Path(machine.directory))


@real
@pytest.mark.needs("image")
async def test_a_machine_is_made_of_an_images_files(ground: Ground) -> None:
    kept = Images(IMAGES).get("python")
    spec = MachineSpec(ids.new_id("mch"), str(kept.rootfs), "python", python=kept.image.python)
    driver = ContainerDriver(ground)
    machine = await start(ground, driver, spec)
    root = Path(f"/proc/{machine.pid}/root")
    assert (root / "usr/local/bin/uv").exists() or (root / "usr/local/bin/pytest").exists()
    assert "agent:x:1000" in (root / "etc/passwd").read_text()
    assert (root / "usr/bin/python3").stat().st_ino == (kept.rootfs / "usr/bin/python3").stat().st_ino
    await driver.destroy(machine)
    await asyncio.to_thread(remove_tree, Path(machine.directory))
