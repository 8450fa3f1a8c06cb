"""The schema: made at the first opening, the same as the tables say, once however many open at a time."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from squib.contracts.errors import InvalidRequest, StoreUnavailable
from squib.contracts.task import TaskSpec
from squib.store import Store, migrate
from squib.store.database import parse
from squib.store.migrations.runner import configuration
from squib.store.tables import metadata


async def test_the_migrations_make_what_the_tables_say(database_url: str, tmp_path: Path) -> None:
    async with Store.open(database_url, files=tmp_path / "files"):
        pass
    engine = sa.create_engine(parse(database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


async def test_a_database_of_an_earlier_version_is_brought_up_to_date_with_what_is_in_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    engine = sa.create_engine(parse(url))
    with engine.begin() as connection:
        command.upgrade(configuration(connection), "0001")
        connection.exec_driver_sql("INSERT INTO users (id, name, created_at) VALUES ('usr-a', 'a', 1.0)")
        columns = "id, owner, state, last_seq, claim_at, created_at, updated_at, spec"
        values = "'task-00000000000000000000000000', 'usr-a', 'queued', 0, 0, 1.0, 1.0, '{\"prompt\": \"x\"}'"
        connection.exec_driver_sql(f"INSERT INTO tasks ({columns}) VALUES ({values})")
    async with Store.open(url, files=tmp_path / "files") as store:
        task = await store.tasks.get("task-00000000000000000000000000")
        assert (task.spec.prompt, task.image, task.suspended) == ("x", None, None)
        assert await store.tasks.wanted_at(task.id) == 0.0
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_head_is_the_newest_step() -> None:
    assert ScriptDirectory.from_config(configuration(None)).get_heads() == [migrate.HEAD]


@pytest.mark.parametrize("dialect", ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))])
async def test_those_that_start_together_migrate_once(
    dialect: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    empty = f"sqlite:///{tmp_path}/new.db" if dialect == "sqlite" else request.getfixturevalue("postgres").empty()

    async def start(n: int) -> str:
        async with Store.open(empty, files=tmp_path / str(n)) as store:
            return (await store.tasks.create(TaskSpec("x"), owner="usr-a"))[0].id

    assert len(set(await asyncio.gather(*(start(n) for n in range(4))))) == 4
    if dialect == "postgresql":
        request.getfixturevalue("postgres").drop(empty)


@pytest.mark.parametrize(
    "url", ["", "mysql://localhost/x", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true", "not a url"]
)
async def test_a_url_that_is_none_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        async with Store.open(url, files=tmp_path):
            pass


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    async with Store.open(f"sqlite:///{tmp_path}/x.db", files=tmp_path / "files") as store:
        await store.tasks.create(TaskSpec("x"), owner="usr-a")
        assert {p.name: p.stat().st_mode & 0o077 for p in tmp_path.iterdir()} == dict.fromkeys(
            ("x.db", "x.db-wal", "x.db-shm", "files"), 0
        )


async def test_a_database_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        async with Store.open(f"sqlite:///{tmp_path}/no/such/folder/x.db", files=tmp_path / "files"):
            pass
