"""Artifacts: what is kept of a task. One file each, replaced whole; the row says which file is the present one."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from squib.contracts import ids
from squib.contracts.errors import InvalidRequest, NotFound
from squib.contracts.task import Artifact
from squib.store import files
from squib.store.database import Database, Tx
from squib.store.tables import artifacts, tasks

NAMES = frozenset({"bundle", "patch", "workspace", "transcript"})
MAX_BYTES = 4 * 1024**3
_MAX_MEDIA_TYPE = 100
_a = artifacts.c


class Artifacts:
    """Files in `directory`/TASK/, rows in the database."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._database = database
        self._directory = directory

    async def put(
        self,
        task_id: str,
        name: str,
        media_type: str,
        chunks: AsyncIterator[bytes],
        *,
        max_bytes: int = MAX_BYTES,
    ) -> Artifact:
        """Keep this as the task's artifact of that name, in the place of an earlier one. The caller holds the lease.

        A reader that has opened the one before can still find its file until the next is put.
        Raises InvalidRequest, NotFound, TooLarge, StoreUnavailable.
        """
        _check(task_id, name)
        if not media_type.isascii() or not media_type.isprintable() or len(media_type) > _MAX_MEDIA_TYPE:
            raise InvalidRequest("media_type: is not one", fields={"media_type": "is not one"})
        folder = self._directory / task_id
        async with files.receive(folder, chunks, max_bytes) as received:
            target = folder / f"{name}.{secrets.token_hex(8)}"
            await received.keep(target)
        artifact = Artifact(name, received.size, received.sha256, media_type, time.time())
        try:
            before = await self._database.write(lambda tx: _replace(tx, task_id, artifact, target.name))
        except NotFound:
            await asyncio.to_thread(files.remove, [target])
            raise
        await asyncio.to_thread(_retire, folder, name, {target.name, before})
        return artifact

    async def open(self, task_id: str, name: str) -> tuple[Artifact, Path]:
        """The artifact and its file. Raises NotFound."""
        if name not in NAMES:
            raise NotFound("there is no such artifact")
        query = sa.select(artifacts).where(_a.task_id == task_id, _a.name == name)
        found = await self._database.read(lambda tx: tx.execute(query).one_or_none())
        if found is None:
            raise NotFound(f"the task has no {name} yet")
        return _artifact(found), self._directory / found.task_id / found.file

    async def prune(self, before: float) -> int:
        """Remove what tasks that ended before then (seconds since 1970) have left, and garbage; the count."""
        ended = sa.select(tasks.c.id).where(tasks.c.finished_at < before, sa.text("finished_at IS NOT NULL"))
        delete = artifacts.delete().where(_a.task_id.in_(ended)).returning(_a.task_id, _a.file)

        def work(tx: Tx) -> tuple[list[tuple[str, str]], set[tuple[str, str]]]:
            gone = [(row.task_id, row.file) for row in tx.execute(delete)]
            return gone, {(row.task_id, row.file) for row in tx.execute(sa.select(_a.task_id, _a.file))}

        gone, kept = await self._database.write(work)
        await asyncio.to_thread(self._sweep, gone, kept)
        return len(gone)

    def _sweep(self, gone: list[tuple[str, str]], kept: set[tuple[str, str]]) -> None:
        files.remove([self._directory / folder / file for folder, file in gone])
        files.remove(files.garbage(self._directory, {self._directory / folder / file for folder, file in kept}))
        for folder in self._directory.glob("task-*"):
            if not any(folder.iterdir()):
                folder.rmdir()

    async def list(self, task_id: str) -> list[Artifact]:
        """The task's artifacts by name."""
        query = sa.select(artifacts).where(_a.task_id == task_id).order_by(_a.name)
        found = await self._database.read(lambda tx: tx.execute(query).all())
        return [_artifact(row) for row in found]


def _check(task_id: str, name: str) -> None:
    if name not in NAMES:
        raise InvalidRequest(f"name: must be one of {', '.join(sorted(NAMES))}", fields={"name": "is not known"})
    if not ids.is_id(task_id, "task"):
        raise NotFound("there is no such task")


def _artifact(row: "sa.Row[Any]") -> Artifact:
    return Artifact(row.name, row.size, row.sha256, row.media_type, row.created_at)


def _replace(tx: Tx, task_id: str, artifact: Artifact, file: str) -> str | None:
    """Point the row at the new file; the name of the one before."""
    if tx.execute(tx.locked(sa.select(tasks.c.id).where(tasks.c.id == task_id))).one_or_none() is None:
        raise NotFound(f"there is no task {task_id}")
    where = (_a.task_id == task_id, _a.name == artifact.name)
    before: str | None = tx.execute(sa.select(_a.file).where(*where)).scalar_one_or_none()
    values = {
        "file": file,
        "size": artifact.size,
        "sha256": artifact.sha256,
        "media_type": artifact.media_type,
        "created_at": artifact.created_at,
    }
    if before is None:
        tx.execute(artifacts.insert().values(values | {"task_id": task_id, "name": artifact.name}))
    else:
        tx.execute(artifacts.update().where(*where).values(values))
    return before


def _retire(folder: Path, name: str, kept: set[str | None]) -> None:
    files.remove([p for p in folder.glob(f"{name}.*") if p.name not in kept])
