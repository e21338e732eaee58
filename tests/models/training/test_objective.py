"""The evidence bound: sums, averages, free bits and weights."""

import pytest
import torch

from models.config import ModalityConfig, TrainingConfig
from models.multimodal import Terms
from models.ops.elbo import negative_elbo
from models.training.objective import weights

TERMS = Terms(
    {"a": torch.tensor([-1.0, -3.0]), "b": torch.tensor([0.0, -4.0])}, torch.tensor([[1.5, 0.5], [0.1, 3.9]]), None, {}
)


def test_a_sample_s_loss_is_its_divergence_times_beta_less_its_log_likelihoods() -> None:
    objective = negative_elbo(TERMS, beta=0.5)
    assert objective.log_likelihood["a"].tolist() == [-1, -3]
    torch.testing.assert_close(objective.kl, torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(objective.loss, torch.tensor([1.0 + 0.5 * 2, 7.0 + 0.5 * 4]))


def test_beta_means_the_same_at_any_batch_size() -> None:
    twice = Terms({k: v.repeat(2) for k, v in TERMS.log_likelihood.items()}, TERMS.kl.repeat(2, 1), None, {})
    assert negative_elbo(twice, 0.7).loss.mean().item() == pytest.approx(negative_elbo(TERMS, 0.7).loss.mean().item())


def test_a_sequence_s_terms_are_summed_over_its_steps() -> None:
    kl = torch.tensor([[[1.0], [2.0]], [[3.0], [0.0]]])
    terms = Terms({"a": torch.tensor([[-1.0, -2.0], [-5.0, 0.0]])}, kl, torch.tensor([[True, True], [True, False]]), {})
    torch.testing.assert_close(negative_elbo(terms, beta=2.0).loss, torch.tensor([3.0 + 2 * 3, 5.0 + 2 * 3]))


def test_free_bits_raise_each_latent_feature_s_divergence_to_a_floor_in_the_loss_alone() -> None:
    objective = negative_elbo(TERMS, beta=2.0, free_bits=1.0)
    torch.testing.assert_close(objective.loss, torch.tensor([1.0 + 2 * (1.5 + 1.0), 7.0 + 2 * (1.0 + 3.9)]))
    torch.testing.assert_close(objective.kl, torch.tensor([2.0, 4.0]))


def test_free_bits_are_not_granted_to_padding() -> None:
    terms = Terms(
        {"a": torch.zeros(1, 3)}, torch.tensor([[[0.2], [4.0], [0.0]]]), torch.tensor([[True, True, False]]), {}
    )
    torch.testing.assert_close(negative_elbo(terms, beta=1.0, free_bits=0.5).loss, torch.tensor([4.5]))


def test_a_feature_under_its_free_bits_gets_no_gradient() -> None:
    kl = torch.tensor([[0.2, 2.0]], requires_grad=True)
    negative_elbo(Terms({"a": torch.zeros(1)}, kl, None, {}), beta=3.0, free_bits=0.5).loss.sum().backward()
    assert kl.grad is not None
    assert kl.grad.tolist() == [[0.0, 3.0]]


def test_a_weight_multiplies_its_modality_s_log_likelihood_in_the_loss_alone() -> None:
    objective = negative_elbo(TERMS, beta=0.0, weight={"a": 2.0, "b": 0.5})
    torch.testing.assert_close(objective.loss, torch.tensor([2.0, 6.0 + 2.0]))
    assert objective.log_likelihood["a"].tolist() == [-1, -3]


def test_automatic_weights_are_inverse_to_size_and_the_largest_modality_has_1() -> None:
    modalities = [
        ModalityConfig(name="image", shape=(3, 4, 5), likelihood="bernoulli"),
        ModalityConfig(name="vector", shape=(6,), likelihood="gaussian"),
        ModalityConfig(name="word", categories=9, likelihood="categorical"),
    ]
    assert weights(TrainingConfig(modality_weights="auto"), modalities) == {"image": 1, "vector": 10, "word": 60}
    assert weights(TrainingConfig(), modalities) == {"image": 1, "vector": 1, "word": 1}
    assert weights(TrainingConfig(modality_weights={"word": 3}), modalities) == {"image": 1, "vector": 1, "word": 3}
