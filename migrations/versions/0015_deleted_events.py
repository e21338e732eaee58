"""Up to which event a project's events were deleted; audit events in the order of their times"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deleted_events",
        sa.Column("project_id", sa.String(length=200), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_deleted_events")),
    )
    # Nobody has noted what was deleted so far: a reader of an older event reads the resources again once too often.
    op.execute(
        "INSERT INTO deleted_events (project_id, event_id) "
        "SELECT project_id, min(id) - 1 FROM events GROUP BY project_id"
    )
    op.create_index("ix_audit_events_listed", "audit_events", ["project_id", "created_at", "id"])
    op.drop_index("ix_audit_events_project_id_id", "audit_events")


def downgrade() -> None:
    op.create_index("ix_audit_events_project_id_id", "audit_events", ["project_id", "id"])
    op.drop_index("ix_audit_events_listed", "audit_events")
    op.drop_table("deleted_events")
