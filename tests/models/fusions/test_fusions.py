"""Fusion tells a missing modality from every value it could have."""

import pytest
import torch
from torch import nn

from models.fusions import Fusion
from models.fusions.missing_embeddings import MissingEmbeddings
from models.fusions.zero import ZeroConcatenation


def test_no_values_and_a_false_mask_are_the_same() -> None:
    fusion = MissingEmbeddings(modalities=2, modality_features=3, out_features=4)
    seen, hidden = torch.randn(2, 5, 2, 3).unbind()
    everywhere, nowhere = torch.ones(5, 2, dtype=torch.bool), torch.zeros(5, 2, dtype=torch.bool)
    masked = fusion([seen, hidden], [everywhere, nowhere], everywhere)
    torch.testing.assert_close(masked, fusion([seen, None], [everywhere, None], everywhere))


def test_an_observation_that_looks_like_the_stand_in_is_still_told_apart_by_its_presence() -> None:
    torch.manual_seed(0)
    fusion = MissingEmbeddings(modalities=1, modality_features=3, out_features=4)
    alike = fusion.missing[0].expand(1, 2, -1)
    observed, missing = fusion([alike], [torch.tensor([[True, False]])], torch.ones(1, 2))[0]
    assert not torch.allclose(observed, missing)


def test_the_stand_in_is_learned_from_missing_steps_only() -> None:
    fusion = MissingEmbeddings(modalities=2, modality_features=3, out_features=4)
    present = [torch.ones(1, 2, dtype=torch.bool), torch.tensor([[True, False]])]
    fusion([torch.randn(1, 2, 3), torch.randn(1, 2, 3)], present, present[0]).sum().backward()
    assert fusion.missing.grad is not None
    assert not fusion.missing.grad[0].any()
    assert fusion.missing.grad[1].any()


@pytest.mark.parametrize("kind", [ZeroConcatenation, MissingEmbeddings])
@pytest.mark.parametrize("given", ["all", "one without values", "one without a mask", "none"])
def test_behind_the_encoders_last_layers_it_is_the_same_with_the_same_gradients(kind: type[Fusion], given: str) -> None:
    torch.manual_seed(0)
    fusion = kind(3, 4, 5)  # type: ignore[call-arg]
    for parameter in fusion.parameters():
        nn.init.normal_(parameter)
    lasts = [nn.Linear(6, 4) for _ in range(3)]
    hidden = [torch.randn(2, 7, 6) for _ in lasts]
    masks = [torch.rand(2, 7) < 0.5 for _ in lasts]
    values = {"all": 3, "one without values": 2, "one without a mask": 3, "none": 0}[given]
    present = [mask if index or given != "one without a mask" else None for index, mask in enumerate(masks)]
    before = [value if index < values else None for index, value in enumerate(hidden)]
    after = [None if value is None else last(value) for value, last in zip(before, lasts, strict=True)]
    weights = [*fusion.parameters(), *(parameter for last in lasts for parameter in last.parameters())]
    plain, through = fusion(after, present, masks[0]), fusion.behind(before, lasts, present, masks[0])
    torch.testing.assert_close(through, plain)
    ours, theirs = (
        torch.autograd.grad(found.square().sum(), weights, allow_unused=True, materialize_grads=True)
        for found in (through, plain)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
