"""p(codes of all steps | what is given of a sequence): joint draws over time of an MM-VRNN."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import networks, straight_paths
from models.config import ModalityConfig, NetworkConfig, SequenceFlowConfig
from models.draw_calibration import SequenceDrawCalibration
from models.gaussian import FLOOR
from models.straight_paths import TIME_FEATURES

# The layers join steps at these distances, and then begin again.
DISTANCES = 1, 3, 9, 27
# Numbers of one layer that are computed together: they stay in a processor's cache.
MAX_NUMBERS = 2**19


class StepFeatures(NamedTuple):
    """What the model finds for each step of B sequences, along the path of posterior means.

    decoded: (B, T, R), the likelihood parameters of all modalities, flattened. hidden: (B, T, F), the decoders' input
    z_t, h_{t-1} and g. deviation: (B, T, Z + G), of their posteriors. seen: (B, T, E), the fused values of the step.
    present: (B, T, M), the part of each modality's elements that is given. valid: (B, T) bool.
    """

    decoded: Tensor
    hidden: Tensor
    deviation: Tensor
    seen: Tensor
    present: Tensor
    valid: Tensor


class SequenceContext(NamedTuple):
    """What the velocity takes from B sequences.

    hidden: (B, H, T), added to the first layer. linear: (B, T, C), added to the output. valid: (B, 1, T), 1 at steps
    before the end.
    """

    hidden: Tensor
    linear: Tensor
    valid: Tensor


class SequenceFlow(nn.Module):
    """A flow along straight paths (`models.straight_paths`) from N(0, I) to the codes of all steps of a sequence.

    The code of a step are the principal components of all that the model decodes for it, so that neighbouring steps
    have similar codes, and own decoders need a step's code alone. What is given enters as what the model finds when it
    sees the given values only. A layer joins each step with neighbours at growing distances (arXiv:1609.03499) and with
    the mean over all steps.

    B sequences, S draws, T steps, C features of a code, H hidden features, R likelihood parameters of a step.
    """

    mean: Tensor
    deviation: Tensor
    components: Tensor
    decoded_mean: Tensor
    decoded_deviation: Tensor
    frequencies: Tensor

    def __init__(
        self,
        config: SequenceFlowConfig,
        modalities: Sequence[ModalityConfig],
        network: NetworkConfig,
        parameter_shapes: Sequence[tuple[int, ...]],
        context_features: int,
    ) -> None:
        super().__init__()
        decoded = sum(math.prod(shape) for shape in parameter_shapes)
        hidden, codes = config.hidden_features, min(config.code_features, decoded)
        self.config = config
        self.code_features = codes
        self.names = [modality.name for modality in modalities]
        self.decoders = nn.ModuleList(
            networks.decoder(modality.network or network, codes, shape)
            for modality, shape in zip(modalities, parameter_shapes, strict=True)
        )
        self.given_features = nn.Linear(codes + context_features, hidden)
        self.context = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden))
        self.linear = nn.Linear(codes + context_features, codes)
        self.code = nn.Linear(codes, hidden)
        self.time = nn.Linear(2 * TIME_FEATURES, hidden)
        self.layers = nn.ModuleList(
            _Layer(hidden, DISTANCES[number % len(DISTANCES)]) for number in range(config.layers)
        )
        self.output = nn.Linear(hidden, codes)
        self.calibration = SequenceDrawCalibration(modalities)
        self.register_buffer("decoded_mean", torch.zeros(decoded))
        self.register_buffer("decoded_deviation", torch.ones(decoded))
        self.register_buffer("components", torch.eye(decoded, codes))
        self.register_buffer("mean", torch.zeros(codes))
        self.register_buffer("deviation", torch.ones(codes))
        self.register_buffer("frequencies", straight_paths.frequencies())
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.linear.weight)

    def find_codes(self, decoded: Tensor) -> None:
        """Set what a code is: the principal components of standardised likelihood parameters, (N, R)."""
        self.decoded_mean.copy_(decoded.mean(dim=0))
        self.decoded_deviation.copy_(decoded.std(dim=0, correction=0).clamp(min=FLOOR))
        standardised = (decoded - self.decoded_mean) / self.decoded_deviation
        steps, features = standardised.shape
        spread = standardised.T @ standardised if features < steps else standardised  # the smaller matrix
        *_, found = torch.linalg.svd(spread, full_matrices=False)  # components as rows, the largest first
        self.components.zero_()
        self.components[:, : len(found)] = found[: self.code_features].T
        codes = self.codes(decoded)
        self.mean.copy_(codes.mean(dim=0))
        self.deviation.copy_(codes.std(dim=0, correction=0).clamp(min=FLOOR))

    def codes(self, decoded: Tensor) -> Tensor:
        """The codes of likelihood parameters: (..., R) -> (..., C)."""
        return (decoded - self.decoded_mean) / self.decoded_deviation @ self.components

    def given(self, steps: StepFeatures) -> SequenceContext:
        """The context of sequences, of which anything may be missing."""
        own = (self.codes(steps.decoded) - self.mean) / self.deviation
        seen = torch.cat([own, steps.hidden, steps.deviation, steps.seen, steps.present], dim=-1)
        hidden = self.context(self.given_features(seen)).transpose(1, 2)
        return SequenceContext(hidden, self.linear(seen), steps.valid.unsqueeze(1).to(seen.dtype))

    def velocity(self, codes: Tensor, time: Tensor, context: SequenceContext) -> Tensor:
        """The mean of z_1 - z_0 at z_t = `codes` (N, T, C), N = S B draw by draw. time: (1 or N, 1, 1)."""
        draws = len(codes) // len(context.valid)
        valid = context.valid.repeat(draws, 1, 1)
        clock = self.time(straight_paths.clock(time, self.frequencies))
        hidden = (self.code(codes) + clock).transpose(1, 2) + context.hidden.repeat(draws, 1, 1)
        count = valid.sum(dim=-1)
        for layer in self.layers:
            hidden = layer(hidden, valid, count)
        found = self.output(functional.silu(hidden).transpose(1, 2)) + context.linear.repeat(draws, 1, 1)
        velocity: Tensor = straight_paths.alone(codes, time) + found
        return velocity

    def loss(self, codes: Tensor, noise: Tensor, time: Tensor, context: SequenceContext) -> Tensor:
        """The mean squared error of the velocity. codes, noise: (B, T, C), time: (B, 1)."""
        end, at = (codes - self.mean) / self.deviation, time.unsqueeze(-1)
        found = self.velocity((1 - at) * noise + at * end, at, context)
        valid = context.valid.transpose(1, 2)
        error: Tensor = ((found - (end - noise)).square() * valid).sum() / (valid.sum() * codes.shape[-1])
        return error

    def decoded(self, name: str, codes: Tensor) -> Tensor:
        """Likelihood parameters of a modality for codes (N, C): (N, *parameter_shape)."""
        raw: Tensor = self.decoders[self.names.index(name)](codes)
        return raw

    def draw(self, context: SequenceContext, noise: Tensor) -> Tensor:
        """Codes (S, B, T, C) for noise (S, B, T, C) from N(0, I), a few sequences at a time."""
        draws, rows, steps, _ = noise.shape
        size = max(1, MAX_NUMBERS // (draws * steps * self.config.hidden_features))
        found = [
            self._draw(
                SequenceContext(*(part[start : start + size] for part in context)), noise[:, start : start + size]
            )
            for start in range(0, rows, size)
        ]
        codes: Tensor = self.mean + self.deviation * torch.cat(found, dim=1)
        return codes

    def _draw(self, context: SequenceContext, noise: Tensor) -> Tensor:
        def velocity(codes: Tensor, time: Tensor) -> Tensor:
            return self.velocity(codes, time.reshape(1, 1, 1), context)

        codes = straight_paths.follow(velocity, noise.flatten(0, 1), self.config.steps)
        found: Tensor = codes.unflatten(0, noise.shape[:2])
        return found


class _Layer(nn.Module):
    """Adds to each step what it and two neighbours at this distance say, and what the mean over all steps says."""

    def __init__(self, features: int, distance: int) -> None:
        super().__init__()
        self.neighbours = nn.Conv1d(features, features, 3, padding=distance, dilation=distance)
        self.all = nn.Linear(features, features)
        self.output = nn.Conv1d(features, features, 1)

    def forward(self, hidden: Tensor, valid: Tensor, count: Tensor) -> Tensor:
        """hidden: (N, H, T). valid: (N, 1, T). count: (N, 1), the numbers of valid steps."""
        own = hidden * valid
        everywhere = self.all(own.sum(dim=-1) / count).unsqueeze(-1)
        joined: Tensor = hidden + self.output(functional.silu(self.neighbours(own) + everywhere))
        return joined
