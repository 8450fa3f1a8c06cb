"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them all."""
    _people()
    _tasks()
    _of_tasks()


def _people() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False, unique=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("last_used", sa.Double),
    )
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("commit", sa.Text, nullable=False),
        sa.Column("base", sa.Text),
        sa.Column("branch", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
    )


def _tasks() -> None:
    op.create_table(
        "tasks",
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
    waiting = sa.text("lease_worker IS NULL AND finished_at IS NULL")
    leased = sa.text("lease_worker IS NOT NULL AND finished_at IS NULL")
    finished = sa.text("finished_at IS NOT NULL")
    boxed = sa.text("sandbox_id IS NOT NULL AND finished_at IS NULL")
    op.create_index("tasks_of_owner", "tasks", ["owner", "id"])
    op.create_index("tasks_in_state", "tasks", ["state"])
    for name, columns, where in (
        ("tasks_waiting", ["claim_at", "id"], waiting),
        ("tasks_leased", ["lease_until", "id"], leased),
        ("tasks_boxed", ["sandbox_id"], boxed),
        ("tasks_finished", ["finished_at"], finished),
    ):
        op.create_index(name, "tasks", columns, sqlite_where=where, postgresql_where=where)


def _of_tasks() -> None:
    op.create_table(
        "labels",
        sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_index("labels_by_value", "labels", ["key", "value", "task_id"])
    op.create_table(
        "events",
        sa.Column("task_id", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "messages",
        sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), primary_key=True),
        sa.Column("turn", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_table(
        "artifacts",
        sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("file", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
