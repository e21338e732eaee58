"""The multimodal variational recurrent network: one latent code per time step, and optionally one per sequence."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import fusions, gaussian, inference_network
from models.batch import Batch
from models.conditional_sequences import SequenceContext, SequenceFlow, StepFeatures
from models.config import MMVRNNConfig, SequenceFlowConfig
from models.fusions import Concatenation
from models.gaussian import Gaussian
from models.inference_network import ConcatenationNetwork, Evidence, InferenceNetwork, ProductOfExpertsNetwork
from models.multimodal import NO_PARTS, Multimodal, Particles, Parts, Terms
from models.ops import gru_loop
from models.recurrence import RECURRENCES, Smoother
from models.static_latent import StaticLatent


class Trajectory(NamedTuple):
    """The result of one pass over the time steps of N sequences.

    posterior: q(z_t | ...), (N, T, Z) twice. codes: (N, T, Z), the draws z_t. states: (N, T + 1, state_features),
    before each step and after the last. static: q(g | x), (N, G) twice, and the draw of g, (N, G); None for a model
    without a static latent.
    """

    posterior: Gaussian
    codes: Tensor
    states: Tensor
    static: tuple[Gaussian, Tensor] | None


class MMVRNN(Multimodal):
    """p(x, z) = prod_t p(z_t | h_{t-1}) prod_m p(x_{t,m} | z_t, h_{t-1}), h_t = f(x_t, z_t, h_{t-1}).

    q(z | x) = prod_t q(z_t | x_t, h_{t-1}) (arXiv:1506.02216, eqs. 5 to 10). Our differences: x_t fuses the modalities
    present at step t, each sequence has its own length, and q may also depend on later observations. Everything that
    does not depend on h (encoders, fusion, the input's part of gates and posterior; after the loop, prior and decoders)
    is computed for all steps at once.

    With `static_latent_features` there is also a code g ~ N(0, I) of the whole sequence. h_0 and every p and q depend
    on it, and h_t = f(z_t, g, h_{t-1}) does not depend on the observations: an observed and a missing step differ in q
    alone. The methods append g to z_t at each step, (N, T, Z + G). Its noise is that of the first step, and its KL
    divergence counts there.
    """

    def __init__(self, config: MMVRNNConfig, parts: Parts = NO_PARTS) -> None:
        latent, hidden, recurrent = config.latent_features, config.hidden_features, config.recurrent_features
        if parts.expert is not None:
            raise ValueError("an expert is part of an MM-VAE, an MM-VRNN has a fusion")
        static = config.static_latent_features
        super().__init__(config, config.modality_features, latent + recurrent + static, parts)
        self.config = config
        self.fusion = fusions.build(config.fusion, len(self.modalities), config.modality_features, hidden)
        self.smoother = Smoother(hidden, recurrent, both_ways=static > 0) if config.inference == "smooth" else None
        future = self.smoother.out_features if self.smoother else 0
        self.step_features = latent
        self.prior = inference_network.prior(config)
        self.inference: InferenceNetwork = inference_network.build(config, self.prior, future)
        self.recurrence = RECURRENCES[config.recurrence](static or hidden, latent, recurrent, config.recurrent_layers)
        self.static = StaticLatent(config, future, self.recurrence.state_features) if static else None
        self.conditional: SequenceFlow | None = None

    def add_conditional(self, config: SequenceFlowConfig) -> None:
        """Add an untrained conditional part, with random weights from torch's global generator."""
        self.config = self.config.model_copy(update={"conditional": config})
        self.conditional = SequenceFlow(
            config,
            self.modalities,
            self.config.network,
            [self.likelihood(name).parameter_shape for name in self.index],
            2 * self.latent_features
            + self.config.recurrent_features
            + self.config.hidden_features
            + len(self.modalities),
        )

    def condition(self, inputs: Batch, state: Tensor | None = None) -> SequenceContext:
        """What the conditional part takes from the given values, and from the state (B, state_features) before them."""
        assert self.conditional is not None  # noqa: S101 the caller has looked
        return self.conditional.given(self.features_of_steps(inputs, state))

    def full_codes(self, targets: Batch) -> Tensor:
        """The codes that the conditional part learns to draw, of all that the sequences have: (B, T, C)."""
        assert self.conditional is not None  # noqa: S101 the caller has looked
        return self.conditional.codes(self.features_of_steps(targets).decoded)

    def features_of_steps(self, inputs: Batch, state: Tensor | None = None) -> StepFeatures:
        """What the conditional part sees of each step. state: (B, state_features), None at the beginning."""
        evidence = self.evidence(inputs)
        trajectory = self.infer(evidence, None, state)
        hidden = self.decoder_input(trajectory, self.context(trajectory))
        decoded = torch.cat([self.decoded(name, hidden).reshape(len(hidden), -1) for name in self.index], dim=-1)
        absent = torch.zeros_like(evidence.joined[..., 0])
        return StepFeatures(
            decoded.unflatten(0, inputs.valid.shape),
            hidden.unflatten(0, inputs.valid.shape),
            self.moments(trajectory).standard_deviation,
            evidence.joined,
            torch.stack([inputs.part(name) if name in inputs.values else absent for name in self.index], dim=-1),
            inputs.valid,
        )

    def latent_shape(self, batch: Batch) -> tuple[int, ...]:
        """(T, Z + G)."""
        return (batch.valid.shape[1], self.latent_features)

    def evidence(self, inputs: Batch) -> Evidence:
        """The parts of the inference that do not depend on the state: features, fusion, smoothing, static latent."""
        valid = inputs.valid
        present = [inputs.observed(name) if name in inputs.present else None for name in self.index]
        last = self._last_layers()
        if last is not None and isinstance(self.fusion, Concatenation):
            features = [self._features(inputs, name, before_last=True) for name in self.index]
            joined: Tensor = self.fusion.from_hidden(features, last, present, valid)
        else:
            features = [self._features(inputs, name) for name in self.index]
            joined = self.fusion(features, present, valid)
        future, static = None, None
        if self.smoother is not None:
            smoothed: Tensor = self.smoother(joined, valid)
            future = smoothed
            if self.static is not None:
                static = self.static(smoothed, self.smoother.ends(smoothed, valid), valid)
        return Evidence(features, present, joined, future, static, valid)

    def _features(self, inputs: Batch, name: str, before_last: bool = False) -> Tensor | None:
        """The encoder's output, or the input of its last layer, of each step: (N, T, F); None without values."""
        if name not in inputs.values:
            return None
        value, elements = inputs.values[name], inputs.elements(name)
        found = self.encoder_input(name, value.flatten(0, 1), None if elements is None else elements.flatten(0, 1))
        encoder = self.encoders[self.index[name]]
        for layer in list(encoder.children())[:-1] if before_last else [encoder]:
            found = layer(found)
        features: Tensor = found.unflatten(0, value.shape[:2])
        return features

    def _last_layers(self) -> list[nn.Linear] | None:
        """The encoders' last layers if `Concatenation.from_hidden` may merge them into the fusion, else None.

        In training only: merging changes answers by rounding, and pays only for many multiplications.
        """
        if not self.training or not isinstance(self.inference, ConcatenationNetwork):
            return None
        # a subclass of nn.Sequential may do more than apply its layers
        last = [encoder[-1] for encoder in self.encoders if type(encoder) is nn.Sequential and len(encoder)]
        found = [layer for layer in last if type(layer) is nn.Linear]
        return found if len(found) == len(self.encoders) else None

    def infer(
        self, evidence: Evidence, noise: Tensor | None, state: Tensor | None = None, draws: int = 1
    ) -> Trajectory:
        """One pass over time for `draws` draws of each of the B sequences: N = draws B, draw by draw.

        noise: (N, T, Z + G), or None to use posterior means. state: the initial state, (B, state_features), or None.
        """
        prepared = _repeated(self.inference.prepare(evidence), draws)  # (N, T, P)
        static = None
        if self.static is not None and evidence.static is not None:
            posterior = Gaussian(*(moment.repeat(draws, 1) for moment in evidence.static))
            code = posterior.mean if noise is None else gaussian.draw(posterior, noise[:, 0, self.step_features :])
            static = (posterior, code)
            prepared = prepared + self.static.share(code).unsqueeze(1)
            gates = self.recurrence.prepare(code).unsqueeze(1).expand(-1, prepared.shape[1], -1)  # (N, T, GATES H)
            state = self.static.initial_state(code)
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
        """The recursion over the steps: posteriors and codes (N, T, Z), and states (N, T + 1, state_features).

        prepared: (N, T, P), gates: (N, T, GATES H), the parts of posterior and gates that do not depend on the state.
        state: (N, state_features). noise: (N, T, Z).
        """
        found = gru_loop.loop(self.inference, self.recurrence, prepared, gates, noise, state, self.backend)
        return Gaussian(found.means, found.deviations), found.codes, found.states

    def hidden(self, trajectory: Trajectory) -> Tensor:
        """h_{t-1} of each step t: (N, T, H)."""
        # contiguous: otherwise each use copies it
        return self.recurrence.output(trajectory.states[:, :-1]).contiguous()

    def context(self, trajectory: Trajectory) -> Tensor:
        """h_{t-1} and g, (N, T, H + G): the prior's input, and a part of the decoders'."""
        hidden = self.hidden(trajectory)
        if trajectory.static is None:
            return hidden
        _, code = trajectory.static
        return torch.cat([hidden, code.unsqueeze(1).expand(-1, hidden.shape[1], -1)], dim=-1)

    def priors(self, trajectory: Trajectory) -> Gaussian:
        """p(z_t | h_{t-1}) of each step: (N, T, Z) twice."""
        return gaussian.from_raw(self.prior(self.context(trajectory)))

    def decoder_input(self, trajectory: Trajectory, context: Tensor) -> Tensor:
        """z_t, h_{t-1} and g of all steps as one batch: (N T, Z + H + G)."""
        return torch.cat([trajectory.codes, context], dim=-1).flatten(0, 1)

    def encode(self, inputs: Batch) -> Gaussian:
        """(B, T, Z + G) twice: q(z_t | ...) along the path of posterior means. Padding steps have no meaning."""
        return self.moments(self.infer(self.evidence(inputs), None))

    def moments(self, trajectory: Trajectory) -> Gaussian:
        """The posterior of each step, followed by q(g | x): (N, T, Z + G) twice."""
        if trajectory.static is None:
            return trajectory.posterior
        steps = trajectory.codes.shape[1]
        pairs = zip(trajectory.posterior, trajectory.static[0], strict=True)
        return Gaussian(*(torch.cat([z, g.unsqueeze(1).expand(-1, steps, -1)], dim=-1) for z, g in pairs))

    def terms(self, inputs: Batch, targets: Batch, noise: Tensor | None) -> Terms:
        """log p(x_{t,m} | z_t, h_{t-1}) of each target, and KL(q(z_t | ...) || p(z_t | h_{t-1})), of each step.

        noise: (B, T, Z + G). Absent and padding steps add 0.
        """
        trajectory = self.infer(self.evidence(inputs), noise)
        context = self.context(trajectory)
        kl = gaussian.kl_divergence(trajectory.posterior, gaussian.from_raw(self.prior(context)))
        if trajectory.static is not None:
            of_sequence = gaussian.kl_divergence(trajectory.static[0], gaussian.standard(trajectory.static[1]))
            kl = torch.cat([kl, functional.pad(of_sequence.unsqueeze(1), (0, 0, 0, kl.shape[1] - 1))], dim=-1)
        density, errors = self._densities(self.decoder_input(trajectory, context), targets)
        return Terms(density, torch.where(inputs.valid.unsqueeze(-1), kl, 0.0), inputs.valid, errors)

    def particles(self, inputs: Batch, targets: Batch, noise: Tensor) -> Particles:
        """K trajectories per sequence are its K particles, without resampling. noise: (K, B, T, Z + G)."""
        draws = len(noise)
        trajectory = self.infer(self.evidence(inputs), noise.flatten(0, 1), draws=draws)
        context = self.context(trajectory)
        prior = gaussian.log_density(trajectory.codes, gaussian.from_raw(self.prior(context)))
        ratio = (prior - gaussian.log_density(trajectory.codes, trajectory.posterior)).sum(dim=-1)  # (N, T)
        ratio = torch.where(inputs.valid.repeat(draws, 1), ratio, 0.0).sum(dim=1)
        if trajectory.static is not None:
            posterior, code = trajectory.static
            own = gaussian.log_density(code, gaussian.standard(code)) - gaussian.log_density(code, posterior)
            ratio = ratio + own.sum(dim=-1)
        ratio = ratio.unflatten(0, (draws, -1))
        density, errors = self._densities(self.decoder_input(trajectory, context), targets)
        log_likelihood = {name: value.sum(dim=1).unflatten(0, (draws, -1)) for name, value in density.items()}
        return Particles(log_likelihood, ratio, torch.full_like(ratio, -math.log(draws)), errors)

    def decode(self, inputs: Batch, targets: Sequence[str], noise: Tensor | None) -> dict[str, Tensor]:
        """Likelihood parameters (S, B, T, *parameter_shape) of each target."""
        return self.decode_from(inputs, targets, noise, None)[0]

    def decode_from(
        self, inputs: Batch, targets: Sequence[str], noise: Tensor | None, state: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """`decode` of sequences that continue from a state (B, state_features), and their final states.

        The final states are those of `final_state`, of S B rows.
        """
        rows, steps = inputs.valid.shape
        draws = 1 if noise is None else len(noise)
        paths = None if noise is None else noise.expand(-1, rows, -1, -1).flatten(0, 1)
        trajectory = self.infer(self.evidence(inputs), paths, state, draws)
        decoder_input = self.decoder_input(trajectory, self.context(trajectory))
        raws = {name: self.decoded(name, decoder_input).unflatten(0, (draws, rows, steps)) for name in targets}
        return raws, self.final_state(trajectory, inputs, draws)

    def final_state(self, trajectory: Trajectory, inputs: Batch, draws: int = 1) -> Tensor:
        """The state after the last step of each sequence, followed by g: (N, state_features + G)."""
        assert inputs.lengths is not None  # noqa: S101 batches of sequences have them
        index = inputs.lengths.repeat(draws)
        state = trajectory.states[torch.arange(len(index), device=index.device), index]
        return state if trajectory.static is None else torch.cat([state, trajectory.static[1]], dim=-1)

    def expert_shares(self, inputs: Batch) -> dict[str, Tensor] | None:
        """Each modality's share in the joint precision, averaged over steps; None for other posteriors."""
        if not isinstance(self.inference, ProductOfExpertsNetwork):
            return None
        evidence = self.evidence(inputs)
        share = self.inference.shares(evidence, self.priors(self.infer(evidence, None)))  # (E, N, T)
        share = (share * evidence.valid).sum(dim=-1) / evidence.valid.sum(dim=-1)
        found = dict.fromkeys(self.index, torch.zeros(inputs.rows, device=share.device))
        return found | dict(zip(self.given(inputs), share, strict=False))

    def _densities(self, decoder_input: Tensor, targets: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """log p(x_{t,m} | z_t, h_{t-1}) of each target, (N, T), 0 where absent, and in training the errors."""
        density, errors = {}, {}
        draws = len(decoder_input) // targets.rows // targets.valid.shape[1]
        for name in self.given(targets):
            likelihood, present = self.likelihood(name), targets.observed(name).repeat(draws, 1)
            value = _all_steps(targets.values[name], draws)
            elements = targets.elements(name)
            elements = None if elements is None else _all_steps(elements, draws)
            raw = self.decoded(name, decoder_input)
            of_each = likelihood.log_prob(raw, value, elements).unflatten(0, present.shape)
            density[name] = torch.where(present, of_each, 0.0)
            if self.training:
                errors[name] = likelihood.errors(raw, value, present.flatten(), elements)
        return density, errors


def _all_steps(value: Tensor, draws: int) -> Tensor:
    """The steps of all draws as one batch: (B, T, ...) -> (draws B T, ...)."""
    return value.expand(draws, *value.shape).flatten(0, 2)


def _repeated(value: Tensor, draws: int) -> Tensor:
    """Repeated draw by draw: (B, ...) -> (draws B, ...); the same tensor for one draw."""
    return value if draws == 1 else value.repeat(draws, *[1] * (value.ndim - 1))
