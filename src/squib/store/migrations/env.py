"""What Alembic runs: the connection comes from `runner`, its transaction is the caller's."""

from alembic import context

from squib.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
