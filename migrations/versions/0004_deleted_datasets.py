"""Deleted datasets, and the released artifacts of deleted rows"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
THERE = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    op.add_column("datasets", sa.Column("deleted_at", TIME, nullable=True))
    op.add_column("dataset_versions", sa.Column("deleted_at", TIME, nullable=True))
    op.add_column("dataset_versions", sa.Column("sha256", sa.String(length=64), nullable=True))
    op.execute(
        "UPDATE dataset_versions SET sha256 = "
        "(SELECT sha256 FROM artifacts WHERE artifacts.id = dataset_versions.artifact_id)"
    )
    op.create_index("ix_datasets_listed", "datasets", ["project_id", "id"], sqlite_where=THERE, postgresql_where=THERE)
    # for the query that checks whether a row still refers to an artifact
    op.create_index("ix_dataset_versions_artifact_id", "dataset_versions", ["artifact_id"])
    op.create_index("ix_uploads_artifact_id", "uploads", ["artifact_id"])
    op.create_index("ix_model_versions_artifact_id", "model_versions", ["artifact_id"])
    op.create_index("ix_runs_init_artifact_id", "runs", ["init_artifact_id"])


def downgrade() -> None:
    op.drop_index("ix_runs_init_artifact_id", "runs")
    op.drop_index("ix_model_versions_artifact_id", "model_versions")
    op.drop_index("ix_uploads_artifact_id", "uploads")
    op.drop_index("ix_dataset_versions_artifact_id", "dataset_versions")
    op.drop_index("ix_datasets_listed", "datasets")
    op.drop_column("dataset_versions", "sha256")
    op.drop_column("dataset_versions", "deleted_at")
    op.drop_column("datasets", "deleted_at")
