"""What asks for too much is refused before it is allocated."""

from typing import Any

import numpy as np
import pytest

from models.config import MMVAEConfig, ModalityConfig
from service.inference import payload, sizes
from service.inference.payload import Limits, Rows
from service.inference.questions import Loadable, Question
from service.shared.errors import BadInput, TooLarge

IMAGE = ModalityConfig(name="image", shape=(3, 64, 64), likelihood="gaussian")
LABEL = ModalityConfig(name="label", categories=5, likelihood="categorical")
CONFIG = MMVAEConfig(modalities=(IMAGE, LABEL))


def _labels(count: int) -> Rows:
    return Rows(count, {"label": np.zeros(count, np.int64)}, {"label": np.ones(count, bool)}, None)


def _asked(**arguments: Any) -> Question:
    return Question(Loadable("v", "p", "m", 1, "0" * 64, 1), "reconstruct", arguments)


@pytest.mark.parametrize(
    ("count", "arguments", "place"),
    [
        (262, {"targets": ["image"], "n_samples": 1000, "seed": 1}, "/n_samples"),
        (4096, {"targets": ["image"], "n_samples": 0, "seed": 0}, "/targets"),
    ],
)
def test_few_bytes_that_ask_for_many(count: int, arguments: dict[str, Any], place: str) -> None:
    with pytest.raises(BadInput) as caught:
        sizes.check(_asked(**arguments), _labels(count), CONFIG)
    assert caught.value.faults[0].pointer == place


def test_what_is_asked_for_decides() -> None:
    sizes.check(_asked(targets=["label"], n_samples=1000, seed=0), _labels(262), CONFIG)
    sizes.check(_asked(targets=["image"], n_samples=0, seed=0), _labels(1000), CONFIG)


def test_nulls_are_short_and_zeros_in_their_place_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    each = np.dtype(payload._dtype(IMAGE)).itemsize * 3 * 64 * 64
    monkeypatch.setattr(payload, "MOST_BYTES", 10 * each)
    image = np.zeros((3, 64, 64)).tolist()
    payload.parse_rows({"image": [image] + [None] * 9, "label": [0] * 10}, CONFIG, Limits(4096, 4096))
    with pytest.raises(TooLarge, match=r"inputs\.image has room for 11 values of \(3, 64, 64\)"):
        payload.parse_rows({"image": [image] + [None] * 10, "label": [0] * 11}, CONFIG, Limits(4096, 4096))
