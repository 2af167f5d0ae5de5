"""Ledgers of other versions: as an older Slidewire left them, or as a newer one has changed them."""

from pathlib import Path
from typing import Final

from alembic import command

from worker.ledger import Database, migration

NEWER: Final = "9001"
_REVISION = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEWER}"
down_revision = "{{before}}"


def upgrade():
    for table in ("job", "shard", "checkpoint", "attempt", "endpoint"):
        op.add_column(table, sa.Column("hue", sa.Text, nullable=False, server_default="none"))
        op.add_column(table, sa.Column("seen_at", sa.Double))
    op.create_index("ix_shard_hue", "shard", ["state", "hue"])
    op.create_table("palette", sa.Column("hue", sa.Text, primary_key=True))
"""


def bring_to(url: str, revision: str) -> None:
    """Bring a ledger, or an empty database, up to a revision that this version knows."""
    _upgrade(url, revision, "")


def migrate_as_newer(url: str, folder: Path) -> None:
    """Do what `slidewire ledger migrate` of the next version might; `folder` is for its revision."""
    folder.mkdir()
    (folder / "newer.py").write_text(_REVISION.format(before=migration.known()[0]))
    _upgrade(url, NEWER, str(folder))


def _upgrade(url: str, revision: str, more: str) -> None:
    config = migration._config()
    if more:
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", f"worker.ledger:migrations/versions\n{more}")
    database = Database(url, as_it_is=True)
    try:
        with database.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    finally:
        database.close()
