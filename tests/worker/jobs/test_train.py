"""The rows that a finished training leaves in SQL."""

import math

from sqlalchemy import select

from service.registry import operations as registry
from service.runs.tables import Run
from service.shared.database import Database
from service.shared.storage import Stored
from tests.service.rows import claimed_run
from worker.jobs.train import TrainJob


def test_model_with_a_last_loss_that_is_not_finite_is_kept(database: Database, project_id: str) -> None:
    """PostgreSQL does not accept NaN in JSON."""
    claim = claimed_run(database, project_id)
    with database.writer.begin() as session:
        training = TrainJob(session, claim)
        evaluation = {
            "rows": {"split": "test", "count": 1},
            "matrix": [],
            "gaps": [],
            "elbo": math.inf,
            "iwae_64": -3.0,
            "latent": [{"kl": math.nan, "active": False}],
            "active_units": 0,
            "expert_shares": None,
            "warnings": [],
        }
        result = {"metrics": {"loss": math.nan, "kl": 2.0}, "evaluation": evaluation, "kernels": []}
        training.complete(session, Stored(project_id, "a" * 64, 10), result, None)
    with database.reader() as session:
        version = registry.get_version(session, project_id, "m", 1)
        kept = session.scalar(select(Run.evaluation))
    assert version.metrics == {"loss": None, "kl": 2.0}
    assert kept == evaluation | {"elbo": None, "latent": [{"kl": None, "active": False}]}
    assert version.evaluation is not None
    assert version.evaluation.model_dump() == kept
