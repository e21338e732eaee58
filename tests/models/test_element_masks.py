"""Batches in which elements of a value are absent: a presence bit per element."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models import ops
from models.architectures import Model
from models.batch import Batch, BatchError, check
from models.config import (
    IWAE,
    BurstDeletion,
    DeletionMix,
    ModalityConfig,
    NumberDropout,
    SubsampledELBO,
    TrainingConfig,
)
from models.ops.philox import Draws
from models.predictor import Predictor
from models.training.deletion_mix import deletion_mix
from models.training.masking import burst_deletion, modality_dropout
from models.training.objective import negative_bound, negative_profile
from tests.models.small import JOINS, MODALITIES, sequence_batch, sequence_model, static_batch, static_model

EVERY = (
    *MODALITIES,
    ModalityConfig(name="counts", shape=(4,), likelihood="negative_binomial", scale="predicted"),
    ModalityConfig(name="spread", shape=(2,), likelihood="laplace", scale="predicted"),
    ModalityConfig(name="visits", shape=(3,), likelihood="poisson"),
)
MASKED = [modality.name for modality in EVERY if modality.shape]
MODELS: list[Model] = [
    *(static_model(EVERY, expert=expert) for expert in ("product", "weighted_product", "mixture")),
    *(sequence_model(EVERY, **join, inference=how) for join, how in product(JOINS, ("filter", "smooth"))),
    sequence_model(EVERY, inference="smooth", static_latent_features=3),
    static_model(EVERY, expert="hellinger"),
]
IDS = [f"mmvae-{expert}" for expert in ("product", "weighted_product", "mixture")]
IDS += [f"{next(iter(join.values()))}-{how}" for join, how in product(JOINS, ("filter", "smooth"))]
IDS += ["static latent", "mmvae-hellinger"]

every = pytest.mark.parametrize("model", MODELS, ids=IDS)


@pytest.fixture(autouse=True)
def _statistics() -> Iterator[None]:
    """Data whose mean is not 0, so that 0 and the mean differ."""
    for model in MODELS:
        model.set_statistics({"audio": (torch.full((3,), 5.0), torch.full((3,), 2.0))})
    yield
    for model in MODELS:
        model.eval().zero_grad()


def _whole(model: Model) -> Batch:
    batch = static_batch() if model.config.kind == "static" else sequence_batch()
    leading = batch.present["audio"].shape
    generator = torch.Generator().manual_seed(1)
    values, present = dict(batch.values), dict(batch.present)
    for modality in EVERY[3:]:
        number = torch.rand(*leading, *modality.shape, generator=generator)
        values[modality.name] = number if modality.name == "spread" else (3 * number).round()
        present[modality.name] = batch.present["audio"]
    return Batch(values, present, batch.lengths)


def _with_elements(batch: Batch, probability: float = 0.6) -> Batch:
    """Each element present with this probability; the last row has no element of audio."""
    generator = torch.Generator().manual_seed(2)
    present = dict(batch.present)
    for name in MASKED:
        value, mask = batch.values[name], batch.present[name]
        kept = torch.rand(value.shape, generator=generator) < probability
        present[name] = kept & mask.reshape(mask.shape + (1,) * (value.ndim - mask.ndim))
    present["audio"][-1] = False
    return replace(batch, present=present)


def _filled(batch: Batch, number: float) -> Batch:
    """The batch with another number in the place of each absent element."""
    values = {n: torch.where(batch.present[n], v, number) if n in MASKED else v for n, v in batch.values.items()}
    return replace(batch, values=values)


def _noise(model: Model, batch: Batch, *draws: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(*draws, batch.rows, *model.latent_shape(batch), generator=generator)


def _everything(model: Model, batch: Batch) -> dict[str, Tensor]:
    """All that a model computes of a batch, and the gradients of its terms."""
    noise = _noise(model, batch)
    terms = model.train().terms(batch, batch, noise)
    loss = terms.kl.sum() - torch.stack([value.sum() for value in terms.log_likelihood.values()]).sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    particles = model.particles(batch, batch, _noise(model, batch, 2))
    found = {"kl": terms.kl, "ratio": particles.log_ratio} | {f"error {n}": e for n, e in terms.errors.items()}
    found |= terms.log_likelihood | {f"particles {n}": value for n, value in particles.log_likelihood.items()}
    found |= {f"gradient {index}": gradient for index, gradient in enumerate(gradients)}
    decoded = model.eval().decode(batch, list(model.index), _noise(model, batch, 2))
    found |= {f"decoded {name}": value for name, value in decoded.items()}
    latent = model.encode(batch)
    return found | {"mean": latent.mean, "deviation": latent.standard_deviation}


@every
@pytest.mark.parametrize("number", [math.nan, 1e30, -7.0])
def test_the_number_of_an_absent_element_never_matters(model: Model, number: float) -> None:
    batch = _with_elements(_whole(model))
    found = _everything(model, _filled(batch, number))
    assert all(value.isfinite().all() for value in found.values())
    torch.testing.assert_close(found, _everything(model, _filled(batch, 0.0)), rtol=0, atol=0)


@every
def test_a_mask_of_all_elements_equals_a_mask_of_the_modality(model: Model) -> None:
    batch = _whole(model)
    found, expected = _everything(model, _with_elements(batch, 1.0)), _everything(model, _absent_audio(batch))
    for name in found:
        if not name.startswith("error"):  # with masks the errors count per element
            torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5, msg=name)


def _absent_audio(batch: Batch) -> Batch:
    """The last row without audio, and the mean in its place: absent components of a mixture are drawn from, too."""
    mask, value = batch.present["audio"].clone(), batch.values["audio"].clone()
    mask[-1], value[-1] = False, 5.0
    return Batch({**batch.values, "audio": value}, {**batch.present, "audio": mask}, batch.lengths)


@pytest.mark.parametrize("model", [MODELS[0], *MODELS[3:]], ids=[IDS[0], *IDS[3:]])  # a mixture decodes each component
def test_the_log_likelihood_is_the_sum_over_the_present_elements(model: Model) -> None:
    """For the audio, N(x_d; mu_d, sigma_d^2) of each element; the posterior stays the same, only targets differ."""
    inputs = _whole(model)
    targets = _with_elements(inputs)
    raw = model.decode(inputs, ["audio"], None)["audio"][0]
    likelihood = model.likelihood("audio")
    mean, deviation = likelihood.offset + likelihood.scale * raw, likelihood.scale * likelihood.moment.sqrt()
    density = torch.distributions.Normal(mean, deviation).log_prob(inputs.values["audio"])
    if len(model.config.modalities) and model.config.kind == "static" and model.config.expert == "mixture":
        pytest.skip("a mixture decodes one draw per component")
    found = model.terms(inputs, targets, None).log_likelihood["audio"]
    mask = targets.present["audio"]
    torch.testing.assert_close(found, torch.where(mask, density, 0.0).sum(dim=-1), rtol=1e-4, atol=1e-4)
    assert not found[-1].any()


@every
def test_an_encoder_sees_the_mean_in_place_of_an_absent_element(model: Model) -> None:
    batch = _whole(model)
    masked = replace(batch, present={**batch.present, "audio": _with_elements(batch).present["audio"]})
    mask = masked.present["audio"]
    mask[..., 0] |= batch.present["audio"]  # something is present of each
    of_mean = replace(batch, values={**batch.values, "audio": torch.where(mask, batch.values["audio"], 5.0)})
    torch.testing.assert_close(model.encode(masked).mean, model.encode(of_mean).mean)


def test_an_element_that_is_absent_everywhere_gives_its_parameters_no_gradient() -> None:
    model, batch = static_model(), static_batch()
    mask = torch.ones(6, 3, dtype=torch.bool)
    mask[:, 1] = False
    targets = replace(batch, present={**batch.present, "audio": mask})
    model.terms(batch, targets, torch.zeros(6, 4)).log_likelihood["audio"].sum().backward()
    bias = list(model.decoders[0].parameters())[-1].grad
    assert bias is not None
    assert bias.tolist()[1] == 0
    assert bias[[0, 2]].all()


def test_presence_of_a_modality_is_that_of_any_element() -> None:
    batch = _with_elements(_whole(MODELS[3]))
    for name in MASKED:
        mask = batch.present[name]
        torch.testing.assert_close(batch.observed(name), mask.flatten(2).any(dim=2))
        assert batch.elements(name) is mask
    assert batch.elements("word") is None
    assert batch.observed("word") is batch.present["word"]
    assert batch.absence("audio")[-1].tolist()[:3] == [1, 1, 1]
    first, second = _with_elements(_whole(MODELS[0])).split([4, 2])
    assert first.present["audio"].shape == (4, 3)
    assert not second.observed("audio")[-1]
    moved = batch.to("cpu")
    assert moved.present["face"].shape == batch.present["face"].shape


@pytest.mark.parametrize("model", MODELS[::3])
def test_the_check_accepts_only_masks_of_the_shape_of_the_values(model: Model) -> None:
    batch = _with_elements(_whole(model))
    check(batch, EVERY, model.config.kind)
    wrong = replace(batch, present={**batch.present, "audio": batch.present["audio"][..., :2]})
    with pytest.raises(BatchError, match=r"present\['audio'\] is torch.bool of shape .*expected .* or \("):
        check(wrong, EVERY, model.config.kind)


def test_elements_behind_a_sequence_s_end_cannot_be_present() -> None:
    batch = sequence_batch((3, 2))
    present = {**batch.present, "audio": torch.ones(2, 3, 3, dtype=torch.bool)}
    with pytest.raises(BatchError, match="audio is true after the end"):
        check(replace(batch, present=present), MODALITIES, "sequence")


def _of_modalities(batch: Batch) -> Batch:
    return replace(batch, present={name: batch.observed(name) for name in batch.present})


ROWS = np.arange(40)


@pytest.mark.parametrize("kind", ["static", "sequence"])
def test_modality_dropout_hides_the_same_modalities_with_their_elements(kind: str) -> None:
    whole = _whole(MODELS[0] if kind == "static" else MODELS[3])
    batch, rows = _with_elements(whole), ROWS[: whole.rows]
    hidden = modality_dropout(batch, NumberDropout(probability=1.0), Draws(0, 0, 1), rows)
    expected = modality_dropout(_of_modalities(batch), NumberDropout(probability=1.0), Draws(0, 0, 1), rows)
    _check_hidden(batch, hidden, expected)


def test_deletions_hide_the_same_steps_with_their_elements() -> None:
    batch = _with_elements(_whole(MODELS[3]))
    burst = BurstDeletion(probability=1.0, longest=0.5)
    for hide in (
        lambda given: burst_deletion(given, burst, Draws(0, 0, 2), ROWS[:3]),
        lambda given: deletion_mix(given, DeletionMix(nothing=0.0), Draws(0, 0, 4), ROWS[:3]),
    ):
        _check_hidden(batch, hide(batch), hide(_of_modalities(batch)))


def _check_hidden(batch: Batch, hidden: Batch, expected: Batch) -> None:
    assert any(not hidden.present[name].equal(batch.present[name]) for name in MASKED)
    for name in batch.present:
        assert hidden.observed(name).equal(expected.present[name])
        kept = expected.present[name]
        assert hidden.present[name].equal(
            batch.present[name] & kept.reshape(kept.shape + (1,) * (batch.present[name].ndim - kept.ndim))
        )


@every
@pytest.mark.parametrize("objective", [None, SubsampledELBO(subsets=1), IWAE(particles=2)], ids=["elbo", "sub", "iwae"])
def test_every_objective_ignores_absent_elements(model: Model, objective: Any) -> None:
    options: dict[str, Any] = {"modality_dropout": 0.5} | ({} if objective is None else {"objective": objective})
    training = TrainingConfig.model_validate(options)
    batch = _with_elements(_whole(model))

    def loss(number: float) -> Tensor:
        targets, draws = _filled(batch, number), lambda stream: Draws(0, 0, stream)
        return negative_bound(model.train(), targets, training, 1.0, draws, ROWS[: batch.rows]).loss

    with torch.no_grad():
        assert loss(math.nan).isfinite().all()
        torch.testing.assert_close(loss(math.nan), loss(3.0), rtol=0, atol=0)
        profiles = [negative_profile(model.eval(), _filled(batch, n), _filled(batch, n)) for n in (math.nan, 3.0)]
    assert profiles[0].isfinite().all()
    torch.testing.assert_close(*profiles, rtol=0, atol=0)


@every
def test_a_predictor_accepts_masks_of_elements(model: Model) -> None:
    batch = _with_elements(_whole(model))
    lengths = None if batch.lengths is None else batch.lengths.numpy()
    present = {name: mask.numpy() for name, mask in batch.present.items()}
    values, others = (
        {name: value.numpy() for name, value in _filled(batch, number).values.items()} for number in (math.nan, 3.0)
    )
    predictor = Predictor(model)
    for ask in (predictor.encode, predictor.score, predictor.impute):
        found, expected = ask(values, present, lengths), ask(others, present, lengths)
        torch.testing.assert_close(_flat(found), _flat(expected), rtol=0, atol=0)
    filled = predictor.impute(values, present, lengths)["completed"]
    mean = predictor.reconstruct(values, present, lengths, ["audio"])["audio"]["mean"]
    mask = present["audio"]
    for part in ("value", "lower", "upper"):
        np.testing.assert_array_equal(filled["audio"][part][mask], values["audio"][mask])
    np.testing.assert_allclose(filled["audio"]["value"][~mask], mean[~mask], rtol=1e-5)


def test_a_predictor_of_sequences_accepts_masks_of_elements_without_lengths() -> None:
    whole = sequence_batch((5, 5, 5))
    mask = np.ones((3, 5, 3), dtype=bool)
    audio = {"audio": whole.values["audio"].numpy()}
    predictor = Predictor(sequence_model())
    found, expected = predictor.encode(audio, {"audio": mask}), predictor.encode(audio, {"audio": mask[..., 0]})
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5, atol=1e-6)


def test_the_bound_of_a_masked_batch_is_computed_by_the_reference() -> None:
    """The kernel of a small Gaussian MM-VAE declines element masks, and its answers stay those of the reference."""
    model = static_model((MODALITIES[0],))
    batch = static_batch()
    mask = torch.rand(6, 3) < 0.5
    given = Batch({"audio": batch.values["audio"]}, {"audio": mask})
    training = TrainingConfig.model_validate({"modality_dropout": 0.0})

    def loss() -> Tensor:
        return negative_bound(model, given, training, 1.0, lambda stream: Draws(0, 0, stream), ROWS[:6]).loss

    found = loss()
    model.backend = "reference"
    torch.testing.assert_close(found, loss())
    model.backend = "kernel"
    with pytest.raises(ops.KernelUnavailable):
        loss()


def _flat(answer: Any) -> list[Tensor]:
    parts = answer.values() if isinstance(answer, dict) else answer
    found: list[Tensor] = []
    for part in parts:
        found += _flat(part) if isinstance(part, dict) else [] if part is None else [torch.from_numpy(part)]
    return found
