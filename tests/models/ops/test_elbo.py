"""The native bound of an MM-VAE beside PyTorch's."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import ops
from models.batch import Batch
from models.config import MLPConfig, MMVAEConfig, ModalityConfig
from models.mmvae import MMVAE
from models.multimodal import Descent, Parts
from models.ops import elbo
from models.training.objective import negative_elbo
from tests.models.ops.test_gru_loop import built
from tests.models.small import static_batch, static_model

WEIGHT = {"m0": 1.7}
PAIR = ((2,), (2,))


def _model(shapes: tuple[tuple[int, ...], ...] = PAIR, widths: tuple[int, ...] = (10,), **options: Any) -> MMVAE:
    torch.manual_seed(0)
    activation, scale = options.pop("activation", "silu"), options.pop("scale", "learned")
    modalities = tuple(
        ModalityConfig(name=f"m{index}", shape=shape, likelihood="gaussian", scale=scale)
        for index, shape in enumerate(shapes)
    )
    network = MLPConfig(hidden_features=widths, activation=activation, **options)
    model = MMVAE(MMVAEConfig(modalities=modalities, latent_features=5, network=network)).train()
    model.set_statistics(
        {one.name: (torch.randn(one.shape).double(), torch.rand(one.shape).double() + 0.5) for one in modalities}
    )
    return model


def _batches(model: MMVAE, rows: int) -> tuple[Batch, Batch]:
    """Inputs and targets, of which both lack something."""
    generator = torch.Generator().manual_seed(1)
    values = {one.name: torch.randn(rows, *one.shape, generator=generator) for one in model.modalities}
    inputs, targets = (
        {name: torch.rand(rows, generator=generator) < chance for name in values} for chance in (0.6, 0.8)
    )
    return Batch(values, inputs), Batch(values, targets)


def _found(model: MMVAE, inputs: Batch, targets: Batch, noise: Tensor | None, free_bits: float = 0.0) -> dict[str, Any]:
    """The terms, and the gradients of a loss in which every row has a weight of its own."""
    terms = model.terms(inputs, targets, noise)
    loss = negative_elbo(terms, 0.3, WEIGHT, free_bits).loss
    share = torch.rand(len(loss), generator=torch.Generator().manual_seed(2))
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad((share * loss).sum(), parameters)
    return {
        "kl": terms.kl,
        **terms.log_likelihood,
        **{f"errors of {name}": value for name, value in terms.errors.items()},
        **dict(zip(names, gradients, strict=True)),
    }


def _noise(model: MMVAE, rows: int) -> Tensor:
    return torch.randn(rows, model.latent_features, generator=torch.Generator().manual_seed(3))


CASES: list[tuple[int, tuple[tuple[int, ...], ...], dict[str, Any]]] = [
    (1, PAIR, {}),
    (100, PAIR, {"scale": 0.3}),
    (37, ((), (2, 3), (1,)), {"widths": (7, 5), "activation": "tanh"}),
    (300, ((), (2, 3), (4,)), {"widths": (33, 19), "activation": "relu", "scale": "predicted"}),
    (130, ((3,), (2, 3)), {"widths": (), "scale": "predicted"}),
    (16, ((5,),), {"widths": (8, 8, 8)}),
    (129, ((50,), (20,)), {"widths": (64, 64)}),
]


@built
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("drawn", [True, False], ids=["noise", "means"])
@pytest.mark.parametrize(("rows", "shapes", "options"), CASES)
def test_it_computes_what_pytorch_does(
    rows: int,
    shapes: tuple[tuple[int, ...], ...],
    options: dict[str, Any],
    drawn: bool,
) -> None:
    model = _model(shapes, **options)
    inputs, targets = _batches(model, rows)
    noise = _noise(model, rows) if drawn else None
    assert elbo.terms(model, model.expert, inputs, targets, noise) is not None
    ours = _found(model, inputs, targets, noise)
    with ops.backend("reference"):
        reference = _found(model, inputs, targets, noise)
    # sums over all rows, to their rounding
    torch.testing.assert_close(ours, reference, rtol=2e-5, atol=2e-5 * max(1.0, rows**0.5))


@built
@pytest.mark.parametrize("free_bits", [0.0, 0.2])
def test_descending_writes_the_gradients_that_automatic_differentiation_finds(free_bits: float) -> None:
    model = _model()
    inputs, targets = _batches(model, 50)
    noise = _noise(model, 50)
    loss = negative_elbo(model.terms(inputs, targets, noise), 0.3, {**WEIGHT, "m1": 1.0}, free_bits).loss
    expected = torch.autograd.grad(0.1 * loss.sum(), list(model.parameters()))
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    descent = Descent(0.1 * 0.3, free_bits, {"m0": -0.17, "m1": -0.1})
    terms = model.descend(inputs, targets, noise, descent)
    assert terms is not None
    torch.testing.assert_close(negative_elbo(terms, 0.3, WEIGHT, free_bits).loss, loss.detach())
    torch.testing.assert_close(tuple(one.grad for one in model.parameters()), expected, rtol=1e-5, atol=1e-5)


@built
def test_a_modality_without_values_or_targets_is_left_out() -> None:
    model = _model()
    inputs, targets = _batches(model, 9)
    only = replace(inputs, values={"m0": inputs.values["m0"]}, present={"m0": inputs.present["m0"]})
    other = replace(targets, values={"m1": targets.values["m1"]}, present={"m1": targets.present["m1"]})

    def values() -> dict[str, Tensor]:
        with torch.no_grad():
            terms = model.terms(only, other, None)
        return {"kl": terms.kl, **terms.log_likelihood, **terms.errors}

    ours = values()
    assert ours.keys() == {"kl", "m1"}
    with ops.backend("reference"):
        torch.testing.assert_close(ours, values(), rtol=1e-5, atol=1e-5)


@built
def test_what_is_not_a_number_comes_out_in_its_row_unless_it_is_absent() -> None:
    model = _model()
    inputs, targets = _batches(model, 20)
    values = {name: value.clone() for name, value in inputs.values.items()}
    values["m0"][3] = float("nan")
    for shown in (True, False):
        mask = inputs.present["m0"].clone()
        mask[3] = shown
        given = Batch(values, {**inputs.present, "m0": mask})
        with torch.no_grad():
            kl = model.terms(given, Batch(values, {**targets.present, "m0": mask}), None).kl
        assert kl[3].isnan().all() == shown
        assert kl.isnan().any(dim=1).sum() == int(shown)


@built
def test_a_row_is_the_same_in_any_batch() -> None:
    model = _model().eval()
    inputs, targets = _batches(model, 200)
    noise = _noise(model, 200)

    def part(batch: Batch) -> Batch:
        return Batch(
            {name: value[150:151] for name, value in batch.values.items()},
            {name: mask[150:151] for name, mask in batch.present.items()},
        )

    with torch.no_grad():
        together = model.terms(inputs, targets, noise)
        alone = model.terms(part(inputs), part(targets), noise[150:151])
    assert torch.equal(together.kl[150:151], alone.kl)
    assert all(
        torch.equal(value[150:151], alone.log_likelihood[name]) for name, value in together.log_likelihood.items()
    )


@built
def test_what_is_frozen_has_no_gradient() -> None:
    model = _model()
    model.encoders.requires_grad_(False)
    inputs, targets = _batches(model, 10)
    terms = model.terms(inputs, targets, None)
    torch.stack(list(terms.log_likelihood.values())).sum().backward()
    assert all(one.grad is None for one in model.encoders.parameters())
    assert all(one.grad is not None for one in model.decoders.parameters())


@built
@pytest.mark.parametrize(
    "options", [{"activation": "gelu"}, {"normalisation": "layer"}, {"dropout": 0.5}, {"widths": (elbo.WIDEST + 1,)}]
)
def test_other_networks_are_for_pytorch(options: dict[str, Any]) -> None:
    own, other = _model(), _model(**options)
    assert elbo.terms(own, own.expert, *_batches(own, 4), None) is not None
    assert elbo.terms(other, other.expert, *_batches(other, 4), None) is None


@built
def test_other_experts_likelihoods_and_types_are_for_pytorch() -> None:
    for model in (static_model(), static_model(expert="mixture")):
        assert elbo.terms(model, model.expert, static_batch(), static_batch(), None) is None
    model = _model()
    inputs, targets = _batches(model, 4)
    assert elbo.terms(model, model.expert, inputs, targets, torch.zeros(4, 5)) is not None
    assert elbo.terms(model, model.expert, inputs, targets, torch.zeros(1, 5)) is None
    assert elbo.terms(model, model.expert, inputs, _batches(model, 5)[1], None) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert elbo.terms(model, model.expert, inputs, targets, None) is None


@built
def test_somebody_who_listens_to_a_network_is_told() -> None:
    model = _model()
    heard: list[Tensor] = []
    model.encoders[0].register_forward_hook(lambda module, given, found: heard.append(found))
    model.terms(*_batches(model, 4), None)
    assert len(heard) == 1


@built
def test_modules_of_ones_own_are_served_where_they_are_alike() -> None:
    own = nn.Sequential(nn.Linear(2, 3), nn.SiLU(), nn.Linear(3, 10))
    config = _model().config
    model = MMVAE(config, Parts(encoders={"m0": own}))
    assert elbo.terms(model, model.expert, *_batches(model, 4), None) is not None
    model = MMVAE(config, Parts(encoders={"m0": nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 10))}))
    assert elbo.terms(model, model.expert, *_batches(model, 4), None) is None
