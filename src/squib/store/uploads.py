"""Uploads: git bundles that users send in for a task to start from."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import sqlalchemy as sa

from squib.contracts import ids
from squib.contracts.errors import InvalidRequest, NotFound
from squib.contracts.task import Repository, Upload
from squib.store import files
from squib.store.database import Database, Tx
from squib.store.tables import tasks, uploads

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class Uploads:
    """Files in `directory`, one row each."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._database = database
        self._directory = directory

    async def put(
        self,
        owner: str,
        *,
        commit: str,
        base: str | None = None,
        branch: str | None = None,
        chunks: AsyncIterator[bytes],
        max_bytes: int,
    ) -> Upload:
        """Take a bundle in. Raises InvalidRequest (commit, base, branch), TooLarge, StoreUnavailable."""
        _check_commit("commit", commit)
        if base is not None:
            _check_commit("base", base)
        if branch is not None:
            _check_branch(branch)
        async with files.receive(self._directory, chunks, max_bytes) as received:
            upload = Upload(ids.new_id("upl"), received.size, received.sha256, commit, base, branch)
            await received.keep(self._path(upload.id))
        values = {
            "id": upload.id,
            "owner": owner,
            "size": upload.size,
            "sha256": upload.sha256,
            "commit": commit,
            "base": base,
            "branch": branch,
            "created_at": time.time(),
        }
        await self._database.write(lambda tx: tx.execute(uploads.insert().values(values)).rowcount)
        return upload

    async def open(self, upload_id: str, owner: str | None) -> tuple[Upload, Path]:
        """The upload and its file. Raises NotFound, also for another owner's."""
        if not ids.is_id(upload_id, "upl"):
            raise NotFound("there is no such upload")
        query = sa.select(uploads).where(uploads.c.id == upload_id)
        if owner is not None:
            query = query.where(uploads.c.owner == owner)
        found = await self._database.read(lambda tx: tx.execute(query).one_or_none())
        if found is None:
            raise NotFound("there is no such upload")
        upload = Upload(found.id, found.size, found.sha256, found.commit, found.base, found.branch)
        return upload, self._path(found.id)

    async def prune(self, before: float) -> int:
        """Remove uploads from before then (seconds since 1970) that no unended task needs, and garbage; the count."""
        needed = sa.select(tasks.c.upload).where(tasks.c.upload.is_not(None), tasks.c.finished_at.is_(None))
        delete = uploads.delete().where(uploads.c.created_at < before, uploads.c.id.not_in(needed))

        def work(tx: Tx) -> tuple[list[str], set[str]]:
            gone = list(tx.execute(delete.returning(uploads.c.id)).scalars())
            return gone, set(tx.execute(sa.select(uploads.c.id)).scalars())

        gone, kept = await self._database.write(work)
        await asyncio.to_thread(self._sweep, gone, kept)
        return len(gone)

    def _sweep(self, gone: list[str], kept: set[str]) -> None:
        files.remove([self._path(i) for i in gone])
        files.remove(files.garbage(self._directory, {self._path(i) for i in kept}))

    def _path(self, upload_id: str) -> Path:
        return self._directory / f"{upload_id}.bundle"


def _check_commit(name: str, value: str) -> None:
    if not _COMMIT.fullmatch(value):
        raise InvalidRequest(f"{name}: must be a full commit id", fields={name: "must be a full commit id"})


def _check_branch(branch: str) -> None:
    try:
        Repository(upload="branch", ref=branch)
    except InvalidRequest as error:
        raise InvalidRequest("branch: is not a valid name", fields={"branch": "is not a valid name"}) from error
