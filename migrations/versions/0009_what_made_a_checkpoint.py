"""Code revision, packages and device of a checkpoint, for the lineage of its model versions"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("run_checkpoints", sa.Column("libraries", JSON, nullable=False, server_default="{}"))
    op.add_column("run_checkpoints", sa.Column("git_revision", sa.String(length=200), nullable=True))


def downgrade() -> None:
    op.drop_column("run_checkpoints", "git_revision")
    op.drop_column("run_checkpoints", "libraries")
