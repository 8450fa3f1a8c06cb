"""The tables, as SQLAlchemy Core sees them. `migrations/` makes them; a test holds the two equal."""

import sqlalchemy as sa

metadata = sa.MetaData()

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("created_at", sa.Double, nullable=False),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("last_used", sa.Double),
)

#: `finished_at` is set exactly where the state is terminal. A task is leased where `lease_worker` is set, and
#: claimable where it is not, or where `lease_until` has passed; `claim_at` orders the queue and carries a backoff.
#: `guest_cursor` maps each epoch of the task's guests to the last event stored of it, the newest epoch last.
tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("last_seq", sa.BigInteger, nullable=False),
    sa.Column("lease_token", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("lease_worker", sa.Text),
    sa.Column("lease_until", sa.Double, nullable=False, server_default="0"),
    sa.Column("claim_at", sa.Double, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("finished_at", sa.Double),
    sa.Column("turn", sa.Integer, nullable=False, server_default="1"),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("sandbox_id", sa.Text),
    sa.Column("driver", sa.Text),
    sa.Column("image", sa.Text),
    sa.Column("suspended", sa.Text),
    sa.Column("wanted_at", sa.Double, nullable=False, server_default="0"),
    sa.Column("base_commit", sa.Text),
    sa.Column("head_commit", sa.Text),
    sa.Column("retry_of", sa.Text),
    sa.Column("upload", sa.Text),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("request_digest", sa.Text),
    sa.Column("guest_cursor", sa.Text, nullable=False, server_default="{}"),
    sa.Column("usage", sa.Text, nullable=False, server_default="{}"),
    sa.Column("sandbox", sa.Text),
    sa.Column("progress", sa.Text, nullable=False, server_default="{}"),
    sa.Column("error", sa.Text),
    sa.Column("result", sa.Text),
    sa.Column("spec", sa.Text, nullable=False),
    sa.UniqueConstraint("owner", "idempotency_key"),
)

_waiting = sa.text("lease_worker IS NULL AND finished_at IS NULL")
_leased = sa.text("lease_worker IS NOT NULL AND finished_at IS NULL")
_boxed = sa.text("sandbox_id IS NOT NULL AND finished_at IS NULL")
# Partial: a whole index on finished_at would look better than the queue's to SQLite's planner, and is far worse.
_finished = sa.text("finished_at IS NOT NULL")
sa.Index("tasks_of_owner", tasks.c.owner, tasks.c.id)
sa.Index("tasks_in_state", tasks.c.state)
sa.Index("tasks_waiting", tasks.c.claim_at, tasks.c.id, sqlite_where=_waiting, postgresql_where=_waiting)
sa.Index("tasks_leased", tasks.c.lease_until, tasks.c.id, sqlite_where=_leased, postgresql_where=_leased)
sa.Index("tasks_boxed", tasks.c.sandbox_id, sqlite_where=_boxed, postgresql_where=_boxed)
sa.Index("tasks_finished", tasks.c.finished_at, sqlite_where=_finished, postgresql_where=_finished)

labels = sa.Table(
    "labels",
    metadata,
    sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Index("labels_by_value", "key", "value", "task_id"),
)

#: No foreign key: the row of the task is locked by whoever appends, and a check for each event costs a third.
#: `body` is the event's JSON without task_id and seq, as it goes out: no byte of it is made twice.
events = sa.Table(
    "events",
    metadata,
    sa.Column("task_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("turn", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("file", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("commit", sa.Text, nullable=False),
    sa.Column("base", sa.Text),
    sa.Column("branch", sa.Text),
    sa.Column("created_at", sa.Double, nullable=False),
)
