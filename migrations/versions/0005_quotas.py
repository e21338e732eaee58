"""Quotas of projects, and operator projects, which may create other projects"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

LIMITS = ("stored_bytes", "queued_runs", "running_runs", "request_rows", "requests_per_minute")


def upgrade() -> None:
    op.add_column("projects", sa.Column("operates", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE projects SET operates = TRUE WHERE id = (SELECT min(id) FROM projects)")
    for limit in LIMITS:
        op.add_column("projects", sa.Column(f"most_{limit}", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for limit in reversed(LIMITS):
        op.drop_column("projects", f"most_{limit}")
    op.drop_column("projects", "operates")
