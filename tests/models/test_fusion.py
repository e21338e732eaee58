"""Fusion tells a missing modality from every value it could have."""

import torch

from models.fusion import MissingEmbeddings


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
