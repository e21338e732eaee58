"""What every MM-VRNN holds, whichever fusion, inference and recurrence it is made of."""

from functools import partial
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import gaussian
from models.batch import Batch
from models.inference_network import ProductOfExpertsNetwork
from models.mmvrnn import MMVRNN
from models.ops.elbo import negative_elbo
from tests.models.small import (
    JOINS,
    MODALITIES,
    only,
    randomly_present,
    rows_of,
    sequence_batch,
    sequence_model,
    without,
)

NAMES = [modality.name for modality in MODALITIES]
COMBINATIONS = [
    {**join, "inference": inference, "recurrence": recurrence, "recurrent_layers": layers}
    for join, inference, recurrence, layers in product(JOINS, ["filter", "smooth"], ["gru", "lstm"], [1, 2])
]
COMBINATIONS += [
    {
        "fusion": fusion,
        "inference": "smooth",
        "recurrence": recurrence,
        "recurrent_layers": layers,
        "static_latent_features": 3,
    }
    for fusion, recurrence, layers in product(["zero", "missing_embeddings"], ["gru", "lstm"], [1, 2])
]
MODELS = {"-".join(str(value) for value in c.values()): c for c in COMBINATIONS}

every = pytest.mark.parametrize("model", [sequence_model(**c) for c in COMBINATIONS], ids=list(MODELS))

assert_close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


def _terms(model: MMVRNN, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
    terms = model.terms(batch, batch, noise)
    return {"kl": terms.kl.sum(dim=-1), **terms.log_likelihood}


@every
def test_hiding_equals_not_having(model: MMVRNN) -> None:
    batch = randomly_present(sequence_batch())
    for hidden in (["audio"], ["face"], ["word"], ["face", "word"]):
        others = [name for name in NAMES if name not in hidden]
        masked, gone = model.encode(only(batch, *others)), model.encode(without(batch, *hidden))
        assert_close(masked.mean[batch.valid], gone.mean[batch.valid])
        assert_close(masked.standard_deviation[batch.valid], gone.standard_deviation[batch.valid])


@every
def test_absent_values_do_not_matter(model: MMVRNN) -> None:
    batch = randomly_present(sequence_batch())
    garbage = {**batch.values, "audio": batch.values["audio"].clone()}
    garbage["audio"][~batch.present["audio"]] = 1e4
    noise = torch.randn(3, 5, model.latent_features)
    assert_close(_terms(model, batch, noise), _terms(model, Batch(garbage, batch.present, batch.lengths), noise))


@pytest.mark.parametrize("options", COMBINATIONS, ids=list(MODELS))
def test_the_order_of_modalities_changes_nothing(options: dict[str, object]) -> None:
    batch, order = randomly_present(sequence_batch()), (2, 0, 1)
    permuted = Batch(
        {NAMES[i]: batch.values[NAMES[i]] for i in order},
        {NAMES[i]: batch.present[NAMES[i]] for i in order},
        batch.lengths,
    )
    model, other = sequence_model(**options), sequence_model([MODALITIES[i] for i in order], **options)
    torch.testing.assert_close(model.encode(batch), other.encode(permuted), rtol=0, atol=0)


@every
def test_a_sequence_s_terms_do_not_depend_on_the_others(model: MMVRNN) -> None:
    batch, noise = randomly_present(sequence_batch()), torch.randn(3, 5, model.latent_features)
    together = _terms(model, batch, noise)
    for row in range(3):
        alone = _terms(model, rows_of(batch, [row]), noise[row : row + 1])
        assert_close(
            {name: value[row] for name, value in together.items()}, {n: value[0] for n, value in alone.items()}
        )


@every
@settings(max_examples=3, deadline=None)
@given(padding=st.integers(1, 4), garbage=st.floats(-1e3, 1e3), seed=st.integers(0, 99))
def test_padding_has_no_loss_and_no_effect(model: MMVRNN, padding: int, garbage: float, seed: int) -> None:
    batch = randomly_present(sequence_batch((4, 2), seed=seed), seed)
    noise = torch.randn(2, 4, model.latent_features, generator=torch.Generator().manual_seed(seed))

    def padded(value: Tensor, fill: float) -> Tensor:
        return torch.cat([value, torch.full((2, padding, *value.shape[2:]), fill).to(value.dtype)], dim=1)

    fills = {"audio": garbage, "face": 1.0, "word": 3.0}
    longer = Batch(
        {name: padded(value, fills[name]) for name, value in batch.values.items()},
        {name: padded(mask, 0.0) for name, mask in batch.present.items()},
        batch.lengths,
    )
    short, long = _terms(model, batch, noise), _terms(model, longer, padded(noise, 5.0))
    assert_close(short, {name: value[:, :4] for name, value in long.items()})
    assert not any(value[:, 4:].any() for value in long.values())
    for free_bits in (0.0, 0.2):
        losses = [
            negative_elbo(model.terms(b, b, n), 0.5, None, free_bits).loss
            for b, n in ((batch, noise), (longer, padded(noise, 5.0)))
        ]
        assert_close(*losses)


@every
def test_a_filter_never_looks_ahead_and_a_smoother_does(model: MMVRNN) -> None:
    batch = sequence_batch((5,))
    changed = {**batch.values, "audio": batch.values["audio"].clone()}
    changed["audio"][0, 3:] += 3
    before, after = model.encode(batch).mean[0], model.encode(Batch(changed, batch.present, batch.lengths)).mean[0]
    assert not torch.isclose(before[3:], after[3:]).all(dim=1).any()
    if model.config.inference == "filter":
        torch.testing.assert_close(before[:3], after[:3])
    else:
        assert not torch.isclose(before[:3], after[:3]).all(dim=1).any()


@every
def test_every_parameter_learns(model: MMVRNN) -> None:
    batch = randomly_present(sequence_batch((5, 4, 3)))
    model.zero_grad()
    negative_elbo(model.terms(batch, batch, torch.randn(3, 5, model.latent_features)), 1.0).loss.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("how", ["filter", "smooth"])
@pytest.mark.parametrize("recurrence", ["gru", "lstm"])
def test_a_product_s_posterior_is_the_prior_times_the_experts_at_every_step(how: str, recurrence: str) -> None:
    model = sequence_model(posterior="product_of_experts", inference=how, recurrence=recurrence)
    assert isinstance(model.inference, ProductOfExpertsNetwork)
    batch = randomly_present(sequence_batch((5, 3, 4)))
    evidence = model.evidence(batch)
    trajectory = model.infer(evidence, torch.randn(3, 5, 4))
    for row, length in enumerate((5, 3, 4)):
        for t in range(length):
            members = [gaussian.from_raw(model.prior(model.hidden(trajectory)[row, t]))]
            for name, index in model.index.items():
                if batch.present[name][row, t]:
                    value = batch.values[name][row, t].unsqueeze(0)
                    members.append(gaussian.from_raw(model.inference.experts[index](model.encoded(name, value))[0]))
            if how == "smooth" and t + 1 < length:
                assert evidence.future is not None
                members.append(gaussian.from_raw(model.inference.future(evidence.future[row, t + 1])))
            precision = torch.stack([member.precision for member in members])
            mean = (torch.stack([member.mean for member in members]) * precision).sum(dim=0) / precision.sum(dim=0)
            assert_close(trajectory.posterior.mean[row, t], mean)
            assert_close(trajectory.posterior.standard_deviation[row, t], precision.sum(dim=0).rsqrt())


@pytest.mark.parametrize("how", ["filter", "smooth"])
def test_a_step_without_modalities_has_no_loss_with_a_product_of_experts(how: str) -> None:
    model = sequence_model(posterior="product_of_experts", inference=how)
    batch = sequence_batch((5, 3))
    present = {name: mask.clone() for name, mask in batch.present.items()}
    for mask in present.values():
        mask[:, -1] = mask[:, 2] = False
    terms = model.terms(Batch(batch.values, present, batch.lengths), batch, torch.randn(2, 5, 4))
    nothing_later = terms.kl[0, 4], terms.kl[1, 2]
    assert all(kl.abs().max() < 1e-5 for kl in nothing_later)
    assert (terms.kl[:, 1].sum(dim=-1) > 1e-3).all()


def test_shares_of_a_product_are_its_precisions_and_the_prior_has_the_rest() -> None:
    model = sequence_model(posterior="product_of_experts")
    batch = randomly_present(sequence_batch())
    shares = model.expert_shares(batch)
    assert shares is not None
    total = torch.stack(list(shares.values())).sum(dim=0)
    posterior = model.infer(model.evidence(batch), None)
    ratio = (posterior.posterior.standard_deviation / model.priors(posterior).standard_deviation).square().mean(dim=-1)
    prior = (ratio * batch.valid).sum(dim=1) / batch.lengths
    assert_close(total, 1 - prior)
    alone = model.expert_shares(without(batch, "face"))
    assert alone is not None
    assert not alone["face"].any()
    assert sequence_model().expert_shares(batch) is None
