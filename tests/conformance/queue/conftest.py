"""Each queue over each database; what it carries are real tasks, because `sql` reads their rows."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from squib.contracts.task import TaskSpec
from squib.queue import registry
from squib.queue.base import Queue
from squib.store import Store
from tests.postgres import Server


@dataclass
class Line:
    """A queue and its store."""

    queue: Queue
    store: Store

    async def task(self) -> str:
        """A claimable task that has been put."""
        task, _ = await self.store.tasks.create(TaskSpec("x"), owner="usr-a")
        await self.queue.put(task.id)
        return task.id


@pytest.fixture(
    params=["sql@sqlite", pytest.param("sql@postgresql", marks=pytest.mark.needs("postgres")), "memory@sqlite"]
)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The queue's name and the database's URL."""
    name, dialect = request.param.split("@")
    if dialect == "sqlite":
        yield name, f"sqlite:///{tmp_path}/squib.db"
        return
    server: Server = request.getfixturevalue("postgres")
    url = server.database()
    yield name, url
    server.drop(url)


@pytest.fixture
async def line(kind: tuple[str, str], tmp_path: Path) -> AsyncIterator[Line]:
    name, url = kind
    async with Store.open(url, files=tmp_path / "files") as store:
        queue = registry.make(name, store)
        yield Line(queue, store)
        await queue.close()
