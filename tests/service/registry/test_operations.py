"""Versions of models: consecutive numbers, also for concurrent runs, and their lineage."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from sqlalchemy import select

from models.config import MMVRNNConfig, ModalityConfig
from service.jobs.operations import Claim
from service.registry import operations as registry
from service.registry.tables import ModelVersion
from service.runs import training
from service.runs.training import Origin
from service.shared.database import Database
from service.shared.storage import Stored
from tests.service.rows import claimed_run


def add(database: Database, claim: Claim, sha256: str) -> int:
    with database.writer.begin() as session:
        assigned = training.assignment(session, claim)
        stored = Stored(claim.project_id, sha256, 10)
        return training.complete(session, assigned, stored, None, {"loss": 1.0}, None, [], Origin({"torch": "2"}, None))


def test_a_version_remembers_its_lineage(database: Database, project_id: str) -> None:
    claim = claimed_run(database, project_id)
    assert add(database, claim, "a" * 64) == 1
    with database.reader() as session:
        found = registry.get_version(session, project_id, "m", 1)
        run_id = training.assignment(session, claim).run_id
    assert (found.metrics, found.sha256, found.size_bytes) == ({"loss": 1.0}, "a" * 64, 10)
    assert (found.lineage.run, found.lineage.attempt, found.lineage.seed) == (run_id, 1, 0)
    assert (found.lineage.dataset, found.lineage.dataset_version, found.lineage.dataset_sha256) == ("d", 1, "1" * 64)


def test_runs_that_end_at_once_make_versions_without_gaps(database: Database, project_id: str) -> None:
    claims = [claimed_run(database, project_id) for _ in range(4)]
    start = Barrier(4)

    def finish(n: int) -> int:
        start.wait()
        return add(database, claims[n], f"{n}" * 64)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(finish, range(4))) == [1, 2, 3, 4]


def test_a_version_whose_experts_were_a_fusion_is_served_with_the_names_of_today(
    database: Database, project_id: str
) -> None:
    """docs/decisions/0052. Older releases stored such configurations."""
    modality = ModalityConfig(name="x", likelihood="gaussian")
    stored = MMVRNNConfig(modalities=(modality,)).model_dump(mode="json") | {"fusion": "product_of_experts"}
    del stored["posterior"]
    add(database, claimed_run(database, project_id), "a" * 64)
    with database.writer.begin() as session:
        session.scalars(select(ModelVersion)).one().config = stored
    with database.reader() as session:
        config = registry.get_version(session, project_id, "m", 1).config
    assert isinstance(config, MMVRNNConfig)
    assert (config.fusion, config.posterior) == ("missing_embeddings", "product_of_experts")
