"""The ASGI application: routers, error handlers, and the resources that are open while it runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from celery import Celery
from fastapi import FastAPI

from service.access import audit
from service.access.key_cache import KeyCache
from service.access.rate_limiter import Limiter
from service.administration import project_routes as projects
from service.administration import routes as administration
from service.datasets import routes as datasets
from service.datasets.export.process import Exporter
from service.datasets.preview import Readers
from service.events import routes as events
from service.events.feed import Feed
from service.http import (
    descriptions,
    document_texts,
    error_pages,
    health,
    openapi,
    problems,
    request_metrics,
    starlette_route,
)
from service.http.bulk_lane import BulkLane
from service.http.dependencies import Services
from service.http.document_pages import routes as document_pages
from service.http.middleware import RequestMiddleware
from service.inference import routes as inference
from service.inference.answering import InferenceService
from service.inference.backend import Backend
from service.inference.batcher import Batcher
from service.inference.celery_backend import CeleryBackend
from service.inference.engine import Engine
from service.inference.engine_host import BEAT_SECONDS, TICK_SECONDS, EngineHost
from service.inference.local_backend import LocalBackend
from service.inference.metrics import EngineCollector, QueueCollector
from service.inference.version_cache import VersionCache
from service.jobs import routes as jobs
from service.jobs.job_metrics import JobsCollector
from service.jobs.reconciler import Reconciler
from service.lineage import expiry
from service.lineage import routes as lineage
from service.open_inference import infer_routes
from service.open_inference import routes as open_inference
from service.open_inference.statistics import Statistics
from service.registry import alias_routes as aliases
from service.registry import bundle_routes as bundles
from service.registry import routes as registry
from service.runs import checkpoint_routes as checkpoints
from service.runs import group_routes as run_groups
from service.runs import routes as runs
from service.shared import broker, garbage_collection, json_documents, signing
from service.shared.broker_health import BrokerWatch
from service.shared.database import Database
from service.shared.disk_space import SpaceCollector
from service.shared.parser_process import ReadingProcess
from service.shared.periodic_thread import PeriodicThread
from service.shared.settings import Settings
from service.shared.storage import Storage, from_settings

HOT_ROUTES = (*inference.ROUTES, *infer_routes.ROUTES)
"""The routes that Starlette serves; the router tries them first."""
ROUTERS = (
    run_groups.router,  # before `runs`, whose path of a run matches `/v1/runs/compare`
    runs.router,
    checkpoints.router,
    datasets.router,
    lineage.router,
    bundles.router,
    registry.router,
    aliases.router,
    events.router,
    jobs.router,
    administration.router,
    projects.router,
    projects.identity,
    open_inference.health,
    open_inference.router,
    open_inference.administration,
    health.router,
    request_metrics.router,
    error_pages.router,
    document_pages.router,
)


class Api(FastAPI):
    """FastAPI, with the routes of Starlette and the errors of all routes in its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            starlette_route.add_to_document(document, HOT_ROUTES)
            descriptions.restore_examples(document, ROUTERS)
            self.openapi_schema = openapi.describe(document)
        return self.openapi_schema


def _engine(settings: Settings, storage: Storage) -> Engine | None:
    """The engine of this process, if it computes inference itself."""
    if settings.inference_backend != "local":
        return None
    return Engine(storage, settings.inference_memory_bytes, settings.inference_threads)


def _backend(settings: Settings, messages: Celery, engine: Engine | None) -> Backend:
    """Where the batches of this process are computed."""
    if engine is not None:
        return LocalBackend(engine)
    return CeleryBackend(messages, settings.broker_url, settings.inference_reply_seconds, settings.inference_batches)


def create_app(settings: Settings) -> FastAPI:
    """The application. It opens the database, the storage and the broker when it starts."""
    signer = signing.from_settings(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = Database(settings.database_url, settings.reserve_bytes)
        audit.attach(database.writer)
        storage = from_settings(settings)
        messages = broker.connect(settings)
        limiter = Limiter(settings.broker_url if settings.broker.startswith("redis") else None)
        app.state.broker_watch = BrokerWatch(settings.broker_url)
        app.state.versions = VersionCache(database)
        app.state.statistics = Statistics()
        app.state.readers = Readers(storage)
        app.state.exporter = Exporter()
        app.state.reading = ReadingProcess()
        app.state.feed = Feed(database)
        engine = _engine(settings, storage)
        backend = _backend(settings, messages, engine)
        await backend.open()
        batcher = Batcher(backend, settings.inference_queue, settings.inference_rows, settings.inference_steps)
        app.state.inference = InferenceService(batcher, signer)
        keys, lane = KeyCache(database, settings), BulkLane(batcher.is_busy)
        app.state.services = Services(settings, database, storage, messages, keys, limiter, signer, lane)
        app.state.collectors = [
            JobsCollector(database, broker.QUEUES),
            QueueCollector(lambda: batcher.waiting),
            SpaceCollector(storage.space),
        ]
        if engine is not None:
            app.state.collectors.append(EngineCollector(engine.use))
        host = EngineHost(database, engine, settings)
        repairs = Reconciler(settings, database, storage, messages, expiry.purge)
        threads = [
            PeriodicThread("reconciler", settings.reconcile_seconds, repairs.tick),
            PeriodicThread("engine", TICK_SECONDS, host.tick),
            PeriodicThread("engine beat", BEAT_SECONDS, host.beat),
        ]
        for thread in threads:
            thread.start()
        garbage_collection.freeze()
        yield
        for thread in threads:
            thread.close()
        await backend.close()
        app.state.reading.close()
        app.state.exporter.close()
        host.close()
        database.close()

    app = Api(
        title="Sensorium",
        version=version("sensorium"),
        summary="Trains and serves multimodal generative models that stay useful when modalities are missing.",
        description=document_texts.INTRODUCTION,
        license_info=document_texts.LICENCE,
        servers=document_texts.SERVERS,
        docs_url=None,  # `document_pages` serves the pages without the internet
        redoc_url=None,
        lifespan=lifespan,
        routes=[hot.route() for hot in HOT_ROUTES],
        # FastAPI looks for a tracer on every request otherwise, which takes 5 % of an echo request
        telemetry=dict.fromkeys(("tracing", "metrics", "logs"), settings.open_telemetry),  # type: ignore[arg-type]
    )
    for router in ROUTERS:
        app.include_router(router)
    app.mount(document_pages.ASSETS_PATH, document_pages.Assets())
    problems.install(app)
    app.add_middleware(
        RequestMiddleware,
        max_bytes=min(json_documents.MAX_BYTES, settings.request_bytes),
        max_bytes_of=partial(_max_bytes_of, settings),
        takes_encoded=infer_routes.takes_encoded,
    )
    return app


def _max_bytes_of(settings: Settings, path: str) -> int | None:
    """The size limit of a body by path; None is no limit."""
    if path in (datasets.UPLOADS, bundles.BUNDLES):  # limited by the project's quota
        return None
    if inference.takes_rows(path) or infer_routes.takes_encoded(path):
        return settings.request_bytes
    return min(json_documents.MAX_BYTES, settings.request_bytes)
