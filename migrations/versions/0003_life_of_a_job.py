"""Checkpoints, tags and latest metrics of runs; round-robin scheduling of projects"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("projects", sa.Column("served_at", TIME, nullable=True))
    op.create_index("ix_jobs_listed", "jobs", ["project_id", "kind", "state", "id"])
    with op.batch_alter_table("runs", naming_convention={"fk": "fk_%(table_name)s_%(column_0_name)s"}) as runs:
        runs.add_column(sa.Column("init_from", JSON, nullable=True))
        runs.add_column(sa.Column("estimate", JSON, nullable=True))
        runs.add_column(sa.Column("init_artifact_id", sa.String(length=200), nullable=True))
        runs.add_column(sa.Column("preset", sa.String(length=40), nullable=True))
        runs.add_column(sa.Column("description", sa.Text(), nullable=True))
        runs.create_foreign_key("fk_runs_init_artifact_id", "artifacts", ["init_artifact_id"], ["id"])
        runs.drop_constraint("fk_runs_retry_of", type_="foreignkey")
        runs.create_foreign_key("fk_runs_retry_of", "runs", ["retry_of"], ["id"], ondelete="SET NULL")
        runs.drop_index("ix_runs_project_id_id")
        runs.drop_index("ix_runs_dataset_version_id")
        runs.create_index("ix_runs_project_id_job_id", ["project_id", "job_id"])
        runs.create_index("ix_runs_project_id_model_name_job_id", ["project_id", "model_name", "job_id"])
        runs.create_index("ix_runs_dataset_version_id_job_id", ["dataset_version_id", "job_id"])
    op.create_table(
        "run_tags",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("tag", sa.String(length=200), nullable=False),
        sa.Column("project_id", sa.String(length=200), nullable=False),
        sa.Column("job_id", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_tags_run_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_run_tags_project_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_run_tags_job_id")),
        sa.PrimaryKeyConstraint("run_id", "tag", name=op.f("pk_run_tags")),
    )
    op.create_index("ix_run_tags_project_id_tag_job_id", "run_tags", ["project_id", "tag", "job_id"])
    op.create_table(
        "run_progress",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("metrics", JSON, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_progress_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_progress")),
    )
    op.create_table(
        "run_checkpoints",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=False),
        sa.Column("artifact_id", sa.String(length=200), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_checkpoints_run_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name=op.f("fk_run_checkpoints_artifact_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_checkpoints")),
    )
    op.create_index("ix_run_checkpoints_run_id_step", "run_checkpoints", ["run_id", "step"])
    op.create_index("ix_run_checkpoints_artifact_id", "run_checkpoints", ["artifact_id"])


def downgrade() -> None:
    for table in ("run_checkpoints", "run_progress", "run_tags"):
        op.drop_table(table)
    with op.batch_alter_table("runs", naming_convention={"fk": "fk_%(table_name)s_%(column_0_name)s"}) as runs:
        runs.drop_index("ix_runs_dataset_version_id_job_id")
        runs.drop_index("ix_runs_project_id_model_name_job_id")
        runs.drop_index("ix_runs_project_id_job_id")
        runs.create_index("ix_runs_dataset_version_id", ["dataset_version_id"])
        runs.create_index("ix_runs_project_id_id", ["project_id", "id"])
        runs.drop_constraint("fk_runs_retry_of", type_="foreignkey")
        runs.create_foreign_key("fk_runs_retry_of", "runs", ["retry_of"], ["id"])
        runs.drop_constraint("fk_runs_init_artifact_id", type_="foreignkey")
        runs.drop_column("description")
        runs.drop_column("preset")
        runs.drop_column("init_artifact_id")
        runs.drop_column("estimate")
        runs.drop_column("init_from")
    op.drop_index("ix_jobs_listed", "jobs")
    op.drop_column("projects", "served_at")
