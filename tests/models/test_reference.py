"""Our models beside the textbook's, with the same weights: equal losses, and equal gradients of every parameter."""

import pytest
import torch

from models import gaussian
from models.batch import Batch
from models.config import ModalityConfig
from models.ops import Backend
from models.ops.elbo import elbo
from tests.models.small import randomly_present, sequence_model, static_model
from tests.reference.vae import FLOOR, VAE
from tests.reference.vrnn import VRNN, HoistedVRNN, Widths
from tests.reference.weights import gradients, sample_weights, sequence_weights, take_over

DEVIATION = {"audio": 0.7, "touch": 0.4}
WIDTHS = {"audio": 3, "touch": 2}
MODALITIES = [
    ModalityConfig(name=name, shape=(width,), likelihood="gaussian", scale=DEVIATION[name])
    for name, width in WIDTHS.items()
]


def test_the_textbook_has_our_floor() -> None:
    assert FLOOR == gaussian.FLOOR


@pytest.mark.parametrize("backend", ["kernel", "reference"])
@pytest.mark.parametrize("names", [["audio"], ["audio", "touch"]])
def test_an_mmvae_is_the_textbook_vae(names: list[str], backend: Backend) -> None:
    modalities = [modality for modality in MODALITIES if modality.name in names]
    model = static_model(modalities)
    model.backend = backend
    peer = VAE({name: WIDTHS[name] for name in names}, 4, 8, DEVIATION)
    take_over(peer, weights := sample_weights(model, peer))
    torch.manual_seed(1)
    values = {name: torch.randn(6, WIDTHS[name]) for name in names}
    all_of_them = dict.fromkeys(names, torch.ones(6, dtype=torch.bool))
    some = {name: torch.arange(6) % 3 != place for place, name in enumerate(names)}
    noise = torch.randn(6, 4)
    ours = elbo(model, Batch(values, some), Batch(values, all_of_them), noise, beta=0.6).loss
    found = gradients(ours.sum(), model)
    theirs = peer.negative_elbo(values, some, noise, beta=0.6)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, gradients(theirs.sum(), model, weights), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("textbook", [VRNN, HoistedVRNN])
@pytest.mark.parametrize("backend", ["kernel", "reference"])
@pytest.mark.parametrize("layers", [1, 2])
def test_an_mmvrnn_is_the_textbook_vrnn(layers: int, backend: Backend, textbook: type[VRNN]) -> None:
    """The textbook sees each sequence alone, without padding."""
    model = sequence_model(MODALITIES, fusion="zero", recurrent_layers=layers)
    model.backend = backend
    peer = textbook(Widths(WIDTHS, 4, 5, 6, 7, layers, 8), DEVIATION)
    take_over(peer, weights := sequence_weights(model, peer))
    lengths = [5, 2, 4, 1]
    valid = torch.arange(5) < torch.tensor(lengths)[:, None]
    values = {name: torch.randn(4, 5, width) for name, width in WIDTHS.items()}
    batch = randomly_present(Batch(values, dict.fromkeys(values, valid), torch.tensor(lengths)), layers)
    noise = torch.randn(4, 5, 4)
    ours = elbo(model, batch, batch, noise).loss
    found = gradients(ours.sum(), model)
    posterior = model.encode(batch)
    losses = []
    for row, length in enumerate(lengths):
        here = slice(row, row + 1), slice(length)
        given = ({name: part[here] for name, part in parts.items()} for parts in (batch.values, batch.present))
        one = tuple(given)
        losses.append(peer.negative_elbo(*one, noise[here]))
        for own, other in zip(posterior, peer.encode(*one), strict=True):
            torch.testing.assert_close(own[here], other, rtol=1e-5, atol=1e-5)
    theirs = torch.cat(losses)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, gradients(theirs.sum(), model, weights), rtol=1e-5, atol=1e-5)
