"""Our models beside the textbook's, with the same weights: equal losses, and equal gradients of every parameter."""

import pytest
import torch
from torch import Tensor, nn

from models import gaussian
from models.batch import Batch
from models.config import ModalityConfig
from models.training.objective import negative_elbo
from tests.models.small import randomly_present, sequence_model, static_model
from tests.reference import vae, vrnn
from tests.reference.vae import Layer

AUDIO = ModalityConfig(name="audio", shape=(3,), likelihood="gaussian", scale=0.7)
TOUCH = ModalityConfig(name="touch", shape=(2,), likelihood="gaussian", scale=0.4)


def _layers(module: nn.Module) -> list[Layer]:
    return [(layer.weight, layer.bias) for layer in module.modules() if isinstance(layer, nn.Linear)]


def _with_gradients(loss: Tensor, model: nn.Module) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss.sum(), list(parameters.values()), retain_graph=True)
    return {"loss": loss, **dict(zip(parameters, gradients, strict=True))}


def test_an_mmvae_of_one_modality_is_the_textbook_vae() -> None:
    model = static_model([AUDIO])
    torch.manual_seed(1)
    value, noise = torch.randn(6, 3), torch.randn(6, 4)
    batch = Batch({"audio": value}, {"audio": torch.ones(6, dtype=torch.bool)})
    ours = negative_elbo(model.terms(batch, batch, noise), beta=1.0).loss
    encoder, decoder = _layers(model.encoders[0]), _layers(model.decoders[0])
    reference = vae.negative_elbo(value, noise, encoder, decoder, torch.tensor(0.7), gaussian.FLOOR)
    torch.testing.assert_close(_with_gradients(ours, model), _with_gradients(reference, model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_an_mmvrnn_is_the_textbook_vrnn(seed: int) -> None:
    model = sequence_model([AUDIO, TOUCH], seed=seed, fusion="zero")
    lengths = [5, 2, 4, 1]
    valid = torch.arange(5) < torch.tensor(lengths)[:, None]
    values = {"audio": torch.randn(4, 5, 3), "touch": torch.randn(4, 5, 2)}
    batch = randomly_present(Batch(values, dict.fromkeys(values, valid), torch.tensor(lengths)), seed)
    noise = torch.randn(4, 5, 4)
    ours = negative_elbo(model.terms(batch, batch, noise), beta=1.0).loss

    posterior, recurrence = model.inference, model.recurrence
    hidden = (torch.cat([posterior.seen.weight, posterior.state.weight], dim=1), posterior.seen.bias)
    weights = vrnn.Weights(
        encoders={name: _layers(model.encoders[index]) for name, index in model.index.items()},
        decoders={name: _layers(model.decoders[index]) for name, index in model.index.items()},
        join=_layers(model.fusion)[0],
        prior=_layers(model.prior),
        posterior=[hidden, *_layers(posterior.output)],
        gates_x=_layers(recurrence.known)[0],
        gates_z=recurrence.latent.weight,
        gates_h=_layers(recurrence.recurrent[0])[0],
    )
    deviation = {"audio": torch.tensor(0.7), "touch": torch.tensor(0.4)}
    reference = vrnn.negative_elbo(batch.values, batch.present, lengths, noise, weights, deviation, gaussian.FLOOR)
    torch.testing.assert_close(_with_gradients(ours, model), _with_gradients(reference, model), rtol=1e-5, atol=1e-5)
