"""Backfills: archives that are worked through, with a cursor and the series found so far."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "backfill",
        sa.Column("id", sa.String(32)),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("wanted", sa.JSON, nullable=False),
        sa.Column("first_day", sa.String(10), nullable=False),
        sa.Column("last_day", sa.String(10), nullable=False),
        sa.Column("seen", sa.Integer, nullable=False),
        sa.Column("page", sa.String(64), nullable=False),
        sa.Column("listed", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_backfill"),
        sa.UniqueConstraint("key", name="uq_backfill_key"),
    )
    op.create_table(
        "backfill_item",
        sa.Column("serial", sa.Integer, autoincrement=True),
        sa.Column("backfill_id", sa.String(32), nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("patches", sa.Integer, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("serial", name="pk_backfill_item"),
        sa.ForeignKeyConstraint(
            ["backfill_id"], ["backfill.id"], name="fk_backfill_item_backfill_id_backfill", ondelete="CASCADE"
        ),
        sa.UniqueConstraint(
            "backfill_id", "study_uid", "series_uid", name="uq_backfill_item_backfill_id_study_uid_series_uid"
        ),
    )
    op.create_index("ix_backfill_item_state", "backfill_item", ["backfill_id", "state", "serial"])
