"""The multimodal variational recurrent network: one latent code for every time step of a sequence."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import fusion, gaussian, networks
from models.batch import Batch
from models.config import MMVRNNConfig
from models.gaussian import Gaussian
from models.multimodal import Multimodal, Terms
from models.recurrence import GRU


class Trajectory(NamedTuple):
    """What one pass over the time steps leaves behind, N sequences of T steps.

    posterior: (N, T, Z) twice. codes: (N, T, Z), the draws z_t. states: (N, T, H), h_{t-1} at step t.
    """

    posterior: Gaussian
    codes: Tensor
    states: Tensor


class MMVRNN(Multimodal):
    """p(x, z) = prod_t p(z_t | h_{t-1}) prod_m p(x_{t,m} | z_t, h_{t-1}), h_t = GRU(x_t, z_t, h_{t-1}).

    q(z | x) = prod_t q(z_t | x_t, h_{t-1}): a filter, it never looks ahead (arXiv:1506.02216, eqs. 5 to 10). Our
    differences: x_t is a fusion of the modalities present at step t, each sequence has its own length, and everything
    that needs no h (encoders, fusion, input shares of gates and posterior; after the loop prior and decoders) is done
    for all steps at once.
    """

    def __init__(self, config: MMVRNNConfig) -> None:
        super().__init__(config.modalities, config.latent_features)
        self.config = config
        latent, hidden, recurrent = config.latent_features, config.hidden_features, config.recurrent_features
        self.encoders = nn.ModuleList(
            networks.encoder(config.network, modality, config.modality_features) for modality in self.modalities
        )
        self.decoders = nn.ModuleList(
            networks.decoder(config.network, latent + recurrent, self.likelihood(name).parameter_shape)
            for name in self.index
        )
        self.fusion = fusion.MissingEmbeddings(len(self.modalities), config.modality_features, hidden)
        self.prior = networks.mlp(recurrent, (hidden,), 2 * latent)
        self.posterior_input = nn.Linear(hidden, hidden)
        self.posterior_state = nn.Linear(recurrent, hidden, bias=False)
        self.posterior_output = nn.Linear(hidden, 2 * latent)
        self.recurrence = GRU(hidden, latent, recurrent)

    def noise_shape(self, batch: Batch) -> tuple[int, ...]:
        """(B, T, Z)."""
        return (*batch.valid.shape, self.latent_features)

    def features(self, inputs: Batch) -> Tensor:
        """x_t of every step: the fused encodings of what is present there, (B, T, hidden_features)."""
        features: list[Tensor | None] = []
        for name, index in self.index.items():
            if name not in inputs.values:
                features.append(None)
                continue
            value = self.likelihood(name).standardise(inputs.values[name])
            features.append(self.encoders[index](value.flatten(0, 1)).unflatten(0, value.shape[:2]))
        fused: Tensor = self.fusion(features, [inputs.present.get(name) for name in self.index], inputs.valid)
        return fused

    def filter(self, features: Tensor, noise: Tensor | None) -> Trajectory:
        """Run over time. features: (N, T, hidden_features). noise: (N, T, Z), or None to follow posterior means."""
        inputs = self.posterior_input(features).transpose(0, 1)  # (T, N, hidden_features)
        gates = self.recurrence.prepare(features).transpose(0, 1)  # (T, N, 3 H)
        steps = [None] * len(inputs) if noise is None else noise.unbind(dim=1)
        state = self.recurrence.initial(features)
        states, raws, codes = [], [], []
        for input, gate, step_noise in zip(inputs.unbind(), gates.unbind(), steps, strict=True):
            states.append(state)
            raw = self.posterior_output(functional.silu(input + self.posterior_state(state)))
            posterior = gaussian.from_raw(raw)
            code = posterior.mean if step_noise is None else gaussian.draw(posterior, step_noise)
            state = self.recurrence.step(gate, code, state)
            raws.append(raw)
            codes.append(code)
        return Trajectory(
            gaussian.from_raw(torch.stack(raws, dim=1)), torch.stack(codes, dim=1), torch.stack(states, dim=1)
        )

    def decode(self, name: str, trajectory: Trajectory) -> Tensor:
        """Likelihood parameters of one modality at every step, as one long batch: (N T, *parameter_shape)."""
        code = torch.cat([trajectory.codes, trajectory.states], dim=-1)  # (N, T, Z + H)
        raw: Tensor = self.decoders[self.index[name]](code.flatten(0, 1))
        return raw

    def encode(self, inputs: Batch) -> Gaussian:
        """(B, T, Z) twice: q(z_t | x_t, h_{t-1}) along the path of posterior means. Padding steps mean nothing."""
        return self.filter(self.features(inputs), None).posterior

    def terms(self, inputs: Batch, targets: Batch, noise: Tensor) -> Terms:
        """sum_t log p(x_{t,m} | z_t, h_{t-1}) of every target, and sum_t KL(q(z_t | x_t, h_{t-1}) || p(z_t | h_{t-1})).

        noise: (B, T, Z). Absent and padding steps add nothing.
        """
        trajectory = self.filter(self.features(inputs), noise)
        prior = gaussian.from_raw(self.prior(trajectory.states))
        kl = torch.where(inputs.valid, gaussian.kl_divergence(trajectory.posterior, prior), 0.0)
        log_likelihood = {}
        for name in self.given(targets):
            likelihood, present = self.likelihood(name), targets.present[name]
            raw, value = self.decode(name, trajectory), targets.values[name].flatten(0, 1)
            density = likelihood.log_prob(raw, value).unflatten(0, present.shape)
            log_likelihood[name] = torch.where(present, density, 0.0).sum(dim=1)
            if self.training:
                likelihood.adapt(raw, value, present.flatten())
        return Terms(log_likelihood, kl.sum(dim=1))

    def reconstruct(self, inputs: Batch, targets: Sequence[str], noise: Tensor | None) -> dict[str, dict[str, Tensor]]:
        """Predictive distribution (B, T, ...) of every target; noise: (S, B or 1, T, Z), None for posterior means."""
        features = self.features(inputs)
        rows, steps = features.shape[:2]
        draws = 1
        if noise is not None:
            draws = len(noise)
            noise = noise.expand(-1, rows, -1, -1).flatten(0, 1)
        trajectory = self.filter(features.repeat(draws, 1, 1), noise)
        predictions = {}
        for name in targets:
            raw = self.decode(name, trajectory).unflatten(0, (draws, rows * steps))
            described = self.likelihood(name).describe(raw)
            predictions[name] = {key: value.unflatten(0, (rows, steps)) for key, value in described.items()}
        return predictions
