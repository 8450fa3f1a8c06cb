"""Claims per second, with 1 and with 100,000 tasks waiting."""

import asyncio
import sqlite3
import time
from pathlib import Path

import psycopg

from bench import databases, floors
from bench.harness import Bench, Target
from squib.contracts.ids import new_id
from squib.store import Store

DEEP = 100_000
CLAIMS = 1_000
WORKERS = 8
#: The same by hand: one row, the oldest, taken in one transaction.
TABLE = "CREATE TABLE waiting (id TEXT PRIMARY KEY, at DOUBLE PRECISION, worker TEXT, token BIGINT)"
INDEX = "CREATE INDEX oldest ON waiting (at, id) WHERE worker IS NULL"
TAKE = (
    "UPDATE waiting SET worker = 'w', token = token + 1 WHERE id ="
    " (SELECT id FROM waiting WHERE worker IS NULL ORDER BY at, id LIMIT 1 {lock}) RETURNING id"
)
GIVE = "UPDATE waiting SET worker = NULL WHERE id = {mark}"


async def run(bench: Bench) -> None:
    """For each database: one worker at both depths, then several at once."""
    with floors.scratch() as directory, databases.urls(directory) as found:
        for name, url in found:
            target = Target(median=1_000 if name == "SQLite" else 800, at_least=True)
            floor = _sqlite(directory) if name == "SQLite" else _postgres(url)
            async with databases.store(url, directory) as store:
                first = await databases.task(store)
                for depth in (1, DEEP):
                    if depth > 1:
                        databases.clone(url, first, depth - 1)
                    rates = await _one_by_one(store)
                    title = f"queue, {name}: claims with {depth:,} waiting"
                    bench.add(title, "/s", rates, floor=floor, floor_of="the bare driver", target=target, rate=True)
                rates = [await _at_once(store) for _ in range(3)]
                bench.add(
                    f"queue, {name}: claim and release, {WORKERS} workers, {DEEP:,} waiting", "/s", rates, rate=True
                )


async def _one_by_one(store: Store) -> list[float]:
    """Claim and give back; only the claim is timed. One sample a hundred claims."""
    worker, rates = new_id("wrk"), []
    for _ in range(CLAIMS // 100):
        spent = 0.0
        for _ in range(100):
            started = time.perf_counter()
            lease = await store.tasks.claim(worker, seconds=60)
            spent += time.perf_counter() - started
            assert lease is not None
            await store.tasks.release(lease)
        rates.append(100 / spent)
    return rates


async def _at_once(store: Store) -> float:
    async def work() -> None:
        worker = new_id("wrk")
        for _ in range(100):
            lease = await store.tasks.claim(worker, seconds=60)
            assert lease is not None
            await store.tasks.release(lease)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work())
    return WORKERS * 100 / (time.perf_counter() - started)


def _sqlite(directory: Path) -> list[float]:
    connection = sqlite3.connect(directory / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    rates = _floor(connection, "?", "")
    connection.close()
    return rates


def _postgres(url: str) -> list[float]:
    with psycopg.connect(url, autocommit=True) as connection:
        return _floor(connection, "%s", "FOR UPDATE SKIP LOCKED")


def _floor(
    connection: "sqlite3.Connection | psycopg.Connection[tuple[object, ...]]", mark: str, lock: str
) -> list[float]:
    run = connection.execute
    run(TABLE)
    run(INDEX)
    run(f"INSERT INTO waiting VALUES ({', '.join([mark] * 4)})", ("task", 0.0, None, 0))
    rates = []
    for _ in range(CLAIMS // 100):
        spent = 0.0
        for _ in range(100):
            started = time.perf_counter()
            taken = run(TAKE.format(lock=lock)).fetchone()
            spent += time.perf_counter() - started
            assert taken is not None
            run(GIVE.format(mark=mark), tuple(taken))
        rates.append(100 / spent)
    return rates
