"""What is known of likelihoods without torch agrees with what their classes do."""

import math

import numpy as np
import pytest
import torch

from models import likelihoods
from models.config import ModalityConfig, Support
from models.config.likelihood import BUILT_IN


@pytest.mark.parametrize(
    ("support", "words", "inside", "outside"),
    [
        (Support(), "numbers", [-1.5, 0, 7], []),
        (Support(0, 1), "numbers from 0 to 1", [0, 0.5, 1], [-0.1, 1.1]),
        (Support(0, 1, open=True), "numbers between 0 and 1", [0.5], [0, 1]),
        (Support(minimum=0, whole=True), "whole numbers from 0 on", [0, 3], [-1, 0.5]),
        (Support(0, 4, whole=True), "whole numbers from 0 to 4", [0, 4], [5, 2.5]),
        (Support(minimum=0, open=True), "numbers above 0", [1e-9], [0, -1]),
        (Support(maximum=2), "numbers up to 2", [2, -5], [2.1]),
        (Support(maximum=2, open=True), "numbers below 2", [1.9], [2]),
    ],
)
def test_a_support_has_its_limits_and_description(
    support: Support, words: str, inside: list[float], outside: list[float]
) -> None:
    values, expected = [*inside, *outside, math.nan], [True] * len(inside) + [False] * (len(outside) + 1)
    assert str(support) == words
    assert [bool(support.contains(value)) for value in values] == expected
    assert support.contains(np.array(values)).tolist() == expected
    assert support.contains(torch.tensor(values)).tolist() == expected
    assert support.contains(support.inside)
    assert support.is_everything == (words == "numbers")
    assert support.takes_booleans == (words == "numbers from 0 to 1")


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_likelihood_answers_the_outputs_of_its_facts(name: str) -> None:
    categories, shape = (5, ()) if name == "categorical" else (None, (3,))
    modality = ModalityConfig(name="m", likelihood=name, categories=categories, shape=shape)
    found = likelihoods.build(modality)
    raw = torch.randn(2, 4, *found.parameter_shape)
    described = found.describe(raw)
    shapes = {output.name: (4, *output.shape(shape, categories)) for output in modality.facts.outputs}
    assert {key: tuple(value.shape) for key, value in described.items()} == shapes
    for output in modality.facts.outputs:
        assert described[output.name].is_floating_point() == (output.holds != "category")
    assert modality.support.contains(found.quantile(raw[0], torch.tensor(0.3))).all()


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("scale", ["learned", "predicted", 0.5])
def test_a_scale_is_accepted_if_the_facts_allow_it(name: str, scale: str | float) -> None:
    categories = 5 if name == "categorical" else None
    chosen = {"name": "m", "likelihood": name, "categories": categories, "scale": scale}
    kind = scale if isinstance(scale, str) else "fixed"
    if kind != "learned" and kind not in BUILT_IN[name].scales:
        with pytest.raises(ValueError, match="which has no scale"):
            ModalityConfig.model_validate(chosen)
        return
    modality = ModalityConfig.model_validate(chosen)
    found = likelihoods.build(modality)
    assert math.prod(found.parameter_shape) == (categories or modality.parameters_per_element)
    trained = sum(parameter.numel() for parameter in found.parameters())
    assert trained == (modality.facts.learned if scale == "learned" else 0)
