"""What a task's sandbox is made of, whether it is put to disk, and when someone reached into it last."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("tasks", sa.Column("image", sa.Text))
    op.add_column("tasks", sa.Column("suspended", sa.Text))
    op.add_column("tasks", sa.Column("wanted_at", sa.Double, nullable=False, server_default="0"))
