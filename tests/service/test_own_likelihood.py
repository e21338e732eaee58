"""An installed likelihood goes through conversion, training, evaluation and serving over HTTP, with a real trainer."""

import os
from collections.abc import Iterator

import numpy as np
import pytest

from service.shared.settings import Settings
from tests import own_likelihood
from tests.conftest import Service, running
from tests.service import steps

VERSION = "/v1/models/prices/versions/1"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a model that uses it; the package is also installed for its child processes."""
    folder = str(own_likelihood.install(tmp_path_factory.mktemp("installed")))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]))
        settings = Settings(home=tmp_path_factory.mktemp("service"), heartbeat_seconds=0.2, retry_seconds=0)
        with running(settings) as service:
            generator = np.random.default_rng(0)
            size = generator.normal(size=(80, 1)).astype(np.float32)
            price = np.exp(2 * size + 0.1 * generator.normal(size=(80, 2))).astype(np.float32)
            declaration = {"modalities": {"price": {"likelihood": "log_normal"}}}
            version = steps.dataset(service, "prices", declaration, price=price, size=size)
            assert version["state"] == "ready", version
            training = {"epochs": 20, "batch_size": 16, "validation_fraction": 0.2}
            run = steps.train(service, "prices", "prices", training=training)
            assert run["state"] == "succeeded", run
            yield service


def test_an_installed_likelihood_is_in_the_openapi_document_and_an_unknown_one_is_refused(service: Service) -> None:
    schemas = service.http.get("/openapi.json").json()["components"]["schemas"]
    (choices,) = (
        one["enum"] for one in schemas["ModalityOptions"]["properties"]["likelihood"]["anyOf"] if "enum" in one
    )
    assert choices[-1] == "log_normal"
    assert "gaussian" in choices
    request = {"architecture": "mmvae", "modalities": {"price": {"likelihood": "normal"}}}
    answer = service.http.post("/v1/runs", json={"dataset": {"name": "prices"}, "model": "m", "architecture": request})
    detail = steps.problem(answer, 422)["errors"][0]["detail"]
    assert "there is no likelihood 'normal', only bernoulli," in detail


def test_data_outside_its_support_are_refused_with_their_place(service: Service) -> None:
    declaration = {"modalities": {"price": {"likelihood": "log_normal"}}}
    version = steps.dataset(service, "wrong", declaration, price=np.array([[1.0], [0.0]], np.float32))
    assert "is 0 at row 1, element [0], expected numbers above 0" in str(version)


def test_its_evaluation_has_its_metric(service: Service) -> None:
    evaluation = service.http.get(VERSION).json()["evaluation"]
    metrics = {entry["target"]: entry["metric"] for entry in evaluation["matrix"]}
    assert metrics == {"price": "root_mean_squared_log_error", "size": "root_mean_squared_error"}


def test_its_outputs_and_values_are_answered(service: Service) -> None:
    rows = {"inputs": {"size": [[1.0], [-1.0]]}, "targets": ["price"]}
    answer = service.http.post(f"{VERSION}/reconstruct", json=rows).json()["outputs"]["price"]
    assert answer.keys() == {"median", "log_standard_deviation"}
    assert np.shape(answer["median"]) == (2, 2)
    drawn = service.http.post(f"{VERSION}/sample", json={"rows": 5, "seed": 1}).json()["outputs"]["price"]
    assert np.shape(drawn["value"]) == (5, 2)
    assert min(map(min, drawn["value"])) > 0
    scored = service.http.post(
        f"{VERSION}/score", json={"inputs": {"price": [[1.0, 1.0], None], "size": [[0.0], [0.0]]}}
    )
    assert np.isfinite(scored.json()["bound"]).all()
    refused = service.http.post(f"{VERSION}/score", json={"inputs": {"price": [[1.0, 0.0]]}})
    assert "has value 0 at inputs.price[0], expected numbers above 0" in steps.problem(refused, 422)["detail"]


def test_its_outputs_are_those_of_the_open_inference_protocol(service: Service) -> None:
    outputs = service.http.get("/v2/models/prices/versions/1").json()["outputs"]
    described = {one["name"]: (one["datatype"], one["shape"]) for one in outputs}
    assert described["recon.price"] == described["recon.price.log_standard_deviation"] == ("FP32", [-1, 2])
    size = {"name": "size", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}
    asked = [{"name": "recon.price"}, {"name": "recon.price.log_standard_deviation"}]
    answer = service.http.post("/v2/models/prices/versions/1/infer", json={"inputs": [size], "outputs": asked}).json()
    rows = {"inputs": {"size": [[0.5]]}, "targets": ["price"]}
    expected = service.http.post(f"{VERSION}/reconstruct", json=rows).json()["outputs"]["price"]
    found = {one["name"]: one["data"] for one in answer["outputs"]}
    np.testing.assert_allclose(found["recon.price"], expected["median"][0], rtol=1e-6)
    np.testing.assert_allclose(
        found["recon.price.log_standard_deviation"], expected["log_standard_deviation"][0], rtol=1e-6
    )
