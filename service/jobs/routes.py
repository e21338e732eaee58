"""/v1/workers."""

from fastapi import APIRouter

from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Web
from service.jobs import live_workers, schemas

router = APIRouter(prefix="/v1/workers", tags=["workers"], route_class=AuthenticatedRoute)


@router.get("", operation_id="list_workers", summary="List live workers")
def list_workers(caller: Caller, services: Web) -> schemas.Workers:
    """List the live worker processes; all projects share them."""
    with services.database.reader() as session:
        workers = [
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
            )
            for worker, project_id in live_workers.alive(session)
        ]
    return schemas.Workers(workers=workers)
