"""/v1/uploads and /v1/datasets. `service.lineage` deletes and restores datasets: it knows what uses them."""

from collections.abc import Callable
from typing import Annotated

import orjson
from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.access import quotas
from service.access.operations import Principal
from service.datasets import formats, schemas, uploads
from service.datasets import operations as datasets
from service.datasets.export.process import Exporter
from service.datasets.formats.names import STORED, DownloadName
from service.datasets.preview import Readers, preview
from service.datasets.schemas import Dataset, DatasetPage, DatasetRequest, DatasetVersion, Upload
from service.events.waiting import WaitQuery, Waits
from service.http import downloads, upload_body
from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Services, Web
from service.http.downloads import BINARY, IfRange, Range
from service.http.error_responses import DOWNLOAD, STORED_FILE, errors
from service.http.idempotency import Once, OnceByBody, OnceByCall
from service.http.paging import page_of
from service.http.query_parameters import QueryModel, TimedPageQuery
from service.shared import allowed_locations, broker, samples
from service.shared.resource_names import Reference, VersionNumber
from service.shared.storage import Stored, Writer

router = APIRouter(tags=["datasets"], route_class=AuthenticatedRoute)

UPLOADS = "/v1/uploads"
VERSIONS = "/v1/datasets/{name}/versions"
VERSION = VERSIONS + "/{version}"

MEDIA_TYPES = (
    "application/octet-stream",
    *(format.media_type for format in formats.registered().values() if format.download),
)
FILES = dict.fromkeys(MEDIA_TYPES, BINARY)
UNUSABLE = ("dataset_deleted", "dataset_not_found", "dataset_not_ready", "dataset_version_not_found")


class DatasetQuery(TimedPageQuery):
    """Which datasets or versions to list."""

    deleted: Annotated[bool, Field(description="List the deleted ones instead of the others.")] = False


class PreviewQuery(QueryModel):
    """Which part of a dataset to show."""

    first_row: Annotated[int, Field(ge=0, le=2**53, description="The first row to show.")] = 0
    rows: Annotated[int, Field(ge=1, le=1000, description="Number of rows.")] = 20
    steps: Annotated[int, Field(ge=1, le=10_000, description="Maximum number of steps of a sequence.")] = 100


class DownloadQuery(QueryModel):
    """The file format of a download."""

    format: Annotated[DownloadName, Field(description="`stored` is the safetensors file itself.")] = "parquet"


@router.post(
    UPLOADS,
    status_code=201,
    operation_id="create_upload",
    summary="Upload a file",
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The bytes of the file, in a registered format, such as .npz, Parquet or JSON Lines.",
            "content": {"application/octet-stream": BINARY},
        }
    },
    responses=errors("quota_exceeded", "storage_unavailable", "upload_too_large"),
)
async def create_upload(
    request: Request, response: Response, caller: Caller, services: Web, once: OnceByCall
) -> Upload:
    """Store a raw file; its first bytes tell its format. The body is the file itself.

    A `Content-Digest: sha-256=:…:` header is compared with the received bytes. The array headers of an .npz file are
    checked at once; its values are read when a dataset is created from it.
    """
    async with upload_body.received(request, services, caller, once) as received:
        upload = await run_in_threadpool(_keep, services, caller, received, once)
    response.headers["Location"] = f"{UPLOADS}/{upload.id}"
    return upload


def _keep(services: Services, caller: Caller, received: Writer, once: Once) -> Upload:
    received.flush()
    format = formats.recognise(received.path)
    arrays = format.inspect(received.path, services.settings.unpacked_bytes)
    once = once.about(received.sha256)
    if (upload := once.answered(services.database, Upload)) is not None:
        return upload

    def create(session: Session, stored: Stored, max_bytes: int | None) -> Upload:
        return uploads.create(session, stored, max_bytes, format.name, arrays)

    return upload_body.keep(services, caller, once, received.commit(), create, Upload)


@router.get(UPLOADS, operation_id="list_uploads", summary="List the uploads of the project")
def list_uploads(
    query: Annotated[TimedPageQuery, Query()], request: Request, caller: Caller, services: Web
) -> schemas.UploadPage:
    """The uploads of the project, newest first."""
    page = page_of(query, request)
    with services.database.reader() as session:
        items, token = page.cut(
            uploads.list_uploads(session, caller.project_id, query.period, page.after, page.size + 1)
        )
    return schemas.UploadPage(uploads=items, next_page_token=token)


@router.get(
    UPLOADS + "/{upload_id}", operation_id="get_upload", summary="Get an upload", responses=errors("upload_not_found")
)
def get_upload(upload_id: Reference, caller: Caller, services: Web) -> Upload:
    """The format, size, digest and arrays of an upload."""
    with services.database.reader() as session:
        return uploads.get(session, caller.project_id, upload_id)


@router.delete(
    UPLOADS + "/{upload_id}",
    status_code=204,
    operation_id="delete_upload",
    summary="Delete an upload",
    responses=errors("upload_in_use", "upload_not_found"),
)
def delete_upload(upload_id: Reference, caller: Caller, services: Web) -> None:
    """Delete an upload. Its datasets stay. Refused while a dataset is being created from it."""
    with services.database.writer.begin() as session:
        uploads.remove(session, caller.project_id, upload_id)


@router.post(
    "/v1/datasets",
    status_code=201,
    operation_id="create_dataset",
    summary="Create a dataset version",
    responses=errors("quota_exceeded", "upload_not_found"),
)
async def create_dataset(
    body: DatasetRequest,
    query: Annotated[WaitQuery, Query()],
    response: Response,
    after: BackgroundTasks,
    caller: Caller,
    services: Web,
    once: OnceByBody,
    waits: Waits,
) -> DatasetVersion:
    """Create a dataset version from an upload, a file at a URI, or a generator.

    A worker converts it: `validating`, then `ready`, or `rejected` with up to 100 faults. With `wait`, answer when it
    is no longer `validating`, or when the wait is over.
    """
    if isinstance(body.source, schemas.UriSource):
        allowed_locations.check(body.source.uri, services.settings.source_prefixes)

    def create(session: Session) -> DatasetVersion:
        quotas.check_stored_bytes(session, caller.project_id, caller.quotas.stored_bytes)
        version, job_id = datasets.create_version(session, caller.project_id, body)
        after.add_task(broker.wake, services.messages, datasets.QUEUE, job_id)  # after the commit
        return version

    made = await run_in_threadpool(once.do, services.database, create, DatasetVersion)
    response.headers["Location"] = f"/v1/datasets/{made.dataset}/versions/{made.version}"
    find = _finder(caller, made.dataset, made.version)
    return await waits.until(_is_settled, f"{made.dataset}/{made.version}", find, query, made)


@router.get("/v1/datasets", operation_id="list_datasets", summary="List the datasets of the project")
def list_datasets(
    query: Annotated[DatasetQuery, Query()], request: Request, caller: Caller, services: Web
) -> DatasetPage:
    """The datasets of the project, newest first."""
    page = page_of(query, request)
    with services.database.reader() as session:
        rows = datasets.list_datasets(
            session, caller.project_id, query.deleted, query.period, page.after, page.size + 1
        )
    items, token = page.cut(rows)
    return DatasetPage(datasets=items, next_page_token=token)


@router.get(
    "/v1/datasets/{name}", operation_id="get_dataset", summary="Get a dataset", responses=errors("dataset_not_found")
)
def get_dataset(name: Reference, caller: Caller, services: Web) -> Dataset:
    """The name and the newest version of a dataset."""
    with services.database.reader() as session:
        return datasets.get_dataset(session, caller.project_id, name)


@router.get(
    VERSIONS,
    operation_id="list_dataset_versions",
    summary="List versions of a dataset",
    response_model=schemas.DatasetVersionPage,
    responses=errors("dataset_not_found"),
)
def list_dataset_versions(
    name: Reference, query: Annotated[DatasetQuery, Query()], request: Request, caller: Caller, services: Web
) -> Response:
    """The versions of a dataset, newest first."""
    page = page_of(query, request)
    with services.database.reader() as session:
        versions = datasets.list_versions(
            session, caller.project_id, name, query.deleted, query.period, page.after, page.size + 1
        )
        return page.response("versions", versions)


@router.get(
    VERSION,
    operation_id="get_dataset_version",
    summary="Get a version of a dataset",
    responses=errors("dataset_version_not_found"),
)
async def get_dataset_version(
    name: Reference, version: VersionNumber, query: Annotated[WaitQuery, Query()], caller: Caller, waits: Waits
) -> DatasetVersion:
    """The state, schema, statistics, warnings and errors of a version.

    With `wait`, answer when it is no longer `validating`, or when the wait is over.
    """
    return await waits.until(_is_settled, f"{name}/{version}", _finder(caller, name, version), query)


@router.get(
    VERSION + "/preview",
    operation_id="preview_dataset",
    summary="Show rows of a dataset",
    response_model=schemas.Preview,
    responses=errors(*UNUSABLE, *STORED_FILE),
)
def preview_dataset(
    name: Reference,
    version: VersionNumber,
    query: Annotated[PreviewQuery, Query()],
    request: Request,
    caller: Caller,
    services: Web,
) -> Response:
    """Some rows of a version."""
    readers: Readers = request.app.state.readers
    samples = readers.open(_file(services, caller, name, version))
    body = preview(samples, query.first_row, query.rows, query.steps)
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


@router.get(
    VERSION + "/content",
    operation_id="download_dataset",
    summary="Download the samples of a dataset",
    response_class=Response,
    responses={
        **downloads.answers(FILES),
        **errors(*UNUSABLE, "too_ragged_for_npz", *DOWNLOAD),
    },
)
def download_dataset(
    name: Reference,
    version: VersionNumber,
    query: Annotated[DownloadQuery, Query()],
    request: Request,
    caller: Caller,
    services: Web,
    range: Range = None,
    if_range: IfRange = None,
) -> Response:
    """The samples as a file. An upload of it with the same declaration creates the same dataset.

    `Range` works for the stored file only; the other formats are created for each download and sent completely.
    """
    file = _file(services, caller, name, version)
    if query.format == STORED:
        return downloads.stored(request, services, file, f"{name}-{version}.safetensors", range, if_range)
    format, path = formats.find(query.format), services.storage.fetch(file.project_id, file.sha256, file.size_bytes)
    formats.downloads()[format.name].check(samples.open(path), services.settings.unpacked_bytes)
    exporter: Exporter = request.app.state.exporter
    disposition = {"Content-Disposition": f'attachment; filename="{name}-{version}.{format.name}"'}
    return StreamingResponse(exporter.pieces(path, format.name), headers=disposition, media_type=format.media_type)


def _finder(caller: Principal, name: str, number: int) -> Callable[[Session], DatasetVersion]:
    return lambda session: datasets.get_version(session, caller.project_id, name, number)


def _is_settled(version: DatasetVersion) -> bool:
    return version.state != "validating"


def _file(services: Services, caller: Caller, name: str, number: int) -> Stored:
    with services.database.reader() as session:
        _, _, artifact = datasets.ready_version(session, caller.project_id, name, number)
        return artifact.file
