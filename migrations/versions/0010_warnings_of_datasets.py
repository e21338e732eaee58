"""Warnings of a dataset version: properties that its conversion inferred from the data"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("dataset_versions", sa.Column("warnings", JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("dataset_versions", "warnings")
