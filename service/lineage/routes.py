"""The lineage of a dataset version, and deletions, which are refused while runs or models use the data."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from service.datasets import deletion
from service.datasets import operations as datasets
from service.datasets.schemas import Dataset, DatasetVersion
from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Web
from service.http.error_responses import errors
from service.http.query_parameters import QueryModel
from service.lineage import operations, schemas
from service.shared.resource_names import Reference, VersionNumber

DATASET = "/v1/datasets/{name}"
VERSION = DATASET + "/versions/{version}"

router = APIRouter(tags=["datasets"], route_class=AuthenticatedRoute)


class DeleteQuery(QueryModel):
    """How to delete a dataset or a version."""

    force: Annotated[bool, Field(description="Delete it although it is used; cancel runs that have not ended.")] = False
    purge: Annotated[bool, Field(description="Delete it with its files; this cannot be undone.")] = False


@router.delete(
    DATASET,
    status_code=204,
    operation_id="delete_dataset",
    summary="Delete a dataset",
    responses=errors("dataset_in_use", "dataset_not_found"),
)
def delete_dataset(name: Reference, query: Annotated[DeleteQuery, Query()], caller: Caller, services: Web) -> None:
    """Delete a dataset with its versions. `restore` undoes it. Refused while runs or models use it, unless forced."""
    with services.database.writer.begin() as session:
        operations.delete_dataset(session, caller.project_id, name, query.force, query.purge)


@router.post(
    DATASET + "/restore",
    operation_id="restore_dataset",
    summary="Restore a deleted dataset",
    responses=errors("dataset_not_found"),
)
def restore_dataset(name: Reference, caller: Caller, services: Web) -> Dataset:
    """Undo the deletion of a dataset that was not purged."""
    with services.database.writer.begin() as session:
        deletion.restore_dataset(session, caller.project_id, name)
        return datasets.get_dataset(session, caller.project_id, name)


@router.delete(
    VERSION,
    status_code=204,
    operation_id="delete_dataset_version",
    summary="Delete a version of a dataset",
    responses=errors("dataset_in_use", "dataset_not_found", "dataset_version_not_found"),
)
def delete_dataset_version(
    name: Reference, version: VersionNumber, query: Annotated[DeleteQuery, Query()], caller: Caller, services: Web
) -> None:
    """Delete a version. `restore` undoes it. Refused while runs or models use it, unless forced."""
    with services.database.writer.begin() as session:
        operations.delete_version(session, caller.project_id, name, version, query.force, query.purge)


@router.post(
    VERSION + "/restore",
    operation_id="restore_dataset_version",
    summary="Restore a deleted version of a dataset",
    responses=errors("dataset_not_found", "dataset_version_not_found"),
)
def restore_dataset_version(name: Reference, version: VersionNumber, caller: Caller, services: Web) -> DatasetVersion:
    """Undo the deletion of a version that was not purged."""
    with services.database.writer.begin() as session:
        deletion.restore_version(session, caller.project_id, name, version)
        return datasets.get_version(session, caller.project_id, name, version)


@router.get(
    VERSION + "/lineage",
    operation_id="get_dataset_lineage",
    summary="Get source and users of a dataset",
    responses=errors("dataset_version_not_found"),
)
def get_dataset_lineage(
    name: Reference, version: VersionNumber, caller: Caller, services: Web
) -> schemas.DatasetLineage:
    """The source of a version, and the runs and models that were created from it."""
    with services.database.reader() as session:
        return operations.lineage(session, caller.project_id, name, version)
