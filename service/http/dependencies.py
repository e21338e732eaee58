"""What the routes of all domains depend on: the services of the process and the caller."""

from dataclasses import dataclass
from typing import Annotated

from celery import Celery
from fastapi import Depends, Request

from service.access.key_cache import KeyCache
from service.access.operations import Principal
from service.access.rate_limiter import Limiter
from service.http.bulk_lane import BulkLane
from service.shared.database import Database
from service.shared.settings import Settings
from service.shared.signing import Signer
from service.shared.storage import Storage

PRINCIPAL = "principal"
"""Where the scope of an authenticated request has its Principal."""


@dataclass(frozen=True)
class Services:
    """The services that a process opens once for all routes."""

    settings: Settings
    database: Database
    storage: Storage
    messages: Celery
    keys: KeyCache
    limiter: Limiter
    signer: Signer
    bulk: BulkLane


def services_of(request: Request) -> Services:
    """The services of the process that serves a request."""
    services: Services = request.app.state.services
    return services


async def _web(request: Request) -> Services:
    # async, as are all dependencies that do not block: FastAPI calls a plain function in a thread
    return services_of(request)


Web = Annotated[Services, Depends(_web)]


async def _caller(request: Request) -> Principal:
    principal: Principal = request.scope[PRINCIPAL]  # set by `service.http.authentication`
    return principal


Caller = Annotated[Principal, Depends(_caller)]
