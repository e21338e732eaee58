"""p(z | what is given): draws of the latent code that know as much as the given values say, and no more.

q(z | inputs) of a multimodal VAE is made for point answers: given a label, its deviation is a fifth of the spread of
the codes of that label's images. The flow here is fitted to the codes themselves, after the VAE. It starts at their
linear regression on what is given (`models.linear_start`) and learns what differs.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import networks, straight_paths
from models.batch import Batch
from models.config import ConditionalFlowConfig, MLPConfig, ModalityConfig, NetworkConfig
from models.config.conditional import MAX_VALUES
from models.draw_calibration import DrawCalibration
from models.gaussian import FLOOR
from models.linear_start import Given, LinearStart, Start
from models.stacking import Stacking
from models.straight_paths import TIME_FEATURES

# Features of what is given.
GIVEN_FEATURES = 64
HIDDEN_FEATURES = 128
# Noise of codes in training, in deviations of the codes: drawn codes are not exact either.
CODE_NOISE, VALUE_NOISE = 0.05, 0.01
Standardise = Callable[[str, Tensor, Tensor | None], Tensor]
"""(name, values, elements) -> an encoder's input, as `Multimodal.encoder_input`."""


class Context(NamedTuple):
    """What the velocity takes from the given values of B rows.

    hidden: (B, H), added to the first layer. linear: (B, C), added to the output. start: None for N(0, I).
    """

    hidden: Tensor
    linear: Tensor
    start: Start | None


class ConditionalFlow(nn.Module):
    """A flow along straight paths (`models.straight_paths`) from a regression, or N(0, I), to the codes of rows.

    A code is the mean of q(z | all of a row), Z features, and then the row's vectors of numbers, V, as they are;
    without z if all modalities are such vectors; `values` says where each is. Each modality has an encoder of its own
    here, and a learned vector where it is missing.

    B rows, S draws, C features of a code, H hidden features. Codes are standardised by `mean` and `deviation`. real:
    the modalities of real numbers, and the shapes of their likelihood parameters.
    """

    mean: Tensor
    deviation: Tensor
    noise: Tensor
    frequencies: Tensor

    def __init__(
        self,
        config: ConditionalFlowConfig,
        modalities: Sequence[ModalityConfig],
        network: NetworkConfig,
        latent_features: int,
        decoders: nn.ModuleList,
        real: Mapping[str, tuple[int, ...]],
    ) -> None:
        super().__init__()
        hidden = config.hidden_features
        self.config = config
        self.names = [modality.name for modality in modalities]
        sizes = _sizes(modalities, real) if config.start == "regression" else {}
        self.latent_features = 0 if len(sizes) == len(modalities) else latent_features
        ends = list(accumulate(sizes.values(), initial=self.latent_features))
        self.code_features = code_features = ends[-1]
        self.values = {name: slice(*place) for name, place in zip(sizes, pairwise(ends), strict=True)}
        self.parameter_shapes = {name: real[name] for name in sizes}
        values = sum(sizes.values())
        self.encoders = nn.ModuleList(_encoder(modality, modality.network or network) for modality in modalities)
        self.missing = nn.Parameter(torch.zeros(len(modalities), GIVEN_FEATURES))
        # which elements of a vector are present; an image's are too many
        self.elements = nn.ModuleList(
            nn.Linear(modality.shape[0], GIVEN_FEATURES, bias=False) if len(modality.shape) == 1 else nn.Identity()
            for modality in modalities
        )
        self.context = nn.Sequential(nn.SiLU(), nn.Linear(GIVEN_FEATURES, hidden))
        self.linear = nn.Linear(GIVEN_FEATURES, code_features)
        self.code = nn.Linear(code_features, hidden)
        self.time = nn.Linear(2 * TIME_FEATURES, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(config.layers - 1))
        self.output = nn.Linear(hidden, code_features)
        self.decoders = nn.ModuleList(
            nn.Identity() if name in self.values else decoder
            for name, decoder in zip(self.names, decoders, strict=True)
        )
        self.calibration = DrawCalibration(modalities, exact=self.values)
        self.stacking = Stacking(modalities) if config.stacking else None
        self.register_buffer("mean", torch.zeros(code_features))
        self.register_buffer("deviation", torch.ones(code_features))
        noise = torch.tensor([CODE_NOISE] * self.latent_features + [VALUE_NOISE] * values)
        self.register_buffer("noise", noise, persistent=False)
        self.start: LinearStart | None = None
        if config.start == "regression":
            others = sum(
                numbers_of(modality, latent_features) for modality in modalities if modality.name not in self.values
            )
            self.start = LinearStart(values, others, noise)
        self.register_buffer("frequencies", straight_paths.frequencies())
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.linear.weight)

    @property
    def is_regression(self) -> bool:
        """Whether draws come from the regression alone: no step of the fit was better."""
        return self.start is not None and not bool(self.output.weight.any()) and not bool(self.linear.weight.any())

    def standardise(self, codes: Tensor) -> None:
        """Set the mean and standard deviation of the codes, (N, C)."""
        self.mean.copy_(codes.mean(dim=0))
        self.deviation.copy_(codes.std(dim=0, correction=0).clamp(min=FLOOR))

    def regress(self, codes: Tensor, given: Tensor) -> None:
        """Start at the regression of these codes, (N, C), on all that their rows have, (N, F)."""
        assert self.start is not None  # noqa: S101 the caller has looked
        self.start.fit((codes - self.mean) / self.deviation, self._as_codes(given))

    def given(self, inputs: Batch, standardise: Standardise, numbers: Given | None) -> Context:
        """The context of each row; any modalities, or elements of them, may be missing.

        numbers: what the regression takes; None without one.
        """
        rows = inputs.rows
        total = self.missing.new_zeros(rows, self.missing.shape[1])
        for index, name in enumerate(self.names):
            if name not in inputs.values:
                total = total + self.missing[index]
                continue
            elements = inputs.elements(name)
            own = self.encoders[index](standardise(name, inputs.values[name], elements))
            if elements is not None and isinstance(self.elements[index], nn.Linear):
                own = own + self.elements[index]((~elements).to(own.dtype))
            total = total + torch.where(inputs.observed(name).unsqueeze(1), own, self.missing[index])
        start = None
        if self.start is not None and numbers is not None:
            start = self.start(Given(self._as_codes(numbers.numbers), numbers.known))
        return Context(self.context(total), self.linear(total), start)

    def velocity(self, codes: Tensor, time: Tensor, context: Context) -> Tensor:
        """The mean of z_1 - z_0 at z_t = `codes` (..., C). time: broadcasts to (..., 1)."""
        clock = self.time(straight_paths.clock(time, self.frequencies))
        hidden = functional.silu(self.code(codes) + clock + context.hidden)
        for layer in self.layers:
            hidden = hidden + functional.silu(layer(hidden))
        velocity: Tensor = straight_paths.alone(codes, time) + self.output(hidden) + context.linear
        return velocity

    def loss(self, codes: Tensor, noise: Tensor, time: Tensor, context: Context) -> Tensor:
        """The mean squared error of each row's velocity, (B,). codes, noise: (B, C), time: (B, 1)."""
        end = (codes - self.mean) / self.deviation
        if context.start is not None:
            end = context.start.deviates(end)
        found = self.velocity((1 - time) * noise + time * end, time, context)
        return (found - (end - noise)).square().mean(dim=1)

    def decoded(self, name: str, codes: Tensor) -> Tensor:
        """Likelihood parameters of a modality for codes (N, C): (N, *parameter_shape)."""
        if name not in self.values:
            raw: Tensor = self.decoders[self.names.index(name)](codes[:, : self.latent_features])
            return raw
        value = codes[:, self.values[name]]
        shape = self.parameter_shapes[name]
        # a predicted spread is not used: the values themselves are drawn
        return functional.pad(value, (0, math.prod(shape) - value.shape[1])).reshape(len(codes), *shape)

    def draw(self, context: Context, noise: Tensor) -> Tensor:
        """Codes (S, B, C) for noise (S, B, C) from N(0, I)."""

        def velocity(codes: Tensor, time: Tensor) -> Tensor:
            return self.velocity(codes, time, context)

        codes = straight_paths.follow(velocity, noise, self.config.steps)
        return self.mean + self.deviation * (codes if context.start is None else context.start.codes(codes))

    def _as_codes(self, numbers: Tensor) -> Tensor:
        """Given numbers (N, F), of which the first V are standardised as the codes are."""
        first, values = self.latent_features, self.code_features - self.latent_features
        standardised = (numbers[:, :values] - self.mean[first:]) / self.deviation[first:]
        return torch.cat([standardised, numbers[:, values:]], dim=1)


def numbers_of(modality: ModalityConfig, latent_features: int) -> int:
    """How many numbers the regression takes of a modality outside the code: a one-hot vector, or its own q(z | x_m)."""
    return modality.categories if modality.categories is not None and not modality.shape else latent_features


def _sizes(modalities: Sequence[ModalityConfig], real: Collection[str]) -> dict[str, int]:
    """The modalities that are parts of the code as they are, and their numbers of elements."""
    found = {
        modality.name: math.prod(modality.shape)
        for modality in modalities
        if modality.name in real and len(modality.shape) <= 1
    }
    return found if sum(found.values()) <= MAX_VALUES else {}


def _encoder(modality: ModalityConfig, network: NetworkConfig) -> nn.Module:
    """The encoder of a modality. In place of the model's MLPs, smaller ones: there are fewer steps to fit them in."""
    if not isinstance(network, MLPConfig):
        return networks.encoder(network, modality, GIVEN_FEATURES)
    if modality.categories is not None:
        return nn.Embedding(modality.categories, GIVEN_FEATURES)
    return networks.encoder(MLPConfig(hidden_features=(HIDDEN_FEATURES,)), modality, GIVEN_FEATURES)
