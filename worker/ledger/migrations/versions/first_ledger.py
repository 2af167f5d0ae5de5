"""The first ledger: jobs, shards, checkpoints and the audit of attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _create_job()
    _create_shard()
    _create_checkpoint()
    _create_attempt()


def _create_job() -> None:
    op.create_table(
        "job",
        sa.Column("serial", sa.Integer, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("result_key", sa.Text, nullable=False),
        sa.Column("encoder", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("plan", sa.LargeBinary, nullable=False),
        sa.Column("patches", sa.Integer, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("error_code", sa.Text, nullable=False),
        sa.Column("error_message", sa.Text, nullable=False),
        sa.Column("outputs", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("serial", name="pk_job"),
        sa.UniqueConstraint("id", name="uq_job_id"),
        sa.UniqueConstraint("key", name="uq_job_key"),
    )
    op.create_index("ix_job_state_serial", "job", ["state", "serial"])


def _create_checkpoint() -> None:
    op.create_table(
        "checkpoint",
        sa.Column("shard_id", sa.String(32)),
        sa.Column("first_batch", sa.Integer, autoincrement=False),
        sa.Column("batches", sa.Integer, nullable=False),
        sa.Column("patches", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("shard_id", "first_batch", name="pk_checkpoint"),
        sa.ForeignKeyConstraint(["shard_id"], ["shard.id"], name="fk_checkpoint_shard_id_shard", ondelete="CASCADE"),
    )


def _create_attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("id", sa.Integer, autoincrement=True),
        sa.Column("shard_id", sa.String(32), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attempt"),
        sa.ForeignKeyConstraint(["shard_id"], ["shard.id"], name="fk_attempt_shard_id_shard", ondelete="CASCADE"),
    )
    op.create_index("ix_attempt_shard_id", "attempt", ["shard_id"])


def _create_shard() -> None:
    op.create_table(
        "shard",
        sa.Column("id", sa.String(32)),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("idx", sa.Integer, nullable=False),
        sa.Column("start", sa.Integer, nullable=False),
        sa.Column("stop", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("lease_until", sa.Double),
        sa.Column("patches_done", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("dispatch_no", sa.Integer, nullable=False),
        sa.Column("rung_at", sa.Double),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_shard"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_shard_job_id_job", ondelete="CASCADE"),
        sa.UniqueConstraint("job_id", "idx", name="uq_shard_job_id_idx"),
    )
    op.create_index("ix_shard_claim", "shard", ["state", "rank", "turn", "idx"])
    op.create_index("ix_shard_lease", "shard", ["state", "lease_until"])


def downgrade() -> None:
    for table in ("attempt", "checkpoint", "shard", "job"):
        op.drop_table(table)
