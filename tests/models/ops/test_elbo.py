"""The evidence lower bound: the kernel beside the PyTorch reference, and the reference beside finite differences."""

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import ops
from models.batch import Batch
from models.config import MLPConfig, MMVAEConfig, ModalityConfig
from models.mmvae import MMVAE
from models.multimodal import Parts
from models.ops import elbo, elbo_kernel, library
from tests.models.small import sequence_model, static_batch, static_model

built = pytest.mark.usefixtures("kernels")

WEIGHT = {"m0": 1.7}
PAIR = ((2,), (2,))


def _model(shapes: tuple[tuple[int, ...], ...] = PAIR, widths: tuple[int, ...] = (10,), **options: Any) -> MMVAE:
    torch.manual_seed(0)
    scale = options.pop("scale", "learned")
    modalities = tuple(
        ModalityConfig(name=f"m{index}", shape=shape, likelihood="gaussian", scale=scale)
        for index, shape in enumerate(shapes)
    )
    network = MLPConfig(hidden_features=widths, **options)
    model = MMVAE(MMVAEConfig(modalities=modalities, latent_features=5, network=network)).train()
    model.set_statistics(
        {one.name: (torch.randn(one.shape).double(), torch.rand(one.shape).double() + 0.5) for one in modalities}
    )
    return model


def _batches(model: MMVAE, rows: int) -> tuple[Batch, Batch]:
    """Inputs and targets, both with absent modalities."""
    generator = torch.Generator().manual_seed(1)
    values = {one.name: torch.randn(rows, *one.shape, generator=generator) for one in model.modalities}
    inputs, targets = (
        {name: torch.rand(rows, generator=generator) < chance for name in values} for chance in (0.6, 0.8)
    )
    return Batch(values, inputs), Batch(values, targets)


def _noise(model: MMVAE, rows: int) -> Tensor:
    return torch.randn(rows, model.latent_features, generator=torch.Generator().manual_seed(3))


def _found(
    backend: ops.Backend, model: MMVAE, inputs: Batch, targets: Batch, noise: Tensor | None, free_bits: float = 0.0
) -> dict[str, Any]:
    """The objective, and the gradients of a sum of the losses in which every row has a weight of its own."""
    model.backend = backend
    found = elbo.elbo(model, inputs, targets, noise, 0.3, WEIGHT, free_bits)
    share = torch.rand(len(found.loss), generator=torch.Generator().manual_seed(2))
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad((share * found.loss).sum(), parameters)
    return {
        "loss": found.loss.detach(),
        "kl": found.kl.detach(),
        **{name: value.detach() for name, value in found.log_likelihood.items()},
        **{f"errors of {name}": value for name, value in found.errors.items()},
        **dict(zip(names, gradients, strict=True)),
    }


def _flat(model: MMVAE) -> Tensor:
    """Make all parameters views of one vector, and their gradients views of its gradient, as an optimiser does."""
    parameters = list(model.parameters())
    vector = torch.zeros(3 + sum(parameter.numel() for parameter in parameters))
    gradient, start = torch.zeros_like(vector), 3
    for parameter in parameters:
        part = slice(start, start := start + parameter.numel())
        vector[part] = parameter.detach().flatten()
        parameter.data = vector[part].view(parameter.shape)
        parameter.grad = gradient[part].view(parameter.shape)
    model.parameter_vector = vector.requires_grad_()
    vector.grad = gradient
    return vector


CASES: list[tuple[int, tuple[tuple[int, ...], ...], dict[str, Any]]] = [
    (1, PAIR, {}),
    (100, PAIR, {"scale": 0.3}),
    (37, ((), (2, 3), (1,)), {"widths": (7, 5), "activation": "tanh"}),
    (300, ((), (2, 3), (4,)), {"widths": (33, 19), "activation": "relu", "scale": "predicted"}),
    (130, ((3,), (2, 3)), {"widths": (), "scale": "predicted"}),
    (20, PAIR, {"widths": (6, 6), "activation": "elu"}),
    (20, PAIR, {"widths": (6, 6), "activation": "leaky_relu"}),
    (16, ((5,),), {"widths": (8, 8, 8)}),
    (129, ((50,), (20,)), {"widths": (64, 64)}),
]


@built
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("free_bits", [0.0, 0.2], ids=["every nat", "free bits"])
@pytest.mark.parametrize("drawn", [True, False], ids=["noise", "means"])
@pytest.mark.parametrize(("rows", "shapes", "options"), CASES)
def test_the_kernel_equals_the_reference(
    rows: int, shapes: tuple[tuple[int, ...], ...], options: dict[str, Any], drawn: bool, free_bits: float
) -> None:
    model = _model(shapes, **options)
    inputs, targets = _batches(model, rows)
    noise = _noise(model, rows) if drawn else None
    found, expected = (_found(backend, model, inputs, targets, noise, free_bits) for backend in ("kernel", "reference"))
    # sums over all rows, to their rounding
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5 * max(1.0, rows**0.5))


@built
@pytest.mark.parametrize("backend", ["kernel", "reference"])
def test_gradients_of_views_of_one_vector_add_up_in_its_gradient(backend: ops.Backend) -> None:
    model = _model()
    inputs, targets = _batches(model, 50)
    noise = _noise(model, 50)
    expected = torch.autograd.grad(
        elbo.negative_elbo(model.terms(inputs, targets, noise), 0.3).loss.sum(), list(model.parameters())
    )
    vector = _flat(model)
    model.backend = backend
    for _ in range(2):
        elbo.elbo(model, inputs, targets, noise, 0.3).loss.sum().backward()
    found = [parameter.grad for parameter in model.parameters()]
    torch.testing.assert_close(found, [2 * one for one in expected], rtol=1e-4, atol=1e-4)
    assert vector.grad is not None
    torch.testing.assert_close(vector.grad[3:], torch.cat([one.flatten() for one in found if one is not None]))


@built
def test_parameters_that_were_moved_out_of_the_vector_get_separate_gradients() -> None:
    model = _model()
    vector = _flat(model)
    for parameter in model.parameters():
        parameter.data, parameter.grad = parameter.data.clone(), None
    model.backend = "kernel"
    elbo.elbo(model, *_batches(model, 4), None).loss.sum().backward()
    assert vector.grad is not None
    assert not vector.grad.any()
    assert all(parameter.grad is not None for parameter in model.parameters())


@built
def test_the_operator_is_registered_as_pytorch_expects() -> None:
    model = _model()
    inputs, targets = _batches(model, 20)
    names = ["m0", "m1"]
    data = []
    for name in names:
        own = model.likelihood(name)
        data += [inputs.values[name], inputs.present[name], targets.values[name], targets.present[name]]
        data += [own.offset, own.scale, own.moment]
    parameters = torch.cat([weight.detach().flatten() for weight in model.parameters()]).requires_grad_()
    # the order of the parameters: all encoders, then all decoders
    half = sum(weight.numel() for weight in model.encoders.parameters()) // 2
    encoder = [0, 2, 2, 10, 10, 0, 20, 30, 130]
    decoder = [0, 2, 5, 10, 2, 0, 50, 60, 80]
    numbers = [5, 2]
    for index in (0, 1):
        numbers += [2, 2, 0, 1]
        numbers += [*encoder[:5], *(index * half + place for place in encoder[5:])]
        numbers += [*decoder[:5], *(2 * half + index * 82 + place for place in decoder[5:])]
    plan, rows = elbo_kernel.plan(numbers)
    arguments = (parameters, _noise(model, 20), data, plan, [20, 5, 2, 6, rows], [0.3, 0.1, 1.7, 1.0])
    torch.library.opcheck(torch.ops.sensorium.elbo.default, arguments)
    found = elbo_kernel.Outputs(*torch.ops.sensorium.elbo(*arguments))
    expected = elbo.elbo(model, inputs, targets, _noise(model, 20), 0.3, WEIGHT, 0.1)
    torch.testing.assert_close(found.loss, expected.loss)
    (own,) = torch.autograd.grad(found.loss.sum(), parameters)
    others = torch.autograd.grad(expected.loss.sum(), list(model.parameters()))
    torch.testing.assert_close(own, torch.cat([other.flatten() for other in others]))


@built
def test_second_derivatives_are_refused() -> None:
    model = _model()
    loss = elbo.elbo(model, *_batches(model, 4), None).loss.sum()
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(loss, list(model.parameters()), create_graph=True)


class _Loss(nn.Module):
    def __init__(self, model: MMVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Batch, targets: Batch, noise: Tensor) -> Tensor:
        return elbo.negative_elbo(self.model.terms(inputs, targets, noise), 0.3, WEIGHT, 0.05).loss


def test_the_reference_s_gradients_are_those_of_finite_differences() -> None:
    model = _model(((2,), ()), (3,), scale="predicted").double()
    inputs, targets = (
        Batch({name: value.double() for name, value in batch.values.items()}, batch.present)
        for batch in _batches(model, 3)
    )
    noise, whole = _noise(model, 3).double(), _Loss(model)
    names, weights = zip(*whole.named_parameters(), strict=True)

    def loss(*weights: Tensor) -> Any:
        given = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(whole, given, (inputs, targets, noise))

    assert torch.autograd.gradcheck(loss, weights)


@built
def test_a_modality_without_values_or_targets_is_left_out() -> None:
    model = _model()
    inputs, targets = _batches(model, 9)
    only = replace(inputs, values={"m0": inputs.values["m0"]}, present={"m0": inputs.present["m0"]})
    other = replace(targets, values={"m1": targets.values["m1"]}, present={"m1": targets.present["m1"]})

    def values(backend: ops.Backend) -> dict[str, Tensor]:
        model.backend = backend
        terms = elbo.terms(model, only, other, None)
        return {"kl": terms.kl, **terms.log_likelihood, **terms.errors}

    found = values("kernel")
    assert found.keys() == {"kl", "m1"}
    torch.testing.assert_close(found, values("reference"), rtol=1e-5, atol=1e-5)


@built
@pytest.mark.parametrize("training", [True, False])
def test_terms_have_no_gradient_and_errors_only_in_training(training: bool) -> None:
    model = _model(scale="predicted").train(training)
    model.backend = "kernel"
    terms = elbo.terms(model, *_batches(model, 4), None)
    assert not terms.kl.requires_grad
    assert {name: len(value) for name, value in terms.errors.items()} == ({"m0": 0, "m1": 0} if training else {})


@built
def test_nan_propagates_in_its_row_unless_it_is_absent() -> None:
    model = _model()
    inputs, targets = _batches(model, 20)
    values = {name: value.clone() for name, value in inputs.values.items()}
    values["m0"][3] = float("nan")
    for shown in (True, False):
        mask = inputs.present["m0"].clone()
        mask[3] = shown
        given = Batch(values, {**inputs.present, "m0": mask})
        model.backend = "kernel"
        found = elbo.elbo(model, given, Batch(values, {**targets.present, "m0": mask}), None)
        assert found.kl[3].isnan() == shown
        assert found.kl.isnan().sum() == found.loss.isnan().sum() == int(shown)


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

    model.backend = "kernel"
    together = elbo.elbo(model, inputs, targets, noise)
    alone = elbo.elbo(model, part(inputs), part(targets), noise[150:151])
    assert torch.equal(together.loss[150:151], alone.loss)
    assert torch.equal(together.kl[150:151], alone.kl)
    assert all(
        torch.equal(value[150:151], alone.log_likelihood[name]) for name, value in together.log_likelihood.items()
    )


@built
def test_a_frozen_parameter_has_no_gradient() -> None:
    model = _model()
    _flat(model)
    frozen = next(model.parameters()).requires_grad_(False)
    frozen.grad = None
    model.backend = "kernel"
    elbo.elbo(model, *_batches(model, 4), None).loss.sum().backward()
    assert frozen.grad is None
    assert all(one.grad is not None for one in model.parameters() if one is not frozen)


def _reason(model: MMVAE, inputs: Batch, targets: Batch, noise: Tensor | None) -> str:
    model.backend = "kernel"
    with pytest.raises(ops.KernelUnavailable) as refused:
        elbo.elbo(model, inputs, targets, noise)
    return str(refused.value)


@built
def test_the_kernel_gives_the_reason_why_it_is_not_used() -> None:
    batch = static_batch()
    assert "Gaussian likelihoods" in _reason(static_model(), batch, batch, None)
    assert "products of experts" in _reason(static_model(expert="mixture"), batch, batch, None)
    model = _model()
    inputs, targets = _batches(model, 4)
    assert "same rows" in _reason(model, inputs, targets, torch.zeros(1, 5))
    assert "same rows" in _reason(model, inputs, _batches(model, 5)[1], None)
    assert "float32" in _reason(model, inputs, targets, torch.zeros(4, 5, dtype=torch.float64))
    assert "gradient" in _reason(model, inputs, targets, torch.zeros(4, 5, requires_grad=True))
    elements = {name: mask.unsqueeze(1).expand(4, 2) for name, mask in inputs.present.items()}
    assert "mask per element" in _reason(model, Batch(inputs.values, elements), targets, None)
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast" in _reason(model, inputs, targets, None)
    assert "float32" in _reason(_model().double(), inputs, targets, None)


@built
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"widths": (elbo.MAX_WIDTH + 1,)}, "65 wide"),
        ({"activation": "gelu"}, "GELU"),
        ({"dropout": 0.1}, "Dropout"),
        ({"normalisation": "layer"}, "normalisation"),
    ],
)
def test_networks_that_the_kernel_does_not_have_are_named(options: dict[str, Any], reason: str) -> None:
    found = elbo.supports(_model(**options))
    assert found is not None
    assert reason in found
    assert "encoder of 'm0'" in found


def test_without_the_library_that_is_the_reason() -> None:
    with library.using(None):
        assert elbo.supports(_model()) == library.NOT_BUILT
    assert elbo.supports(sequence_model()) is not None


@built
def test_hooks_on_a_network_are_called() -> None:
    model = _model()
    batches = _batches(model, 4)
    heard: list[Tensor] = []
    elbo.elbo(model, *batches, None)
    hook = model.encoders[0].register_forward_hook(lambda module, given, found: heard.append(found))
    elbo.elbo(model, *batches, None)
    hook.remove()
    elbo.elbo(model, *batches, None)
    assert len(heard) == 1


@built
def test_a_layer_that_is_exchanged_is_seen() -> None:
    model = _model()
    batches = _batches(model, 4)
    before = elbo.terms(model, *batches, None)
    encoder = model.encoders[0]
    assert isinstance(encoder, nn.Sequential)
    encoder[1] = nn.Linear(2, 10)
    model.backend = "kernel"
    found = elbo.terms(model, *batches, None)
    torch.testing.assert_close(found.kl, model.terms(*batches, None).kl.detach(), rtol=1e-5, atol=1e-5)
    assert not torch.equal(found.kl, before.kl)
    encoder[2] = nn.GELU()
    assert "GELU" in (elbo.supports(model) or "")


@built
def test_a_model_is_freed_after_its_last_use() -> None:
    model = _model()
    elbo.elbo(model, *_batches(model, 4), None)
    freed = weakref.ref(model)
    del model
    gc.collect()
    assert freed() is None


@built
def test_a_change_of_mode_is_seen() -> None:
    model = _model()
    batches = _batches(model, 4)
    assert elbo.elbo(model, *batches, None).errors.keys() == {"m0", "m1"}
    assert elbo.elbo(model.eval(), *batches, None).errors == {}


@built
def test_custom_modules_are_served_where_they_are_alike() -> None:
    own = nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.SiLU()), nn.Linear(3, 10))
    config = _model().config
    assert elbo.supports(MMVAE(config, Parts(encoders={"m0": own}))) is None
    for other in (
        nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 10)),
        nn.Sequential(nn.Linear(2, 3), nn.ELU(alpha=0.3), nn.Linear(3, 10)),
        nn.Sequential(nn.Linear(2, 3), nn.SiLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 10)),
        nn.Sequential(nn.Linear(2, 10, bias=False)),
        nn.Sequential(nn.Linear(2, 9)),
    ):
        assert elbo.supports(MMVAE(config, Parts(encoders={"m0": other}))) is not None, other
