"""/v1/workers."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Web
from service.http.paging import page_of
from service.http.query_parameters import PageQuery
from service.jobs import live_workers, schemas

router = APIRouter(prefix="/v1/workers", tags=["workers"], route_class=AuthenticatedRoute)


@router.get("", operation_id="list_workers", summary="List live workers")
def list_workers(
    query: Annotated[PageQuery, Query()], request: Request, caller: Caller, services: Web
) -> schemas.WorkerPage:
    """The live worker processes, in the order of their start; all projects share them."""
    page = page_of(query, request)
    with services.database.reader() as session:
        workers = [
            (
                worker.id,
                schemas.Worker(
                    id=worker.id,
                    host=worker.host,
                    queue=worker.queue,
                    devices=worker.devices,
                    versions=worker.versions,
                    busy=worker.job_id is not None,
                    job=worker.job_id if project_id == caller.project_id else None,
                    started_at=worker.started_at,
                    heartbeat_at=worker.heartbeat_at,
                ),
            )
            for worker, project_id in live_workers.alive(session, page.after, page.size + 1)
        ]
    items, token = page.cut(workers)
    return schemas.WorkerPage(workers=items, next_page_token=token)
