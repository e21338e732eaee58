"""/v1/models: versions that leave for elsewhere, and versions that come from there."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from models.io import bundle
from service.datasets.upload_body import CONTENT_DIGEST, Receiver, check_digest
from service.http import downloads
from service.http.authenticated_route import AuthenticatedRoute
from service.http.dependencies import Caller, Services, Web
from service.http.downloads import BINARY, IfRange, Range
from service.http.idempotency import Once, OnceByCall
from service.registry import bundles, framed_file, representations
from service.registry import operations as registry
from service.registry.routes import Number
from service.registry.schemas import ModelVersion
from service.shared import storage
from service.shared.errors import Conflict, SensoriumError
from service.shared.resource_names import Name, Reference
from service.shared.storage import Writer

router = APIRouter(prefix="/v1/models", tags=["registry"], route_class=AuthenticatedRoute)

IMPORT = "/v1/models/import"
EXPORT = "/{name}/versions/{version}/export"
MEDIA_TYPE = "application/x-tar"

FILE = {"application/octet-stream": BINARY}
BUNDLE = {**FILE, MEDIA_TYPE: BINARY}
ANSWERS: dict[int | str, dict[str, Any]] = {
    **downloads.answers(BUNDLE),
    409: {"description": "Its manifest is too large."},
}


@router.head(EXPORT, include_in_schema=False)
@router.get(EXPORT, operation_id="export_model_version", response_class=Response, responses=ANSWERS)
def export_model_version(
    name: Reference,
    version: Number,
    request: Request,
    caller: Caller,
    services: Web,
    range: Range = None,
    if_range: IfRange = None,
) -> Response:
    """A version as one file: a tar of `manifest.json` and `model.safetensors`, the same bytes every time.

    `import_model` takes it, here or elsewhere, and so does `models.load` in Python. A download that broke off goes on
    with `Range` and `If-Range`.
    """
    with services.database.reader() as session:
        row, artifact = registry.find_version(session, caller.project_id, name, str(version))
        shown = representations.of_versions(session, name, [(row, artifact)])[0]
    size = shown.size_bytes
    try:
        before, after = bundle.prefix(bundles.manifest_of(shown), size), bundle.suffix(size)
    except bundle.BundleError as error:
        raise Conflict("manifest_too_large", str(error)) from error
    whole = len(before) + size + len(after)
    etag = f'"{hashlib.sha256(before).hexdigest()}"'
    is_head = request.method == "HEAD"  # without a part: the standard has parts of GET alone
    part = downloads.part(None if is_head else range, if_range, etag, whole, f"{name}-{version}.tar")
    if is_head:
        return Response(headers=part.headers, media_type=MEDIA_TYPE)
    file = framed_file.open_artifact(services.storage, caller.project_id, shown, part.start)
    content = framed_file.pieces(before, file, size, after, part.start, part.stop)
    return StreamingResponse(content, part.status, headers=part.headers, media_type=MEDIA_TYPE)


@router.post(
    "/import",
    status_code=201,
    operation_id="import_model",
    openapi_extra={"requestBody": {"required": True, "content": FILE}},
)
async def import_model(
    request: Request,
    response: Response,
    caller: Caller,
    services: Web,
    once: OnceByCall,
    name: Annotated[Name | None, Query(description="Of the model that gets the version; by default as it was.")] = None,
) -> ModelVersion:
    """Make an exported version the next version of a model, which may be new. The body is the bundle itself.

    With a `Content-Digest: sha-256=:…:` header the bytes are compared with what the client meant to send. Manifest,
    digest and weights are checked before anything is kept.
    """
    room = await run_in_threadpool(_room, services, caller, once)
    with services.storage.writer(caller.project_id) as writer:
        receiver = Receiver(writer, services.settings.upload_bytes, room)
        receiver.announce(request.headers.get("content-length"))
        async for piece in request.stream():
            receiver.take(piece)
        digest = request.headers.get(CONTENT_DIGEST)
        version = await run_in_threadpool(_keep, services, caller, writer, digest, name, once)
    response.headers["Location"] = f"/v1/models/{version.model}/versions/{version.version}"
    return version


def _room(services: Services, caller: Caller, once: Once) -> int | None:
    """How many more bytes the project may store. What is sent again is not stored again."""
    most = caller.quotas.stored_bytes
    if most is None or once.was_sent(services.database):
        return None
    with services.database.reader() as session:
        return most - storage.stored_bytes(session, caller.project_id)


def _keep(
    services: Services, caller: Caller, received: Writer, digest: str | None, name: str | None, once: Once
) -> ModelVersion:
    check_digest(digest, received.sha256)
    once = once.about(received.sha256)
    if (version := once.answered(services.database, ModelVersion)) is not None:
        return version
    received.flush()
    with services.storage.writer(caller.project_id) as artifact:
        manifest = bundles.unpack(received.path, artifact)
        stored = artifact.commit()  # from here on there is a file that needs a row
    most = caller.quotas.stored_bytes
    try:
        return once.do(
            services.database,
            lambda session: bundles.register(session, caller.project_id, name, manifest, stored, most),
            ModelVersion,
        )
    except SensoriumError:
        storage.discard(services.database, services.storage, stored)
        raise
