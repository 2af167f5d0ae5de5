"""Shards know the queue of their encoder at their endpoint, so that workers of certain encoders find them by index."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("shard", sa.Column("queue", sa.Text, nullable=False, server_default=""))
    # Of those that wait or may soon: what is reopened later is looked up then, as what older processes insert.
    op.execute(
        "UPDATE shard SET queue = (SELECT job.encoder FROM job WHERE job.id = shard.job_id) || ' ' || endpoint "
        "WHERE state IN ('pending', 'leased')"
    )
    waiting = sa.text("state = 'pending'")
    op.create_index(
        "ix_shard_queue",
        "shard",
        ["queue", "rank", "turn", "idx", "not_before"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
