"""Events on their way from an agent to an SSE client: one each 10 ms, and as fast as it goes, stored on the way."""

import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import psycopg

from bench import databases, floors, stack
from bench.harness import Bench, Target
from squib.contracts.task import TaskSpec

PACED = 500
FLOOD = 200_000
GROUP = 500
_ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)


async def run(bench: Bench) -> None:
    """The latency on SQLite, then the rate on each database."""
    bare = await _bare_latency()
    with floors.scratch() as directory, databases.urls(directory) as found:
        for name, url in found:
            wanted = 50_000 if name == "SQLite" else 30_000
            floor = _sqlite_floor(directory) if name == "SQLite" else _postgres_floor(url)
            async with stack.up(directory / name[:2].lower(), DATABASE_URL=url) as squib:
                samples = await _latency(squib)
                target = Target(median=2.5, p99=10) if name == "SQLite" else None
                title = f"agent line → SSE client, {name}"
                bench.add(title, "ms", samples, floor=bare, floor_of="bare uvicorn", target=target)
                rates = [await _flood(squib) for _ in range(3)]
                target = Target(median=wanted, at_least=True)
                title = f"events from one guest to one SSE client, {name}"
                bench.add(title, "/s", rates, floor=floor, floor_of="the bare driver, executemany", target=target)


async def _chunks(squib: stack.Up, prompt: str) -> AsyncIterator[bytes]:
    """Submit a task and stream its events, undecoded, to the end."""
    async with squib.client() as client:
        task = await client.tasks.create(TaskSpec(prompt=prompt, agent="mock"))
    headers = {"authorization": f"Bearer {squib.token}", "accept": "text/event-stream"}
    path = f"{squib.url}/api/v1/tasks/{task.id}/events"
    async with httpx2.AsyncClient(timeout=60) as http, http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for chunk in answer.aiter_raw():
            yield chunk


async def _latency(squib: stack.Up) -> list[float]:
    samples, rest = [], b""
    async for chunk in _chunks(squib, f"mock:lines={PACED} mock:every_ms=10"):
        arrived = time.time()
        *frames, rest = (rest + chunk).split(b"\n\n")
        for frame in frames:
            data = json.loads(frame.partition(b"data: ")[2] or b"{}").get("data", {})
            samples += [(arrived - data["at"]) * 1000] if "at" in data else []
    assert len(samples) == PACED, f"{len(samples)} of {PACED} lines came"
    return samples


async def _flood(squib: stack.Up) -> float:
    first, last, rest, seen, lines = 0.0, 0.0, b"", 0, 0
    async for chunk in _chunks(squib, f"mock:lines={FLOOD} mock:size=100"):
        whole, mark, rest = (rest + chunk).rpartition(b"\n\n")
        if not mark:
            continue
        ids = [int(n) for n in _ID.findall(whole)]
        assert ids == list(range(seen + 1, seen + 1 + len(ids))), f"after {seen} came {ids[:3]}"
        seen += len(ids)
        if b'"id":"lines"' in whole:
            first = first or time.perf_counter()
            last = time.perf_counter()
            lines += len(ids)
    assert seen > FLOOD, f"{seen} events came"
    return lines / (last - first)


async def _bare_latency() -> list[float]:
    samples: list[float] = []
    async with (
        stack.bare_uvicorn() as (url, _),
        httpx2.AsyncClient(timeout=60) as http,
        http.stream("GET", f"{url}/paced?{PACED}") as answer,
    ):
        async for chunk in answer.aiter_raw():
            arrived = time.time()
            samples += [(arrived - float(at)) * 1000 for at in re.findall(rb"data: ([\d.]+)", chunk)]
    assert len(samples) == PACED, f"{len(samples)} of {PACED} lines came"
    return samples


def _rows() -> list[list[tuple[str, int, str, str]]]:
    body = json.dumps({"type": "agent.output", "time": 1.0, "source": "agent", "data": {"text": "x" * 100}})
    numbers = range(1, FLOOD // 4 + 1)
    rows = [("task-floor", n, "agent.output", body) for n in numbers]
    return [rows[i : i + GROUP] for i in range(0, len(rows), GROUP)]


TABLE = "CREATE TABLE floor (task_id TEXT, seq BIGINT, type TEXT, body TEXT, PRIMARY KEY (task_id, seq))"


def _sqlite_floor(directory: Path) -> list[float]:
    connection = sqlite3.connect(directory / "floor.db")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(TABLE)
    started = time.perf_counter()
    for group in _rows():
        connection.executemany("INSERT INTO floor VALUES (?, ?, ?, ?)", group)
        connection.commit()
    rate = FLOOD // 4 / (time.perf_counter() - started)
    connection.close()
    return [rate]


def _postgres_floor(url: str) -> list[float]:
    with psycopg.connect(url) as connection:
        connection.execute(TABLE)
        started = time.perf_counter()
        for group in _rows():
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO floor VALUES (%s, %s, %s, %s)", group)
            connection.commit()
        rate = FLOOD // 4 / (time.perf_counter() - started)
        connection.execute("DROP TABLE floor")
    return [rate]
