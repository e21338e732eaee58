"""What calls of the protocol bring along: their version, named by its number or an alias, and who answers."""

from typing import Annotated

from fastapi import Depends, Request

from service.http.dependencies import PRINCIPAL
from service.inference.batcher import Batcher
from service.inference.questions import Version
from service.inference.versions import VersionCache
from service.open_inference.statistics import Statistics
from service.shared.resource_names import Reference


async def served_version(request: Request, name: Reference, version: Reference = "") -> Version:
    """The version that a path names; without one what `production` names, else the newest."""
    versions: VersionCache = request.app.state.versions
    project_id = request.scope[PRINCIPAL].project_id
    return versions.known(project_id, name, version) or await versions.find(project_id, name, version)


async def _newest(request: Request, name: Reference) -> Version:
    return await served_version(request, name)


ByVersion = Annotated[Version, Depends(served_version)]
Default = Annotated[Version, Depends(_newest)]


async def _batcher(request: Request) -> Batcher:
    batcher: Batcher = request.app.state.batcher
    return batcher


async def _statistics(request: Request) -> Statistics:
    statistics: Statistics = request.app.state.statistics
    return statistics


Compute = Annotated[Batcher, Depends(_batcher)]
Counted = Annotated[Statistics, Depends(_statistics)]
