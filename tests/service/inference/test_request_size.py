"""Queries that compute or answer too many numbers are refused before anything is allocated."""

from typing import Any

import numpy as np
import pytest

from models.config import ConditionalFlowConfig, MMVAEConfig, MMVRNNConfig, ModalityConfig, SequenceFlowConfig
from service.inference import request_size, row_decoding
from service.inference.queries import Computation, Config, Operation, Pointers, Query, Version
from service.inference.request_size import MAX_ANSWERED, MAX_COMPUTED
from service.inference.row_decoding import decode_rows
from service.inference.rows import RowLimits, Rows
from service.open_inference.request_decoding import POINTERS
from service.shared.errors import BadInput, Fault, TooLarge

IMAGE = ModalityConfig(name="image", shape=(64, 64), likelihood="gaussian")
LABEL = ModalityConfig(name="label", categories=4, likelihood="categorical")
V1 = Pointers()
STATIC = MMVAEConfig(modalities=(IMAGE, LABEL), latent_features=16)
SEQUENCE = MMVRNNConfig(modalities=(IMAGE, LABEL), latent_features=16)


def labels(rows: int, steps: int | None = None) -> Rows:
    shape = (rows,) if steps is None else (rows, steps)
    lengths = None if steps is None else np.full(rows, steps)
    return Rows(rows, {"label": np.zeros(shape, np.int64)}, {"label": np.ones(shape, bool)}, lengths)


def check(operation: Operation, rows: Rows, config: Config, pointers: Pointers = V1, **arguments: Any) -> int:
    version = Version("v", "p", "m", 1, "0" * 64, 1, config)
    query = Query(operation, rows, arguments, pointers=pointers)
    return request_size.check(query, Computation(version, operation, arguments), config)


def fault(*asked: Any, **arguments: Any) -> Fault:
    with pytest.raises(BadInput) as caught:
        check(*asked, **arguments)
    (found,) = caught.value.faults
    return found


def test_draws_of_images_from_labels_are_counted() -> None:
    asked = {"targets": ["image"], "n_samples": 1000, "seed": 0}
    found = fault("reconstruct", labels(262), STATIC, **asked)
    assert (found.pointer, found.code) == ("/n_samples", "too_large")
    assert f"262 rows x 1 steps x {4096 * 1000} numbers, draws included" in found.detail
    assert f"expected at most {MAX_COMPUTED}" in found.detail
    assert check("reconstruct", labels(262), STATIC, **asked | {"targets": ["label"]}) == 4 * 1000
    assert check("reconstruct", labels(32), STATIC, **asked) == 4096 * 1000
    assert fault("reconstruct", labels(262), STATIC, POINTERS, **asked).pointer == "/parameters/n_samples"


def test_a_forecast_counts_draws_of_modalities_that_it_does_not_answer() -> None:
    asked = {"targets": ["label"], "horizon": 1, "n_samples": 1000, "quantiles": [0.5]}
    assert fault("forecast", labels(262, 3), SEQUENCE, **asked).pointer == "/n_samples"
    assert check("forecast", labels(3, 3), SEQUENCE, **asked) == (4096 + 4) * 1000


@pytest.mark.parametrize(
    ("operation", "rows", "config", "arguments", "place"),
    [
        ("reconstruct", labels(4097), STATIC, {"targets": ["image"], "n_samples": 0}, "/targets"),
        ("sample", Rows(4096, {}, {}, None), STATIC, {"steps": None}, "/rows"),
        ("sample", Rows(2, {}, {}, None), SEQUENCE, {"steps": 4096}, "/rows"),
        ("encode", labels(1, 2**20 + 1), SEQUENCE, {}, "/inputs"),
        (
            "forecast",
            labels(1, 2),
            SEQUENCE,
            {"targets": ["image"], "horizon": 1000, "n_samples": 1, "quantiles": [0.1] * 8},
            "/targets",
        ),
    ],
)
def test_an_answer_that_is_too_large_is_refused_at_the_field_that_asks_for_it(
    operation: Operation, rows: Rows, config: Config, arguments: dict[str, Any], place: str
) -> None:
    found = fault(operation, rows, config, **arguments)
    assert (found.pointer, found.code) == (place, "answer_too_large")
    assert f"expected at most {MAX_ANSWERED}" in found.detail


def test_completions_count_their_bounds_and_draws() -> None:
    asked = {"targets": ["image", "label"], "draws": 0, "level": 0.9, "seed": 0}
    assert check("impute", labels(8), STATIC, **asked) == 5 * 4096 + 1 + 5
    assert check("impute", labels(8), STATIC, **asked | {"draws": 10}) == (5 + 10) * 4096 + 11 + 5
    assert fault("impute", labels(4096), STATIC, **asked).pointer == "/targets"
    found = fault("impute", labels(100), STATIC, **asked | {"draws": 100})
    assert (found.pointer, found.code) == ("/draws", "answer_too_large")
    assert fault("impute", labels(100), STATIC, POINTERS, **asked | {"draws": 100}).pointer == "/parameters/draws"


def test_completions_by_a_conditional_part_count_the_values_that_it_draws() -> None:
    drawing = STATIC.model_copy(update={"conditional": ConditionalFlowConfig()})
    asked = {"targets": ["image"], "draws": 0, "level": 0.9, "seed": 0}
    assert check("impute", labels(8), drawing, **asked) == 4096 * 32 * 4
    assert check("impute", labels(8), drawing, **asked | {"draws": 40}) == (5 + 40) * 4096
    assert check("impute", labels(256), drawing, **asked) == 4096 * 32 * 4
    found = fault("impute", labels(257), drawing, **asked)
    assert (found.pointer, found.code) == ("/targets", "too_large")


def test_forecasts_by_a_conditional_part_count_the_steps_before_them_and_codes() -> None:
    drawing = SEQUENCE.model_copy(update={"conditional": SequenceFlowConfig()})
    asked = {"targets": ["image"], "horizon": 1, "n_samples": 40, "quantiles": [0.5]}
    assert check("forecast", labels(1, 400), drawing, **asked) == 2 * 40 * 4096
    assert fault("forecast", labels(1, 410), drawing, **asked).pointer == "/n_samples"
    # four probabilities of a label for each of 128 values, and 16 features for each of 32 codes
    assert check("impute", labels(1, 9), drawing, targets=["label"], draws=0, level=0.9, seed=0) == 4 * 32 * 4
    wide = SEQUENCE.model_copy(update={"conditional": SequenceFlowConfig(code_features=64)})
    assert check("impute", labels(1, 9), wide, targets=["label"], draws=0, level=0.9, seed=0) == 64 * 32


def test_draws_of_a_score_do_not_count() -> None:
    assert check("score", labels(4096), STATIC, n_samples=64, seed=0) == 4


def test_rows_that_never_fit_are_too_large() -> None:
    image = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (2**15 + 1, 64, 64), (0, 0, 0))
    rows = Rows(len(image), {"image": image}, {"image": np.ones(len(image), bool)}, None)
    with pytest.raises(TooLarge, match=r"the rows take \d+ bytes, .* expected at most 536870912"):
        check("encode", rows, STATIC)


def test_nulls_count_as_many_bytes_as_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_decoding, "MAX_BYTES", 10 * (4 * 64 * 64 + 8))
    image = np.zeros((64, 64)).tolist()
    limits = RowLimits(rows=4096, steps=4096)
    decode_rows({"image": [image] + [None] * 9, "label": [0] * 10}, STATIC, limits)
    with pytest.raises(TooLarge, match=r"inputs\.image has room for 11 values of shape \[64, 64\]"):
        decode_rows({"image": [image] + [None] * 10, "label": [0] * 11}, STATIC, limits)
