"""The guest in bubblewrap: start, memory, commands one by one and many at once, floods, a paced line."""

import asyncio
import contextlib
import hashlib
import shlex
import time
from pathlib import Path

from bench import floors, memory, node
from bench.harness import Bench, Target
from squib.contracts.guest import TerminalRequest, TerminalResult
from squib.host import Host
from squib.link import GuestLink

LINES = 100_000
LINE = "x" * 99
FLOOD = f"yes {LINE} | head -n {LINES}"
PACED = 300
#: Prints the time every 10 ms.
PACE = f"import time\nfor _ in range({PACED}): time.sleep(0.01); print(time.time(), flush=True)"
PACE_COMMAND = f"{floors.PYTHON} -c {shlex.quote(PACE)}"
BARE = "bubblewrap and a bare HTTP server"


async def run(bench: Bench) -> None:
    """All rows of the group."""
    with floors.scratch() as directory:
        async with node.host(directory / "state") as host:
            await _start(bench, directory, host)
            await _inside(bench, directory, host)


async def _inside(bench: Bench, directory: Path, host: Host) -> None:
    machine = await node.ready(host)
    assert machine.pid is not None
    pid = memory.below(machine.pid, "guest.pyz")
    idle = [memory.resident(pid)]
    async with floors.sandbox(directory) as (bare, bare_pid), node.link(machine) as guest:
        inner = memory.below(bare_pid, "server.py")
        floor = [memory.resident(inner)]
        bench.add("guest: idle, resident", "MB", idle, floor=floor, floor_of=BARE, target=Target(median=22))
        for measure in (_echo, _many, _beside, _flood):
            await measure(bench, guest, bare)
        peak, floor = [memory.peak(pid)], [memory.peak(inner)]
        bench.add("guest: peak after the flood", "MB", peak, floor=floor, floor_of=BARE, target=Target(median=40))
        await _paced(bench, guest)


async def _start(bench: Bench, directory: Path, host: Host) -> None:
    async def bare() -> None:
        async with contextlib.AsyncExitStack() as stack:
            started = time.perf_counter()
            await stack.enter_async_context(floors.sandbox(directory))
            floor.append((time.perf_counter() - started) * 1000)

    samples: list[float] = []
    floor: list[float] = []
    for _ in range(20):
        await bare()
        started = time.perf_counter()
        machine = await node.ready(host)
        samples.append((time.perf_counter() - started) * 1000)
        await node.clean(host, [machine])
    target = Target(median=90)
    bench.add("guest: claim, cold, to its first answer", "ms", samples, floor=floor, floor_of=BARE, target=target)


async def _echo(bench: Bench, guest: GuestLink, bare: Path) -> None:
    request = TerminalRequest(command="echo hi")
    await floors.timed(20, lambda: guest.terminal(request))
    samples = await floors.timed(400, lambda: guest.terminal(request))
    floor = await floors.timed(400, lambda: floors.ask(bare, "echo hi"))
    target = Target(median=2.5, p99=4)
    bench.add("guest: echo", "ms", samples, floor=floor, floor_of=BARE, target=target)
    alone = await floors.timed(400, lambda: floors.subprocess("echo hi"))
    bench.add("bare subprocess: echo", "ms", alone)


async def _many(bench: Bench, guest: GuestLink, bare: Path) -> None:
    request = TerminalRequest(command="echo hi")

    async def clients(act: floors.Act) -> tuple[list[float], float]:
        started = time.perf_counter()
        lists = await asyncio.gather(*(floors.timed(50, act) for _ in range(16)))
        return [sample for samples in lists for sample in samples], 800 / (time.perf_counter() - started)

    samples, rates, bare_samples, bare_rates = [], [], [], []
    for _ in range(3):
        times, rate = await clients(lambda: guest.terminal(request))
        samples += times
        rates.append(rate)
        times, rate = await clients(lambda: floors.ask(bare, "echo hi"))
        bare_samples += times
        bare_rates.append(rate)
    latency, throughput = Target(p99=40), Target(median=800, at_least=True)
    bench.add("guest: echo, 16 clients", "ms", samples, floor=bare_samples, floor_of=BARE, target=latency)
    bench.add("guest: echo, 16 clients", "/s", rates, floor=bare_rates, floor_of=BARE, target=throughput)


async def _beside(bench: Bench, guest: GuestLink, bare: Path) -> None:
    async def beside(sleeper: asyncio.Future[object], act: floors.Act) -> list[float]:
        samples = []
        while not sleeper.done():
            samples += await floors.timed(1, act)
            await asyncio.sleep(0.02)
        return samples

    long, short = TerminalRequest(command="sleep 2"), TerminalRequest(command="echo hi")
    async with asyncio.TaskGroup() as group:
        samples = await beside(group.create_task(guest.terminal(long)), lambda: guest.terminal(short))
        floor = await beside(group.create_task(floors.ask(bare, "sleep 2")), lambda: floors.ask(bare, "echo hi"))
    bench.add("guest: echo beside `sleep 2`", "ms", samples, floor=floor, floor_of=BARE, target=Target(median=5))


async def _flood(bench: Bench, guest: GuestLink, bare: Path) -> None:
    expected = hashlib.sha256(f"{LINE}\n".encode() * LINES).hexdigest()
    rates, bare_rates = [], []
    for _ in range(7):
        digest = hashlib.sha256()
        started = time.perf_counter()
        async for kind, chunk in guest.terminal_stream(TerminalRequest(command=FLOOD)):
            if kind == "stdout":
                assert isinstance(chunk, bytes)
                digest.update(chunk)
        rates.append(LINES / (time.perf_counter() - started))
        assert digest.hexdigest() == expected, "the flood came through changed"
        started = time.perf_counter()
        assert hashlib.sha256(await floors.ask(bare, FLOOD)).hexdigest() == expected
        bare_rates.append(LINES / (time.perf_counter() - started))
    target = Target(median=1_000_000, at_least=True)
    name = "guest: 100,000 lines of 100 bytes, streamed"
    bench.add(name, "lines/s", rates, floor=bare_rates, floor_of=BARE, target=target)


async def _paced(bench: Bench, guest: GuestLink) -> None:
    samples: list[float] = []
    async for kind, chunk in guest.terminal_stream(TerminalRequest(command=PACE_COMMAND)):
        arrived = time.time()
        if kind == "stdout":
            assert isinstance(chunk, bytes)
            samples += [(arrived - float(line)) * 1000 for line in chunk.split()]
        elif isinstance(chunk, TerminalResult):
            assert chunk.exit_code == 0, chunk.stderr
    assert len(samples) == PACED
    floor = await _paced_bare()
    target = Target(median=1, p99=2)
    bench.add("guest: a line each 10 ms", "ms", samples, floor=floor, floor_of="bare subprocess", target=target)


async def _paced_bare() -> list[float]:
    process = await asyncio.create_subprocess_exec("sh", "-c", PACE_COMMAND, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    samples = [(time.time() - float(line)) * 1000 async for line in process.stdout]
    await process.wait()
    return samples
