"""A real PostgreSQL for the tests: one server a session, a migrated database a test, and it can be restarted.

SQUIB_TEST_POSTGRES may name one that runs (a URL whose user may create databases); then nothing is started, and
the tests that stop the server are skipped.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from bench.postgres import programs
from squib.store import Store

_TEMPLATE = "squib_template"
_NOBODY = "65534"
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
}


class Server:
    """PostgreSQL as the tests use it."""

    def __init__(self, url: str, directory: Path | None = None) -> None:
        self._admin = sa.make_url(url)
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0

    @property
    def ours(self) -> bool:
        """Whether it was started for the tests and may be stopped by one."""
        return self._directory is not None

    def url(self, database: str) -> str:
        return self._admin.set(database=database).render_as_string(hide_password=False)

    def execute(self, statement: str) -> None:
        """Run a statement as the one who may do anything."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def database(self) -> str:
        """The URL of a new database whose schema is made already."""
        self._made += 1
        name = f"squib_{os.getpid()}_{self._made}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}_{os.getpid()}")
        return self.url(name)

    def empty(self) -> str:
        """The URL of a new database without a schema."""
        self._made += 1
        name = f"squib_{os.getpid()}_{self._made}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database that was made here."""
        self.execute(f"DROP DATABASE IF EXISTS {sa.make_url(url).database} WITH (FORCE)")

    def prepare(self) -> None:
        """Make the template that the tests' databases are copies of."""
        name = f"{_TEMPLATE}_{os.getpid()}"
        self.execute(f"CREATE DATABASE {name}")

        async def migrate() -> None:
            with tempfile.TemporaryDirectory() as files:
                async with Store.open(self.url(name), files=Path(files)):
                    pass

        with ThreadPoolExecutor(1) as thread:  # the test's own event loop is left alone
            thread.submit(asyncio.run, migrate()).result()

    def start(self) -> None:
        """Start it and wait until it answers."""
        where = programs()
        assert self._directory is not None and where is not None
        settings = [option for name, value in _SETTINGS.items() for option in ("-c", f"{name}={value}")]
        program = [str(where / "postgres"), "-D", str(self._directory / "data"), "-k", str(self._directory)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen([*_drop(), *program, *settings], stderr=log, stdout=log, cwd="/")
        ready = [str(where / "pg_isready"), "-q", "-h", str(self._directory)]
        while subprocess.run(ready, check=False).returncode != 0:
            assert self._process.poll() is None, (self._directory / "log").read_text()

    def stop(self, signal: int = 2) -> None:
        """Stop it as a restart does: SIGINT ends every connection."""
        assert self._process is not None
        self._process.send_signal(signal)
        self._process.wait()


def _drop() -> list[str]:
    """PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid", _NOBODY, "--regid", _NOBODY, "--clear-groups", "--"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The session's server."""
    if given := os.environ.get("SQUIB_TEST_POSTGRES"):
        server = Server(given)
        server.prepare()
        yield server
        server.execute(f"DROP DATABASE {_TEMPLATE}_{os.getpid()} WITH (FORCE)")
        return
    where = programs()
    assert where is not None, "no PostgreSQL server is installed"
    directory = Path(tempfile.mkdtemp(prefix="sqpg-", dir="/tmp"))
    if os.geteuid() == 0:
        os.chown(directory, int(_NOBODY), int(_NOBODY))
    try:
        init = [str(where / "initdb"), "-D", str(directory / "data"), "-A", "trust", "-U", "squib", "--no-sync"]
        locale = ["-E", "UTF8", "--locale=C"]
        subprocess.run([*_drop(), *init, *locale], check=True, stdout=subprocess.DEVNULL, cwd="/")
        server = Server(f"postgresql://squib@/postgres?host={directory}", directory)
        server.start()
        try:
            server.prepare()
            yield server
        finally:
            server.stop(3)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, once for each dialect."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/squib.db"
        return
    server: Server = request.getfixturevalue("postgres")
    url = server.database()
    yield url
    server.drop(url)
