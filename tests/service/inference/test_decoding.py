"""Bodies decode to the same query in the event loop and in the other process; repeated keys are refused."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.config import MMVAEConfig, MMVRNNConfig, ModalityConfig
from service.inference import decoding
from service.inference.decoding import DECODERS, Body, ModelContext
from service.inference.modality_values import shown
from service.inference.queries import Operation, Query
from service.shared.errors import BadInput
from service.shared.parser_process import LARGE_BYTES, ReadingProcess
from service.shared.settings import Settings
from tests.bundles import whole
from tests.conftest import Service, running
from tests.service.steps import problem

AUDIO = ModalityConfig(name="audio", shape=(3,), likelihood="gaussian")
WORD = ModalityConfig(name="word", categories=4, likelihood="categorical")
STILL = ModelContext("m", MMVAEConfig(modalities=(AUDIO, WORD)), 4096, 262_144)
MOVING = ModelContext("m", MMVRNNConfig(modalities=(AUDIO, WORD)), 4096, 262_144)
SAMPLES = {"audio": [[0.1, 0.2, 1e-3], None] * 2000, "word": [None, 2] * 2000}
SEQUENCES = {"audio": [[[1, 2.5, 3], None] * 900, None], "word": [[None, 1] * 900, [3]]}
ENCODE = "/v1/models/sounds/versions/1/encode"
INFER = "/v2/models/sounds/versions/1/infer"


@pytest.fixture(scope="module")
def process() -> Iterator[ReadingProcess]:
    process = ReadingProcess()
    yield process
    process.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a model of the modalities audio, face and word."""
    with running(Settings(home=tmp_path_factory.mktemp("service"))) as service:
        service.http.post("/v1/bundles", content=whole()).raise_for_status()
        yield service


@pytest.mark.parametrize(
    ("operation", "context", "body"),
    [
        ("encode", STILL, {"inputs": SAMPLES, "timeout_seconds": 3}),
        ("reconstruct", STILL, {"inputs": SAMPLES, "targets": ["word"], "n_samples": 2, "seed": 2**53 - 1}),
        ("impute", STILL, {"inputs": SAMPLES, "targets": ["word"], "draws": 2, "level": 0.5, "seed": 1}),
        ("impute", MOVING, {"inputs": SEQUENCES}),
        ("score", STILL, {"inputs": SAMPLES}),
        ("encode", MOVING, {"inputs": SEQUENCES, "state": None}),
        ("forecast", MOVING, {"inputs": SEQUENCES, "horizon": 3, "quantiles": [0.5], "state": "abc", "n_samples": 1}),
        ("sample", MOVING, {"rows": 3, "steps": 5}),
    ],
)
def test_large_bodies_decode_to_the_same_query(
    process: ReadingProcess, operation: Operation, context: ModelContext, body: dict[str, Any]
) -> None:
    raw = json.dumps(body).encode()
    small = DECODERS[operation](raw, context)
    large = asyncio.run(decoding.decode(process, operation, raw + b" " * LARGE_BYTES, context))
    assert replace(small, rows=large.rows) == large
    assert_same_rows(small, large)


def assert_same_rows(one: Query, other: Query) -> None:
    assert one.rows.count == other.rows.count
    assert list(one.rows.values) == list(other.rows.values)
    for name, array in one.rows.values.items():
        np.testing.assert_array_equal(array, other.rows.values[name], strict=True)
        np.testing.assert_array_equal(one.rows.present[name], other.rows.present[name], strict=True)
    if one.rows.lengths is None:
        assert other.rows.lengths is None
    else:
        np.testing.assert_array_equal(one.rows.lengths, other.rows.lengths, strict=True)


def refused(service: Service, path: str, content: bytes, **headers: str) -> list[tuple[str, str]]:
    answer = service.http.post(path, content=content, headers={"Content-Type": "application/json", **headers})
    return [(fault["pointer"], fault["code"]) for fault in problem(answer, 422)["errors"]]


REPEATED = [
    (b'{"inputs": {"word": [1]}, "inputs": {"word": [2]}}', "/inputs"),
    (b'{"inputs": {"word": [1], "word": [2]}}', "/inputs/word"),
    (b'{"inputs": {"word": [1]}, "timeout_seconds": 1, "timeout\\u005fseconds": 2}', "/timeout_seconds"),
]


@pytest.mark.parametrize(("content", "place"), REPEATED)
@pytest.mark.parametrize("padding", [0, LARGE_BYTES], ids=["small", "large"])
def test_a_repeated_key_is_refused_with_its_place(service: Service, content: bytes, place: str, padding: int) -> None:
    assert refused(service, ENCODE, content + b" " * padding) == [(place, "duplicate_key")]


TENSOR = '{"name": "word", "datatype": "INT64", "shape": [1], "data": [1]}'


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (f'{{"id": "a", "inputs": [{TENSOR}], "id": "b"}}', "/id"),
        (f'{{"inputs": [{TENSOR[:-1]}, "data": [2]}}]}}', "/inputs/0/data"),
        (f'{{"inputs": [{TENSOR}], "parameters": {{"seed": 1, "seed": 2}}}}', "/parameters/seed"),
    ],
)
@pytest.mark.parametrize("padding", [0, LARGE_BYTES], ids=["small", "large"])
def test_a_repeated_key_of_the_other_protocol_is_refused_too(
    service: Service, content: str, place: str, padding: int
) -> None:
    raw = content.encode() + b" " * padding
    assert refused(service, INFER, raw) == [(place, "duplicate_key")]
    assert refused(service, INFER, gzip.compress(raw), **{"Content-Encoding": "gzip"}) == [(place, "duplicate_key")]


def test_a_colon_in_a_text_is_not_counted_as_a_key(service: Service) -> None:
    content = f'{{"id": "urn:uuid:1:\\u003a", "inputs": [{TENSOR}]}}'
    answer = service.http.post(INFER, content=content)
    assert answer.status_code == 200
    assert answer.json()["id"] == "urn:uuid:1::"


def test_large_requests_of_both_protocols_are_answered_like_small_ones(service: Service) -> None:
    rows = np.random.default_rng(0).normal(size=(4096, 3)).astype(np.float32)
    whole_answer = service.http.post(ENCODE, json={"inputs": {"audio": rows.tolist()}}).raise_for_status().json()
    part = service.http.post(ENCODE, json={"inputs": {"audio": rows[:50].tolist()}}).raise_for_status().json()
    np.testing.assert_allclose(whole_answer["mean"][:50], part["mean"], rtol=1e-4, atol=1e-6)
    tensor = {"name": "audio", "datatype": "FP32", "shape": [4096, 3], "data": rows.tolist()}
    other = service.http.post(INFER, json={"inputs": [tensor]}).raise_for_status().json()
    found = np.array(other["outputs"][0]["data"]).reshape(other["outputs"][0]["shape"])
    np.testing.assert_allclose(found, whole_answer["mean"], rtol=1e-4, atol=1e-6)


def test_a_bad_row_in_a_large_body_is_named(service: Service) -> None:
    rows: list[Any] = [[0.12345678901234567] * 3] * 4096
    rows[4000] = [1, 2]
    rows[7] = [1, "x", 3]
    content = json.dumps({"inputs": {"audio": rows}}).encode()
    assert len(content) > LARGE_BYTES
    assert refused(service, ENCODE, content) == [("/inputs/audio/7", "bad_value"), ("/inputs/audio/4000", "bad_value")]


@pytest.mark.parametrize(
    "value", [1.5, "a" * 59, "é\n'\"", [1, [2, {"a": 3}], []], {"a": [1], "b": {}}, [], {}, "x" * 100, [0] * 100]
)
def test_a_value_is_quoted_as_python_writes_it(value: Any) -> None:
    text = repr(value)
    assert shown(value) == text or (len(text) > 60 and shown(value) == text[:60] + "…")


def test_null_and_booleans_are_quoted_as_json_writes_them() -> None:
    assert shown(None) == "null"
    assert shown([True, {"a": False}]) == "[true, {'a': false}]"


def test_only_the_quoted_part_of_a_value_is_formatted() -> None:
    class Watched(list[Any]):
        looked_at = 0

        def __iter__(self) -> Iterator[Any]:
            for item in super().__iter__():
                self.looked_at += 1
                yield item

    value = Watched([[]] * 10_000)
    assert shown(value).startswith("[[], [], ")
    assert value.looked_at < 100


def targets_of(targets: Any) -> list[str]:
    return Body(json.dumps({"targets": targets}).encode(), {"targets"}).targets(STILL.config)


def test_targets_are_all_modalities_unless_some_are_named() -> None:
    assert targets_of(None) == ["audio", "word"]
    assert targets_of(["word", "audio", "word"]) == ["word", "audio"]


@pytest.mark.parametrize(
    ("targets", "pointer"),
    [
        ("word", "/targets"),
        ([], "/targets"),
        ({}, "/targets"),
        (["word", "smell"], "/targets/1"),
        ([[]], "/targets/0"),
        ([None], "/targets/0"),
        ([{"word": 1}], "/targets/0"),
    ],
)
def test_targets_that_are_not_modalities_are_refused(targets: Any, pointer: str) -> None:
    with pytest.raises(BadInput) as caught:
        targets_of(targets)
    assert caught.value.faults[0].pointer == pointer


def arguments(operation: Operation, context: ModelContext, body: dict[str, Any]) -> Any:
    return DECODERS[operation](json.dumps(body).encode(), context).arguments


SEEDED: list[tuple[Operation, ModelContext, dict[str, Any]]] = [
    ("reconstruct", STILL, {"inputs": {"word": [1]}}),
    ("score", STILL, {"inputs": {"word": [1]}}),
    ("forecast", MOVING, {"inputs": {"word": [[1, 2]]}}),
]


@pytest.mark.parametrize(("operation", "context", "body"), SEEDED, ids=[each[0] for each in SEEDED])
def test_requests_without_draws_share_a_batch_whatever_their_seeds(
    operation: Operation, context: ModelContext, body: dict[str, Any]
) -> None:
    first, second = ({**body, "n_samples": 0, "seed": seed} for seed in (1, 2))
    assert arguments(operation, context, first) == arguments(operation, context, second)
    first, second = ({**body, "n_samples": 1, "seed": seed} for seed in (1, 2))
    assert arguments(operation, context, first) != arguments(operation, context, second)


def test_completions_without_draws_share_a_batch_whatever_their_seeds() -> None:
    def asked(draws: int, seed: int) -> Any:
        return arguments("impute", STILL, {"inputs": {"word": [1]}, "draws": draws, "seed": seed})

    assert asked(0, 1) == asked(0, 2) == {"targets": ["audio"], "draws": 0, "level": 0.9, "seed": 0}
    assert asked(1, 1) != asked(1, 2)
