"""Snapshots: built beside a host, used, and refused by name where they are damaged or of another make."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from squib.contracts import codec, ids
from squib.contracts.errors import Conflict, DriverUnavailable, ImageError, NotFound
from squib.contracts.sandbox import SandboxSpec
from squib.contracts.snapshot import Snapshot
from squib.gateway import Gateway
from squib.host import Host, HostConfig
from squib.host.images import Images
from squib.host.keeper import Keeper
from squib.host.snapshots import Snapshots, Stored, build, verdicts
from squib.host.snapshots.shelf import MOST_FAILURES
from squib.host.snapshots.store import take_over
from tests import leaks
from tests.conformance.drivers.bench import Bench, Watcher
from tests.conformance.drivers.conftest import Run


@asynccontextmanager
async def _host(config: HostConfig) -> AsyncIterator[Host]:
    async with Gateway({}) as gateway, Host(config, gateway) as host:
        await host._shelf.looked.wait()
        yield host


def _sandbox() -> SandboxSpec:
    return SandboxSpec(ids.new_id("sbx"), ids.new_id("task"))


class Copies:
    """Copies of a snapshot in a state directory of their own, each to be broken in its way."""

    def __init__(self, original: Stored, state: Path):
        assert original.snapshot is not None
        self._original = original
        self._manifest: Snapshot = original.snapshot
        self.store = Snapshots(state)
        self.store.root.mkdir(mode=0o711)

    def make(self, **changes: object) -> Stored:
        """One more, under an id of its own, its manifest changed. It shares the files of its parts."""
        name = ids.new_id("snp")
        subprocess.run(["cp", "-al", self._original.path, self.store.root / name], check=True)
        copy = Stored(name, self.store.root / name, None)
        self.write(copy, codec.dumps(replace(self._manifest, **{"id": name, **changes})))  # type: ignore[arg-type]
        return self.store.get(name)

    @staticmethod
    def write(copy: Stored, manifest: bytes) -> None:
        (copy.path / "manifest.json").unlink()
        (copy.path / "manifest.json").write_bytes(manifest)

    def part(self, copy: Stored) -> Path:
        """A small part that is the copy's own from now on."""
        path = copy.parts / min(self._manifest.parts, key=lambda part: part.size).name
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        return path

    def broken(self) -> dict[str, str]:
        """Every way to be of no use: which snapshot, and what is to be said of it."""
        fabric, wrong = self._manifest.fabric, {}
        for name in ("version", "kernel", "cpu"):
            other = replace(fabric, **{name: "another"})
            wrong[self.make(fabric=other).id] = f"its {name} is another, here it is {getattr(fabric, name)}"
        wrong[self.make(guest="guest-0123.pyz").id] = "its guest is guest-0123.pyz"
        wrong[self.make(made_with="0123").id] = "other settings"
        wrong[self.make(image="0" * 64, image_name="host-or-other").id] = "there is no image host-or-other"
        wrong[self.make(id=ids.new_id("snp")).id] = "its manifest is that of"
        wrong[self.make(version=99).id] = "of version 99"
        self.write(rubbish := self.make(), b'{"id": 1')
        wrong[rubbish.id] = "its manifest can't be read"
        flipped = self.part(copy := self.make())
        content = bytearray(flipped.read_bytes())
        content[len(content) // 2] ^= 1
        flipped.write_bytes(content)
        wrong[copy.id] = "is damaged"
        longer = self.part(copy := self.make())
        longer.write_bytes(longer.read_bytes() + b"x")
        wrong[copy.id] = "bytes instead of"
        self.part(copy := self.make()).unlink()
        wrong[copy.id] = "can't be read"
        copy = self.make()
        (copy.parts / "strange").touch()
        wrong[copy.id] = "not in its manifest"
        return wrong


@pytest.fixture
def copies(bench: Bench, snapshot: Stored, shared_tmp: Path) -> Copies:
    bench.teach(shared_tmp)
    return Copies(snapshot, shared_tmp)


async def test_one_that_is_of_no_use_is_refused_by_name_and_the_machine_boots(
    bench: Bench, copies: Copies, shared_tmp: Path, run: Run
) -> None:
    config, wrong = replace(bench.config, state_dir=shared_tmp), copies.broken()
    found = {stored.id: why or "" for stored, why in await verdicts(config)}
    assert found.keys() == wrong.keys()
    assert {name: why for name, why in found.items() if wrong[name] not in why} == {}
    with capture_logs() as logs:
        async with _host(config) as host:
            machine = await host.claim(_sandbox())
            assert machine.snapshot is None
            assert (await run(machine, "echo booted")).stdout == "booted\n"
    said = {line["snapshot"]: line["reason"] for line in logs if line["event"] == "a snapshot is not used"}
    assert said == found


async def test_one_is_used_until_it_changes_or_goes(bench: Bench, copies: Copies, shared_tmp: Path, run: Run) -> None:
    good = copies.make()
    config = replace(bench.config, state_dir=shared_tmp)
    assert [(stored.id, why) for stored, why in await verdicts(config)] == [(good.id, None)]
    async with _host(config) as host:
        spec = _sandbox()
        machine = await host.claim(spec)
        assert machine.snapshot == good.id
        assert (await run(machine, "cat /proc/self/comm; ls")).stdout == "cat\n", "an empty workspace"
        with pytest.raises(Conflict, match="1 machines run from"):
            copies.store.remove(good.id)
        assert await host.alive(machine)
        part = copies.part(good)
        part.write_bytes(part.read_bytes()[:-1] + b"x")
        with capture_logs() as logs:
            assert (await host.claim(_sandbox())).snapshot is None, "it has changed since it was verified"
            async with asyncio.timeout(60):
                while not any("is damaged" in line.get("reason", "") for line in logs):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        await host.delete(spec.id)
        assert copies.store.remove(good.id[-10:]).id == good.id
        with pytest.raises(NotFound):
            copies.store.get(good.id)


async def test_one_that_nothing_goes_on_from_is_given_up(
    bench: Bench, copies: Copies, shared_tmp: Path, run: Run
) -> None:
    """It looks whole, and is not: so it was made."""
    copy = copies.make()
    assert copy.snapshot is not None
    for part in copy.snapshot.parts:
        (copy.parts / part.name).unlink()
        (copy.parts / part.name).write_bytes(b"rubbish" * 100)
    copies.write(copy, codec.dumps(replace(copy.snapshot, parts=take_over(copy.parts))))
    with capture_logs() as logs:
        async with _host(replace(bench.config, state_dir=shared_tmp)) as host:
            machine = await host.claim(_sandbox())
            assert machine.snapshot is None
            assert (await run(machine, "echo booted")).stdout == "booted\n"
            failures = [line for line in logs if line["event"].startswith("a machine did not go on")]
            assert [(line["snapshot"], line["given_up"]) for line in failures] == [(copy.id, False)], logs
            order = await host._order(_sandbox())
            for _ in range(MOST_FAILURES - 1):
                found = host._shelf.find(order)
                assert found is not None
                host._shelf.failed(found, "again")
            assert host._shelf.find(order) is None


@pytest.fixture
def boots_quickly(bench: Bench) -> None:
    if bench.capability.emulated:
        pytest.skip("its machines take long to boot here, and what is shown is the host's doing, not the driver's")


@pytest.mark.usefixtures("boots_quickly")
async def test_it_is_built_beside_a_host_which_then_uses_it(
    bench: Bench, snapshot: Stored, shared_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.teach(shared_tmp)
    monkeypatch.setattr("squib.host.keeper.LEFTOVER_AGE", -1.0)
    config = replace(bench.config, state_dir=shared_tmp)
    async with _host(config) as host:

        class Sweeping(Watcher):
            def step(self, name: str, number: int, total: int) -> None:
                super().step(name, number, total)
                sweeps.append(asyncio.ensure_future(Keeper(host._fleet).sweep()))

        sweeps: list[asyncio.Future[None]] = []
        built = await build(config, None, watcher := Sweeping())
        await asyncio.gather(*sweeps)
        assert watcher.steps == ["boot", "warm up", "freeze", "digest"]
        order = await host._order(_sandbox())
        async with asyncio.timeout(60):
            while host._shelf.find(order) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (await host.claim(_sandbox())).snapshot == built.id
    if bench.config.image is not None:  # not by `remove`, which the shared images would not survive if it worked
        images = Images(shared_tmp)
        with pytest.raises(Conflict, match=built.id):
            images._check_unused(images.get(bench.config.image))
    assert leaks.find(str(shared_tmp)) == []


@pytest.mark.usefixtures("boots_quickly")
@pytest.mark.parametrize("step", ["boot", "freeze"])
async def test_a_build_that_is_cancelled_leaves_nothing(
    bench: Bench, snapshot: Stored, shared_tmp: Path, step: str
) -> None:
    bench.teach(shared_tmp)
    reached = asyncio.Event()

    class Waiting(Watcher):
        def step(self, name: str, number: int, total: int) -> None:
            if name == step:
                reached.set()

    building = asyncio.create_task(build(replace(bench.config, state_dir=shared_tmp), None, Waiting()))
    await reached.wait()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert Snapshots(shared_tmp).all() == []
    assert [path.name for path in (shared_tmp / "snapshots").iterdir()] == ["lock"]
    assert list((shared_tmp / "machines").iterdir()) == []
    assert await leaks.gone(str(shared_tmp)) == []


@pytest.mark.usefixtures("boots_quickly")
async def test_a_warm_up_that_fails_says_which(bench: Bench, snapshot: Stored, shared_tmp: Path) -> None:
    if bench.config.image is None:
        pytest.skip("the image python is not there")
    real = Images(bench.state).get(bench.config.image)
    other = shared_tmp / "images" / ("0" * 64)
    (shared_tmp / "images" / "names").mkdir(parents=True)
    other.mkdir()
    for path in (real.rootfs, real.drive):
        (other / path.name).symlink_to(path)
    manifest = replace(real.image, digest=other.name, warmup=("true", "echo out of luck; exit 3"))
    (other / "manifest.json").write_bytes(codec.dumps(manifest))
    (shared_tmp / "images" / "names" / "python").symlink_to(f"../{other.name}")
    bench.teach(shared_tmp)
    with pytest.raises(ImageError, match="out of luck"):
        await build(replace(bench.config, state_dir=shared_tmp), "python", Watcher())
    assert Snapshots(shared_tmp).all() == []
    assert leaks.find(str(shared_tmp)) == []


async def test_a_driver_that_can_not_freeze_says_so(bench: Bench, shared_tmp: Path) -> None:
    if bench.capability.snapshot:
        pytest.skip("it can freeze machines")
    with pytest.raises(DriverUnavailable, match="can't freeze"):
        await build(replace(bench.plain, state_dir=shared_tmp), None, Watcher())
    assert list((shared_tmp / "machines").iterdir()) == []
