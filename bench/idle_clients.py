"""Two thousand idle SSE clients on one process: what each costs, and how soon one event has reached all."""

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx2

from bench import floors, memory, stack
from bench.harness import Bench, Target
from squib.contracts.event import EventType
from squib.contracts.task import TaskSpec

CLIENTS = 2_000
EVENTS = 5
FLOOR = "bare uvicorn"


async def run(bench: Bench) -> None:
    """Both rows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    async with stack.bare_uvicorn() as (url, pid), httpx2.AsyncClient() as http:

        async def wake() -> None:
            await http.post(f"{url}/wake")

        floor_each, floor_reach = await _measure(url, "/wait", "", pid, wake, 1, b": hello", b"id: 1\n")
    with floors.scratch() as directory:
        async with stack.up(directory) as squib, squib.client() as client:
            task = await client.tasks.create(TaskSpec(prompt="mock:sleep=120", agent="mock"))
            async for event in client.tasks.events(task.id):
                if event.type == EventType.AGENT_STARTED:
                    break

            async def send() -> None:
                await client.tasks.send(task.id, "one more")

            path = f"/api/v1/tasks/{task.id}/events"
            each, reach = await _measure(
                squib.url, path, squib.token, squib.role.pid, send, EVENTS, b"agent.started", b"event: task.message\n"
            )
            await client.tasks.cancel(task.id)
            await client.tasks.wait(task.id)
    bench.add(
        f"{CLIENTS:,} idle SSE clients",
        "KB each",
        [each],
        floor=[floor_each],
        floor_of=FLOOR,
        target=Target(median=36),
    )
    name = f"one event to {CLIENTS:,} SSE clients"
    bench.add(name, "ms", reach, floor=floor_reach, floor_of=FLOOR, target=Target(median=300))


async def _measure(
    url: str,
    path: str,
    token: str,
    pid: int,
    act: Callable[[], Awaitable[None]],
    times: int,
    greeting: bytes,
    mark: bytes,
) -> tuple[float, list[float]]:
    """Connect all clients, each having read `greeting`; KB for each; then for each act, ms until all read `mark`."""
    address = urlsplit(url)
    head = f"GET {path} HTTP/1.1\r\nhost: {address.netloc}\r\naccept: text/event-stream\r\n"
    request = f"{head}authorization: Bearer {token}\r\n\r\n".encode()
    readers: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    before = memory.resident(pid)
    for _ in range(CLIENTS):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(request)
        await reader.readuntil(greeting)
        readers.append((reader, writer))
    each = (memory.resident(pid) - before) * 1000 / CLIENTS
    samples = []
    for _ in range(times):
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for reader, _ in readers:
                group.create_task(reader.readuntil(mark))
            await act()
        samples.append((time.perf_counter() - started) * 1000)
    for _, writer in readers:
        writer.close()
    return each, samples
