"""Intake: endpoints that are watched, the series that arrive there, and what the webhook is still to be told."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def _notice() -> tuple[sa.Column[str], sa.Column[float], sa.Column[int]]:
    return (
        sa.Column("notice", sa.String(8), nullable=False, server_default=""),
        sa.Column("notice_at", sa.Double, nullable=False, server_default="0"),
        sa.Column("notice_tries", sa.Integer, nullable=False, server_default="0"),
    )


def upgrade() -> None:
    for column in _notice():
        op.add_column("job", column)
    op.create_index("ix_job_notice", "job", ["notice", "notice_at"])
    _create_watch()
    _create_arrival()


def _create_watch() -> None:
    op.create_table(
        "watch",
        sa.Column("endpoint", sa.Text),
        sa.Column("cursor", sa.BigInteger, nullable=False),
        sa.Column("mark", sa.Text, nullable=False),
        sa.Column("read_at", sa.Double),
        sa.Column("first_day", sa.String(10), nullable=False),
        sa.Column("last_day", sa.String(10), nullable=False),
        sa.Column("seen", sa.Integer, nullable=False),
        sa.Column("page", sa.String(64), nullable=False),
        sa.Column("listed", sa.Boolean, nullable=False),
        sa.Column("reconciled_at", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("endpoint", name="pk_watch"),
    )


def _create_arrival() -> None:
    op.create_table(
        "arrival",
        sa.Column("serial", sa.Integer, autoincrement=True),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("calling_aet", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("set_sha256", sa.String(64), nullable=False),
        sa.Column("instances", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.Column("deadline_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        *_notice(),
        sa.PrimaryKeyConstraint("serial", name="pk_arrival"),
        sa.UniqueConstraint("endpoint", "study_uid", "series_uid", name="uq_arrival_endpoint_study_uid_series_uid"),
    )
    op.create_index("ix_arrival_due", "arrival", ["endpoint", "state", "due_at"])
    op.create_index("ix_arrival_notice", "arrival", ["notice", "notice_at"])
