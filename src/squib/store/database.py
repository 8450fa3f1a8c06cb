"""The database: engines, and transactions that run as one function in a thread of their own.

A unit of work is a plain function over a `Tx`. It runs in one hop to a thread (on SQLite the only writer's, which
owns the one writing connection), not one hop a statement as with an asynchronous driver; so it can also be run
again from its start when the connection broke before the commit. It must touch nothing but its transaction.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from squib.contracts.errors import InvalidRequest, StoreUnavailable
from squib.store.feed import Block

T = TypeVar("T")
PATIENCE = 10.0  # seconds that a call goes on trying while the database does not answer
CHANNEL = "squib"  # of NOTIFY
_SERVER_NOW = sa.cast(sa.extract("epoch", sa.func.statement_timestamp()), sa.Double)
_OWN_NOW = sa.bindparam("now", callable_=time.time, type_=sa.Double)
_READERS = 4  # threads, and connections, for reading SQLite
_POSTGRES = 16  # threads, and connections, for all of PostgreSQL


class CommitUnknown(Exception):
    """The connection broke during COMMIT: it may have happened or not."""


class Tx:
    """One transaction: its connection, and what is to be told to others once it is committed."""

    __slots__ = ("blocks", "connection", "now", "others", "postgres", "topics")

    def __init__(self, connection: sa.Connection, postgres: bool) -> None:
        self.connection = connection
        self.postgres = postgres
        self.topics: set[str] = set()
        self.others: set[str] = set()
        self.blocks: list[Block] = []
        self.now = clock(postgres)

    def execute(
        self, statement: sa.Executable, parameters: Mapping[str, Any] | list[dict[str, Any]] | None = None
    ) -> sa.CursorResult[Any]:
        """Run a Core statement."""
        return self.connection.execute(statement, parameters)

    def locked(self, query: "sa.Select[Any]") -> "sa.Select[Any]":
        """Lock what the query selects until the commit; SQLite's only writer holds everything already."""
        return query.with_for_update() if self.postgres else query

    def wake(self, topic: str) -> None:
        """Wake this topic's subscribers, in every process, after the commit."""
        self.topics.add(topic)

    def wake_others(self, topic: str) -> None:
        """Wake this topic's subscribers in other processes alone: in this one the caller sees to it himself."""
        self.others.add(topic)


def clock(postgres: bool) -> "sa.ColumnElement[float]":
    """The time as an expression, read anew by each statement. Leases are judged by one clock: the server's."""
    return _SERVER_NOW if postgres else _OWN_NOW


def parse(url: str) -> sa.URL:
    """Take `sqlite:///PATH` or `postgresql://…`; query parameters (TLS and others) go to libpq as they are.

    Raises InvalidRequest.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise InvalidRequest("the database URL cannot be read", fields={"database": "not a URL"}) from None
    match parsed.get_backend_name():
        case "sqlite" if parsed.database and not parsed.database.startswith((":memory:", "file:")):
            return parsed.set(drivername="sqlite+pysqlite")
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg")
    message = "must be sqlite:///PATH or postgresql://…"
    raise InvalidRequest(f"the database URL {message}", fields={"database": message})


class Database:
    """Runs units of work. `committed` is called in the event loop after each commit, in the order of commits."""

    def __init__(self, url: sa.URL, committed: Callable[[Tx], None], origin: str) -> None:
        self.url = url
        self.postgres = url.get_backend_name() == "postgresql"
        self.patience = PATIENCE
        self._committed = committed
        self._origin = origin
        self._loop = asyncio.get_running_loop()
        self._writing, self._reading = _engines(url, self.postgres)
        self._writers = ThreadPoolExecutor(_POSTGRES if self.postgres else 1, "squib-store")
        self._readers = self._writers if self.postgres else ThreadPoolExecutor(_READERS, "squib-store-read")

    async def close(self) -> None:
        """Wait for what runs, then let go of threads and connections."""
        for executor in {self._writers, self._readers}:
            await asyncio.to_thread(executor.shutdown)
        for engine in {self._writing, self._reading}:
            engine.dispose()

    async def write(self, work: Callable[[Tx], T], *, repeatable: bool = False) -> T:
        """Run `work` in a transaction; again where the connection broke before the commit.

        `repeatable` says that doing it twice is as good as once: then it is also run again where the commit's
        outcome is unknown. Raises StoreUnavailable, and whatever `work` raises (the transaction is undone).
        """
        return await self._patiently(self._writers, lambda: self._transaction(work), repeatable)

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work`, which only reads. On PostgreSQL each statement sees its own moment. Raises StoreUnavailable."""

        def run() -> T:
            with self._reading.begin() as connection:
                return work(Tx(connection, self.postgres))

        return await self._patiently(self._readers, run, True)

    async def ping(self) -> None:
        """One try at an answer. Raises StoreUnavailable."""

        def run() -> None:
            with self._reading.connect() as connection:
                connection.exec_driver_sql("SELECT 1")

        try:
            await self._loop.run_in_executor(self._readers, run)
        except (DBAPIError, PoolTimeout) as error:
            raise unavailable(error) from error

    async def once(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction, one time, and let driver errors and CommitUnknown through."""
        return await self._loop.run_in_executor(self._writers, self._transaction, work)

    async def _patiently(self, executor: ThreadPoolExecutor, run: Callable[[], T], repeatable: bool) -> T:
        deadline, delay = time.monotonic() + self.patience, 0.02
        while True:
            try:
                return await self._loop.run_in_executor(executor, run)
            except CommitUnknown as error:
                if not repeatable or time.monotonic() > deadline:
                    raise unavailable(error) from error
            except (DBAPIError, PoolTimeout) as error:
                if not broken(error):
                    raise
                if not passing(error) or time.monotonic() > deadline:
                    raise unavailable(error) from error
            await asyncio.sleep(delay)
            delay = min(delay * 2, 0.5)

    def _transaction(self, work: Callable[[Tx], T]) -> T:
        with self._writing.connect() as connection:
            transaction = connection.begin()
            tx = Tx(connection, self.postgres)
            try:
                result = work(tx)
                if self.postgres and (tx.topics or tx.others):
                    self._notify(tx)
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except DBAPIError as error:
                if self.postgres and error.connection_invalidated:
                    raise CommitUnknown(str(error.orig)) from error
                transaction.rollback()
                raise
        if tx.topics or tx.blocks:
            self._loop.call_soon_threadsafe(self._committed, tx)
        return result

    def _notify(self, tx: Tx) -> None:
        payloads = [f"{self._origin} {topic}" for topic in tx.topics | tx.others]
        tx.connection.exec_driver_sql("SELECT pg_notify(%s, p) FROM unnest(%s::text[]) p", (CHANNEL, payloads))


def broken(error: Exception) -> bool:
    """Whether the database is to blame, not the statement."""
    return isinstance(error, OperationalError | InterfaceError | PoolTimeout)


def passing(error: Exception) -> bool:
    """Whether trying again soon can help: on SQLite only where the file is locked by another process."""
    return "sqlite3" not in str(type(getattr(error, "orig", None))) or "locked" in str(error)


def unavailable(error: Exception) -> StoreUnavailable:
    """Say it without the statement, its parameters or the URL."""
    return StoreUnavailable(f"the database does not answer: {str(getattr(error, 'orig', error)).strip()}")


def _engines(url: sa.URL, postgres: bool) -> tuple[sa.Engine, sa.Engine]:
    if postgres:
        defaults = {
            "connect_timeout": "5",
            "application_name": "squib",
            "tcp_user_timeout": "10000",
            "options": "-c statement_timeout=30s -c idle_in_transaction_session_timeout=30s",
        }
        # No pre-ping: a broken connection is noticed by the statement, whose unit of work then runs again.
        engine = sa.create_engine(
            url,
            pool_size=_POSTGRES,
            max_overflow=0,
            pool_timeout=5,
            hide_parameters=True,
            connect_args={k: v for k, v in defaults.items() if k not in url.query},
        )
        return engine, engine
    writing = _sqlite(url, 1, "BEGIN IMMEDIATE")
    return writing, _sqlite(url, _READERS, "BEGIN")


def _sqlite(url: sa.URL, size: int, begin: str) -> sa.Engine:
    """WAL with synchronous=NORMAL: a killed process loses nothing; a power cut may lose the last moments' commits.

    What is lost then is a suffix of the log, so that what remains is whole and gap-free.
    """
    engine = sa.create_engine(
        url,
        poolclass=sa.QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=30,
        hide_parameters=True,
        connect_args={"timeout": 5.0, "check_same_thread": False, "cached_statements": 256},
    )

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "journal_size_limit=67108864"):
            connection.execute(f"PRAGMA {pragma}").close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
