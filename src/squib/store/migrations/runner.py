"""Alembic on a connection that is given, without an ini file."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config


def configuration(connection: sa.Connection | None) -> Config:
    """Alembic's configuration for the scripts in this package."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return config


def run(connection: sa.Connection) -> None:
    """Upgrade to the newest version in the connection's transaction."""
    command.upgrade(configuration(connection), "head")
