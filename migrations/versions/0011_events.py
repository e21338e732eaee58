"""The outbox: events of a project's resources; jobs name the resource that they belong to"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("project_id", sa.String(length=200), nullable=False),
        sa.Column("type", sa.String(length=60), nullable=False),
        sa.Column("resource_type", sa.String(length=40), nullable=False),
        sa.Column("resource_id", sa.String(length=255), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_project_id_id", "events", ["project_id", "id"])
    op.add_column("jobs", sa.Column("resource_type", sa.String(length=40), nullable=True))
    op.add_column("jobs", sa.Column("resource_id", sa.String(length=255), nullable=True))
    op.execute(
        "UPDATE jobs SET resource_type = 'run', resource_id = (SELECT runs.id FROM runs WHERE runs.job_id = jobs.id) "
        "WHERE id IN (SELECT job_id FROM runs)"
    )
    op.execute(
        "UPDATE jobs SET resource_type = 'dataset_version', resource_id = ("
        "SELECT datasets.name || '/' || dataset_versions.version FROM dataset_versions "
        "JOIN datasets ON datasets.id = dataset_versions.dataset_id WHERE dataset_versions.job_id = jobs.id"
        ") WHERE id IN (SELECT job_id FROM dataset_versions)"
    )


def downgrade() -> None:
    op.drop_column("jobs", "resource_id")
    op.drop_column("jobs", "resource_type")
    op.drop_table("events")
