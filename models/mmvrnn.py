"""The multimodal variational recurrent network: one latent code for every time step of a sequence, and one for all."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import fusions, gaussian, inference
from models.batch import Batch
from models.config import MMVRNNConfig
from models.gaussian import Gaussian
from models.inference import Evidence
from models.multimodal import NO_PARTS, Multimodal, Particles, Parts, Terms
from models.ops import gru_loop
from models.recurrence import RECURRENCES, Smoother
from models.static_latent import StaticLatent


class Trajectory(NamedTuple):
    """What one pass over the time steps leaves behind, N sequences of T steps.

    posterior: q(z_t | ...), (N, T, Z) twice. codes: (N, T, Z), the draws z_t. states: (N, T + 1, state_features),
    before each step and after the last. static: q(g | x), (N, G) twice, and what was drawn of it; None for a model
    without.
    """

    posterior: Gaussian
    codes: Tensor
    states: Tensor
    static: tuple[Gaussian, Tensor] | None


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

    With `static_latent_features` there is a code g ~ N(0, I) for the whole sequence: h_0 and every p and q know it, and
    h_t = f(z_t, g, h_{t-1}) no longer sees what is observed, so that an observed and a missing step differ in q alone.
    Where codes leave this class, g stands behind z_t at every step, (N, T, Z + G); its noise is the first step's, and
    its KL divergence counts there.
    """

    def __init__(self, config: MMVRNNConfig, parts: Parts = NO_PARTS) -> None:
        latent, hidden, recurrent = config.latent_features, config.hidden_features, config.recurrent_features
        if parts.expert is not None:
            raise ValueError("an expert is part of an MM-VAE, an MM-VRNN has a fusion")
        static = config.static_latent_features
        super().__init__(config, config.modality_features, latent + recurrent + static, parts)
        self.config = config
        name = "missing_embeddings" if config.fusion == "product_of_experts" else config.fusion
        self.fusion = fusions.build(name, len(self.modalities), config.modality_features, hidden)
        self.smoother = Smoother(hidden, recurrent, both_ways=static > 0) if config.inference == "smooth" else None
        future = self.smoother.out_features if self.smoother else 0
        self.step_features = latent
        self.prior = inference.prior(config)
        self.inference: inference.Inference = (
            inference.Product(config, self.prior)
            if config.fusion == "product_of_experts"
            else inference.Concatenation(config, future)
        )
        self.recurrence = RECURRENCES[config.recurrence](static or hidden, latent, recurrent, config.recurrent_layers)
        self.static = StaticLatent(config, future, self.recurrence.state_features) if static else None

    def latent_shape(self, batch: Batch) -> tuple[int, ...]:
        """(T, Z + G)."""
        return (batch.valid.shape[1], self.latent_features)

    def evidence(self, inputs: Batch) -> Evidence:
        """Everything about the inputs that needs no state."""
        valid = inputs.valid
        features: list[Tensor | None] = []
        lasts = self._last_layers()
        for name in self.index:
            if name in inputs.values:
                value = inputs.values[name]
                encode = self.encoded if lasts is None else self._before_last
                features.append(encode(name, value.flatten(0, 1)).unflatten(0, value.shape[:2]))
            else:
                features.append(None)
        present = [inputs.present.get(name) for name in self.index]
        joined: Tensor = (
            self.fusion(features, present, valid)
            if lasts is None
            else self.fusion.behind(features, lasts, present, valid)
        )
        future, static = None, None
        if self.smoother is not None:
            smoothed: Tensor = self.smoother(joined, valid)
            future = smoothed
            if self.static is not None:
                static = self.static(smoothed, self.smoother.ends(smoothed, valid), valid)
        return Evidence(features, present, joined, future, static, valid)

    def _last_layers(self) -> list[nn.Linear] | None:
        """The encoders' last layers, where they and the fusion are to be one product; None elsewhere.

        In training alone, of many steps: it is a sixth of a step's products less. Answers stay as they are.
        """
        if not self.training or not isinstance(self.inference, inference.Concatenation):
            return None
        # a class of somebody's own may do more than one layer after the other
        last = [encoder[-1] for encoder in self.encoders if type(encoder) is nn.Sequential and len(encoder)]
        found = [layer for layer in last if type(layer) is nn.Linear]
        return found if len(found) == len(self.encoders) else None

    def _before_last(self, name: str, value: Tensor) -> Tensor:
        """What a modality's encoder makes of values before its last layer."""
        value = self.likelihood(name).standardise(value)
        for layer in list(cast(nn.Sequential, self.encoders[self.index[name]]))[:-1]:
            value = layer(value)
        return value

    def follow(
        self, evidence: Evidence, noise: Tensor | None, state: Tensor | None = None, draws: int = 1
    ) -> Trajectory:
        """Run over time, `draws` times for each of the B sequences: N = draws B, draw after draw.

        noise: (N, T, Z + G), or None to follow posterior means. state: where to start, (B, state_features), or None.
        """
        prepared = _repeated(self.inference.prepare(evidence), draws)  # (N, T, P)
        static = None
        if self.static is not None and evidence.static is not None:
            posterior = Gaussian(*(moment.repeat(draws, 1) for moment in evidence.static))
            code = posterior.mean if noise is None else gaussian.draw(posterior, noise[:, 0, self.step_features :])
            static = (posterior, code)
            prepared = prepared + self.static.share(code).unsqueeze(1)
            gates = self.recurrence.prepare(code).unsqueeze(1).expand(-1, prepared.shape[1], -1)  # (N, T, GATES H)
            state = self.static.begin(code)
        else:
            gates = _repeated(self.recurrence.prepare(evidence.joined), draws)
            state = self.recurrence.initial(gates) if state is None else state.repeat(draws, 1)
        if noise is not None:
            noise = noise[..., : self.step_features]
        posterior, codes, states = self.loop(prepared, gates, state, noise)
        return Trajectory(posterior, codes, states, static)

    def loop(
        self, prepared: Tensor, gates: Tensor, state: Tensor, noise: Tensor | None
    ) -> tuple[Gaussian, Tensor, Tensor]:
        """The steps one after the other: posteriors and codes (N, T, Z), and states (N, T + 1, state_features).

        prepared: (N, T, P), gates: (N, T, GATES H), what posterior and state see that needs no state. state: (N,
        state_features). noise: (N, T, Z).
        """
        found = gru_loop.loop(self.inference, self.recurrence, prepared, gates, noise, state)
        return Gaussian(found.means, found.deviations), found.codes, found.states

    def hidden(self, trajectory: Trajectory) -> Tensor:
        """h_{t-1} at every step t: (N, T, H)."""
        # in one piece: what reads it would otherwise make that copy each for itself
        return self.recurrence.output(trajectory.states[:, :-1]).contiguous()

    def context(self, trajectory: Trajectory) -> Tensor:
        """What of the past (and of the whole) every step knows, h_{t-1} and g: (N, T, H + G)."""
        hidden = self.hidden(trajectory)
        if trajectory.static is None:
            return hidden
        _, code = trajectory.static
        return torch.cat([hidden, code.unsqueeze(1).expand(-1, hidden.shape[1], -1)], dim=-1)

    def priors(self, trajectory: Trajectory) -> Gaussian:
        """p(z_t | h_{t-1}) at every step: (N, T, Z) twice."""
        return gaussian.from_raw(self.prior(self.context(trajectory)))

    def seen(self, trajectory: Trajectory, context: Tensor) -> Tensor:
        """What decoders see of every step, as one long batch: (N T, Z + H + G)."""
        return torch.cat([trajectory.codes, context], dim=-1).flatten(0, 1)

    def encode(self, inputs: Batch) -> Gaussian:
        """(B, T, Z + G) twice: q(z_t | ...) along the path of posterior means. Padding steps mean nothing."""
        return self.moments(self.follow(self.evidence(inputs), None))

    def moments(self, trajectory: Trajectory) -> Gaussian:
        """Of the posteriors that a pass has gone through, q(g | x) behind every step's: (N, T, Z + G) twice."""
        if trajectory.static is None:
            return trajectory.posterior
        steps = trajectory.codes.shape[1]
        pairs = zip(trajectory.posterior, trajectory.static[0], strict=True)
        return Gaussian(*(torch.cat([z, g.unsqueeze(1).expand(-1, steps, -1)], dim=-1) for z, g in pairs))

    def terms(self, inputs: Batch, targets: Batch, noise: Tensor | None) -> Terms:
        """log p(x_{t,m} | z_t, h_{t-1}) of every target, and KL(q(z_t | ...) || p(z_t | h_{t-1})), step by step.

        noise: (B, T, Z + G). Absent and padding steps add nothing.
        """
        trajectory = self.follow(self.evidence(inputs), noise)
        context = self.context(trajectory)
        kl = gaussian.kl_divergence(trajectory.posterior, gaussian.from_raw(self.prior(context)))
        if trajectory.static is not None:
            of_all = gaussian.kl_divergence(trajectory.static[0], gaussian.standard(trajectory.static[1]))
            kl = torch.cat([kl, functional.pad(of_all.unsqueeze(1), (0, 0, 0, kl.shape[1] - 1))], dim=-1)
        density, errors = self._densities(self.seen(trajectory, context), targets)
        return Terms(density, torch.where(inputs.valid.unsqueeze(-1), kl, 0.0), inputs.valid, errors)

    def particles(self, inputs: Batch, targets: Batch, noise: Tensor) -> Particles:
        """K paths a sequence, each a particle: no resampling between steps. noise: (K, B, T, Z + G)."""
        draws = len(noise)
        trajectory = self.follow(self.evidence(inputs), noise.flatten(0, 1), draws=draws)
        context = self.context(trajectory)
        prior = gaussian.log_density(trajectory.codes, gaussian.from_raw(self.prior(context)))
        ratio = (prior - gaussian.log_density(trajectory.codes, trajectory.posterior)).sum(dim=-1)  # (N, T)
        ratio = torch.where(inputs.valid.repeat(draws, 1), ratio, 0.0).sum(dim=1)
        if trajectory.static is not None:
            posterior, code = trajectory.static
            own = gaussian.log_density(code, gaussian.standard(code)) - gaussian.log_density(code, posterior)
            ratio = ratio + own.sum(dim=-1)
        ratio = ratio.unflatten(0, (draws, -1))
        density, errors = self._densities(self.seen(trajectory, context), targets)
        log_likelihood = {name: value.sum(dim=1).unflatten(0, (draws, -1)) for name, value in density.items()}
        return Particles(log_likelihood, ratio, torch.full_like(ratio, -math.log(draws)), errors)

    def decode(self, inputs: Batch, targets: Sequence[str], noise: Tensor | None) -> dict[str, Tensor]:
        """Likelihood parameters (S, B, T, *parameter_shape) of every target."""
        return self.decode_from(inputs, targets, noise, None)[0]

    def decode_from(
        self, inputs: Batch, targets: Sequence[str], noise: Tensor | None, state: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """`decode` of sequences that go on from a state, and what `roll` goes on from after each one's end.

        That has S B rows.
        """
        rows, steps = inputs.valid.shape
        draws = 1 if noise is None else len(noise)
        paths = None if noise is None else noise.expand(-1, rows, -1, -1).flatten(0, 1)
        trajectory = self.follow(self.evidence(inputs), paths, state, draws)
        seen = self.seen(trajectory, self.context(trajectory))
        raws = {name: self.decoded(name, seen).unflatten(0, (draws, rows, steps)) for name in targets}
        return raws, self.last_state(trajectory, inputs, draws)

    def last_state(self, trajectory: Trajectory, inputs: Batch, draws: int = 1) -> Tensor:
        """The state after the last step of every sequence, and g: (N, state_features + G)."""
        assert inputs.lengths is not None  # noqa: S101 batches of sequences have them
        index = inputs.lengths.repeat(draws)
        state = trajectory.states[torch.arange(len(index), device=index.device), index]
        return state if trajectory.static is None else torch.cat([state, trajectory.static[1]], dim=-1)

    def beginning(self, noise: Tensor) -> Tensor:
        """What `roll` begins a new sequence from, g drawn with the first step's noise (N, T, Z + G)."""
        if self.static is None:
            return self.recurrence.initial(noise)
        code = noise[:, 0, self.step_features :]
        return torch.cat([self.static.begin(code), code], dim=-1)

    def roll(self, state: Tensor, steps: int, randomness: Roll | None) -> dict[str, Tensor]:
        """Let the model go on by itself: what it generates at a step it sees at the next (arXiv:1506.02216, eq. 6).

        state: (N, state_features + G), of `last_state` or `beginning`. randomness None takes prior means and what each
        modality's `fill` gives. Returns for every modality the likelihood parameters of each generated step,
        (N, T, *parameter_shape).
        """
        state, static = state.split([self.recurrence.state_features, self.config.static_latent_features], dim=-1)
        raws: dict[str, list[Tensor]] = {name: [] for name in self.index}
        everywhere = torch.ones(len(state), 1, dtype=torch.bool, device=state.device)
        for t in range(steps):
            hidden = torch.cat([self.recurrence.output(state), static], dim=-1)
            prior = gaussian.from_raw(self.prior(hidden))
            noise = None if randomness is None else randomness.latent[:, t, : self.step_features]
            code = prior.mean if noise is None else gaussian.draw(prior, noise)
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
            if self.static is None:
                seen = self.fusion(features, [everywhere] * len(features), everywhere)[:, 0]
            else:
                seen = static
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

    def _densities(self, seen: Tensor, targets: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """log p(x_{t,m} | z_t, h_{t-1}) of every target, (N, T), 0 where absent, and the errors in training."""
        density, errors = {}, {}
        draws = len(seen) // targets.rows // targets.valid.shape[1]
        for name in self.given(targets):
            likelihood, present = self.likelihood(name), targets.present[name].repeat(draws, 1)
            value = targets.values[name].expand(draws, *targets.values[name].shape).flatten(0, 2)
            raw = self.decoded(name, seen)
            of_each = likelihood.log_prob(raw, value).unflatten(0, present.shape)
            density[name] = torch.where(present, of_each, 0.0)
            if self.training:
                errors[name] = likelihood.errors(raw, value, present.flatten())
        return density, errors


def _repeated(value: Tensor, draws: int) -> Tensor:
    """Draw after draw: (B, ...) -> (draws B, ...); the same tensor for one."""
    return value if draws == 1 else value.repeat(draws, *[1] * (value.ndim - 1))
