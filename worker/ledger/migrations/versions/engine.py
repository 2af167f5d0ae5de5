"""The job engine: lanes, endpoints, the plan's digest, and a history that says where a worker was when it died."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _change_job()
    _change_shard()
    op.add_column("attempt", sa.Column("detail", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "endpoint",
        sa.Column("key", sa.Text),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("outcomes", sa.String(20), nullable=False),
        sa.Column("trips", sa.Integer, nullable=False),
        sa.Column("open_until", sa.Double, nullable=False),
        sa.Column("probe_until", sa.Double, nullable=False),
        sa.Column("succeeded_at", sa.Double, nullable=False),
        sa.Column("tokens", sa.Double, nullable=False),
        sa.Column("tokens_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_endpoint"),
    )
    # Of the shards that are there: nobody noted where their slides are.
    op.execute("INSERT INTO endpoint VALUES ('', 'closed', '', '', 0, 0, 0, 0, 0, 0)")


def _change_job() -> None:
    # No batch mode: on SQLite it would copy the table and drop it, and with it, by cascade, every shard.
    op.add_column("job", sa.Column("lane", sa.String(16), nullable=False, server_default="standard"))
    op.add_column("job", sa.Column("endpoint", sa.Text, nullable=False, server_default=""))
    op.add_column("job", sa.Column("plan_sha256", sa.String(64), nullable=False, server_default=""))
    op.drop_column("job", "priority")
    job = sa.table("job", sa.column("serial"), sa.column("plan"), sa.column("plan_sha256"))
    connection = op.get_bind()
    for serial in connection.execute(sa.select(job.c.serial)).scalars().all():
        plan = connection.execute(sa.select(job.c.plan).where(job.c.serial == serial)).scalar_one()
        digest = hashlib.sha256(bytes(plan)).hexdigest()
        connection.execute(sa.update(job).where(job.c.serial == serial).values(plan_sha256=digest))


def _change_shard() -> None:
    op.add_column("shard", sa.Column("endpoint", sa.Text, nullable=False, server_default=""))
    op.add_column("shard", sa.Column("claimed_at", sa.Double))
    op.add_column("shard", sa.Column("note", sa.Text, nullable=False, server_default=""))
    op.add_column("shard", sa.Column("deferred_at", sa.Double))
    op.drop_index("ix_shard_claim", "shard")
    op.create_index("ix_shard_claim", "shard", ["state", "endpoint", "rank", "turn", "idx", "not_before"])
    op.create_index("ix_shard_rung", "shard", ["state", "rank", "endpoint", "rung_at", "not_before"])
