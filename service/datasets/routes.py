"""/v1/uploads and /v1/datasets."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from service.datasets import operations as datasets
from service.datasets.schemas import Dataset, DatasetPage, DatasetRequest, DatasetVersion, Upload
from service.shared import broker, npz
from service.shared.errors import TooLarge
from service.shared.names import Reference
from service.shared.storage import Writer
from service.web import Caller, Paging, Services, Web

router = APIRouter(tags=["datasets"])

UPLOADS = "/v1/uploads"
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="Number of the version.")]


@router.post(
    UPLOADS,
    status_code=201,
    operation_id="create_upload",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def create_upload(request: Request, response: Response, caller: Caller, services: Web) -> Upload:
    """Store a raw .npz file: an array a modality, the first axis the samples; `NAME.present` may mask them.

    The body is the file itself. Its headers are checked at once: arrays of numbers only, no pickled objects.
    """
    with services.storage.writer(caller.project_id) as writer:
        async for piece in request.stream():
            if writer.size_bytes + len(piece) > services.settings.upload_bytes:
                raise TooLarge("upload_too_large", f"the upload has more than {services.settings.upload_bytes} bytes")
            writer.write(piece)
        upload = await run_in_threadpool(_keep, services, writer)
    response.headers["Location"] = f"{UPLOADS}/{upload.id}"
    return upload


def _keep(services: Services, writer: Writer) -> Upload:
    writer.flush()
    arrays = npz.inspect(writer.path, services.settings.unpacked_bytes)
    stored = writer.commit()
    with services.database.writer.begin() as session:
        return datasets.create_upload(session, stored, arrays)


@router.get(UPLOADS + "/{upload_id}", operation_id="get_upload")
def get_upload(upload_id: Reference, caller: Caller, services: Web) -> Upload:
    """What an upload holds."""
    with services.database.reader() as session:
        return datasets.get_upload(session, caller.project_id, upload_id)


@router.post("/v1/datasets", status_code=201, operation_id="create_dataset")
def create_dataset(
    body: DatasetRequest, response: Response, after: BackgroundTasks, caller: Caller, services: Web
) -> DatasetVersion:
    """Make a dataset version of an upload. A worker converts it: `validating`, then `ready` or `rejected`."""
    with services.database.writer.begin() as session:
        version, job_id = datasets.create_version(session, caller.project_id, body)
    after.add_task(broker.wake, services.messages, datasets.QUEUE, job_id)
    response.headers["Location"] = f"/v1/datasets/{version.dataset}/versions/{version.version}"
    return version


@router.get("/v1/datasets", operation_id="list_datasets")
def list_datasets(page: Paging, caller: Caller, services: Web) -> DatasetPage:
    """The project's datasets, newest first."""
    with services.database.reader() as session:
        items, token = page.cut(datasets.list_datasets(session, caller.project_id, page.after, page.size + 1))
    return DatasetPage(datasets=items, next_page_token=token)


@router.get("/v1/datasets/{name}", operation_id="get_dataset")
def get_dataset(name: Reference, caller: Caller, services: Web) -> Dataset:
    """A dataset's name and newest version."""
    with services.database.reader() as session:
        dataset, version, _ = datasets.find_version(session, caller.project_id, name, None)
        return Dataset(name=dataset.name, latest_version=version.version, created_at=dataset.created_at)


@router.get("/v1/datasets/{name}/versions/{version}", operation_id="get_dataset_version")
def get_dataset_version(name: Reference, version: Number, caller: Caller, services: Web) -> DatasetVersion:
    """A version's state, schema, statistics, and what is wrong with it."""
    with services.database.reader() as session:
        return datasets.get_version(session, caller.project_id, name, version)
