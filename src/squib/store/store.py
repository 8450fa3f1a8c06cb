"""The store: one object a noun over one database, opened once a process."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa

from squib.contracts.errors import StoreUnavailable
from squib.store import migrate
from squib.store.artifacts import Artifacts
from squib.store.database import Database, Tx, parse
from squib.store.events import Events
from squib.store.listener import Listener
from squib.store.messages import Messages
from squib.store.signals import Signals
from squib.store.tasks import Tasks
from squib.store.uploads import Uploads
from squib.store.users import Users
from squib.store.writer import Writer


class Store:
    """Made by `Store.open`."""

    def __init__(self, database: Database, writer: Writer, signals: Signals, files: Path) -> None:
        self.signals = signals
        self.dialect = "postgresql" if database.postgres else "sqlite"
        self.tasks = Tasks(database)
        self.events = Events(database, writer, signals)
        self.messages = Messages(database)
        self.uploads = Uploads(database, files / "uploads")
        self.artifacts = Artifacts(database, files / "artifacts")
        self.users = Users(database)
        self._database = database

    async def ping(self) -> None:
        """Ask the database for an answer. Raises StoreUnavailable."""
        await self._database.ping()

    @staticmethod
    @asynccontextmanager
    async def open(url: str, *, files: Path) -> "AsyncIterator[Store]":
        """Open the database (see `database.parse`) and bring its schema up to date.

        `files` is the directory for uploads and artifacts; made where absent. Raises InvalidRequest,
        StoreUnavailable.
        """
        parsed, signals, origin = parse(url), Signals(), secrets.token_hex(8)
        _prepare(parsed, files)
        opened: list[Store] = []

        def committed(tx: Tx) -> None:
            for store in opened:
                store.events.publish(tx.blocks)
            for topic in tx.topics:
                signals.wake(topic)

        database = Database(parsed, committed, origin)
        writer = Writer(database)
        running: list[asyncio.Task[None]] = []
        try:
            await database.write(migrate.upgrade, repeatable=True)
            store = Store(database, writer, signals, files)
            opened.append(store)
            running.append(asyncio.create_task(writer.run(), name="store writer"))
            if database.postgres:
                listener = Listener(parsed, signals, origin)
                running.append(asyncio.create_task(listener.run(), name="store listener"))
                await listener.ready()
            yield store
        finally:
            writer.close()
            for task in running[1:]:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await database.close()


def _prepare(url: sa.URL, files: Path) -> None:
    """Make the directory, and SQLite's file before SQLite does: it holds prompts, and is for its owner's eyes."""
    try:
        files.mkdir(mode=0o700, parents=True, exist_ok=True)
        if url.get_backend_name() == "sqlite":
            Path(str(url.database)).touch(mode=0o600)
    except OSError as error:
        raise StoreUnavailable(f"the store cannot write its files: {error}") from error
