"""The newest metrics of runs as rows, by which runs are sorted and filtered, instead of one JSON object per run"""

import math
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
RUNS_AT_ONCE = 1000

RUNS = sa.table("runs", sa.column("id"), sa.column("job_id"), sa.column("project_id"))
PROGRESS = sa.table(
    "run_progress", sa.column("run_id"), sa.column("step"), sa.column("epoch"), sa.column("metrics", JSON)
)
NEWEST = sa.table(
    "run_latest_metrics", sa.column("job_id"), sa.column("name"), sa.column("project_id"), sa.column("value")
)
METRICS = sa.table("run_metrics", sa.column("run_id"), sa.column("step"), sa.column("epoch"))


def upgrade() -> None:
    op.create_table(
        "run_latest_metrics",
        sa.Column("job_id", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("project_id", sa.String(length=200), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["runs.job_id"], name=op.f("fk_run_latest_metrics_job_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_run_latest_metrics_project_id")),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_run_latest_metrics")),
    )
    _copy(
        sa.select(RUNS.c.id, RUNS.c.job_id, RUNS.c.project_id, PROGRESS.c.metrics).join(
            PROGRESS, PROGRESS.c.run_id == RUNS.c.id
        ),
        NEWEST,
        lambda row: [
            {"job_id": row.job_id, "name": name, "project_id": row.project_id, "value": _finite(value)}
            for name, value in row.metrics.items()
        ],
    )
    op.create_index(
        "ix_run_latest_metrics_listed", "run_latest_metrics", ["project_id", "name", "value", "job_id"], unique=False
    )
    op.drop_table("run_progress")


def downgrade() -> None:
    op.create_table(
        "run_progress",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("metrics", JSON, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_progress_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_progress")),
    )
    connection = op.get_bind()

    def progress(row: Any) -> list[dict[str, Any]]:
        newest_values = sa.select(NEWEST.c.name, NEWEST.c.value).where(NEWEST.c.job_id == row.job_id)
        metrics: dict[str, Any] = {name: value for name, value in connection.execute(newest_values)}  # noqa: C416 rows
        last = sa.select(METRICS.c.step, METRICS.c.epoch).where(METRICS.c.run_id == row.id)
        newest = connection.execute(last.order_by(METRICS.c.step.desc()).limit(1)).one_or_none()
        step, epoch = newest or (0, 0)
        return [{"run_id": row.id, "step": step, "epoch": epoch, "metrics": metrics}] if metrics else []

    _copy(sa.select(RUNS.c.id, RUNS.c.job_id, RUNS.c.project_id), PROGRESS, progress)
    op.drop_table("run_latest_metrics")


def _copy(source: Any, target: Any, rows_of: Any) -> None:
    """Insert the rows that `rows_of` makes of each row of the source, which is read in pieces in the order of runs."""
    connection = op.get_bind()
    last = ""
    while piece := connection.execute(source.where(RUNS.c.id > last).order_by(RUNS.c.id).limit(RUNS_AT_ONCE)).all():
        rows = [new for row in piece for new in rows_of(row)]
        if rows:
            connection.execute(sa.insert(target), rows)
        last = piece[-1].id


def _finite(value: Any) -> float | None:
    """The value, None for what is no finite number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
