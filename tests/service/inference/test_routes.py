"""Trained models answer over HTTP for any subset of their modalities."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.conftest import Service
from tests.service.steps import Body, fault, pictures, problem
from tests.service.trained import install

STATIC = "/v1/models/still/versions/1"
SEQUENCE = "/v1/models/moving/versions/1"
DATA = pictures()
IMAGES = DATA["image"].tolist()
LABELS = DATA["label"].tolist()
assert_close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def trained(service: Service) -> Service:
    """A service with a model of static rows and one of sequences."""
    install(service, "still", "pictures")
    install(service, "moving", "tracks", preset="forecasting")
    return service


def ask(service: Service, path: str, **body: Any) -> Body:
    answer = service.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: Body = answer.json()
    return found


def test_encode_answers_a_distribution_for_every_row_and_names_the_version(trained: Service) -> None:
    found = ask(trained, f"{STATIC}/encode", inputs={"image": IMAGES[:3], "label": LABELS[:3]})
    assert (found["model"], found["version"]) == ("still", 1)
    assert found["request_id"].startswith("req_")
    assert np.shape(found["mean"]) == np.shape(found["standard_deviation"]) == (3, 16)
    assert (np.array(found["standard_deviation"]) > 0).all()


@pytest.mark.parametrize("given", [["image"], ["label"], ["image", "label"]])
def test_any_subset_of_the_modalities_is_enough(trained: Service, given: list[str]) -> None:
    columns = {"image": IMAGES[:2], "label": LABELS[:2]}
    found = ask(trained, f"{STATIC}/reconstruct", inputs={name: columns[name] for name in given})["outputs"]
    assert np.shape(found["image"]["mean"]) == np.shape(found["image"]["standard_deviation"]) == (2, 2, 2)
    probabilities = np.array(found["label"]["probabilities"])
    assert probabilities.shape == (2, 3)
    assert_close(probabilities.sum(axis=1), 1)
    assert found["label"]["category"] == probabilities.argmax(axis=1).tolist()


def test_more_modalities_make_the_latent_code_more_certain(trained: Service) -> None:
    def spread(**inputs: Any) -> Any:
        return np.array(ask(trained, f"{STATIC}/encode", inputs=inputs)["standard_deviation"])

    both = spread(image=IMAGES[:5], label=LABELS[:5])
    assert (both <= spread(image=IMAGES[:5]) + 1e-6).all()
    assert (both <= spread(label=LABELS[:5]) + 1e-6).all()


def test_rows_with_different_subsets_in_one_request_get_the_same_answers_as_alone(trained: Service) -> None:
    mixed = {"image": [IMAGES[0], None, IMAGES[2]], "label": [LABELS[0], LABELS[1], None]}
    together = ask(trained, f"{STATIC}/reconstruct", inputs=mixed, n_samples=4, seed=3)["outputs"]
    alone = [{"image": [IMAGES[0]], "label": [LABELS[0]]}, {"label": [LABELS[1]]}, {"image": [IMAGES[2]]}]
    for row, inputs in enumerate(alone):
        single = ask(trained, f"{STATIC}/reconstruct", inputs=inputs, n_samples=4, seed=3)["outputs"]
        assert_close(together["image"]["mean"][row], single["image"]["mean"][0])
        assert_close(together["image"]["standard_deviation"][row], single["image"]["standard_deviation"][0])
        assert_close(together["label"]["probabilities"][row], single["label"]["probabilities"][0])


def test_only_the_requested_targets_are_returned(trained: Service) -> None:
    found = ask(trained, f"{STATIC}/reconstruct", inputs={"image": IMAGES[:1]}, targets=["label"])
    assert list(found["outputs"]) == ["label"]


def test_equal_seeds_give_equal_draws_and_other_seeds_other_draws(trained: Service) -> None:
    def draw(seed: int) -> Any:
        return ask(trained, f"{STATIC}/reconstruct", inputs={"label": LABELS[:2]}, n_samples=3, seed=seed)["outputs"]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_draws_add_the_variance_of_the_latent(trained: Service) -> None:
    def deviation(n_samples: int) -> Any:
        found = ask(trained, f"{STATIC}/reconstruct", inputs={"label": LABELS[:2]}, n_samples=n_samples)
        return np.array(found["outputs"]["image"]["standard_deviation"])

    assert (deviation(50) > deviation(0)).all()


def test_answers_have_the_lengths_of_their_sequences(trained: Service) -> None:
    x = [[[0.1, 0.2]] * 5, [[1.0, 1.0]] * 2]
    encoded = ask(trained, f"{SEQUENCE}/encode", inputs={"x": x})
    assert [np.shape(row) for row in encoded["mean"]] == [(5, 8), (2, 8)]
    found = ask(trained, f"{SEQUENCE}/reconstruct", inputs={"x": x})["outputs"]
    assert [np.shape(row) for row in found["y"]["mean"]] == [(5, 1), (2, 1)]


def test_a_sequence_with_gaps_gets_the_same_answer_as_alone(trained: Service) -> None:
    gaps = {"x": [[[0.1, 0.2], None, [0.3, 0.1]], None], "y": [[None, None, [0.5]], [[1.0], [1.0], [1.0], [1.0]]]}
    together = ask(trained, f"{SEQUENCE}/reconstruct", inputs=gaps, n_samples=2, seed=1)["outputs"]
    for row in (0, 1):
        single = {name: [column[row]] for name, column in gaps.items()}
        alone = ask(trained, f"{SEQUENCE}/reconstruct", inputs=single, n_samples=2, seed=1)["outputs"]
        for name in ("x", "y"):
            assert_close(together[name]["mean"][row], alone[name]["mean"][0])
            assert_close(together[name]["standard_deviation"][row], alone[name]["standard_deviation"][0])


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "/inputs"),
        ({"inputs": {}}, "/inputs"),
        ({"inputs": {"smell": [1]}}, "/inputs/smell"),
        ({"inputs": {"label": [1]}, "colour": "red"}, "/colour"),
        ({"inputs": {"label": [99]}}, "/inputs/label/0"),
        ({"inputs": {"label": [1], "image": IMAGES[:2]}}, "/inputs"),
        ({"inputs": {"image": [*IMAGES[:3], [[1, 2, 3]]]}}, "/inputs/image/3"),
        ({"inputs": {"label": [1]}, "targets": ["smell"]}, "/targets/0"),
        ({"inputs": {"label": [1]}, "targets": []}, "/targets"),
        ({"inputs": {"label": [1]}, "n_samples": -1}, "/n_samples"),
        ({"inputs": {"label": [1]}, "n_samples": 1001}, "/n_samples"),
        ({"inputs": {"label": [1]}, "n_samples": True}, "/n_samples"),
        ({"inputs": {"label": [1]}, "seed": 1.5}, "/seed"),
        ([], ""),
        (None, ""),
    ],
    ids=str,
)
def test_bad_input_names_its_place(trained: Service, body: Any, place: str) -> None:
    assert fault(trained.http.post(f"{STATIC}/reconstruct", json=body))[0] == place


def test_a_wrong_shape_names_its_place(trained: Service) -> None:
    answer = trained.http.post(f"{STATIC}/encode", json={"inputs": {"image": [*IMAGES[:3], [[1, 2, 3]]]}})
    assert "inputs.image[3], expected [2, 2]" in problem(answer, 422)["detail"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"inputs": {"label": [NaN]}}', b'{"inputs": {"label": [1e999]}}'])
def test_a_body_that_is_not_json_is_refused(trained: Service, content: bytes) -> None:
    assert problem(trained.http.post(f"{STATIC}/encode", content=content), 422)["code"] == "invalid_input"


@pytest.mark.parametrize(
    ("path", "part"), [(f"{STATIC}/encode", "body"), ("/v2/models/still/versions/1/infer", "head")]
)
@pytest.mark.parametrize("value", [b"null", b"3", b"true", b"[1]"])
def test_a_body_that_is_not_an_object_is_quoted_as_json(trained: Service, path: str, part: str, value: bytes) -> None:
    answer = trained.http.post(path, content=value)
    quoted = value.decode()
    assert problem(answer, 422)["errors"] == [
        {"pointer": "", "code": "not_an_object", "detail": f"the {part} is {quoted}, expected an object"}
    ]


def test_a_number_beyond_float32_is_refused(trained: Service) -> None:
    answer = trained.http.post(f"{STATIC}/encode", json={"inputs": {"image": [[[1, 2], [3, 1e39]]]}})
    assert fault(answer) == ("/inputs/image/0", "bad_value")


@pytest.mark.parametrize("value", [1e4, 1e20, 3e38])
def test_a_huge_number_has_a_finite_answer_or_is_refused(trained: Service, value: float) -> None:
    answer = trained.http.post(f"{STATIC}/reconstruct", json={"inputs": {"image": [[[value, 2], [3, -value]]]}})
    if answer.status_code == 200:
        assert "null" not in answer.text
    else:
        problem(answer, 422)


def test_at_most_20_unknown_fields_are_reported(trained: Service) -> None:
    body = {"inputs": {"label": [1]}, **{f"x{n}/y": n for n in range(5000)}}
    errors = problem(trained.http.post(f"{STATIC}/encode", json=body), 422)["errors"]
    assert 0 < len(errors) <= 20
    assert errors[0]["pointer"] == "/x0~1y"


def test_an_unknown_model_version_or_operation_is_not_found(trained: Service) -> None:
    def code(path: str, status: int) -> str:
        return problem(trained.http.post(f"/v1/models/{path}", json={"inputs": {"label": [1]}}), status)["code"]

    assert code("none/versions/1/encode", 404) == "model_version_not_found"
    assert code("still/versions/2/encode", 404) == "model_version_not_found"
    assert code("still/versions/0/encode", 422) == "invalid_input"
    assert code("still/versions/1/dream", 404) == "not_found"


def test_answers_have_the_fields_of_the_openapi_document(trained: Service) -> None:
    document = trained.http.get("/openapi.json").json()
    for operation, fields in [("encode", {"inputs": {"label": [1]}}), ("reconstruct", {"inputs": {"label": [1]}})]:
        described = document["paths"][f"/v1/models/{{name}}/versions/{{version}}/{operation}"]["post"]
        reference = described["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        properties = document["components"]["schemas"][reference.rsplit("/", 1)[1]]["properties"]
        assert ask(trained, f"{STATIC}/{operation}", **fields).keys() == properties.keys() - {"state"}


def test_a_damaged_version_fails_and_other_versions_are_served(trained: Service) -> None:
    install(trained, "spoiled", "pictures", seed=1)
    version = trained.http.get("/v1/models/spoiled/versions/1").json()
    stored = trained.settings.artifacts / trained.project_id / version["sha256"]
    stored.write_bytes(stored.read_bytes()[:-1] + b"\7")
    answer = trained.http.post("/v1/models/spoiled/versions/1/encode", json={"inputs": {"label": [1]}})
    problem(answer, 500, "artifact_corrupt")
    assert ask(trained, f"{STATIC}/encode", inputs={"label": [1]})["mean"]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("still/versions/0/encode", "version"),
        ("still/versions/2147483648/encode", "version"),
        ("still/versions/one/encode", "version"),
        ("still/aliases/1/encode", "alias"),
        ("%00/versions/1/encode", "name"),
    ],
)
def test_a_path_that_names_no_version_is_refused_at_its_part(trained: Service, path: str, place: str) -> None:
    assert fault(trained.http.post(f"/v1/models/{path}", json={"inputs": {"label": [1]}}))[0] == place
    assert trained.http.post(f"/v1/models/{path}", headers={"Authorization": "Bearer no"}).status_code == 401


def test_query_parameters_and_other_methods_are_refused(trained: Service) -> None:
    answer = trained.http.post(f"{STATIC}/encode?colour=red", json={"inputs": {"label": [1]}})
    assert fault(answer) == ("?colour", "unknown_parameter")
    answer = trained.http.get(f"{STATIC}/encode")
    assert problem(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "POST"
