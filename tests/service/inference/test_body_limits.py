"""Bodies with more marks than any valid body are refused before they are parsed; all valid ones pass."""

import json
from typing import Any

import pytest

from models.config import MMVAEConfig, MMVRNNConfig, ModalityConfig
from service.inference.body_limits import check_counts
from service.shared.errors import BadInput

IMAGE = ModalityConfig(name="image", shape=(2, 3, 4), likelihood="gaussian")
LABEL = ModalityConfig(name="label", categories=3, likelihood="categorical")
PULSE = ModalityConfig(name="pulse", shape=(1,), likelihood="gaussian")
ROWS, STEPS = 100_000, 120_000


def body(**columns: Any) -> bytes:
    return json.dumps({"inputs": columns}).encode()


def refusal(raw: bytes, config: MMVAEConfig | MMVRNNConfig, max_rows: int, max_steps: int) -> str | None:
    """Why a body is refused, None if it passes."""
    try:
        check_counts(raw, config, max_rows, max_steps)
    except BadInput as error:
        return str(error)
    return None


def test_as_many_rows_as_a_request_may_have_pass() -> None:
    image = [[[[0] * 4] * 3] * 2] * ROWS
    assert refusal(body(image=image, label=[1] * ROWS), MMVAEConfig(modalities=(IMAGE, LABEL)), ROWS, ROWS) is None


def test_as_many_steps_as_a_request_may_have_pass() -> None:
    config = MMVRNNConfig(modalities=(PULSE, LABEL))
    one_row = body(pulse=[[[0.5]] * STEPS], label=[[None] * STEPS])
    short_rows = body(pulse=[[[0.5]]] * ROWS, label=[[1]] * ROWS)
    assert refusal(one_row, config, ROWS, STEPS) is None
    assert refusal(short_rows, config, ROWS, STEPS) is None


def test_category_names_may_contain_any_mark() -> None:
    named = ModalityConfig(name="word", categories=2, likelihood="categorical", category_names=('a["{:,', "b"))
    assert refusal(body(word=['a["{:,'] * ROWS), MMVAEConfig(modalities=(named,)), ROWS, ROWS) is None


@pytest.mark.parametrize("item", ["[]", "[1]", "{}", '""', "0", "null", '{"a":1}'])
def test_a_million_of_any_mark_is_refused(item: str) -> None:
    raw = ('{"inputs":{"label":[' + ",".join([item] * 1_000_000) + "]}}").encode()
    assert "expected at most" in str(refusal(raw, MMVAEConfig(modalities=(LABEL,)), 4096, 4096))


def test_a_million_keys_are_refused() -> None:
    raw = json.dumps(dict.fromkeys(range(1_000_000), 0)).encode()
    assert "expected at most" in str(refusal(raw, MMVAEConfig(modalities=(LABEL,)), 4096, 4096))
