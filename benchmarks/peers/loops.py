"""The textbook's models with our weights, our model one step after the other, and the check that both are equal."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from models import gaussian
from models.batch import Batch
from models.config import MLPConfig, MMVAEConfig, MMVRNNConfig, ModalityConfig
from models.inference_network import Evidence
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN
from tests.reference.vae import VAE
from tests.reference.vrnn import VRNN, Widths
from tests.reference.weights import sample_weights, sequence_weights, take_over

DEVIATION = 0.5


class Case(NamedTuple):
    """Sizes of a VRNN, of its sequences and of a batch (docs/decisions/0027)."""

    name: str
    widths: Widths
    steps: int
    rows: int


SMALL = Case("small", Widths({"m1": 2, "m2": 2}, 5, 5, 10, 5, 2, 10), 50, 64)
REALISTIC = Case("realistic", Widths({"a": 128, "b": 64, "c": 32}, 32, 128, 128, 128, 1, 128), 100, 64)


def modalities(widths: Mapping[str, int]) -> tuple[ModalityConfig, ...]:
    """Vectors whose density has a fixed deviation."""
    return tuple(
        ModalityConfig(name=name, shape=(width,), likelihood="gaussian", scale=DEVIATION)
        for name, width in widths.items()
    )


def sequence_pair(case: Case, textbook: type[VRNN] = VRNN) -> tuple[MMVRNN, VRNN]:
    """An MM-VRNN (GRU, concatenation with zeros, filter) and the textbook's, with the same weights."""
    torch.manual_seed(0)
    model = MMVRNN(sequence_config(case))
    peer = textbook(case.widths, dict.fromkeys(case.widths.modalities, DEVIATION))
    take_over(peer, sequence_weights(model, peer))
    return model, peer


def sequence_config(case: Case) -> MMVRNNConfig:
    """The configuration of our model of a case."""
    widths = case.widths
    return MMVRNNConfig(
        modalities=modalities(widths.modalities),
        latent_features=widths.latent,
        modality_features=widths.feature,
        hidden_features=widths.hidden,
        recurrent_features=widths.recurrent,
        recurrent_layers=widths.layers,
        fusion="zero",
        network=MLPConfig(hidden_features=(widths.network,)),
    )


def sample_pair(config: MMVAEConfig, hidden: int) -> tuple[MMVAE, VAE]:
    """An MM-VAE (product of experts) and the textbook's, with the same weights."""
    torch.manual_seed(0)
    widths = {modality.name: modality.shape[0] for modality in config.modalities}
    model = MMVAE(config)
    peer = VAE(widths, config.latent_features, hidden, dict.fromkeys(widths, DEVIATION))
    take_over(peer, sample_weights(model, peer))
    return model, peer


def sequences(case: Case, steps: int | None = None) -> tuple[Batch, Tensor]:
    """A batch with a fifth of its values missing, and noise for the latent."""
    generator = torch.Generator().manual_seed(1)
    shape = (case.rows, steps or case.steps)
    values = {name: torch.randn(*shape, width, generator=generator) for name, width in case.widths.modalities.items()}
    present = {name: torch.rand(shape, generator=generator) < 0.8 for name in values}
    noise = torch.randn(*shape, case.widths.latent, generator=generator)
    return Batch(values, present, torch.full((case.rows,), shape[1])), noise


def check_equal(what: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """End the benchmark where a number differs by 1e-4 of the largest of its tensor.

    Tensors that are zeros but for rounding, as the gradient of a softmax's bias, count by the largest of all.
    """
    largest = max(value.abs().max().item() for value in theirs.values())
    for name, value in ours.items():
        size = max(theirs[name].abs().max().item(), 1e-3 * largest)
        difference = (value - theirs[name]).abs().max().item() / size
        if not difference < 1e-4:
            raise SystemExit(f"{what}: ours and the textbook's differ by {difference:.2g} in {name}")


def losses_and_gradients(loss: Tensor, weights: list[Tensor]) -> dict[str, Tensor]:
    """By number: the loss of every row, and the gradients of its mean."""
    gradients = torch.autograd.grad(loss.mean(), weights)
    return {"loss": loss.detach(), **{str(index): gradient for index, gradient in enumerate(gradients)}}


def step_by_step(model: MMVRNN, batch: Batch, noise: Tensor) -> Tensor:
    """The negative bound of every sequence, (B,), by the model's own parts, all of them inside the loop over time.

    For models that have no textbook: any concatenation, smoothing, and a latent for the whole sequence.
    """
    valid, names = batch.valid, list(model.given(batch))
    steps = range(valid.shape[1])
    joined = [_joined(model, batch, slice(t, t + 1)) for t in steps]
    future = static = None
    if model.smoother is not None:
        future = model.smoother(torch.cat(joined, dim=1), valid)
        if model.static is not None:
            static = model.static(future, model.smoother.ends(future, valid), valid)
    loss, state, code = noise.new_zeros(batch.rows), model.recurrence.initial(noise), None
    if model.static is not None and static is not None:
        code = gaussian.draw(static, noise[:, 0, model.step_features :])
        state = model.static.initial_state(code)
        loss = loss + gaussian.kl_divergence(static, gaussian.standard(code)).sum(dim=1)
    for t in steps:
        now = slice(t, t + 1)
        part = None if future is None else future[:, now]
        evidence = Evidence([], [], joined[t], part, None, valid[:, now])
        prepared = model.inference.prepare(evidence)[:, 0]
        hidden = context = model.recurrence.output(state)
        gates = joined[t][:, 0]
        if model.static is not None and code is not None:
            prepared = prepared + model.static.share(code)
            context, gates = torch.cat([hidden, code], dim=1), code
        posterior = model.inference.step(prepared, hidden)
        z = gaussian.draw(posterior, noise[:, t, : model.step_features])
        kl = gaussian.kl_divergence(posterior, gaussian.from_raw(model.prior(context))).sum(dim=1)
        loss = loss + torch.where(valid[:, t], kl, 0.0)
        for name in names:
            raw = model.decoded(name, torch.cat([z, context], dim=1))
            density = model.likelihood(name).log_prob(raw, batch.values[name][:, t])
            loss = loss - torch.where(batch.present[name][:, t], density, 0.0)
        state = model.recurrence.step(model.recurrence.prepare(gates), z, state)
    return loss


def _joined(model: MMVRNN, batch: Batch, now: slice) -> Tensor:
    features = [model.encoded(name, batch.values[name][:, now].flatten(0, 1)).unsqueeze(1) for name in model.index]
    joined: Tensor = model.fusion(features, [batch.present[name][:, now] for name in model.index], batch.valid[:, now])
    return joined
