"""Models for tests of inference, trained once per process by a real worker."""

import tempfile
from functools import cache
from pathlib import Path

import models
from models.predictor import Predictor
from service.shared.settings import Settings
from tests.conftest import Service, running
from tests.service.steps import dataset, pictures, tracks, train


@cache
def bundle(data: str, seed: int = 0, preset: str | None = None) -> bytes:
    """The bundle of a model of `pictures` or `tracks`; another seed gives other weights."""
    with (
        tempfile.TemporaryDirectory(prefix="sensorium-trained-") as home,
        running(Settings(home=Path(home), heartbeat_seconds=0.2)) as service,
    ):
        if data == "pictures":
            dataset(service, data, **pictures())
        else:
            dataset(service, data, {"kind": "sequence"}, **tracks())
        assert train(service, data, data, seed=seed, preset=preset)["state"] == "succeeded"
        answer = service.http.get(f"/v1/models/{data}/versions/1/export")
        assert answer.status_code == 200, answer.text
        return answer.content


def install(service: Service, model: str, data: str, seed: int = 0, preset: str | None = None) -> int:
    """Import a trained model into a service. Returns the number of its version."""
    answer = service.http.post(f"/v1/bundles?name={model}", content=bundle(data, seed, preset))
    assert answer.status_code == 201, answer.text
    return int(answer.json()["version"])


def predictor(service: Service, path: str) -> Predictor:
    """The library's predictor of the version at this path."""
    version = service.http.get(path).json()
    return models.load(service.settings.artifacts / service.project_id / version["sha256"])
