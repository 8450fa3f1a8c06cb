"""Finishes what a crash left: sandboxes that no task owns, files of ended tasks, results past their time."""

import asyncio
import time
from pathlib import Path

import structlog

from squib.contracts import ids
from squib.contracts.errors import InfrastructureError, NotFound
from squib.scheduler.job import Rooms, remove_files

_YOUNG = 5.0  # seconds: younger sandboxes may not have reached their task's row yet
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # of contracts.ids
_CACHE_SECONDS = 30 * 86_400.0
_log = structlog.get_logger("squib.scheduler")


def minted_at(id_: str) -> float:
    """When an id was minted, in seconds since 1970; ids sort by it."""
    value = 0
    for character in id_.rpartition("-")[2][:10]:
        value = value * 32 + _ALPHABET.index(character)
    return value / 1000


async def sweep_sandboxes(rooms: Rooms) -> int:
    """Remove the sandboxes that no unended task owns. First list them, then ask whose they are; say how many."""
    found = [sandbox.id for sandbox in await rooms.orchestrator.list()]
    if not found:
        return 0
    live = await rooms.store.tasks.live_sandboxes()
    removed = 0
    for sandbox_id in found:
        if sandbox_id in live or not ids.is_id(sandbox_id, "sbx") or time.time() - minted_at(sandbox_id) < _YOUNG:
            continue
        try:
            await rooms.orchestrator.delete(sandbox_id)
        except (InfrastructureError, OSError) as error:
            _log.warning("an orphaned sandbox could not be removed yet", sandbox_id=sandbox_id, error=str(error))
            continue
        _log.info("removed an orphaned sandbox", sandbox_id=sandbox_id)
        rooms.metrics.swept.inc()
        removed += 1
    return removed


async def sweep_files(rooms: Rooms) -> None:
    """Remove the saved work and scratch files of tasks that have ended."""
    for task_id in await asyncio.to_thread(_tasks_on_disk, rooms.config.state_dir):
        try:
            ended = (await rooms.store.tasks.get(task_id)).state.terminal
        except NotFound:
            ended = True
        if ended:
            await asyncio.to_thread(remove_files, rooms.config.state_dir, task_id)


async def sweep_old(rooms: Rooms) -> None:
    """Remove results and caches that are past their time."""
    if rooms.config.retention_seconds is not None:
        before = time.time() - rooms.config.retention_seconds
        await rooms.store.artifacts.prune(before)
        await rooms.store.uploads.prune(before)
    await rooms.cache.prune(time.time() - _CACHE_SECONDS)


def _tasks_on_disk(state_dir: Path) -> set[str]:
    names: set[str] = set()
    for directory in (state_dir / "tasks", state_dir / "scratch"):
        if directory.is_dir():
            names |= {path.name.partition(".")[0] for path in directory.iterdir()}
    return {name for name in names if ids.is_id(name, "task")}
