"""Descriptions of models, reversible deletion, and aliases that move when the engines are ready"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    for table in ("models", "model_versions"):
        op.add_column(table, sa.Column("description", sa.Text(), nullable=True))
        op.add_column(table, sa.Column("tags", JSON, nullable=False, server_default="[]"))
        op.add_column(table, sa.Column("deleted_at", TIME, nullable=True))
    op.add_column("models", sa.Column("last_version", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("model_versions", sa.Column("evaluation", JSON, nullable=True))
    op.execute(
        "UPDATE models SET last_version = "
        "coalesce((SELECT max(version) FROM model_versions WHERE model_versions.model_id = models.id), 0)"
    )
    op.execute(
        "UPDATE model_versions SET evaluation = "
        "(SELECT evaluation FROM runs WHERE runs.id = model_versions.run_id) WHERE run_id IS NOT NULL"
    )
    with op.batch_alter_table("aliases") as aliases:
        aliases.add_column(sa.Column("pending_version_id", sa.String(length=200), nullable=True))
        aliases.add_column(sa.Column("pending_at", TIME, nullable=True))
        aliases.add_column(sa.Column("error", sa.Text(), nullable=True))
        aliases.create_foreign_key(
            op.f("fk_aliases_pending_version_id"), "model_versions", ["pending_version_id"], ["id"]
        )
    for column in ("version_id", "pending_version_id"):
        op.create_index(f"ix_aliases_{column}", "aliases", [column])
    op.create_table(
        "engines",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("heartbeat_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_engines")),
    )
    op.create_index("ix_engines_heartbeat_at", "engines", ["heartbeat_at"])
    op.create_table(
        "engine_reports",
        sa.Column("engine_id", sa.String(length=200), nullable=False),
        sa.Column("version_id", sa.String(length=200), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("reported_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["engine_id"], ["engines.id"], name=op.f("fk_engine_reports_engine_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name=op.f("fk_engine_reports_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("engine_id", "version_id", name=op.f("pk_engine_reports")),
    )


def downgrade() -> None:
    op.drop_table("engine_reports")
    op.drop_table("engines")
    for column in ("version_id", "pending_version_id"):
        op.drop_index(f"ix_aliases_{column}", "aliases")
    with op.batch_alter_table("aliases") as aliases:
        aliases.drop_constraint(op.f("fk_aliases_pending_version_id"), type_="foreignkey")
        for column in ("pending_version_id", "pending_at", "error"):
            aliases.drop_column(column)
    op.drop_column("model_versions", "evaluation")
    op.drop_column("models", "last_version")
    for table in ("models", "model_versions"):
        for column in ("description", "tags", "deleted_at"):
            op.drop_column(table, column)
