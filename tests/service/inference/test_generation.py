"""Scores, forecasts, draws, and sequences in pieces over HTTP, compared with the model."""

from typing import Any

import numpy as np
import pytest

from service.access import operations as access
from service.shared.database import Database
from tests.conftest import Service
from tests.service.steps import fault, pictures, problem
from tests.service.trained import install, predictor

STATIC = "/v1/models/pictures/versions/1"
SEQUENCE = "/v1/models/tracks/versions/1"
X = [[[0.1, 0.2], [0.3, -0.1], None, [0.0, 0.4]], [[1.0, 1.5], [0.5, 1.0]]]
Y = [None, [[-1.0], [-0.5]]]


@pytest.fixture(scope="module")
def trained(service: Service) -> Service:
    """The module's service with a model of samples, one of sequences that filters, and one that smooths."""
    install(service, "pictures", "pictures")
    install(service, "tracks", "tracks", preset="forecasting")
    install(service, "whole", "tracks")
    return service


def ask(service: Service, path: str, **body: Any) -> dict[str, Any]:
    answer = service.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_score_is_the_sum_of_its_parts_and_equals_the_model_s(trained: Service) -> None:
    image, label = pictures()["image"][:3], pictures()["label"][:3]
    inputs = {"image": [*image[:2].tolist(), None], "label": [None, *label[1:].tolist()]}
    found = ask(trained, f"{STATIC}/score", inputs=inputs)
    bound = np.array(found["bound"])
    parts = sum(np.array(part) for part in found["log_likelihood"].values()) - np.array(found["kl"])
    np.testing.assert_allclose(bound, parts, rtol=1e-5, atol=1e-5)
    assert found["log_likelihood"]["label"][0] == found["log_likelihood"]["image"][2] == 0
    own = predictor(trained, STATIC).score(
        {"image": image, "label": label},
        {"image": np.array([True, True, False]), "label": np.array([False, True, True])},
    )
    np.testing.assert_allclose(bound, own.bound, rtol=1e-4, atol=1e-4)


def test_unusual_rows_score_lower(trained: Service) -> None:
    image = pictures()["image"][:1]
    found = ask(trained, f"{STATIC}/score", inputs={"image": [*image.tolist(), *(image + 30).tolist()]})
    assert found["bound"][0] > found["bound"][1]


def test_sequences_are_scored_step_by_step(trained: Service) -> None:
    found = ask(trained, f"{SEQUENCE}/score", inputs={"x": X})
    assert [len(row) for row in found["bound"]] == [4, 2]
    assert found["log_likelihood"]["x"][0][2] == 0


def test_a_forecast_continues_every_sequence_with_quantiles(trained: Service) -> None:
    found = ask(trained, f"{SEQUENCE}/forecast", inputs={"x": X, "y": Y}, horizon=3, quantiles=[0.1, 0.9], seed=4)
    x = {name: np.array(part) for name, part in found["outputs"]["x"].items()}
    assert (x["mean"].shape, x["quantiles"].shape) == ((2, 3, 2), (2, 3, 2, 2))
    assert (x["quantiles"][..., 0] <= x["quantiles"][..., 1]).all()
    assert (
        found["outputs"]
        == ask(trained, f"{SEQUENCE}/forecast", inputs={"x": X, "y": Y}, horizon=3, quantiles=[0.1, 0.9], seed=4)[
            "outputs"
        ]
    )


def test_a_forecast_of_means_has_no_quantiles(trained: Service) -> None:
    found = ask(trained, f"{SEQUENCE}/forecast", inputs={"x": X}, targets=["y"], n_samples=0)
    assert found["outputs"].keys() == {"y"}
    assert "quantiles" not in found["outputs"]["y"]


def test_draws_are_values_of_all_modalities(trained: Service) -> None:
    found = ask(trained, f"{STATIC}/sample", rows=5, seed=1)["outputs"]
    assert np.array(found["image"]["value"]).shape == (5, 2, 2)
    assert set(np.array(found["label"]["value"])) <= {0, 1, 2}
    assert found == ask(trained, f"{STATIC}/sample", rows=5, seed=1)["outputs"]
    assert found != ask(trained, f"{STATIC}/sample", rows=5, seed=2)["outputs"]
    assert np.array(ask(trained, f"{SEQUENCE}/sample", rows=2, steps=7)["outputs"]["x"]["value"]).shape == (2, 7, 2)


def test_a_smoothing_model_answers_everything_except_pieces(trained: Service) -> None:
    path = "/v1/models/whole/versions/1"
    config = trained.http.get(path).json()["config"]
    width = config["latent_features"] + config["static_latent_features"]
    assert config["static_latent_features"] > 0
    codes = np.array(ask(trained, f"{path}/encode", inputs={"x": X[:1], "y": Y[:1]})["mean"][0])
    assert codes.shape == (len(X[0]), width)
    assert (codes[:, config["latent_features"] :] == codes[0, config["latent_features"] :]).all()
    assert trained.http.get(path).json()["signature"]["latent_features"] == width
    for operation, body in {
        "reconstruct": {"inputs": {"x": X}, "n_samples": 3},
        "score": {"inputs": {"x": X, "y": Y}},
        "forecast": {"inputs": {"x": X}, "horizon": 3},
        "sample": {"rows": 2, "steps": 3},
    }.items():
        assert ask(trained, f"{path}/{operation}", **body)["version"] == 1
    answer = trained.http.post(f"{path}/encode", json={"inputs": {"x": X}, "state": None})
    assert fault(answer) == ("/state", "whole_sequences_only")


def test_a_sequence_in_pieces_gets_the_answer_of_the_whole(trained: Service) -> None:
    whole = ask(trained, f"{SEQUENCE}/encode", inputs={"x": [X[0], X[0]]})
    first = ask(trained, f"{SEQUENCE}/encode", inputs={"x": [X[0][:2]] * 2}, state=None)
    second = ask(trained, f"{SEQUENCE}/encode", inputs={"x": [X[0][2:]] * 2}, state=first["state"])
    assert "state" not in whole
    for row in range(2):
        pieces = [*first["mean"][row], *second["mean"][row]]
        np.testing.assert_allclose(pieces, whole["mean"][row], rtol=1e-4, atol=1e-5)
    from_pieces = ask(
        trained, f"{SEQUENCE}/forecast", inputs={"x": [X[0][2:]] * 2}, horizon=2, n_samples=0, state=first["state"]
    )
    from_whole = ask(trained, f"{SEQUENCE}/forecast", inputs={"x": [X[0]] * 2}, horizon=2, n_samples=0)
    np.testing.assert_allclose(
        from_pieces["outputs"]["y"]["mean"], from_whole["outputs"]["y"]["mean"], rtol=1e-3, atol=1e-4
    )


def test_a_state_belongs_to_its_version_and_its_rows(trained: Service) -> None:
    state = ask(trained, f"{SEQUENCE}/encode", inputs={"x": X}, state=None)["state"]
    for wrong in ("a" + state[1:] if state[0] != "a" else "b" + state[1:], "", "null", 7, ["state"]):
        answer = trained.http.post(f"{SEQUENCE}/encode", json={"inputs": {"x": X}, "state": wrong})
        assert fault(answer, 400) == ("/state", "invalid_state")
    other = trained.http.post(f"{SEQUENCE}/encode", json={"inputs": {"x": X[:1]}, "state": state})
    assert fault(other, 400) == ("/state", "invalid_state")
    assert install(trained, "tracks", "tracks", preset="forecasting") == 2
    answer = trained.http.post("/v1/models/tracks/versions/2/encode", json={"inputs": {"x": X}, "state": state})
    assert fault(answer, 400) == ("/state", "invalid_state")


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        (f"{STATIC}/forecast", {"inputs": {"label": [1]}}, ""),
        (f"{STATIC}/encode", {"inputs": {"label": [1]}, "state": None}, ""),
        (f"{SEQUENCE}/forecast", {"inputs": {"x": X}, "horizon": 0}, "/horizon"),
        (f"{SEQUENCE}/forecast", {"inputs": {"x": X}, "horizon": 2**20}, "/horizon"),
        (f"{SEQUENCE}/forecast", {"inputs": {"x": X}, "quantiles": [1.5]}, "/quantiles"),
        (f"{SEQUENCE}/forecast", {"inputs": {"x": X}, "quantiles": []}, "/quantiles"),
        (f"{SEQUENCE}/forecast", {"inputs": {"x": X}, "targets": ["z"]}, "/targets/0"),
        (f"{SEQUENCE}/sample", {"rows": 2}, "/steps"),
        (f"{STATIC}/sample", {"rows": 2, "steps": 3}, "/steps"),
        (f"{STATIC}/sample", {"rows": 0}, "/rows"),
        (f"{SEQUENCE}/sample", {"rows": 4096, "steps": 2**20}, "/rows"),
        (f"{STATIC}/score", {"inputs": {}}, "/inputs"),
        (f"{STATIC}/score", {"inputs": {"label": [1]}, "horizon": 1}, "/horizon"),
    ],
)
def test_contradictory_fields_are_refused_with_their_place(
    trained: Service, path: str, body: dict[str, Any], place: str
) -> None:
    assert fault(trained.http.post(path, json=body))[0] == place


def test_the_quota_of_rows_limits_draws_from_the_prior(trained: Service) -> None:
    database = Database(trained.settings.database_url)
    with database.writer.begin() as session:
        project = access.find_project(session, "test")
        assert project is not None
        project.max_request_rows = 2
        _, token = access.create_key(session, project.id, "fresh")
    answer = trained.http.post(f"{STATIC}/sample", json={"rows": 3}, headers={"Authorization": f"Bearer {token}"})
    with database.writer.begin() as session:
        session.merge(project).max_request_rows = None
    database.close()
    problem(answer, 413, "too_many_rows")


def test_an_answer_has_server_timing_and_keeps_its_timeout(trained: Service) -> None:
    answer = trained.http.post(f"{STATIC}/encode", json={"inputs": {"label": [1, 2]}, "timeout_seconds": 30})
    timing = answer.headers["server-timing"]
    assert timing.startswith("queue;dur=")
    assert 'desc="2 rows"' in timing
    queue, batch, compute = (float(part.split("dur=")[1].split(";")[0]) for part in timing.split(", "))
    assert queue >= 0
    assert batch >= compute > 0
    late = trained.http.post(f"{SEQUENCE}/score", json={"inputs": {"x": X}, "n_samples": 1000, "timeout_seconds": 1e-6})
    problem(late, 504, "timed_out")
    for wrong in (0, -1, 601, "soon", True):
        refused = trained.http.post(f"{STATIC}/encode", json={"inputs": {"label": [1]}, "timeout_seconds": wrong})
        assert fault(refused)[0] == "/timeout_seconds"
