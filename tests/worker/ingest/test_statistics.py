"""Statistics of the present values of a dataset, compared with a calculation by hand."""

import json
from typing import Any

import numpy as np
import pytest

from service.shared.samples import ModalitySchema, Samples, Schema
from worker.ingest.statistics import Statistics


def describe(*pieces: Samples, nan: dict[str, int] | None = None) -> dict[str, Any]:
    statistics = Statistics()
    for piece in pieces:
        statistics.add(piece)
    return statistics.describe({m.name: m.categories for m in pieces[0].schema.modalities if m.categories}, nan or {})


NUMBER = ModalitySchema(name="a", shape=(2,), dtype="float32")
LABEL = ModalitySchema(name="b", shape=(), dtype="int64", categories=4)


def test_statistics_count_present_values_only() -> None:
    values = {"a": np.array([[1, 2], [100, 100], [3, 6]], dtype=np.float32), "b": np.array([3, 3, 0])}
    present = {"a": np.array([True, False, True]), "b": np.array([True, True, False])}
    found = describe(Samples(Schema(kind="static", modalities=(NUMBER, LABEL)), 3, values, present))
    assert found == {
        "rows": 3,
        "together": {"a": {"a": 2, "b": 1}, "b": {"a": 1, "b": 2}},
        "modalities": {
            "a": {
                "rows": 2,
                "nan": 0,
                "present": 2,
                "absent": 1,
                "mean": 3.0,
                "standard_deviation": pytest.approx(np.sqrt(3.5)),
                "minimum": 1.0,
                "maximum": 6.0,
            },
            "b": {"rows": 2, "nan": 0, "present": 2, "absent": 1, "counts": [0, 0, 0, 2]},
        },
    }
    json.dumps(found)


def test_modality_without_values_has_no_statistics() -> None:
    values = {"a": np.zeros((2, 2), dtype=np.float32), "b": np.zeros(2, dtype=np.int64)}
    present = {"a": np.zeros(2, dtype=bool), "b": np.zeros(2, dtype=bool)}
    found = describe(Samples(Schema(kind="static", modalities=(NUMBER, LABEL)), 2, values, present))["modalities"]
    assert found["a"] == {"rows": 0, "nan": 0, "present": 0, "absent": 2}
    assert found["b"]["counts"] == [0, 0, 0, 0]


def test_sequences_have_statistics_of_their_lengths() -> None:
    values = {"a": np.ones((5, 2), dtype=np.float32)}
    present = {"a": np.array([True, True, True, False, True])}
    schema = Schema(kind="sequence", modalities=(NUMBER,))
    found = describe(Samples(schema, 2, values, present, np.array([0, 1, 5])))
    assert found["lengths"] == {"minimum": 1, "mean": 2.5, "maximum": 4}
    assert found["modalities"]["a"]["present"] == 4


def test_statistics_of_large_numbers_are_finite() -> None:
    values = {"a": np.full((3, 2), 3e38, dtype=np.float32)}
    found = describe(Samples(Schema(kind="static", modalities=(NUMBER,)), 3, values, {"a": np.ones(3, dtype=bool)}))
    figures = found["modalities"]["a"]
    assert figures["mean"] == pytest.approx(3e38)
    assert figures["standard_deviation"] == 0


def test_statistics_of_pieces_equal_those_of_the_whole() -> None:
    values = np.random.default_rng(0).normal(1000, 0.1, size=(90, 2)).astype(np.float32)
    schema = Schema(kind="static", modalities=(NUMBER,))

    def piece(start: int, stop: int) -> Samples:
        return Samples(schema, stop - start, {"a": values[start:stop]}, {"a": np.ones(stop - start, dtype=bool)})

    found = describe(piece(0, 1), piece(1, 40), piece(40, 90))["modalities"]["a"]
    assert found["mean"] == pytest.approx(values.mean(dtype=np.float64), rel=1e-12)
    assert found["standard_deviation"] == pytest.approx(values.std(dtype=np.float64), rel=1e-6)


def test_sequence_of_any_length_counts_as_one_row() -> None:
    values = {"a": np.ones((5, 2), dtype=np.float32), "b": np.zeros(5, dtype=np.int64)}
    present = {"a": np.array([1, 1, 0, 0, 0], bool), "b": np.array([0, 1, 1, 1, 1], bool)}
    schema = Schema(kind="sequence", modalities=(NUMBER, LABEL))
    found = describe(Samples(schema, 2, values, present, np.array([0, 2, 5])))
    assert found["together"] == {"a": {"a": 1, "b": 1}, "b": {"a": 1, "b": 2}}
