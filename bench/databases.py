"""Stores to measure: SQLite and PostgreSQL, and a way to fill them fast."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import sqlalchemy as sa

from bench import postgres
from squib.contracts.ids import new_id
from squib.contracts.task import TaskSpec
from squib.store import Store
from squib.store.tables import tasks

OWNER = new_id("usr")


@contextlib.contextmanager
def urls(directory: Path) -> Iterator[list[tuple[str, str]]]:
    """The databases here, by name: SQLite always, PostgreSQL where it is installed."""
    found = [("SQLite", f"sqlite:///{directory / 'bench.db'}")]
    if postgres.programs() is None:
        yield found
        return
    with postgres.cluster() as url:
        yield [*found, ("PostgreSQL", url)]


@contextlib.asynccontextmanager
async def store(url: str, directory: Path) -> AsyncIterator[Store]:
    """Open a store on the database."""
    async with Store.open(url, files=directory / "files") as opened:
        yield opened


def engine(url: str) -> sa.Engine:
    """A plain connection beside the store's own."""
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


async def task(opened: Store) -> str:
    """Create a task and give its id."""
    made, _ = await opened.tasks.create(TaskSpec(prompt="Measure"), owner=OWNER)
    return made.id


def clone(url: str, task_id: str, count: int) -> None:
    """Put `count` copies of a waiting task beside it, in one transaction."""
    plain = engine(url)
    with plain.begin() as connection:
        row = dict(connection.execute(sa.select(tasks).where(tasks.c.id == task_id)).mappings().one())
        connection.execute(sa.insert(tasks), [row | {"id": new_id("task")} for _ in range(count)])
    plain.dispose()
