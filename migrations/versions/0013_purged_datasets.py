"""Datasets and versions that are marked as deleted until they are purged"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
DATASETS = ("datasets", "dataset_versions")
MODELS = ("models", "model_versions")
MARKED = sa.text("deleted_at IS NOT NULL")
KEPT = sa.text("deleted_at IS NOT NULL AND purged_at IS NULL")


def upgrade() -> None:
    for table in DATASETS:
        op.add_column(table, sa.Column("purged_at", TIME, nullable=True))
        # a deletion deleted the files too
        op.execute(f"UPDATE {table} SET purged_at = deleted_at")  # noqa: S608 its own names
    for tables, where in ((DATASETS, KEPT), (MODELS, MARKED)):
        for table in tables:
            op.create_index(f"ix_{table}_marked", table, ["deleted_at"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for table in (*DATASETS, *MODELS):
        op.drop_index(f"ix_{table}_marked", table)
    for table in DATASETS:
        op.drop_column(table, "purged_at")
