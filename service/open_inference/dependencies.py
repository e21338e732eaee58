"""Dependencies of the /v2 routes: the version that a path names, the batcher and the statistics."""

from typing import Annotated

from fastapi import Depends, Request

from service.http.dependencies import PRINCIPAL
from service.inference.answering import InferenceService
from service.inference.batcher import Batcher
from service.inference.queries import Version
from service.inference.version_cache import VersionCache
from service.open_inference.statistics import Statistics
from service.shared.resource_names import Reference


async def _version(request: Request, name: Reference, version: Reference = "") -> Version:
    # Without a version in the path: the one that `production` names, else the newest.
    versions: VersionCache = request.app.state.versions
    project_id = request.scope[PRINCIPAL].project_id
    return await versions.find(project_id, name, version)


async def _newest(request: Request, name: Reference) -> Version:
    return await _version(request, name)


ByVersion = Annotated[Version, Depends(_version)]
Default = Annotated[Version, Depends(_newest)]


async def _batcher(request: Request) -> Batcher:
    inference: InferenceService = request.app.state.inference
    return inference.batcher


async def _statistics(request: Request) -> Statistics:
    statistics: Statistics = request.app.state.statistics
    return statistics


Compute = Annotated[Batcher, Depends(_batcher)]
Counted = Annotated[Statistics, Depends(_statistics)]
