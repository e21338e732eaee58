"""The multimodal variational recurrent network: one latent code for every time step of a sequence."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models import gaussian, inference
from models.batch import Batch
from models.config import MMVRNNConfig
from models.fusion import MissingEmbeddings, ZeroConcatenation
from models.gaussian import Gaussian
from models.inference import Evidence
from models.multimodal import NO_PARTS, Multimodal, Particles, Parts, Terms
from models.recurrence import RECURRENCES, Smoother


class Trajectory(NamedTuple):
    """What one pass over the time steps leaves behind, N sequences of T steps.

    posterior: (N, T, Z) twice. codes: (N, T, Z), the draws z_t. states: (N, T + 1, state_features), before each step
    and after the last.
    """

    posterior: Gaussian
    codes: Tensor
    states: Tensor


class Roll(NamedTuple):
    """The randomness of generated steps: of the latent, (N, T, Z) from N(0, I), and of every modality's value,
    name -> uniform on (0, 1), broadcasting to (N, T, *shape)."""

    latent: Tensor
    values: Mapping[str, Tensor]


class MMVRNN(Multimodal):
    """p(x, z) = prod_t p(z_t | h_{t-1}) prod_m p(x_{t,m} | z_t, h_{t-1}), h_t = f(x_t, z_t, h_{t-1}).

    q(z | x) = prod_t q(z_t | x_t, h_{t-1}) (arXiv:1506.02216, eqs. 5 to 10). Our differences: x_t is a fusion of the
    modalities present at step t, each sequence has its own length, q may also know what is observed later, and
    everything that needs no h (encoders, fusion, input shares of gates and posterior; after the loop prior and
    decoders) is done for all steps at once.
    """

    def __init__(self, config: MMVRNNConfig, parts: Parts = NO_PARTS) -> None:
        latent, hidden, recurrent = config.latent_features, config.hidden_features, config.recurrent_features
        if parts.expert is not None:
            raise ValueError("an expert is part of an MM-VAE, an MM-VRNN has a fusion")
        super().__init__(config, config.modality_features, latent + recurrent, parts)
        self.config = config
        join = ZeroConcatenation if config.fusion == "zero" else MissingEmbeddings
        self.fusion = join(len(self.modalities), config.modality_features, hidden)
        self.smoother = Smoother(hidden, recurrent) if config.inference == "smooth" else None
        self.prior = inference.prior(config)
        self.inference: inference.Inference = (
            inference.Product(config, self.prior)
            if config.fusion == "product_of_experts"
            else inference.Concatenation(config)
        )
        self.recurrence = RECURRENCES[config.recurrence](hidden, latent, recurrent, config.recurrent_layers)

    def latent_shape(self, batch: Batch) -> tuple[int, ...]:
        """(T, Z)."""
        return (batch.valid.shape[1], self.latent_features)

    def evidence(self, inputs: Batch) -> Evidence:
        """Everything about the inputs that needs no state."""
        valid = inputs.valid
        features: list[Tensor | None] = []
        for name in self.index:
            if name in inputs.values:
                value = inputs.values[name]
                features.append(self.encoded(name, value.flatten(0, 1)).unflatten(0, value.shape[:2]))
            else:
                features.append(None)
        present = [inputs.present.get(name) for name in self.index]
        joined: Tensor = self.fusion(features, present, valid)
        future = None if self.smoother is None else self.smoother(joined, valid)
        return Evidence(features, present, joined, future, valid)

    def follow(
        self, evidence: Evidence, noise: Tensor | None, state: Tensor | None = None, draws: int = 1
    ) -> Trajectory:
        """Run over time, `draws` times for each of the B sequences: N = draws B, draw after draw.

        noise: (N, T, Z), or None to follow posterior means. state: where to start, (B, state_features), or None.
        """
        prepared = self.inference.prepare(evidence).repeat(draws, 1, 1).transpose(0, 1)  # (T, N, P)
        gates = self.recurrence.prepare(evidence.joined).repeat(draws, 1, 1).transpose(0, 1)  # (T, N, G H)
        steps = [None] * len(gates) if noise is None else noise.unbind(dim=1)
        state = self.recurrence.initial(gates[0]) if state is None else state.repeat(draws, 1)
        states, means, deviations, codes = [state], [], [], []
        for ready, gate, step_noise in zip(prepared.unbind(), gates.unbind(), steps, strict=True):
            posterior = self.inference.step(ready, self.recurrence.output(state))
            code = posterior.mean if step_noise is None else gaussian.draw(posterior, step_noise)
            state = self.recurrence.step(gate, code, state)
            states.append(state)
            means.append(posterior.mean)
            deviations.append(posterior.standard_deviation)
            codes.append(code)
        posteriors = Gaussian(torch.stack(means, dim=1), torch.stack(deviations, dim=1))
        return Trajectory(posteriors, torch.stack(codes, dim=1), torch.stack(states, dim=1))

    def hidden(self, trajectory: Trajectory) -> Tensor:
        """h_{t-1} at every step t: (N, T, H)."""
        return self.recurrence.output(trajectory.states[:, :-1])

    def priors(self, trajectory: Trajectory) -> Gaussian:
        """p(z_t | h_{t-1}) at every step: (N, T, Z) twice."""
        return gaussian.from_raw(self.prior(self.hidden(trajectory)))

    def generate(self, name: str, trajectory: Trajectory) -> Tensor:
        """Likelihood parameters of one modality at every step, as one long batch: (N T, *parameter_shape)."""
        code = torch.cat([trajectory.codes, self.hidden(trajectory)], dim=-1)  # (N, T, Z + H)
        return self.decoded(name, code.flatten(0, 1))

    def encode(self, inputs: Batch) -> Gaussian:
        """(B, T, Z) twice: q(z_t | ...) along the path of posterior means. Padding steps mean nothing."""
        return self.follow(self.evidence(inputs), None).posterior

    def terms(self, inputs: Batch, targets: Batch, noise: Tensor | None) -> Terms:
        """log p(x_{t,m} | z_t, h_{t-1}) of every target, and KL(q(z_t | ...) || p(z_t | h_{t-1})), step by step.

        noise: (B, T, Z). Absent and padding steps add nothing.
        """
        trajectory = self.follow(self.evidence(inputs), noise)
        kl = gaussian.kl_divergence(trajectory.posterior, self.priors(trajectory))
        density, errors = self._densities(trajectory, targets)
        return Terms(density, torch.where(inputs.valid.unsqueeze(-1), kl, 0.0), inputs.valid, errors)

    def particles(self, inputs: Batch, targets: Batch, noise: Tensor) -> Particles:
        """K paths a sequence, each a particle: no resampling between steps. noise: (K, B, T, Z)."""
        draws = len(noise)
        trajectory = self.follow(self.evidence(inputs), noise.flatten(0, 1), draws=draws)
        prior = gaussian.log_density(trajectory.codes, self.priors(trajectory))
        ratio = (prior - gaussian.log_density(trajectory.codes, trajectory.posterior)).sum(dim=-1)  # (N, T)
        ratio = torch.where(inputs.valid.repeat(draws, 1), ratio, 0.0).sum(dim=1).unflatten(0, (draws, -1))
        density, errors = self._densities(trajectory, targets)
        log_likelihood = {name: value.sum(dim=1).unflatten(0, (draws, -1)) for name, value in density.items()}
        return Particles(log_likelihood, ratio, torch.full_like(ratio, -math.log(draws)), errors)

    def decode(self, inputs: Batch, targets: Sequence[str], noise: Tensor | None) -> dict[str, Tensor]:
        """Likelihood parameters (S, B, T, *parameter_shape) of every target."""
        return self.decode_from(inputs, targets, noise, None)[0]

    def decode_from(
        self, inputs: Batch, targets: Sequence[str], noise: Tensor | None, state: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """`decode` of sequences that go on from a state, and the state (S B, state_features) after each one's end."""
        rows, steps = inputs.valid.shape
        draws = 1 if noise is None else len(noise)
        paths = None if noise is None else noise.expand(-1, rows, -1, -1).flatten(0, 1)
        trajectory = self.follow(self.evidence(inputs), paths, state, draws)
        raws = {name: self.generate(name, trajectory).unflatten(0, (draws, rows, steps)) for name in targets}
        return raws, self.last_state(trajectory, inputs, draws)

    def last_state(self, trajectory: Trajectory, inputs: Batch, draws: int = 1) -> Tensor:
        """The state after the last step of every sequence: (N, state_features)."""
        assert inputs.lengths is not None  # noqa: S101 batches of sequences have them
        index = inputs.lengths.repeat(draws)
        return trajectory.states[torch.arange(len(index), device=index.device), index]

    def roll(self, state: Tensor, steps: int, randomness: Roll | None) -> dict[str, Tensor]:
        """Let the model go on by itself: what it generates at a step it sees at the next (arXiv:1506.02216, eq. 6).

        state: (N, state_features). randomness None takes prior means and what each modality's `fill` gives. Returns for
        every modality the likelihood parameters of each generated step, (N, T, *parameter_shape).
        """
        raws: dict[str, list[Tensor]] = {name: [] for name in self.index}
        everywhere = torch.ones(len(state), 1, dtype=torch.bool, device=state.device)
        for t in range(steps):
            hidden = self.recurrence.output(state)
            prior = gaussian.from_raw(self.prior(hidden))
            code = prior.mean if randomness is None else gaussian.draw(prior, randomness.latent[:, t])
            features: list[Tensor | None] = []
            for name, found in raws.items():
                raw = self.decoded(name, torch.cat([code, hidden], dim=-1))
                likelihood = self.likelihood(name)
                if randomness is None:
                    value = likelihood.fill(likelihood.describe(raw.unsqueeze(0)))
                else:
                    value = likelihood.quantile(raw, randomness.values[name][:, t])
                features.append(self.encoded(name, value).unsqueeze(1))
                found.append(raw)
            seen = self.fusion(features, [everywhere] * len(features), everywhere)[:, 0]
            state = self.recurrence.step(self.recurrence.prepare(seen), code, state)
        return {name: torch.stack(found, dim=1) for name, found in raws.items()}

    def expert_shares(self, inputs: Batch) -> dict[str, Tensor] | None:
        """Each modality's part of the precision of the product, averaged over steps; None for concatenation."""
        if not isinstance(self.inference, inference.Product):
            return None
        evidence = self.evidence(inputs)
        experts, present = self.inference.members(evidence)
        own = self.priors(self.follow(evidence, None)).standard_deviation.square().reciprocal()
        precision = torch.where(present.unsqueeze(-1), experts.standard_deviation.square().reciprocal(), 0.0)
        share = (precision / (precision.sum(dim=0) + own)).mean(dim=-1)  # (E, N, T)
        share = (share * evidence.valid).sum(dim=-1) / evidence.valid.sum(dim=-1)
        found = dict.fromkeys(self.index, torch.zeros(inputs.rows, device=share.device))
        return found | dict(zip(self.given(inputs), share, strict=False))

    def _densities(self, trajectory: Trajectory, targets: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """log p(x_{t,m} | z_t, h_{t-1}) of every target, (N, T), 0 where absent, and the errors in training."""
        density, errors = {}, {}
        draws = len(trajectory.codes) // targets.rows
        for name in self.given(targets):
            likelihood, present = self.likelihood(name), targets.present[name].repeat(draws, 1)
            value = targets.values[name].expand(draws, *targets.values[name].shape).flatten(0, 2)
            raw = self.generate(name, trajectory)
            of_each = likelihood.log_prob(raw, value).unflatten(0, present.shape)
            density[name] = torch.where(present, of_each, 0.0)
            if self.training:
                errors[name] = likelihood.errors(raw, value, present.flatten())
        return density, errors
