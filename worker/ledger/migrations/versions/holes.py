"""Jobs know how many of their patches are holes."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("job", sa.Column("holes", sa.Integer, nullable=False, server_default="0"))
