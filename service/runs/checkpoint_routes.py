"""The checkpoints of /v1/runs, and POST /v1/models/{name}/versions, which registers one as a model version."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from service.http import downloads
from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Web
from service.http.downloads import BINARY, IfRange, Range
from service.http.error_responses import DOWNLOAD, errors
from service.http.idempotency import OnceByBody
from service.http.paging import page_of
from service.http.query_parameters import TimedPageQuery
from service.registry.schemas import ModelVersion, VersionRequest
from service.runs import checkpoints, lookup, schemas
from service.shared.resource_names import Name, Reference

router = APIRouter(route_class=AuthenticatedRoute)

Step = Annotated[int, Path(ge=0, le=2**53, description="Number of optimiser steps done.")]


@router.get(
    "/v1/runs/{run_id}/checkpoints",
    operation_id="list_run_checkpoints",
    summary="List checkpoints of a run",
    tags=["runs"],
    responses=errors("run_not_found"),
)
def list_run_checkpoints(
    run_id: Reference, query: Annotated[TimedPageQuery, Query()], request: Request, caller: Caller, services: Web
) -> schemas.CheckpointPage:
    """The stored states of the training, newest first."""
    page = page_of(query, request)
    with services.database.reader() as session:
        lookup.job_of(session, caller.project_id, run_id)
        rows = [
            (
                checkpoint.id,
                schemas.Checkpoint(
                    step=checkpoint.step,
                    attempt=checkpoint.attempt,
                    reason=checkpoint.reason,
                    sha256=artifact.sha256,
                    size_bytes=artifact.size_bytes,
                    created_at=checkpoint.created_at,
                ),
            )
            for checkpoint, artifact in checkpoints.list_checkpoints(
                session, run_id, query.period, page.after, page.size + 1
            )
        ]
    items, token = page.cut(rows)
    return schemas.CheckpointPage(checkpoints=items, next_page_token=token)


@router.get(
    "/v1/runs/{run_id}/checkpoints/{step}/content",
    operation_id="download_run_checkpoint",
    summary="Download a checkpoint",
    tags=["runs"],
    response_class=Response,
    responses={
        **downloads.answers({downloads.MEDIA_TYPE: BINARY}),
        **errors("checkpoint_not_found", "run_not_found", *DOWNLOAD),
    },
)
def download_run_checkpoint(
    run_id: Reference,
    step: Step,
    request: Request,
    caller: Caller,
    services: Web,
    range: Range = None,
    if_range: IfRange = None,
) -> Response:
    """The file of a checkpoint, which `models.load` reads as a model."""
    with services.database.reader() as session:
        _, artifact = checkpoints.find(session, caller.project_id, run_id, step)
    return downloads.stored(request, services, artifact.file, f"{run_id}-step-{step}.safetensors", range, if_range)


@router.post(
    "/v1/models/{name}/versions",
    status_code=201,
    operation_id="create_model_version",
    summary="Register a checkpoint as a version",
    tags=["registry"],
    responses=errors("checkpoint_not_found", "run_not_found"),
)
def create_model_version(
    name: Name, body: VersionRequest, response: Response, caller: Caller, services: Web, once: OnceByBody
) -> ModelVersion:
    """Make a run's checkpoint the next version of a model."""
    version = once.do(
        services.database,
        lambda session: checkpoints.register(session, caller.project_id, name, body),
        ModelVersion,
    )
    response.headers["Location"] = f"/v1/models/{name}/versions/{version.version}"
    return version
