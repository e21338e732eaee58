"""The loop over time: the kernel beside the PyTorch reference."""

import copy

import pytest
import torch
from torch import Tensor

from models import ops
from models.config import ModalityConfig
from models.inference_network import ConcatenationNetwork
from models.mmvrnn import MMVRNN
from models.ops import gru_loop, gru_loop_kernel, library
from models.ops.elbo import negative_elbo
from models.recurrence import GRU
from tests.models.small import randomly_present, sequence_batch, sequence_model

built = pytest.mark.usefixtures("kernels")


def _model(layers: int, widths: dict[str, int], **options: str) -> MMVRNN:
    return sequence_model(
        [ModalityConfig(name="a", shape=(2,), likelihood="gaussian")], recurrent_layers=layers, **widths, **options
    )


def _inputs(model: MMVRNN, rows: int, steps: int, drawn: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    config = model.config
    sizes = {
        "prepared": (rows, steps, config.hidden_features),
        "gates": (rows, steps, 3 * config.recurrent_features),
        "state": (rows, config.recurrent_layers * config.recurrent_features),
        "noise": (rows, steps, config.latent_features),
    }
    found = {name: 2 * torch.randn(size, generator=generator) for name, size in sizes.items()}
    return {name: value.requires_grad_() for name, value in found.items() if drawn or name != "noise"}


def _loop(model: MMVRNN, inputs: dict[str, Tensor], backend: ops.Backend = "kernel") -> dict[str, Tensor]:
    """What comes out of the loop, and the gradients of a sum of it, weighted at random."""
    model.backend = backend
    posterior, codes, states = model.loop(**{"noise": None, **inputs})
    found = {"mean": posterior.mean, "deviation": posterior.standard_deviation, "codes": codes, "states": states}
    generator = torch.Generator().manual_seed(2)
    loss = sum((torch.randn(value.shape, generator=generator) * value).sum() for value in found.values())
    sources = inputs | {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith(
            ("inference.state", "inference.output", "recurrence.latent", "recurrence.re", "recurrence.b")
        )
    }
    gradients = torch.autograd.grad(loss, list(sources.values()))
    return found | {f"gradient of {name}": value for name, value in zip(sources, gradients, strict=True)}


SMALL = {"latent_features": 4, "hidden_features": 6, "recurrent_features": 7}
LARGE = {"latent_features": 19, "hidden_features": 50, "recurrent_features": 33}


@built
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("drawn", [True, False], ids=["noise", "means"])
@pytest.mark.parametrize(
    ("layers", "widths", "rows", "steps"),
    [(1, SMALL, 1, 1), (1, SMALL, 3, 5), (2, SMALL, 17, 4), (3, SMALL, 2, 6), (2, LARGE, 70, 9), (1, LARGE, 64, 2)],
)
def test_it_equals_the_pytorch_loop(layers: int, widths: dict[str, int], rows: int, steps: int, drawn: bool) -> None:
    model = _model(layers, widths)
    inputs = _inputs(model, rows, steps, drawn)
    ours = _loop(model, inputs)
    reference = _loop(model, inputs, "reference")
    # products over all rows and steps: to the rounding of sums of that many terms
    torch.testing.assert_close(ours, reference, rtol=2e-5, atol=1e-4 if widths is LARGE else 2e-5)


@built
def test_extreme_values_are_exact() -> None:
    model = _model(1, SMALL)
    inputs = {name: 60 * value.detach() for name, value in _inputs(model, 5, 7, True).items()}
    inputs = {name: value.requires_grad_() for name, value in inputs.items()}
    ours = _loop(model, inputs)
    torch.testing.assert_close(ours, _loop(model, inputs, "reference"), rtol=1e-4, atol=1e-3)


@built
def test_nan_propagates() -> None:
    model = _model(1, SMALL)
    inputs = {name: value.detach().clone() for name, value in _inputs(model, 3, 4, True).items()}
    inputs["prepared"][1, 2, 0] = float("nan")
    with torch.no_grad():
        posterior, _, states = model.loop(**inputs)
    assert posterior.mean[1, 2:].isnan().all()
    assert not posterior.mean[[0, 2]].isnan().any()
    assert states[1, 3:].isnan().all()


@built
def test_a_sequence_is_the_same_in_any_batch() -> None:
    model = _model(2, LARGE)
    inputs = {name: value.detach() for name, value in _inputs(model, 100, 5, True).items()}
    with torch.no_grad():
        together = model.loop(**inputs)
        alone = model.loop(**{name: value[70:71] for name, value in inputs.items()})
    assert torch.equal(together[0].mean[70], alone[0].mean[0])
    assert torch.equal(together[2][70], alone[2][0])


@built
def test_threads_change_nothing() -> None:
    model = _model(2, LARGE)
    inputs = _inputs(model, 100, 5, True)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = _loop(model, inputs)
        torch.set_num_threads(2)
        two = _loop(model, inputs)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one[name], two[name]) for name in ("mean", "deviation", "codes", "states"))
    torch.testing.assert_close(one, two)


@built
def test_only_inputs_that_require_a_gradient_get_one() -> None:
    """Codes alone are asked for, the weights are frozen: what the sequence model of one stream trains."""
    model = _model(2, SMALL).requires_grad_(False)
    inputs = _inputs(model, 3, 4, False)

    def gradients() -> tuple[Tensor, ...]:
        _, codes, _ = model.loop(**inputs, noise=None)
        return torch.autograd.grad(codes.square().sum(), list(inputs.values()))

    ours = gradients()
    model.backend = "reference"
    torch.testing.assert_close(ours, gradients(), rtol=1e-5, atol=1e-5)


@built
def test_a_models_loss_and_gradients_are_the_same() -> None:
    model = sequence_model(recurrent_layers=2, inference="smooth")
    batch = randomly_present(sequence_batch((5, 3, 4)))
    noise = torch.randn(3, *model.latent_shape(batch), generator=torch.Generator().manual_seed(0))

    def gradients() -> dict[str, Tensor]:
        loss = negative_elbo(model.terms(batch, batch, noise), beta=1.0).loss
        parameters = dict(model.named_parameters())
        found = torch.autograd.grad(loss.sum(), list(parameters.values()))
        return {"loss": loss, **dict(zip(parameters, found, strict=True))}

    ours = gradients()
    model.backend = "reference"
    torch.testing.assert_close(ours, gradients(), rtol=1e-5, atol=1e-5)


@built
@pytest.mark.parametrize("option", [{"recurrence": "lstm"}, {"posterior": "product_of_experts"}, {}])
def test_the_pytorch_loop_computes_the_cases_without_a_kernel(option: dict[str, str]) -> None:
    """Other cells and posteriors, other types of numbers, and installations without the library."""
    batch = sequence_batch((5, 3, 4))
    with torch.no_grad():
        served, model = sequence_model(), sequence_model(**option)
        served.backend = model.backend = "kernel"
        assert served.encode(batch).mean.isfinite().all()
        with library.using(library.path() if option else None):
            with pytest.raises(ops.KernelUnavailable):
                model.encode(batch)
            model.backend = "auto"
            assert model.encode(batch).mean.isfinite().all()


@built
def test_the_reference_serves_half_precision() -> None:
    model = _model(1, SMALL)
    inputs = {name: value.detach() for name, value in _inputs(model, 3, 4, True).items()}
    halves = inputs | {"prepared": inputs["prepared"].bfloat16(), "gates": inputs["gates"].bfloat16()}
    model.backend = "kernel"
    with pytest.raises(ops.KernelUnavailable, match="bfloat16"):
        model.loop(**halves)
    model.backend = "auto"
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model.loop(**halves)[2].dtype == torch.float32


@built
@pytest.mark.parametrize(("rows", "steps"), [(130, 23), (20, 50), (64, 7), (300, 3), (1, 300)])
def test_more_sequences_than_a_block_and_steps_than_a_chunk_have_the_same_gradients(rows: int, steps: int) -> None:
    model = _model(2, SMALL)
    inputs = _inputs(model, rows, steps, True)
    ours = _loop(model, inputs)
    torch.testing.assert_close(ours, _loop(model, inputs, "reference"), rtol=1e-4, atol=1e-3)


@built
def test_gates_that_are_the_same_at_every_step_get_the_sum_of_their_gradients() -> None:
    """As a latent for the whole sequence gives them, with a state of its own."""
    model = _model(1, SMALL)
    inputs = _inputs(model, 3, 6, True)
    code = inputs["gates"].detach()[:, 0].clone().requires_grad_()

    def gradient() -> Tensor:
        gates = code.unsqueeze(1).expand(-1, 6, -1)
        _, codes, states = model.loop(inputs["prepared"], gates, inputs["state"], inputs["noise"])
        return torch.autograd.grad(codes.sum() + states.square().sum(), code)[0]

    ours = gradient()
    model.backend = "reference"
    torch.testing.assert_close(ours, gradient(), rtol=1e-5, atol=1e-5)


def test_a_model_with_the_library_can_be_copied_and_pickled() -> None:
    assert copy.deepcopy(_model(1, SMALL)).config == _model(1, SMALL).config


def _operands(
    layers: int, rows: int, steps: int, drawn: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, list[Tensor]]:
    model = _model(layers, SMALL)
    inputs = _inputs(model, rows, steps, drawn)
    assert isinstance(model.inference, ConcatenationNetwork)
    assert isinstance(model.recurrence, GRU)
    weights = gru_loop.weights(model.inference, model.recurrence)
    return inputs["prepared"], inputs["gates"], inputs["state"], inputs.get("noise"), weights


@built
@pytest.mark.parametrize("drawn", [True, False], ids=["noise", "means"])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_operators_are_registered_as_torch_asks(layers: int, drawn: bool) -> None:
    operands = _operands(layers, 3, 20, drawn)
    torch.library.opcheck(gru_loop_kernel.gru_loop, operands)
    means, deviations, codes, states, saved = gru_loop_kernel.gru_loop(*operands)
    gradients = [torch.randn_like(each) for each in (means, deviations, codes)]
    detached = [weight.detach() for weight in operands[4]]
    noise = None if operands[3] is None else operands[3].detach()
    backward = (noise, deviations.detach(), saved, [*gradients, torch.randn_like(states)], detached)
    torch.library.opcheck(gru_loop_kernel.gru_loop_backward, backward)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_gradients_of_the_reference_are_those_of_finite_differences(layers: int) -> None:
    model = _model(layers, {"latent_features": 2, "hidden_features": 3, "recurrent_features": 2}).double()
    inputs = {name: value.detach().double().requires_grad_() for name, value in _inputs(model, 2, 3, True).items()}
    parameters = [*model.inference.output.parameters(), *model.recurrence.recurrent.parameters()]

    def of(prepared: Tensor, gates: Tensor, state: Tensor, noise: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        return gru_loop.reference(model.inference, model.recurrence, prepared, gates, noise, state)

    assert torch.autograd.gradcheck(of, (*inputs.values(), *parameters))


@built
def test_second_derivatives_need_the_reference_and_the_kernel_reports_that() -> None:
    model = _model(1, SMALL)
    inputs = _inputs(model, 2, 3, True)

    def twice() -> Tensor:
        _, codes, _ = model.loop(**inputs)
        (first,) = torch.autograd.grad(codes.square().sum(), inputs["prepared"], create_graph=True)
        return torch.autograd.grad(first.square().sum(), inputs["prepared"])[0]

    model.backend = "kernel"
    with pytest.raises(RuntimeError, match="no second derivative"):
        twice()
    model.backend = "reference"
    assert twice().abs().sum() > 0
