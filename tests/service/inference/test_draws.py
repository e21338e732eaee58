"""Draws over HTTP, by versions whose conditional part a worker has fitted: with the model, or afterwards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.shared.settings import Settings
from tests.conftest import Service, running
from tests.service.steps import dataset, fault, pictures, problem, tracks, train

ARCHITECTURE = {"architecture": "mmvae", "conditional": {"hidden_features": 16, "layers": 2}}
OF_SEQUENCES = {"architecture": "mmvrnn", "conditional": {"hidden_features": 8, "layers": 2}}
TRAINING = {"epochs": 1, "batch_size": 16, "validation_fraction": 0.1, "conditional_steps": 30}
PATH = "/v1/models/pictures/versions"
IMAGES, LABELS = pictures()["image"][:3].tolist(), pictures()["label"][:3].tolist()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Version 1 has a conditional part, version 2 has none, version 3 is version 2 with one fitted to it."""
    with running(Settings(home=Path(tmp_path_factory.mktemp("home")))) as service:
        dataset(service, "pictures", **pictures())
        of_second = {"init_from": {"model": "pictures", "version": 2}, "training": {**TRAINING, "fit": "conditional"}}
        for fields in ({"architecture": ARCHITECTURE}, {}, {"architecture": ARCHITECTURE, **of_second}):
            run = train(service, "pictures", "pictures", **{"training": TRAINING, **fields})
            assert run["state"] == "succeeded", run
        dataset(service, "tracks", **tracks())
        run = train(service, "tracks", "tracks", training=TRAINING, architecture=OF_SEQUENCES)
        assert run["state"] == "succeeded", run
        yield service


def _ask(service: Service, version: int, operation: str = "impute", **body: Any) -> Any:
    answer = service.http.post(f"{PATH}/{version}/{operation}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_draws_are_joint_completions_with_what_is_observed(trained: Service) -> None:
    inputs = {"image": [IMAGES[0], None], "label": [None, LABELS[1]]}
    found = _ask(trained, 1, inputs=inputs, draws=5)["completed"]
    images, labels = np.array(found["image"]["draws"]), np.array(found["label"]["draws"])
    assert (images.shape, labels.shape) == ((2, 5, 2, 2), (2, 5))
    np.testing.assert_allclose(images[0], np.tile(IMAGES[0], (5, 1, 1)), rtol=1e-6)
    assert (labels[1] == LABELS[1]).all()
    assert len(np.unique(images[1], axis=0)) == 5


def test_a_seed_gives_a_row_the_same_draws_in_any_request(trained: Service) -> None:
    both = _ask(trained, 1, inputs={"label": LABELS[:2]}, draws=4, seed=9)["completed"]["image"]["draws"]
    alone = _ask(trained, 1, inputs={"label": LABELS[:1]}, draws=4, seed=9)["completed"]["image"]["draws"]
    np.testing.assert_allclose(alone[0], both[0], rtol=1e-4, atol=1e-5)
    assert both != _ask(trained, 1, inputs={"label": LABELS[:2]}, draws=4, seed=8)["completed"]["image"]["draws"]


def test_the_open_protocol_answers_the_same_draws(trained: Service) -> None:
    tensor = {"name": "label", "datatype": "INT64", "shape": [1], "data": LABELS[:1]}
    asked = {"inputs": [tensor], "outputs": [{"name": "impute.image.draws"}], "parameters": {"draws": 4, "seed": 9}}
    answer = trained.http.post("/v2/models/pictures/versions/1/infer", json=asked)
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    own = _ask(trained, 1, inputs={"label": LABELS[:1]}, draws=4, seed=9)["completed"]["image"]["draws"]
    assert output["shape"] == [1, 4, 2, 2]
    np.testing.assert_allclose(np.reshape(output["data"], (1, 4, 2, 2)), own, rtol=1e-5)


def test_a_version_without_a_conditional_part_refuses_draws_until_one_is_fitted_to_it(trained: Service) -> None:
    inputs = {"label": LABELS}
    refused = trained.http.post(f"{PATH}/2/impute", json={"inputs": inputs, "draws": 1})
    assert "init_from" in problem(refused, 409, "no_conditional")["detail"]
    assert _ask(trained, 2, inputs=inputs)["completed"]["image"].keys() >= {"value", "lower", "upper"}
    before, after = (_ask(trained, version, "encode", inputs=inputs) for version in (2, 3))
    assert (before["mean"], before["standard_deviation"]) == (after["mean"], after["standard_deviation"])
    assert np.shape(_ask(trained, 3, inputs=inputs, draws=2)["completed"]["image"]["draws"]) == (3, 2, 2, 2)


def test_an_evaluation_scores_the_draws_of_missing_targets(trained: Service) -> None:
    runs = trained.http.get("/v1/runs", params={"model": "pictures"}).json()["runs"]
    first = next(run for run in runs if run["version"] == 1)
    matrix = trained.http.get(f"/v1/runs/{first['id']}/evaluation").json()["matrix"]
    scores = {(*entry["observed"], entry["target"]): entry["draws"] for entry in matrix}
    assert scores["label", "image"].keys() == {"crps", "energy_score", "coverage_90", "variance_ratio"}
    assert scores["label", "image"]["crps"] > 0
    assert scores["image", "image"] is None


def test_draws_and_forecasts_of_sequences_are_one(trained: Service) -> None:
    path, x = "/v1/models/tracks/versions/1", [[0.1, 0.2], [0.3, -0.1]]
    answer = trained.http.post(f"{path}/impute", json={"inputs": {"x": [[*x, None, None]]}, "draws": 40, "seed": 3})
    assert answer.status_code == 200, answer.text
    drawn = np.array(answer.json()["completed"]["y"]["draws"])
    assert drawn.shape == (1, 40, 4, 1)
    asked = {"inputs": {"x": [x]}, "horizon": 2, "n_samples": 40, "seed": 3, "quantiles": [0.5]}
    forecast = trained.http.post(f"{path}/forecast", json=asked)
    assert forecast.status_code == 200, forecast.text
    median = np.array(forecast.json()["outputs"]["y"]["quantiles"])[0, :, 0, 0]
    np.testing.assert_allclose(median, np.median(drawn[0, :, 2:, 0], axis=0), rtol=1e-3, atol=1e-4)


def test_a_conditional_part_alone_needs_a_version_and_a_configuration(trained: Service) -> None:
    request = {"dataset": {"name": "pictures"}, "model": "m", "training": {**TRAINING, "fit": "conditional"}}
    without_version = trained.http.post("/v1/runs", json={**request, "architecture": ARCHITECTURE})
    assert fault(without_version) == ("/training/fit", "misfit")
    assert fault(trained.http.post("/v1/runs", json=request)) == ("/training/fit", "misfit")
