"""A large answer in parts is the same JSON as in one piece; padding and numbers that are not finite."""

from typing import Any

import numpy as np
import orjson
import pytest

from service.inference import encoding
from service.shared.errors import BadInput

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(
    "answer",
    [
        {"model": 'a"b', "outputs": {"x": {"mean": GENERATOR.normal(size=(3000, 7, 5)).astype(np.float32)}}},
        {"one wide row": GENERATOR.normal(size=(2, 120_000))},
        {"flat": np.arange(200_001), "small": np.zeros((2, 0)), "none": None},
        {"ragged": [GENERATOR.normal(size=(n, 100)) for n in (1, 700, 0, 1300)], "text": "é"},
        {"outputs": [{"name": "a", "shape": [3], "data": np.arange(3)}, {"data": GENERATOR.normal(size=100_000)}]},
        {"texts": ["a", None, 'b"'] * 50_000, "texts of sequences": [["a"] * 3, [], [None] * 60_000]},
        {},
    ],
    ids=lambda answer: next(iter(answer), "empty"),
)
def test_the_parts_joined_are_the_whole_answer(answer: dict[str, Any]) -> None:
    assert b"".join(encoding.to_json_parts(answer)) == orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def test_no_part_is_much_larger_than_its_limit() -> None:
    parts = encoding.to_json_parts({"x": np.full((4000, 500), 0.12345678901234567)})
    assert max(map(len, parts)) < 3 * encoding.PART_BYTES


def test_the_numbers_of_an_answer_are_counted() -> None:
    tree = {"mean": np.zeros((3, 4)), "outputs": {"x": {"mean": np.zeros(5)}}}
    assert encoding.numbers(tree) == 17


def test_answers_have_no_padding() -> None:
    answer = np.arange(12).reshape(2, 3, 2)
    trimmed = encoding.finite(answer, np.array([1, 3]))
    assert [part.shape for part in trimmed] == [(1, 2), (3, 2)]
    assert encoding.finite(answer, None) is answer


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_not_finite_names_its_row(value: float) -> None:
    answer = np.zeros((3, 2), np.float32)
    answer[1, 1] = value
    with pytest.raises(BadInput, match="row 1 has values so far from the training data"):
        encoding.finite(answer, None)
    padded = np.zeros((1, 3), np.float32)
    padded[0, 2] = value
    assert [row.tolist() for row in encoding.finite(padded, np.array([2]))] == [[0, 0]]


def test_draws_of_sequences_have_no_padding() -> None:
    draws = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2)  # (B, n, T, D)
    draws[0, :, 1:] = np.nan  # padding means nothing
    first, second = encoding.finite_draws(draws, np.array([1, 3]))
    assert (first.tolist(), second.tolist()) == (draws[0, :, :1].tolist(), draws[1].tolist())
    names = np.full((1, 2, 3), "calm", object)
    assert encoding.finite_draws(names, np.array([2])) == [[["calm"] * 2] * 2]
    draws[1, 0, 2] = np.inf
    with pytest.raises(BadInput, match="row 1 has values so far from the training data"):
        encoding.finite_draws(draws, np.array([1, 3]))
