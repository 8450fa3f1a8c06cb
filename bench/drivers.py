"""Machines by driver: cold, restored, from the pool; bursts, density, forks, suspension; beside bare programs.

All but plain processes are made of the image `python` of the store in SQUIB_TEST_IMAGES, which `make setup-test`
fills.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from bench import floors, memory, node
from bench.harness import Bench, Target
from squib.contracts.ids import new_id
from squib.contracts.machine import Capability
from squib.contracts.sandbox import SandboxSpec
from squib.host import Host, HostConfig, probe_all, snapshots

IMAGE = "python"
STORE = Path(os.environ.get("SQUIB_TEST_IMAGES") or "/var/tmp/squib-images")
STARTS, BURST, FORKS, SUSPENSIONS = 20, 20, 8, 10
#: Median milliseconds from a machine that was frozen to its first answer, on 2 cores without hardware virtualisation.
RESTORED = {"qemu": 250.0, "gvisor": 300.0}
WARM = 10.0
BARE, WRAPPED = "a bare HTTP server", "bubblewrap and a bare HTTP server"


async def run(bench: Bench) -> None:
    """All rows, driver by driver, of those that work here."""
    with floors.scratch() as directory:
        state = directory / "state"
        _borrow(state)
        bare = await _floor(directory, floors.plain)
        wrapped = await _floor(directory, floors.sandbox)
        bench.add("start: bare HTTP server", "ms", bare)
        bench.add("start: bubblewrap and that server", "ms", wrapped, floor=bare, floor_of=BARE)
        for capability in await probe_all(HostConfig(state_dir=state, key=node.KEY)):
            if capability.works:
                await _Driver(bench, state, capability, wrapped).all()
            else:
                bench.console.print(f"  {capability.driver}: {capability.why_not}", markup=False)


def _borrow(state: Path) -> None:
    """Let this state directory have the store's images and kernel."""
    state.mkdir(mode=0o711)
    for name in ("images", "kernel"):
        if (STORE / name).is_dir():
            (state / name).symlink_to(STORE / name)


async def _floor(
    directory: Path, start: Callable[[Path], contextlib.AbstractAsyncContextManager[tuple[Path, int]]]
) -> list[float]:
    samples = []
    for _ in range(STARTS):
        began = time.perf_counter()
        async with start(directory):
            samples.append((time.perf_counter() - began) * 1000)
    return samples


class _Silent:
    """Progress that nobody watches."""

    def step(self, name: str, number: int, total: int) -> None:
        """Nothing."""

    def line(self, text: str) -> None:
        """Nothing."""


async def _settled(host: Host, restored: bool) -> None:
    """Until the host hands out what it is going to hand out: it looks a new snapshot over before it uses it."""
    while True:
        machine = await node.ready(host)
        await node.clean(host, [machine])
        if (machine.snapshot is not None) == restored:
            return


class _Driver:
    """One driver's rows."""

    def __init__(self, bench: Bench, state: Path, capability: Capability, wrapped: list[float]):
        self._bench, self._state, self._can, self._wrapped = bench, state, capability, wrapped
        self._name = capability.driver
        self._image = IMAGE if capability.isolation else None  # a plain process has the host's own files

    async def all(self) -> None:
        """Cold first; then from a snapshot, where the driver can."""
        await self._starts("cold")
        if self._can.snapshot:
            began = time.perf_counter()
            stored = await snapshots.build(self._config(), None, _Silent(), driver=self._name)
            self._row("snapshot: build", "s", [time.perf_counter() - began])
            assert stored.snapshot is not None
            self._row("snapshot: size", "MB", [stored.snapshot.size / 1e6])
            await self._starts("restored", target=Target(median=RESTORED.get(self._name)))
        await self._warm()
        async with self._host() as host:
            if self._can.fork:
                await self._forks(host)
            if self._can.pause:
                await self._suspensions(host)

    def _config(self) -> HostConfig:
        return node.config(self._state, driver=self._name, image=self._image)

    def _host(self, pool_size: int = 0) -> contextlib.AbstractAsyncContextManager[Host]:
        return node.host(self._state, driver=self._name, image=self._image, pool_size=pool_size)

    def _row(self, what: str, unit: str, samples: list[float], *, target: Target | None = None) -> None:
        floor = self._wrapped if unit == "ms" and what.startswith("start") else []
        self._bench.add(
            f"{self._name}: {what}", unit, samples, floor=floor, floor_of=WRAPPED if floor else "", target=target
        )

    async def _starts(self, how: str, target: Target | None = None) -> None:
        """One by one, then many at once, and what those hold while they idle."""
        async with self._host() as host:
            await _settled(host, how == "restored")
            samples = []
            for _ in range(STARTS):
                began = time.perf_counter()
                machine = await node.ready(host)
                samples.append((time.perf_counter() - began) * 1000)
                assert (machine.snapshot is not None) == (how == "restored"), machine
                await node.clean(host, [machine])
            self._row(f"start, {how}, to the first answer", "ms", samples, target=target)
            if how == "cold" and self._can.emulated:
                return  # twenty boots of a minute of processor time each
            began = time.perf_counter()
            machines = list(await asyncio.gather(*(node.ready(host) for _ in range(BURST))))
            self._row(f"{BURST} at once, {how}", "s", [time.perf_counter() - began])
            held = [memory.of_user(machine.uid) for machine in machines if machine.uid is not None]
            if held:
                self._row(f"idle, {how}, of {BURST}: PSS each", "MB", held)
            await node.clean(host, machines)

    async def _warm(self) -> None:
        async with self._host(pool_size=STARTS) as host:
            await node.pooled(self._state, STARTS)
            claims, answers, machines = [], [], []
            for _ in range(STARTS):
                began = time.perf_counter()
                machine = await host.claim(SandboxSpec(id=new_id("sbx"), task_id=new_id("task")))
                claims.append((time.perf_counter() - began) * 1000)
                async with node.link(machine) as guest:
                    await guest.health()
                answers.append((time.perf_counter() - began) * 1000)
                assert machine.warm, machine
                machines.append(machine)
            self._row("claim from the pool", "ms", claims, target=Target(median=WARM))
            self._row("start, from the pool, to the first answer", "ms", answers)
            await node.clean(host, machines)

    async def _forks(self, host: Host) -> None:
        samples = []
        for _ in range(5):
            first = await node.ready(host)
            assert first.sandbox_id is not None
            specs = [SandboxSpec(id=new_id("sbx"), task_id=new_id("task")) for _ in range(FORKS)]
            began = time.perf_counter()
            copies = await host.fork(first.sandbox_id, specs)
            samples.append(time.perf_counter() - began)
            await node.clean(host, [first, *copies])
        self._row(f"fork of {FORKS}", "s", samples)

    async def _suspensions(self, host: Host) -> None:
        machine = await node.ready(host)
        assert machine.sandbox_id is not None
        down, up = [], []
        for _ in range(SUSPENSIONS):
            began = time.perf_counter()
            assert await host.suspend(machine.sandbox_id)
            down.append((time.perf_counter() - began) * 1000)
            began = time.perf_counter()
            awake = await host.resume(machine.sandbox_id)
            assert awake is not None
            async with node.link(awake) as guest:
                await guest.health()
            up.append((time.perf_counter() - began) * 1000)
        self._row("suspend", "ms", down)
        self._row("resume, to the first answer", "ms", up)
        await node.clean(host, [machine])
