"""Deletion of projects: marked, and purged"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    for column in ("deleted_at", "purged_at"):
        op.add_column("projects", sa.Column(column, TIME, nullable=True))


def downgrade() -> None:
    # the earlier release knows no deleted projects, and would accept their keys
    deleted_at = "SELECT deleted_at FROM projects WHERE projects.id = api_keys.project_id"
    op.execute(f"UPDATE api_keys SET revoked_at = coalesce(revoked_at, ({deleted_at}))")  # noqa: S608
    for column in ("purged_at", "deleted_at"):
        op.drop_column("projects", column)
