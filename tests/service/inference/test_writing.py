"""A large answer in pieces is the same JSON as in one."""

from typing import Any

import numpy as np
import orjson
import pytest

from service.inference import writing

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
def test_pieces_make_the_whole(answer: dict[str, Any]) -> None:
    assert b"".join(writing.pieces(answer)) == orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def test_no_piece_is_written_for_long() -> None:
    parts = writing.pieces({"x": np.full((4000, 500), 0.12345678901234567)})
    assert max(map(len, parts)) < 3 * writing.SENT_BYTES


def test_the_numbers_of_an_answer_are_counted() -> None:
    tree = {"mean": np.zeros((3, 4)), "outputs": {"x": {"mean": np.zeros(5)}}}
    assert writing.numbers(tree) == 17
