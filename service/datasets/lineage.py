"""Where a dataset version came from, and what was made of it."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.datasets import operations as datasets
from service.datasets import schemas
from service.datasets.tables import DatasetVersion, Upload
from service.registry.tables import Model, ModelVersion
from service.runs.tables import Run
from service.shared.storage.tables import Artifact

MOST_SHOWN = 1000


def lineage(session: Session, project_id: str, name: str, number: int) -> schemas.DatasetLineage:
    """Upstream and downstream of a version. Raises NotFound."""
    dataset, version, _ = datasets.find_version(session, project_id, name, number)
    uploaded = (
        select(Artifact.sha256)
        .join(Upload, Upload.artifact_id == Artifact.id)
        .where(Upload.id == version.source.get("upload", ""))
    )
    return schemas.DatasetLineage(
        dataset=dataset.name,
        version=version.version,
        sha256=version.sha256,
        source=version.source,
        source_sha256=session.scalar(uploaded),
        users=[*users(session, project_id, dataset.name, [version])],
    )


def users(
    session: Session, project_id: str, name: str, versions: Sequence[DatasetVersion]
) -> Sequence[schemas.DatasetUser]:
    """Runs of some versions of a dataset, and models that were made of them, newest first."""
    runs = (
        select(Run.id, Run.created_at)
        .where(Run.dataset_version_id.in_([version.id for version in versions]))
        .order_by(Run.job_id.desc())
        .limit(MOST_SHOWN)
    )
    # A model version remembers the dataset by its name: its run may have been deleted.
    models = (
        select(Model.name, ModelVersion.version, ModelVersion.created_at)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(
            Model.project_id == project_id,
            ModelVersion.lineage["dataset"].as_string() == name,
            ModelVersion.lineage["dataset_version"].as_integer().in_([version.version for version in versions]),
            # one that was imported may name another server's dataset
            ModelVersion.lineage["dataset_sha256"].as_string().in_([version.sha256 for version in versions]),
        )
        .order_by(ModelVersion.id.desc())
        .limit(MOST_SHOWN)
    )
    found = [
        schemas.DatasetUser(kind="model version", name=f"{row.name}/{row.version}", created_at=row.created_at)
        for row in session.execute(models)
    ]
    return found + [
        schemas.DatasetUser(kind="run", name=row.id, created_at=row.created_at) for row in session.execute(runs)
    ]
