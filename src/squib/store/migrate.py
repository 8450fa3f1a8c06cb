"""Bring the schema to what this version needs, when a store opens. Alembic's scripts are in `migrations/`."""

import importlib

import sqlalchemy as sa

from squib.store.database import Tx

HEAD = "0002"
_LOCK = 0x73717562  # of PostgreSQL's advisory locks: replicas that start together migrate one after another


def upgrade(tx: Tx) -> None:
    """Run what is missing, within the transaction."""
    if _version(tx.connection) == HEAD:
        return
    if tx.postgres:
        tx.connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        tx.connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    # Alembic takes 0.3 s to import: only where there is something to do.
    importlib.import_module("squib.store.migrations.runner").run(tx.connection)


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return version
