"""Alembic's scripts, one file a step. Only `squib.store.migrate` imports this."""
