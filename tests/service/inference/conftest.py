"""Inference is tested twice: computed in the API process, and by a worker process over Redis."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from service.shared.settings import Settings
from tests.conftest import Service, running
from tests.service.inference.workers import infer_worker


@pytest.fixture(scope="module", params=["local", "celery"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for all tests of a module, once per backend."""
    home = tmp_path_factory.mktemp("service")
    settings = Settings(home=home, heartbeat_seconds=0.2, retry_seconds=0)
    if request.param == "local":
        with running(settings) as service:
            yield service
        return
    broker: str = request.getfixturevalue("redis_url")
    shared = {"inference_backend": "celery", "broker": broker, "secret_key": SecretStr("k" * 32)}
    settings = settings.model_copy(update=shared)
    with running(settings) as service, infer_worker(settings):
        yield service
