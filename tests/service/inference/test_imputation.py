"""Completions over HTTP: what is observed stays, what is missing is predicted, and draws belong to their request."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.inference.batcher import Answered, Batcher
from service.inference.engine import Engine
from service.inference.local_backend import LocalBackend
from service.inference.queries import Computation, Tree
from service.inference.rows import Rows, merged
from service.inference.task_encoding import Order, pack_order, unpack_order
from tests.conftest import Service
from tests.service.inference.test_batcher import STATIC as CONFIG
from tests.service.inference.test_batcher import Slow, begun, static, version
from tests.service.steps import fault, pictures, problem
from tests.service.trained import install, predictor

STATIC = "/v1/models/pictures/versions/1"
SEQUENCE = "/v1/models/tracks/versions/1"
IMAGES, LABELS = pictures()["image"][:3], pictures()["label"][:3].tolist()
GAPS = {"image": [IMAGES[0].tolist(), None, IMAGES[2].tolist()], "label": [LABELS[0], LABELS[1], None]}
X = [[[0.1, 0.2], [0.3, -0.1], None, [0.0, 0.4]], [[1.0, 1.5], None]]
Y = [None, [[-1.0], None]]


@pytest.fixture(scope="module")
def trained(service: Service) -> Service:
    """The module's service with a model of samples, one of sequences that filters, and one that smooths."""
    install(service, "pictures", "pictures")
    install(service, "tracks", "tracks", preset="forecasting")
    install(service, "whole", "tracks")
    assert service.http.put("/v1/models/pictures/aliases/live", json={"version": 1}).status_code == 201
    return service


def ask(service: Service, path: str, **body: Any) -> dict[str, Any]:
    answer = service.http.post(f"{path}/impute", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_observed_values_stay_and_missing_ones_are_those_of_the_model(trained: Service) -> None:
    found = ask(trained, STATIC, inputs=GAPS, level=0.8)
    assert (found["model"], found["version"], found["level"]) == ("pictures", 1, 0.8)
    assert set(found["calibration"]) <= {"none", "pooled", "pattern"}
    assert len(found["calibration"]) == 3
    completed = found["completed"]
    present = {"image": np.array([True, False, True]), "label": np.array([True, True, False])}
    values = {"image": np.where(present["image"][:, None, None], IMAGES, 0), "label": np.array([*LABELS[:2], 0])}
    own = predictor(trained, STATIC).impute(values, present, level=0.8)["completed"]
    assert completed.keys() == own.keys() == {"image", "label"}
    for name, parts in own.items():
        assert completed[name].keys() == parts.keys()
        for part, array in parts.items():
            np.testing.assert_allclose(completed[name][part], array, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(completed["image"]["value"][0], IMAGES[0], rtol=1e-6)
    for part in ("value", "lower", "upper"):
        assert completed["image"][part][0] == completed["image"]["value"][0]
    assert (np.array(completed["image"]["lower"][1]) < np.array(completed["image"]["upper"][1])).all()
    assert completed["label"]["value"][:2] == LABELS[:2]


def test_an_alias_answers_as_its_version(trained: Service) -> None:
    found = ask(trained, "/v1/models/pictures/aliases/live", inputs=GAPS)
    assert found["completed"] == ask(trained, STATIC, inputs=GAPS)["completed"]


def test_what_is_missing_somewhere_is_completed_by_default(trained: Service) -> None:
    assert ask(trained, STATIC, inputs={"label": LABELS})["completed"].keys() == {"image"}
    assert ask(trained, STATIC, inputs={"label": [0, None], "image": IMAGES[:2].tolist()})["completed"].keys() == {
        "label"
    }
    assert ask(trained, STATIC, inputs=GAPS, targets=["label"])["completed"].keys() == {"label"}
    assert ask(trained, STATIC, inputs=GAPS, targets=None)["completed"].keys() == {"image", "label"}


@pytest.mark.parametrize("model", ["tracks", "whole"])
def test_steps_beginnings_and_ends_of_sequences_are_completed(trained: Service, model: str) -> None:
    completed = ask(trained, f"/v1/models/{model}/versions/1", inputs={"x": X, "y": Y})["completed"]
    for name, features in (("x", 2), ("y", 1)):
        for part in ("value", "lower", "upper", "mean"):
            assert [np.shape(row) for row in completed[name][part]] == [(4, features), (2, features)]
    for name, column in (("x", X), ("y", Y)):
        for row, steps in enumerate(column):
            for step, given in enumerate(steps or []):
                found = [completed[name][part][row][step] for part in ("value", "lower", "upper")]
                if given is None:
                    assert found[1] < found[0] < found[2]
                else:
                    np.testing.assert_allclose(found, [given] * 3, rtol=1e-6)


def test_a_piece_is_completed_from_the_state_of_the_pieces_before_it(trained: Service) -> None:
    whole = ask(trained, SEQUENCE, inputs={"x": X[:1]}, targets=["x"])["completed"]["x"]
    first = trained.http.post(f"{SEQUENCE}/encode", json={"inputs": {"x": [X[0][:2]]}, "state": None}).json()
    second = ask(trained, SEQUENCE, inputs={"x": [X[0][2:]]}, targets=["x"], state=first["state"])["completed"]["x"]
    for part in ("value", "lower", "upper"):
        np.testing.assert_allclose(second[part][0], whole[part][0][2:], rtol=1e-3, atol=1e-4)


def test_a_row_is_answered_as_if_alone(trained: Service) -> None:
    together = ask(trained, SEQUENCE, inputs={"x": X, "y": Y})["completed"]
    for row in range(2):
        alone = ask(trained, SEQUENCE, inputs={"x": X[row : row + 1], "y": Y[row : row + 1]})["completed"]
        for name, parts in alone.items():
            for part, (array,) in parts.items():
                np.testing.assert_allclose(together[name][part][row], array, rtol=1e-4, atol=1e-5)


def test_draws_of_a_version_without_a_conditional_part_say_how_to_get_one(trained: Service) -> None:
    answer = trained.http.post(f"{SEQUENCE}/impute", json={"inputs": {"x": X}, "draws": 2})
    told = problem(answer, 409, "no_conditional")
    assert told["detail"].startswith("model 'tracks' version 1 has no conditional part")
    assert "`architecture.conditional`" in told["detail"]
    tensor = {"name": "label", "datatype": "INT64", "shape": [3], "data": LABELS}
    body = {"inputs": [tensor], "outputs": [{"name": "impute.image.draws"}], "parameters": {"draws": 2}}
    problem(trained.http.post("/v2/models/pictures/versions/1/infer", json=body), 409, "no_conditional")


WHOLE = {"image": IMAGES.tolist(), "label": LABELS}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (STATIC, {"inputs": WHOLE}, ("/inputs", "nothing_missing")),
        (STATIC, {"inputs": {"label": LABELS}, "targets": ["image", "label"]}, ("/targets/1", "nothing_missing")),
        (SEQUENCE, {"inputs": {"x": X[1:]}, "targets": ["z"]}, ("/targets/0", "unknown_modality")),
        (SEQUENCE, {"inputs": {"x": [[[1, 2]]]}, "targets": ["x"]}, ("/targets/0", "nothing_missing")),
        (STATIC, {"inputs": GAPS, "targets": []}, ("/targets", "bad_targets")),
        (STATIC, {"inputs": GAPS, "draws": 1001}, ("/draws", "bad_integer")),
        (STATIC, {"inputs": GAPS, "draws": -1}, ("/draws", "bad_integer")),
        (STATIC, {"inputs": {"label": [1] * 300}, "draws": 1000}, ("/draws", "too_large")),
        (STATIC, {"inputs": GAPS, "level": 0}, ("/level", "bad_fraction")),
        (STATIC, {"inputs": GAPS, "level": 1.0}, ("/level", "bad_fraction")),
        (STATIC, {"inputs": GAPS, "level": "0.9"}, ("/level", "bad_fraction")),
        (STATIC, {"inputs": GAPS, "seed": -1}, ("/seed", "bad_integer")),
        (STATIC, {"inputs": GAPS, "n_samples": 1}, ("/n_samples", "unknown_field")),
        (STATIC, {"inputs": GAPS, "state": None}, ("", "not_a_sequence_model")),
        ("/v1/models/whole/versions/1", {"inputs": {"x": X}, "state": None}, ("/state", "whole_sequences_only")),
        (STATIC, {"inputs": {"label": [7]}}, ("/inputs/label/0", "bad_value")),
        (STATIC, {}, ("/inputs", "no_modality")),
    ],
)
def test_bad_input_names_its_place(
    trained: Service, path: str, body: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert fault(trained.http.post(f"{path}/impute", json=body)) == expected


def test_a_target_that_is_observed_everywhere_says_so(trained: Service) -> None:
    answer = trained.http.post(f"{STATIC}/impute", json={"inputs": {"label": LABELS}, "targets": ["label"]})
    expected = "'label' is observed in all 3 rows, expected a modality that is missing somewhere"
    assert problem(answer, 422)["detail"] == expected
    answer = trained.http.post(f"{SEQUENCE}/impute", json={"inputs": {"x": [[[1, 2]]]}, "targets": ["x"]})
    assert problem(answer, 422)["detail"].startswith("'x' is observed at every step of the only row")


def test_the_other_protocol_answers_the_same(trained: Service) -> None:
    image = {"name": "image", "datatype": "FP32", "shape": [3, 2, 2], "data": IMAGES.ravel().tolist()}
    label = {"name": "label", "datatype": "INT64", "shape": [3], "data": [*LABELS[:2], 0]}
    masks = [
        {"name": "mask.image", "datatype": "BOOL", "shape": [3], "data": [True, False, True]},
        {"name": "mask.label", "datatype": "BOOL", "shape": [3], "data": [True, True, False]},
    ]
    expected = ask(trained, STATIC, inputs=GAPS, level=0.5)
    names = {
        "impute.image": ("image", "value"),
        "impute.image.lower": ("image", "lower"),
        "impute.image.standard_deviation": ("image", "standard_deviation"),
        "impute.label": ("label", "value"),
        "impute.label.probabilities": ("label", "probabilities"),
    }
    outputs = [{"name": name} for name in (*names, "calibration", "latent_mean", "recon.label")]
    body = {"inputs": [image, label, *masks], "outputs": outputs, "parameters": {"level": 0.5}}
    answer = trained.http.post("/v2/models/pictures/versions/1/infer", json=body)
    assert answer.status_code == 200, answer.text
    found = {tensor["name"]: tensor for tensor in answer.json()["outputs"]}
    assert list(found) == [output["name"] for output in outputs]
    for name, (target, part) in names.items():
        told = np.array(expected["completed"][target][part])
        assert found[name]["shape"] == list(told.shape)
        np.testing.assert_allclose(found[name]["data"], told.ravel(), rtol=1e-4, atol=1e-5)
    assert (found["calibration"]["datatype"], found["calibration"]["data"]) == ("BYTES", expected["calibration"])
    assert found["impute.label"]["datatype"] == "INT64"


def test_the_metadata_of_the_other_protocol_lists_completions(trained: Service) -> None:
    of_samples = trained.http.get("/v2/models/pictures/versions/1").json()["outputs"]
    of_sequences = trained.http.get("/v2/models/tracks/versions/1").json()["outputs"]
    for tensor in (
        {"name": "impute.image.lower", "datatype": "FP32", "shape": [-1, 2, 2]},
        {"name": "impute.image.draws", "datatype": "FP32", "shape": [-1, -1, 2, 2]},
        {"name": "impute.label", "datatype": "INT64", "shape": [-1]},
        {"name": "calibration", "datatype": "BYTES", "shape": [-1]},
    ):
        assert tensor in of_samples
    assert {"name": "impute.x.draws", "datatype": "FP32", "shape": [-1, -1, -1, 2]} in of_sequences
    assert {"name": "impute.x", "datatype": "FP32", "shape": [-1, -1, 2]} in of_sequences
    assert not [tensor for tensor in of_samples if tensor["name"] == "impute.label.lower"]


class Drawing(Slow):
    """An engine whose model draws: one number for each seed, row number and draw, as the contract demands."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.numbers: list[list[int]] = []

    def answer(self, computation: Computation, rows: Rows, state: Any = None) -> Tree:
        self.batches.append(rows.count)
        assert self.go.wait(60)
        seed, draws = computation.arguments["seed"], computation.arguments["draws"]
        numbers = np.arange(rows.count) if rows.numbers is None else rows.numbers
        self.numbers.append(numbers.tolist())
        drawn = np.stack([np.random.default_rng((seed, int(number))).normal(size=draws) for number in numbers])
        return {"completed": {"b": {"draws": drawn}}, "calibration": np.zeros(rows.count, np.int64)}


def test_draws_are_those_of_the_request_alone_whatever_shares_its_batch(tmp_path: Path) -> None:
    engine, served = version(tmp_path, CONFIG)
    drawing = Drawing(engine)
    batcher = Batcher(LocalBackend(drawing), 100, 1000, 10_000)
    parts = [static(n + 1, n, b=False) for n in range(4)]
    computation = Computation(served, "impute", {"targets": ["b"], "draws": 3, "level": 0.9, "seed": 5})

    async def ask_all() -> list[Answered]:
        asking = await begun(drawing, (batcher.answer(computation, part) for part in parts))
        drawing.go.set()
        return await asyncio.gather(*asking)

    answers = asyncio.run(ask_all())
    assert drawing.batches == [1, 9]
    assert drawing.numbers == [[0], [0, 1, 0, 1, 2, 0, 1, 2, 3]]
    for part, answered in zip(parts, answers, strict=True):
        alone = drawing.answer(computation, part)["completed"]["b"]["draws"]
        np.testing.assert_array_equal(answered.tree["completed"]["b"]["draws"], alone)


def test_the_numbers_of_rows_reach_the_model_through_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, served = version(tmp_path, CONFIG)
    computation = Computation(served, "impute", {"targets": ["b"], "draws": 0, "level": 0.9, "seed": 0})
    rows = merged([static(2, 0, b=False), static(3, 1, b=True)])
    order = unpack_order(pack_order(Order("1", "c", 0.0, computation, rows, None)))
    seen = []
    monkeypatch.setattr(engine.load(served), "impute", lambda *_, rows, **__: seen.append(rows) or {})
    engine.answer(order.computation, order.rows)
    assert [numbers.tolist() for numbers in seen] == [[0, 1, 0, 1, 2]]
