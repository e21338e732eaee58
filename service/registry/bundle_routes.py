"""Versions as bundles: /v1/bundles imports them, a route of the version exports it."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from models.io import bundle
from service.http import downloads, upload_body
from service.http.authentication import AuthenticatedRoute
from service.http.dependencies import Caller, Services, Web
from service.http.downloads import BINARY, IfRange, Range
from service.http.error_responses import DOWNLOAD, errors
from service.http.idempotency import Once, OnceByCall
from service.http.query_parameters import QueryModel
from service.registry import bundles, representations
from service.registry import operations as registry
from service.registry.schemas import ModelVersion
from service.shared.errors import Conflict
from service.shared.resource_names import Name, Reference, VersionNumber
from service.shared.storage import Stored, Writer

router = APIRouter(tags=["registry"], route_class=AuthenticatedRoute)

BUNDLES = "/v1/bundles"
EXPORT = "/v1/models/{name}/versions/{version}/export"
MEDIA_TYPE = "application/x-tar"


class ImportQuery(QueryModel):
    """Where to put an imported version."""

    name: Annotated[Name | None, Field(description="Name of the model; by default the exported one.")] = None


FILE = {"application/octet-stream": BINARY}
BUNDLE = {**FILE, MEDIA_TYPE: BINARY}
ANSWERS: dict[int | str, dict[str, Any]] = {
    **downloads.answers(BUNDLE),
    **errors("manifest_too_large", "model_version_not_found", *DOWNLOAD),
}


@router.get(
    EXPORT,
    operation_id="export_model_version",
    summary="Export a version as a bundle",
    response_class=Response,
    responses=ANSWERS,
)
def export_model_version(
    name: Reference,
    version: VersionNumber,
    request: Request,
    caller: Caller,
    services: Web,
    range: Range = None,
    if_range: IfRange = None,
) -> Response:
    """A version as one file: a tar of `manifest.json` and `model.safetensors`, the same bytes every time.

    `import_model` of any installation reads it, and so does `models.load` in Python. `Range` and `If-Range` resume an
    interrupted download.
    """
    with services.database.reader() as session:
        row, artifact = registry.find_version(session, caller.project_id, name, str(version))
        body = representations.of_versions(session, name, [(row, artifact)])[0]
    size = body.size_bytes
    try:
        before, after = bundle.prefix(bundles.manifest_of(body), size), bundle.suffix(size)
    except bundle.BundleError as error:
        raise Conflict("manifest_too_large", str(error)) from error
    whole = len(before) + size + len(after)
    etag = f'"{hashlib.sha256(before).hexdigest()}"'
    part = downloads.part(request, range, if_range, etag, whole, f"{name}-{version}.tar")
    return downloads.framed(request, services, artifact.file, part, before, after, MEDIA_TYPE)


@router.post(
    BUNDLES,
    status_code=201,
    operation_id="import_model",
    summary="Import a model version",
    openapi_extra={
        "requestBody": {"required": True, "description": "A bundle, as an export returns it.", "content": FILE}
    },
    responses=errors("quota_exceeded", "storage_unavailable", "upload_too_large"),
)
async def import_model(
    request: Request,
    response: Response,
    caller: Caller,
    services: Web,
    once: OnceByCall,
    query: Annotated[ImportQuery, Query()],
) -> ModelVersion:
    """Add an exported version to a model, which may be new, as its next version. The body is the bundle itself.

    A `Content-Digest: sha-256=:…:` header is compared with the received bytes. Manifest, digest and weights are
    checked before the version is stored.
    """
    async with upload_body.received(request, services, caller, once) as received:
        version = await run_in_threadpool(_keep, services, caller, received, query.name, once)
    response.headers["Location"] = f"/v1/models/{version.model}/versions/{version.version}"
    return version


def _keep(services: Services, caller: Caller, received: Writer, name: str | None, once: Once) -> ModelVersion:
    once = once.about(received.sha256)
    if (version := once.answered(services.database, ModelVersion)) is not None:
        return version
    received.flush()
    with services.storage.writer(caller.project_id) as artifact:
        manifest = bundles.unpack(received.path, artifact)
        stored = artifact.commit()

    def create(session: Session, stored: Stored, max_bytes: int | None) -> ModelVersion:
        return bundles.register(session, caller.project_id, name, manifest, stored, max_bytes)

    return upload_body.keep(services, caller, once, stored, create, ModelVersion)
